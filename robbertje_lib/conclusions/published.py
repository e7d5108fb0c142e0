"""Published numbers: what the paper and its surroundings report, where each was read, and what it can carry.

The full text of the paper was not read; its results are those of the model cards, which repeat its main table.
`paper_comparisons` asks which differences of that table exceed noise, given nothing but scores and test sizes.
"""

from dataclasses import dataclass, replace
from itertools import combinations
from math import log, sqrt
from typing import Literal

import numpy as np

from robbertje_lib.experiment.results.base import Interval

Certainty = Literal["confirmed", "inferred", "not available", "recollected"]

CARD = "robbertje README and model cards"
TASKS = ("dbrd", "die_dat", "ner", "pos", "sick_nl")
TITLES = {
    "pseudo_perplexity": "PPPL",
    "dbrd": "DBRD",
    "die_dat": "die/dat",
    "ner": "NER",
    "pos": "POS",
    "sick_nl": "SICK-NL",
}


@dataclass(frozen=True)
class Published:
    """One published number. `value` is None where the source is known to exist but was not available."""

    table: str
    row: str
    column: str
    value: float | str | None
    unit: str
    source: str
    certainty: Certainty = "confirmed"
    note: str = ""


def _table(
    name: str,
    columns: tuple[str, ...],
    unit: str | dict[str, str],
    source: str,
    rows: dict[str, tuple[float | str | None, ...]],
    certainty: Certainty = "confirmed",
    notes: dict[tuple[str, str], tuple[Certainty, str]] | None = None,
) -> list[Published]:
    cells = []
    for row, values in rows.items():
        for column, value in zip(columns, values, strict=True):
            sure, note = (notes or {}).get((row, column), (certainty, ""))
            cells.append(
                Published(name, row, column, value, unit if isinstance(unit, str) else unit[column], source, sure, note)
            )
    return cells


RESULTS = _table(
    "results",
    ("pseudo_perplexity", *TASKS),
    {"pseudo_perplexity": "perplexity", **dict.fromkeys(TASKS, "%")},
    CARD,
    {
        "teacher": (7.76, 94.4, 99.2, 89.1, 96.4, 84.2),
        "non_shuffled": (12.95, 90.2, 98.4, 82.9, 95.5, 83.4),
        "shuffled": (18.74, 92.5, 98.2, 82.7, 95.6, 83.4),
        "merged": (17.10, 92.9, 96.5, 81.8, 95.2, 82.8),
        "bort": (26.44, 89.6, 92.2, 79.7, 94.3, 81.0),
    },
    notes={
        ("teacher", "dbrd"): (
            "confirmed",
            "not RobBERT v2's 95.144; equals RobBERT v1's 94.422 when rounded; the authors' own rerun of v2 gives 93.3",
        ),
        ("teacher", "die_dat"): ("confirmed", "RobBERT's own README: 99.232 accuracy on the full test set"),
        ("teacher", "ner"): ("confirmed", "RobBERT's own README: 89.08 by the CoNLL-2002 script"),
        ("teacher", "pos"): ("confirmed", "RobBERT's own README"),
        ("teacher", "sick_nl"): ("inferred", "rerun for this table: the SICK-NL README has RobBERT at 82.02"),
        ("merged", "dbrd"): ("confirmed", "exactly 2067 of 2224 by the sentiment model's card"),
    },
)

SHAPES = _table(
    "shapes",
    ("layers", "heads", "hidden", "feed_forward", "vocabulary", "parameters"),
    "count",
    "configuration files of the released models",
    {
        "teacher": (12, 12, 768, 3072, 39_985, 116_800_000),
        "shuffled": (6, 12, 768, 3072, 39_985, 74_264_881),
        "non_shuffled": (6, 12, 768, 3072, 40_000, 74_276_416),
        "merged": (6, 12, 768, 3072, 40_000, 74_276_416),
        "bort": (4, 8, 768, 768, 40_000, 45_935_680),
    },
    notes={
        (row, "parameters"): ("inferred", "masked-language-model parameters, counted from the configuration")
        for row in ("teacher", "shuffled", "non_shuffled", "merged", "bort")
    },
)

