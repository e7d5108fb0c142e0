"""Pseudo-perplexity (PPPL): how well a masked language model predicts each token of held-out text from the rest.

Four ways to count:

`corpus`         Salazar et al. 2020, eq. 4: exp(-1/N * sum of log P(token | all others)), N tokens in the corpus.
`as_published`   the paper's library, exactly: the module `as_published`.
`per_line_mean`  its mean of means, of the tokens that `corpus` counts: exp of the mean over lines of a line's mean.
`word_l2r`       Kauf and Ivanova 2023: the later pieces of the same word are masked too, so that a long word is not
                 given away by its own tail. It matters for Dutch, where compounds are one word.

All but `as_published` come from the same forward passes; it takes passes of its own where its rules make a difference.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from robbertje_lib.distillation.batching import TokenStore
from robbertje_lib.evaluation.as_published import LibraryScores, library_scores
from robbertje_lib.evaluation.lines import Windows, cut_lines, held_out_lines
from robbertje_lib.experiment import heartbeat
from robbertje_lib.experiment.results.pseudo_perplexity import (
    UNIGRAM,
    ModelPseudoPerplexity,
    PseudoPerplexityResult,
    TokenLogProbs,
)
from robbertje_lib.experiment.run import Run
from robbertje_lib.models.evaluated import evaluated_models, load_evaluated
from robbertje_lib.models.length_batches import Integers
from robbertje_lib.models.log_probs import TOKENS_PER_BATCH, Floats, Queries, Report, token_log_probs
from robbertje_lib.models.masked_lm import MaskedLM, ScoringPrecision


@dataclass(frozen=True)
class TokenScores:
    """Log-probabilities of every scored token, in reading order: (n_tokens,)."""

    tokens: Windows
    log_prob: Floats  # natural log, the token masked alone
    log_prob_l2r: Floats  # natural log, the later pieces of its word masked too
    published: LibraryScores
    precision: ScoringPrecision
    seconds: float

    def by_line(self, l2r: bool = False) -> Floats:
        """Per line: (negative log-likelihood in nats, tokens); (n_lines, 2)."""
        values = self.log_prob_l2r if l2r else self.log_prob
        _, index = np.unique(self.tokens.line, return_inverse=True)
        return np.column_stack([np.bincount(index, -values), np.bincount(index)])

    def summary(self) -> ModelPseudoPerplexity:
        """The pseudo-perplexities and sizes. `word_l2r_per_word` is for models that cut words otherwise."""
        lines, l2r = self.by_line(), self.by_line(l2r=True)
        (nats, count), (nats_l2r, _) = lines.sum(0), l2r.sum(0)
        words = len(np.unique(np.column_stack([self.tokens.line, self.tokens.word_index]), axis=0))
        return ModelPseudoPerplexity(
            corpus=float(np.exp(nats / count)),
            per_line_mean=float(np.exp((lines[:, 0] / lines[:, 1]).mean())),
            as_published=self.published.pseudo_perplexity,
            as_published_lines=len(self.published.means),
            as_published_dropped=self.published.dropped,
            as_published_cut=self.published.cut,
            word_l2r=float(np.exp(nats_l2r / count)),
            word_l2r_per_word=float(np.exp(l2r[:, 0].sum() / words)),
            lines=len(lines),
            tokens=len(self.log_prob),
            words=words,
            windowed=self.tokens.windowed,
            dropped=self.tokens.dropped,
            seconds=self.seconds,
            precision=self.precision,
        )

    def table(self, model: str, documents: Sequence[str]) -> pa.Table:
        """A row a token, under the name of the model. documents: of each line."""
        return pa.table(
            {
                "model": pa.array([model] * len(self.log_prob)).dictionary_encode(),
                "document": pa.array([documents[line] for line in self.tokens.line]).dictionary_encode(),
                "line": self.tokens.line,
                "position": self.tokens.line_position,
                "token_id": self.tokens.token_id,
                "word_index": self.tokens.word_index,
                "log_prob": self.log_prob,
                "log_prob_l2r": self.log_prob_l2r,
            }
        )


def pseudo_perplexity(
    model: MaskedLM,
    lines: Sequence[str],
    tokens_per_batch: int = TOKENS_PER_BATCH,
    precision: ScoringPrecision = "float32",
    progress: Report | None = None,
) -> TokenScores:
    """Score every real token of `lines` once, special tokens excluded, and `lines` as the paper's library does.

    The result depends on neither `tokens_per_batch` (positions in a forward pass) nor padding. Raises
    `UserError` if no line holds a token to score, or if all are too short for the library.
    """
    start = time.perf_counter()
    tokens = cut_lines(model, lines)
    # A word's last piece has nothing left to mask: both ways to count then ask the same question.
    alone = tokens.position + 1
    extra = np.flatnonzero(tokens.word_end > alone)
    queries = Queries(
        sequence=np.concatenate([tokens.window, tokens.window[extra]]),
        position=np.concatenate([tokens.position, tokens.position[extra]]),
        mask_end=np.concatenate([alone, tokens.word_end[extra]]),
    )
    log_probs = token_log_probs(model, tokens.sequences, queries, tokens_per_batch, precision, progress)
    log_prob, log_prob_l2r = log_probs[: len(alone)], log_probs[: len(alone)].copy()
    log_prob_l2r[extra] = log_probs[len(alone) :]
    published = library_scores(model, lines, tokens, log_prob, tokens_per_batch, precision, progress)
    return TokenScores(tokens, log_prob, log_prob_l2r, published, precision, time.perf_counter() - start)


def unigram_log_probs(store: TokenStore, token_id: Integers, model: MaskedLM) -> Floats:
    """What knowing no context is worth: log-probabilities of tokens by the add-one unigram model of a token store.

    `token_id`: (n_tokens,); result: (n_tokens,), natural log. Special tokens are not counted as words.
    """
    size = len(model.tokenizer)
    counts = store.counts(size).astype(float)
    counts[sorted(model.special_ids())] = -1  # so that add-one leaves them no probability
    return np.log(counts[token_id] + 1) - np.log((counts + 1).sum())


def score_models(
    run: Run, also: str = "", precision: ScoringPrecision = "float32", progress: Report = print
) -> PseudoPerplexityResult:
    """Score every model of the run on the same held-out lines; write `pseudo_perplexity.json` and `.parquet`.

    `also` names further masked language models to score, folders or hub ids with spaces between them.
    """
    settings = run.profile.pseudo_perplexity
    drawn = held_out_lines(run, settings.lines)
    lines, documents = [line.text for line in drawn], [line.document for line in drawn]
    models: dict[str, ModelPseudoPerplexity] = {}
    tables: list[pa.Table] = []
    names = [*evaluated_models(run), *also.split()]
    for number, name in enumerate(names):
        model = load_evaluated(run, name)
        with heartbeat.part(number, len(names)):
            scores = pseudo_perplexity(model, lines, settings.tokens_per_batch, precision, progress)
        if not models:  # the teacher, whose tokenizer made the token store
            counted = TokenStore(run.paths.corpus(*run.profile.arms[0]))
            alone = unigram_log_probs(counted, scores.tokens.token_id, model)
            unigram = replace(scores, log_prob=alone, log_prob_l2r=alone).table(UNIGRAM, documents)
            of_teacher = len({documents[line] for line in scores.tokens.line})
        models[name] = summary = scores.summary()
        tables.append(scores.table(name, documents))
        progress(f"{name}: PPPL {summary.corpus:,.1f}, {summary.tokens:,} tokens in {summary.seconds:.1f} s")
    teacher, floor = models["teacher"], None
    if run.profile.text == "known_answer":  # text whose every conditional we know
        from robbertje_lib.known_answer import truth  # a generator that runs on real text have no use for

        floor = truth.floor(lines, run.profile.gender_bias.planted_strength)
    result = PseudoPerplexityResult(
        lines=teacher.lines,
        documents=of_teacher,
        tokens=teacher.tokens,
        windowed=teacher.windowed,
        dropped=teacher.dropped,
        models=models,
        unigram=float(np.exp(-alone.mean())),
        floor=floor["corpus"] if floor else None,
        floor_per_line_mean=floor["per_line_mean"] if floor else None,
    )
    TokenLogProbs.write(run, pa.concat_tables([*tables, unigram]))
    result.write(run)
    return result
