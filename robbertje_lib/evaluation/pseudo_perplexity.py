"""Pseudo-perplexity (PPPL): how well a masked language model predicts each token of held-out text from the rest.

Three ways to count, from the same forward passes:

`corpus`         Salazar et al. 2020, eq. 4: exp(-1/N * sum of log P(token | all others)), N tokens in the corpus.
`per_line_mean`  the paper's library (iPieter/universal-distillation): exp of the mean over lines of a line's mean.
                 Left out of that variant here: it also scored the newline at the end of each line, dropped lines of
                 10 characters or fewer, and cut lines at 512 tokens.
`word_l2r`       Kauf and Ivanova 2023: the later pieces of the same word are masked too, so that a long word is not
                 given away by its own tail. It matters for Dutch, where compounds are one word.
"""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from robbertje_lib.distillation.batching import TokenStore
from robbertje_lib.experiment.artefacts import open_store, read_parquet, write_json, write_parquet
from robbertje_lib.experiment.errors import UserError
from robbertje_lib.experiment.run import Run
from robbertje_lib.models.evaluated import evaluated_models, load_evaluated
from robbertje_lib.models.log_probs import TOKENS_PER_BATCH, Floats, Integers, Queries, Report, token_log_probs
from robbertje_lib.models.masked_lm import MaskedLM, ScoringPrecision
from robbertje_lib.statistics.resampling import bootstrapped_scores, ratio


@dataclass(frozen=True)
class TokenScores:
    """Log-probabilities of every scored token, in reading order; columns of equal length (n_tokens,).

    `word_index` numbers the words of a line; a token that belongs to no word (a lone space) has its own.
    """

    line: Integers
    position: Integers  # of the token in its line, specials not counted
    token_id: Integers
    word_index: Integers
    log_prob: Floats  # natural log, the token masked alone
    log_prob_l2r: Floats  # natural log, the later pieces of its word masked too
    windowed: int  # lines longer than the model can take, scored in overlapping windows
    dropped: dict[str, int]  # lines without a token to score, by reason

    def by_line(self, l2r: bool = False) -> Floats:
        """Per line: (negative log-likelihood in nats, tokens); (n_lines, 2)."""
        values = self.log_prob_l2r if l2r else self.log_prob
        _, index = np.unique(self.line, return_inverse=True)
        return np.column_stack([np.bincount(index, -values), np.bincount(index)])

    def summary(self) -> dict[str, Any]:
        """The three pseudo-perplexities and sizes. `word_l2r_per_word` is for models that cut words otherwise."""
        lines, l2r = self.by_line(), self.by_line(l2r=True)
        words = len(np.unique(np.column_stack([self.line, self.word_index]), axis=0))
        return {
            "corpus": float(np.exp(ratio(lines.sum(0)))),
            "per_line_mean": float(np.exp(ratio(lines).mean())),
            "word_l2r": float(np.exp(ratio(l2r.sum(0)))),
            "word_l2r_per_word": float(np.exp(l2r[:, 0].sum() / words)),
            "lines": len(lines),
            "tokens": len(self.log_prob),
            "words": words,
            "windowed": self.windowed,
            "dropped": self.dropped,
        }


def pseudo_perplexity(
    model: MaskedLM,
    lines: Sequence[str],
    tokens_per_batch: int = TOKENS_PER_BATCH,
    precision: ScoringPrecision = "float32",
    progress: Report | None = None,
) -> TokenScores:
    """Score every real token of `lines` once, special tokens excluded.

    The result depends on neither `tokens_per_batch` (positions in a forward pass) nor padding. Raises
    `UserError` if no line holds a token to score.
    """
    windows = _cut(model, lines)
    if not len(windows.line):
        raise UserError(f"none of {len(lines)} lines holds a token to score; check the held-out text")
    # A word's last piece has nothing left to mask: both ways to count then ask the same question.
    alone = windows.position + 1
    extra = np.flatnonzero(windows.word_end > alone)
    queries = Queries(
        sequence=np.concatenate([windows.window, windows.window[extra]]),
        position=np.concatenate([windows.position, windows.position[extra]]),
        mask_end=np.concatenate([alone, windows.word_end[extra]]),
    )
    log_probs = token_log_probs(model, windows.sequences, queries, tokens_per_batch, precision, progress)
    log_prob, log_prob_l2r = log_probs[: len(alone)], log_probs[: len(alone)].copy()
    log_prob_l2r[extra] = log_probs[len(alone) :]
    return TokenScores(
        line=windows.line,
        position=windows.line_position,
        token_id=windows.token_id,
        word_index=windows.word_index,
        log_prob=log_prob,
        log_prob_l2r=log_prob_l2r,
        windowed=windows.windowed,
        dropped=dict(windows.dropped),
    )