_RECIPE: tuple[tuple[str, float | str | None, str, Certainty, str], ...] = (
    ("student_pretrained_weights", "null", "", "confirmed", "random initialisation, unlike DistilBERT"),
    ("temperature", 2.0, "", "confirmed", ""),
    ("alpha_ce", 5.0, "", "confirmed", "weight of the KL term"),
    ("alpha_mlm", 2.0, "", "confirmed", ""),
    ("alpha_cos", 1.0, "", "confirmed", ""),
    ("mlm_mask_prop", 0.15, "", "confirmed", ""),
    ("mlm_smoothing", 0.7, "", "confirmed", ""),
    ("restrict_ce_to_mask", "false", "", "confirmed", "KL over all tokens"),
    ("freeze_pos_embs", "true", "", "confirmed", "with random initialisation: positions stay random"),
    ("n_epoch", 3, "epochs", "confirmed", ""),
    ("batch_size", 5, "sequences", "confirmed", ""),
    ("gradient_accumulation_steps (non_shuffled)", 128, "steps", "confirmed", "640 sequences an update"),
    ("gradient_accumulation_steps (shuffled)", 100, "steps", "confirmed", "500 sequences an update"),
    ("gradient_accumulation_steps (merged, bort)", None, "steps", "not available", ""),
    ("warmup_prop", 0.05, "", "confirmed", ""),
    ("weight_decay", 0.01, "", "confirmed", ""),
    ("learning_rate", 5e-4, "", "confirmed", ""),
    ("adam_epsilon", 1e-6, "", "confirmed", ""),
    ("max_grad_norm", 5.0, "", "confirmed", ""),
    ("gpus", 1, "", "confirmed", "model and hours not available"),
    ("seed", 56, "", "confirmed", "one seed per student"),
)
RECIPE = [
    Published("recipe", "all", column, value, unit, "parameters.json of the released models", sure, note)
    for column, value, unit, sure, note in _RECIPE
]

SCANDEVAL = _table(
    "scandeval",
    ("ner_f1", "social_mcc", "scala_mcc", "squad_f1", "score", "tokens_per_second"),
    {**dict.fromkeys(("ner_f1", "social_mcc", "scala_mcc", "squad_f1", "score"), "%"), "tokens_per_second": "tokens/s"},
    "ScandEval, Dutch NLU, 5 February 2024",
    {
        "teacher": (78.30, 26.68, 63.83, 37.79, 49.29, 15_481),
        "non_shuffled": (74.50, 32.23, 54.57, 11.55, 41.90, 21_007),
        "shuffled": (73.55, 26.02, 57.03, 12.04, 40.81, 20_616),
        "merged": (72.51, 32.26, 50.00, 11.08, 40.19, 21_027),
        "bort": (66.74, 24.93, 37.19, 10.67, 33.52, 31_087),
    },
)
# Half-widths of the 95 % intervals of ScandEval's overall score, in points.
SCANDEVAL_MARGIN = {"teacher": 2.31, "non_shuffled": 1.34, "shuffled": 1.93, "merged": 1.50, "bort": 3.76}

TEACHER_ELSEWHERE = [
    Published("teacher_elsewhere", "RobBERT v2", column, value, "%", source, "confirmed", note)
    for column, value, source, note in (
        ("dbrd", 95.144, "RobBERT README and paperswithcode", "v1: 94.422"),
        ("dbrd_rerun", 93.3, "robbert-v2-dutch-sentiment model card", "the authors' own later run"),
        ("dbrd_by_robbert_2022", 94.4, "RobBERT-2022 model card", ""),
        ("die_dat", 99.232, "RobBERT README", "full data; 97.816 with 10,000 examples, 98.75 zero-shot"),
        ("ner", 89.08, "RobBERT README", ""),
        ("pos", 96.4, "RobBERT README", ""),
        ("sick_nl", 82.02, "SICK-NL README", ""),
    )
]

SPEED = [
    Published("speed", row, "speed_up", value, "x", source, "confirmed", note)
    for row, value, source, note in (
        ("merged", 4.0, "RobBERT-2022 model card", "a claim of the authors: four times faster inference"),
        ("distilbert shape", 1.36, "ScandEval, tokens/s, 2024", "an earlier table gives 2.05"),
        ("bort", 2.01, "ScandEval, tokens/s, 2024", "an earlier table gives 3.03"),
        ("DistilBERT", 1.6, "arXiv 1910.01108", "60 % faster, 40 % smaller, 97 % of the performance"),
        ("Bort", 7.9, "arXiv 2010.10499", "against BERT-base on CPU; another hidden size and fine-tuning"),
    )
]

BIAS = [
    Published("bias", "students", "stereotypical bias", None, "", "abstract of the paper", "not available",
              "the abstract says less than the teacher; no number could be read"),
    Published("bias", "teacher", "crows_pairs", 54.82, "%", "Dutch CrowS-Pairs result files", "inferred",
              "1463 pairs; computed from the stored results"),
    Published("bias", "teacher", "crows_pairs_gender", 53.44, "%", "Dutch CrowS-Pairs result files", "inferred",
              "262 pairs: within 6 points of chance, so not different from 50"),
]  # fmt: skip

