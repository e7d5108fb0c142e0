"""What `40_pseudo_perplexity` writes: `pseudo_perplexity.json`, and every token's log-probability in parquet."""

from typing import ClassVar

import pyarrow as pa

from robbertje_lib.experiment.results.base import Record, ResultFile, ResultTable


class ModelPseudoPerplexity(Record):
    """One model. The ways to count are explained in `evaluation.pseudo_perplexity`."""

    corpus: float
    per_line_mean: float
    as_published: float  # exactly as the paper's library counts; what published numbers are compared with
    as_published_lines: int
    as_published_dropped: int  # lines of 10 characters or fewer, newline included
    as_published_cut: int  # lines longer than the model takes, whose rest was not scored
    word_l2r: float
    word_l2r_per_word: float
    lines: int
    tokens: int
    words: int
    windowed: int  # lines longer than the model can take, scored in overlapping windows
    dropped: dict[str, int]  # lines without a token to score, by reason
    seconds: float
    precision: str  # float32 or bfloat16


class PseudoPerplexityResult(ResultFile):
    """All models on the same held-out lines; sizes are those of the teacher's tokens."""

    where: ClassVar[str] = "pseudo_perplexity.json"
    version: ClassVar[int] = 3

    lines: int
    documents: int  # that the lines come from
    tokens: int
    windowed: int
    dropped: dict[str, int]
    models: dict[str, ModelPseudoPerplexity]
    unigram: float  # of a unigram model of the first arm
    floor: float | None  # what no model can beat; known for known-answer Dutch alone
    floor_per_line_mean: float | None


PSEUDO_PERPLEXITY = "pseudo_perplexity"  # stands where a task does
UNIGRAM = "unigram"  # the `model` that knows how frequent each token is, and nothing else


class TokenLogProbs(ResultTable):
    """A row a model and scored token, in reading order. Natural logarithms. One model is the unigram model."""

    where: ClassVar[str] = "pseudo_perplexity.parquet"
    version: ClassVar[int] = 2
    columns: ClassVar = {
        "model": pa.dictionary(pa.int32(), pa.string()),
        "document": pa.dictionary(pa.int32(), pa.string()),  # that the line comes from
        "line": pa.int32(),
        "position": pa.int32(),  # of the token in its line, specials not counted
        "token_id": pa.int32(),
        "word_index": pa.int32(),
        "log_prob": pa.float64(),  # the token masked alone
        "log_prob_l2r": pa.float64(),  # the later pieces of its word masked too
    }