@dataclass(frozen=True)
class _Windows:
    """Sequences a model can take, and for every token to score: where it stands, in its window and its line."""

    sequences: list[Integers]
    window: Integers
    position: Integers
    word_end: Integers  # position after the last piece of the token's word, within the window
    line: Integers
    line_position: Integers
    token_id: Integers
    word_index: Integers
    windowed: int
    dropped: Counter[str]


def _cut(model: MaskedLM, lines: Sequence[str]) -> _Windows:
    special = np.array(sorted(model.special_ids()))
    sequences: list[Integers] = []
    columns: list[list[Integers]] = []
    windowed = 0
    dropped: Counter[str] = Counter()
    # The warning about long lines does not apply: they are cut into windows below.
    encoded: Any = model.tokenizer(list(lines), return_special_tokens_mask=True, verbose=False) if lines else None
    for number in range(len(lines)):
        added = np.array(encoded["special_tokens_mask"][number])
        ids = np.array(encoded["input_ids"][number], dtype=np.int64)
        real = np.flatnonzero(added == 0)
        scored = real[~np.isin(ids[real], special)]
        if not len(scored):
            dropped["empty"] += 1
            continue
        head, tail = ids[: real[0]], ids[real[-1] + 1 :]
        words = _word_indices(encoded.word_ids(number), real)
        ends = np.searchsorted(words, words, side="right")  # words are numbered in reading order
        room = model.maximum_length - len(head) - len(tail)
        starts = _window_starts(len(real), room)
        windowed += len(starts) > 1
        owner = _most_central(len(real), starts, room)
        at = scored - len(head)
        columns.append(
            [
                len(sequences) + owner[at],
                len(head) + at - starts[owner[at]],
                len(head) + np.minimum(ends[at] - starts[owner[at]], room),
                np.full(len(at), number),
                at,
                ids[scored],
                words[at],
            ]
        )
        sequences += [np.concatenate([head, ids[real][s : s + room], tail]) for s in starts]
    merged: list[Any] = [np.concatenate(c) for c in zip(*columns, strict=True)] or [np.empty(0, np.int64)] * 7
    window, position, word_end, line, line_position, token_id, word_index = merged
    return _Windows(sequences, window, position, word_end, line, line_position, token_id, word_index, windowed, dropped)


def _word_indices(word_ids: Sequence[int | None], real: Integers) -> Integers:
    """Numbers of the words the real tokens belong to, rising; a token of no word counts as a word."""
    ids = [word_ids[i] for i in real]
    new = [i == 0 or ids[i] is None or ids[i] != ids[i - 1] for i in range(len(ids))]
    return np.cumsum(new) - 1