SIZES = [
    Published("sizes", "arm", "bytes", 1_000_000_000, "bytes", CARD, "confirmed", "head -c of each arm's file"),
    Published("sizes", "student", "tokens", 660_000_000, "tokens", "computed", "inferred",
              "3 epochs of 1 GB; RobBERT's 39 GB hold 6.6 billion words, 1.3 tokens a word are assumed"),
    Published("sizes", "vocabulary", "tokens", 40_000, "tokens", "configuration files of the released models"),
    Published("sizes", "held-out", "lines", 500, "lines", "example in the distillation library's README", "inferred",
              "written for another model, not proven to be the table's run"),
    Published("sizes", "fine-tuning", "seeds", 1, "runs", "DBRD card of the merged model", "inferred",
              "one count of right answers is given"),
    Published("sizes", "dbrd", "test", 2224, "reviews", "model card of the sentiment model"),
    Published("sizes", "sick_nl", "test", 4906, "pairs", "SICK-NL README"),
]  # fmt: skip

ALL_TABLES = [*RESULTS, *SHAPES, *RECIPE, *SCANDEVAL, *TEACHER_ELSEWHERE, *SPEED, *BIAS, *SIZES]


@dataclass(frozen=True)
class SampleSize:
    """How many independent outcomes stand behind a published percentage."""

    task: str
    metric: str
    size: int | None
    certainty: Certainty
    note: str


SAMPLE_SIZES = {
    size.task: size
    for size in (
        SampleSize("dbrd", "accuracy", 2224, "confirmed", "DBRD v3 test reviews"),
        SampleSize("die_dat", "accuracy", None, "not available", "3,000 if 10,000 examples were cut 70/30"),
        SampleSize("ner", "F1", 3941, "inferred", "entities of ned.testb; F1 taken as a proportion of them"),
        SampleSize(
            "pos", "accuracy", 11_556, "inferred", "test tokens of LassySmall r2.5 to r2.7; tokens are not independent"
        ),
        SampleSize("sick_nl", "accuracy", 4906, "confirmed", "test pairs"),
    )
}


def published_size(row: str, column: str) -> Published:
    """A cell of `SIZES` or, for `parameters` of a model, of `SHAPES`. Raises `StopIteration` for another."""
    return next(cell for cell in (*SIZES, *SHAPES) if (cell.row, cell.column) == (row, column))


def published_score(model: str, task: str) -> Published | None:
    """The cell of the paper's main table for this model and task, or None where it has none."""
    return next((cell for cell in RESULTS if (cell.row, cell.column) == (model, task)), None)


@dataclass(frozen=True)
class PublishedDifference:
    """Model a minus model b in one column of the paper's main table: scores 0 to 1, or log pseudo-perplexities."""

    value: float
    standard_error: float | None  # of one run each on the known test size; None where that is not known

    @property
    def interval(self) -> Interval | None:
        """At 95 %, normal; None without a standard error."""
        if self.standard_error is None:
            return None
        reach = 1.96 * self.standard_error
        return self.value - reach, self.value + reach


def published_difference(a: str, b: str, task: str) -> PublishedDifference | None:
    """What the paper's table says of two models; None where it lacks one of them. task: `pseudo_perplexity` too."""
    values = _values(a, b, task)
    if len(values) < 2:
        return None
    if task not in TASKS:
        return PublishedDifference(log(values[0] / values[1]), None)
    scores, size = [value / 100 for value in values], SAMPLE_SIZES[task].size
    error = sqrt(sum(score * (1 - score) for score in scores) / size) if size else None
    return PublishedDifference(scores[0] - scores[1], error)


@dataclass(frozen=True)
class PaperComparison:
    """A pair of the paper's main table on one task, a minus b, with a two-proportion z test."""

    task: str
    a: str
    b: str
    difference: float  # scores 0 to 1
    p: float | None  # None where the size of the test set is not known
    adjusted_p: float | None  # Holm, over all tested pairs
    n: int | None  # test examples
    size_needed: int | None  # test examples per model for power 0.8; None where the scores are equal
    note: str


def paper_comparisons(alpha: float = 0.05) -> list[PaperComparison]:
    """Every pair of the paper's main table, task by task, tested with what the table gives.

    A two-proportion z test of rounded scores on the known test size: it ignores that both models saw the same
    examples, which makes it conservative, and that each score is one run of one seed, which makes it
    optimistic. Holm adjusts over all testable pairs. PPPL has no per-line values and is left out.
    """
    from robbertje_lib.statistics.significance import holm  # not above: `make plan` reads the table alone

    models = list(dict.fromkeys(cell.row for cell in RESULTS))
    # A comparison reads student against teacher, as everywhere else.
    pairs = [(b, a) if a == "teacher" else (a, b) for a, b in combinations(models, 2)]
    rows = [_paper_comparison(task, a, b, alpha) for task in TASKS for a, b in pairs]
    adjusted = iter(holm([row.p for row in rows if row.p is not None]).tolist())
    return [row if row.p is None else replace(row, adjusted_p=next(adjusted)) for row in rows]


