"""Pseudo-perplexity exactly as the paper's library counts it (iPieter/universal-distillation, `evaluation.py`).

A line keeps its newline, which is scored where the tokenizer has a token for it. A line of ten characters or fewer,
newline included, is dropped. The rest is cut at the model's maximum, each token but the first and last is masked alone,
and the result is the exponential of the mean over lines of each line's mean negative log-likelihood.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from robbertje_lib.evaluation.lines import Windows
from robbertje_lib.experiment.errors import UserError
from robbertje_lib.models.log_probs import Floats, Queries, Report, token_log_probs
from robbertje_lib.models.masked_lm import MaskedLM, ScoringPrecision

LONGEST_DROPPED = 10  # characters, newline included


@dataclass(frozen=True)
class LibraryScores:
    """Mean negative log-likelihood (nats) of every line that is kept: (lines,), and what became of the others."""

    means: Floats
    dropped: int  # lines of LONGEST_DROPPED characters or fewer
    cut: int  # kept lines longer than the model takes

    @property
    def pseudo_perplexity(self) -> float:
        return float(np.exp(self.means.mean()))


def library_scores(
    model: MaskedLM,
    lines: Sequence[str],
    tokens: Windows,
    log_prob: Floats,
    tokens_per_batch: int,
    precision: ScoringPrecision = "float32",
    progress: Report | None = None,
) -> LibraryScores:
    """Score `lines` by the library's rules.

    `log_prob`: (n_tokens,) of `tokens`, the same lines without newlines. It is taken where the library would have asked
    the model the very same; only other lines are scored again. Raises `UserError` if no line is left.
    """
    long_enough = [number for number, line in enumerate(lines) if len(line) + 1 > LONGEST_DROPPED]
    texts = [f"{lines[number]}\n" for number in long_enough]
    encoded = model.tokenizer(texts, verbose=False)["input_ids"] if texts else []
    # Two ids are the special tokens alone: no text at all, which the library cannot score either.
    kept = {number: np.array(ids) for number, ids in zip(long_enough, encoded, strict=True) if len(ids) > 2}
    if not kept:
        raise UserError(
            f"none of {len(lines)} lines is longer than {LONGEST_DROPPED} characters, newline included, and the "
            "paper's pseudo-perplexity drops all others; check the held-out text"
        )
    longest, numbers = model.maximum_length, np.array(list(kept))
    sequences = [ids if len(ids) <= longest else np.append(ids[: longest - 1], ids[-1]) for ids in kept.values()]
    asked = np.array([len(sequence) - 2 for sequence in sequences])
    # A line whose tokens were all scored in one window that is this very sequence has been asked already.
    window, count = np.zeros(len(lines), dtype=np.int64), np.bincount(tokens.line, minlength=len(lines))
    window[tokens.line] = tokens.window
    same = [np.array_equal(tokens.sequences[window[n]], ids) for n, ids in zip(numbers, sequences, strict=True)]
    again = np.flatnonzero(~(np.array(same) & (count[numbers] == asked)))
    sums = np.bincount(tokens.line, -log_prob, len(lines))[numbers]
    if len(again):
        owner = np.repeat(np.arange(len(again)), asked[again])
        position = np.concatenate([np.arange(1, asked[row] + 1) for row in again])
        ids = [sequences[row] for row in again]
        queries = Queries(owner, position, position + 1)
        sums[again] = np.bincount(owner, -token_log_probs(model, ids, queries, tokens_per_batch, precision, progress))
    cut = sum(len(ids) > longest for ids in kept.values())
    return LibraryScores(sums / asked, len(lines) - len(long_enough), cut)