def _window_starts(tokens: int, room: int) -> Integers:
    """Where windows of `room` tokens begin: one if all fits, else half overlapping, the last one flush with the end."""
    if tokens <= room:
        return np.zeros(1, dtype=np.int64)
    return np.unique(np.append(np.arange(0, tokens - room, max(1, room // 2)), tokens - room))


def _most_central(tokens: int, starts: Integers, room: int) -> Integers:
    """For each token the window in whose middle it stands most nearly, so that it has context on both sides."""
    at = np.arange(tokens)[:, None]
    distance = np.abs(at - (starts + (room - 1) / 2))
    distance[(at < starts) | (at >= starts + room)] = np.inf
    return distance.argmin(1)


def unigram_pseudo_perplexity(store: TokenStore, scores: TokenScores, model: MaskedLM) -> float:
    """PPPL of the add-one unigram model of a token store: what knowing no context is worth.

    Scored on the tokens of `scores`, normalised as `corpus`. Special tokens are not counted as words.
    """
    size = len(model.tokenizer)
    counts = store.counts(size).astype(float)
    counts[sorted(model.special_ids())] = -1  # so that add-one leaves them no probability
    log_probs = np.log(counts[scores.token_id] + 1) - np.log((counts + 1).sum())
    return float(np.exp(-log_probs.mean()))


def held_out_lines(run: Run, count: int) -> list[str]:
    """`count` lines (or all there are) drawn with the profile's seed from the held-out store, in document order."""
    if not run.paths.held_out.is_dir():
        raise UserError(f"no held-out lines in {run.paths.held_out}; run notebook 10_corpus first")
    text = open_store(run.paths.held_out)["text"]
    drawn = np.random.default_rng(run.profile.seed).choice(len(text), min(count, len(text)), replace=False)
    return [text[int(i)] for i in np.sort(drawn)]


def score_models(
    run: Run, also: str = "", precision: ScoringPrecision = "float32", progress: Report = print
) -> dict[str, Any]:
    """Score every model of the run on the same held-out lines; write `pseudo_perplexity.json` and `.parquet`.

    `also` names further masked language models to score, folders or hub ids with spaces between them.
    """
    settings = run.profile.pseudo_perplexity
    lines = held_out_lines(run, settings.lines)
    results: dict[str, Any] = {}
    tables: list[pa.Table] = []
    unigram = None
    for name in [*evaluated_models(run), *also.split()]:
        model = load_evaluated(run, name)
        start = time.perf_counter()
        scores = pseudo_perplexity(model, lines, settings.tokens_per_batch, precision, progress)
        seconds = time.perf_counter() - start
        rng = np.random.default_rng(run.profile.seed)
        resampled = bootstrapped_scores(scores.by_line(), ratio, settings.bootstrap, rng)
        results[name] = scores.summary() | {
            "corpus_interval": np.exp(np.percentile(resampled, [2.5, 97.5])).tolist(),
            "seconds": seconds,
            "precision": precision,
        }
        tables.append(_table(name, scores))
        progress(f"{name}: PPPL {results[name]['corpus']:,.1f}, {len(scores.log_prob):,} tokens in {seconds:.1f} s")
        if unigram is None:  # the teacher's tokenizer made the token store
            arm = run.paths.corpus(run.profile.corpus.selections[0], "non_shuffled")
            unigram = unigram_pseudo_perplexity(TokenStore(arm), scores, model)
    teacher, floor = results["teacher"], _floor(run, lines)
    summary = {key: teacher[key] for key in ("lines", "tokens", "dropped", "windowed")} | {
        "models": results,
        "unigram": unigram,
        "floor": floor and floor["corpus"],
        "floor_per_line_mean": floor and floor["per_line_mean"],
    }
    write_parquet(run.paths.result("pseudo_perplexity.parquet"), pa.concat_tables(tables))
    write_json(run.paths.result("pseudo_perplexity.json"), summary)
    return summary


def _floor(run: Run, lines: Sequence[str]) -> dict[str, float] | None:
    """The PPPL no model can beat, known only for text whose every conditional we know."""
    if run.profile.text != "known_answer":
        return None
    from robbertje_lib import known_answer  # a generator that runs on real text have no use for

    return known_answer.floor(lines, run.profile.gender_bias.planted_strength)


def _table(name: str, scores: TokenScores) -> pa.Table:
    return pa.table(
        {
            "model": pa.array([name] * len(scores.line)).dictionary_encode(),
            "line": scores.line.astype(np.int32),
            "position": scores.position.astype(np.int32),
            "token_id": scores.token_id.astype(np.int32),
            "word_index": scores.word_index.astype(np.int32),
            "log_prob": scores.log_prob,
            "log_prob_l2r": scores.log_prob_l2r,
        }
    )


def summary_table(summary: dict[str, Any]) -> pd.DataFrame:
    """One row a model: the three pseudo-perplexities with the 95 % interval, tokens and seconds."""
    rows = {
        name: {
            "corpus": m["corpus"],
            "95 % low": m["corpus_interval"][0],
            "95 % high": m["corpus_interval"][1],
            "per_line_mean": m["per_line_mean"],
            "word_l2r": m["word_l2r"],
            "tokens": m["tokens"],
            "seconds": m["seconds"],
        }
        for name, m in summary["models"].items()
    }
    return pd.DataFrame.from_dict(rows, orient="index").round(2)


def bounds_table(summary: dict[str, Any]) -> pd.Series:
    """PPPL of what brackets the models: the unigram model, the teacher, and the floor where it is known."""
    found = {
        "unigram": summary["unigram"],
        "teacher": summary["models"]["teacher"]["corpus"],
        "floor": summary["floor"],
    }
    return pd.Series({name: value for name, value in found.items() if value is not None}, name="PPPL").round(2)


def words_that_gain_most(run: Run, model: str = "teacher", count: int = 20) -> pd.DataFrame:
    """The words whose own tail gave away most: nats lost when later pieces are masked too.

    One row a word with `pieces`, `alone` and `word_l2r` (its pseudo-log-likelihood in nats, mean over
    occurrences), and `gain` = alone - word_l2r, the largest first. A word that is one token cannot gain.
    """
    table = read_parquet(run.paths.result("pseudo_perplexity.parquet"))
    tokens = table.filter(pc.equal(table["model"], model)).to_pandas()
    tokenizer = load_evaluated(run, model).tokenizer
    words = tokens.groupby(["line", "word_index"]).agg(
        ids=("token_id", tuple), alone=("log_prob", "sum"), word_l2r=("log_prob_l2r", "sum")
    )
    words["pieces"] = words["ids"].map(len)
    words = words[words["pieces"] > 1].copy()
    words["word"] = words["ids"].map(lambda ids: tokenizer.decode(list(ids)).strip())
    means = words.groupby("word").agg(
        pieces=("pieces", "first"),
        occurrences=("pieces", "size"),
        alone=("alone", "mean"),
        word_l2r=("word_l2r", "mean"),
    )
    means["gain"] = means["alone"] - means["word_l2r"]
    return means.sort_values("gain", ascending=False).head(count).reset_index().round(2)
