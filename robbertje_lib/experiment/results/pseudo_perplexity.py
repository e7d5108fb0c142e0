"""What `40_pseudo_perplexity` writes: `pseudo_perplexity.json`, and every token's log-probability in parquet."""

from typing import ClassVar

import pyarrow as pa

from robbertje_lib.experiment.results.base import Record, ResultFile, ResultTable


class ModelPseudoPerplexity(Record):
    """One model. The four ways to count are explained in `evaluation.pseudo_perplexity`."""

    corpus: float
    per_line_mean: float
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
    version: ClassVar[int] = 2

    lines: int
    tokens: int
    windowed: int
    dropped: dict[str, int]
    models: dict[str, ModelPseudoPerplexity]
    unigram: float  # of a unigram model of the non-shuffled arm
    floor: float | None  # what no model can beat; known for known-answer Dutch alone
    floor_per_line_mean: float | None


class TokenLogProbs(ResultTable):
    """A row a model and scored token, in reading order. Natural logarithms."""

    where: ClassVar[str] = "pseudo_perplexity.parquet"
    columns: ClassVar = {
        "model": pa.dictionary(pa.int32(), pa.string()),
        "line": pa.int32(),
        "position": pa.int32(),  # of the token in its line, specials not counted
        "token_id": pa.int32(),
        "word_index": pa.int32(),
        "log_prob": pa.float64(),  # the token masked alone
        "log_prob_l2r": pa.float64(),  # the later pieces of its word masked too
    }