def _paper_comparison(task: str, a: str, b: str, alpha: float) -> PaperComparison:
    from statsmodels.stats.proportion import proportions_ztest

    sample, scores = SAMPLE_SIZES[task], [value / 100 for value in _values(a, b, task)]
    p = None
    if sample.size:
        p = float(proportions_ztest(np.round(np.array(scores) * sample.size), [sample.size] * 2)[1])
    needed = _size_needed(scores[0], scores[1], alpha)
    return PaperComparison(task, a, b, scores[0] - scores[1], p, None, sample.size, needed, sample.note)


def _values(a: str, b: str, task: str) -> list[float]:
    """The cells of two models in the main table, as far as it has them."""
    cells = [published_score(model, task) for model in (a, b)]
    return [cell.value for cell in cells if cell and isinstance(cell.value, float)]


def _size_needed(a: float, b: float, alpha: float) -> int | None:
    """Test examples per model with which an unpaired test finds this difference with power 0.8."""
    from statsmodels.stats.power import NormalIndPower
    from statsmodels.stats.proportion import proportion_effectsize

    if a == b:
        return None
    return int(np.ceil(NormalIndPower().solve_power(abs(proportion_effectsize(a, b)), alpha=alpha, power=0.8)))


@dataclass(frozen=True)
class Confound:
    """Something other than the named cause that differs between two published numbers."""

    id: str
    what: str
    certainty: Certainty
    explains: str


CONFOUNDS = (
    Confound(
        "different_text",
        "Each arm takes the first gigabyte of its own file, so shuffled and non-shuffled hold different text, "
        "and non-shuffled and merged hold fewer, whole documents.",
        "inferred",
        "Any difference between arms, PPPL first of all: topics and sources differ, not only order.",
    ),
    Confound(
        "order_undone",
        "The training script shuffles lines and groups them by length in every arm; with one line a sequence, "
        "non-shuffled differs from shuffled only in which lines fall in its gigabyte.",
        "inferred",
        "That shuffled and non-shuffled perform alike: document order never reached the model.",
    ),
    Confound(
        "accumulation",
        "Gradients were accumulated over 128 batches for non-shuffled and 100 for shuffled: 640 against 500 "
        "sequences an update, so a different number of updates.",
        "confirmed",
        "Differences between shuffled and non-shuffled in PPPL and scores, either way.",
    ),
    Confound(
        "sequences_as_batches",
        "Batches count sequences. Merged lines are fewer and longer, so an epoch has fewer updates and less padding.",
        "inferred",
        "That merged trains faster: the gain may lie in counting, not in learning.",
    ),
    Confound(
        "short_lines_dropped",
        "Sequences of 11 tokens or fewer are dropped; short lines survive when merged.",
        "confirmed",
        "Merged sees text that the other arms never see.",
    ),
    Confound(
        "one_seed",
        "One distillation run per student and one fine-tuning run per score.",
        "confirmed",
        "Differences of about a point: seeds alone move NER F1 by as much.",
    ),
    Confound(
        "held_out_overlap",
        "Held-out lines come from a shard of the shuffled corpus; the first gigabyte of the unshuffled one "
        "holds the same text in another order, so it may contain some of them.",
        "inferred",
        "The lower PPPL of non-shuffled and merged against shuffled.",
    ),
    Confound(
        "teacher_row",
        "Three cells of the teacher's row are RobBERT's own earlier results, and its DBRD cell is that of "
        "another version; other code, data preparation and search than the students'.",
        "confirmed",
        "Any distance between students and teacher, in either direction.",
    ),
    Confound(
        "macro_pppl",
        "The library averages per line before exponentiating, drops lines of 10 characters or fewer and scores "
        "the final newline; Salazar's definition sums over the corpus.",
        "confirmed",
        "The level of every PPPL, and its order where models differ on short lines.",
    ),
    Confound(
        "frozen_positions",
        "Students start at random and their position embeddings stay frozen at random values.",
        "inferred",
        "Weak gains on long inputs, and the distance to the teacher; DistilBERT starts from the teacher's layers.",
    ),
    Confound(
        "vocabulary",
        "The shuffled student has 39,985 embedding rows, the others 40,000.",
        "confirmed",
        "Nothing that is likely to matter: the surplus rows stand for unused ids.",
    ),
)
