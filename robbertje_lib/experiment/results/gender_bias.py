"""What the probes read (`60_gender_bias`), in parquet and `probe.json`, and what it comes to (`70_significance`)."""

from typing import ClassVar

import pyarrow as pa

from robbertje_lib.experiment.results.base import Interval, Record, ResultFile, ResultTable


class ProbeResult(ResultFile):
    """What was probed. `documents`: occupation -> training documents that mention it, on known-answer Dutch alone."""

    where: ClassVar[str] = "probe.json"

    professions: int
    two_forms: int  # professions with a female form of their own
    left_out: dict[str, str]  # English profession -> why it was not probed
    planted_strength: float | None  # of the bias in known-answer Dutch
    documents: dict[str, int] | None


class PronounProbe(ResultTable):
    """A row a model, template, profession and form. `p_`: probabilities; ranks from 1; natural logarithms."""

    where: ClassVar[str] = "gender_bias.parquet"
    columns: ClassVar = {
        "model": pa.string(),
        "template": pa.string(),
        "profession": pa.string(),
        "profession_en": pa.string(),
        "form": pa.string(),  # base, or female
        "associated_gender": pa.float64(),  # -1 zij to +1 hij; null where nothing is known
        "p_hij": pa.float64(),
        "p_zij": pa.float64(),
        "p_ze": pa.float64(),  # null where the vocabulary lacks it
        "p_other_case": pa.float64(),
        "rank_hij": pa.int64(),
        "rank_zij": pa.int64(),
        "rank_difference": pa.int64(),  # negative: hij stands higher
        "log_odds": pa.float64(),  # positive: hij is likelier
        "lpbs": pa.float64(),
        "unknown": pa.bool_(),  # whether a piece is the unknown token
    }


class CrowsPairsScores(ResultTable):
    """A row a model and pair: pseudo-log-likelihood in nats of the tokens that both sentences share."""

    where: ClassVar[str] = "crows_pairs.parquet"
    columns: ClassVar = {
        "model": pa.string(),
        "id": pa.string(),
        "bias_type": pa.string(),
        "direction": pa.string(),
        "more": pa.float64(),  # null where the pair was skipped
        "less": pa.float64(),
        "shared": pa.int32(),  # tokens
        "skipped": pa.bool_(),
    }


class DiscoFills(ResultTable):
    """A row a model, template, person and fill: the likeliest completions, the first three of each."""

    where: ClassVar[str] = "disco.parquet"
    columns: ClassVar = {
        "model": pa.string(),
        "template": pa.string(),
        "gender": pa.string(),  # hij or zij
        "person": pa.string(),
        "token_id": pa.int32(),
        "word": pa.string(),
    }


class MetricSummary(Record):
    """One metric of one model over professions (base forms, mean over templates)."""

    mean: float
    interval: Interval
    mean_absolute: float
    templates: dict[str, float]  # template -> mean
    female_forms: float | None  # mean over the female forms, where there are any


class Correlation(Record):
    """Spearman's rho with associated gender; None where one side is constant or fewer than 3 pairs are known."""

    spearman: float | None
    p: float | None
    n: int


class MetricAgreement(Record):
    """How alike two metrics order the same rows."""

    a: str
    b: str
    spearman: float | None
    kendall: float | None
    n: int


class DiscoSummary(Record):
    """`score`: mean number of gendered fills a template; 0 is no dependence."""

    score: float
    templates: dict[str, list[str]]  # template -> the fills that depend on gender


class CrowsPairsSummary(Record):
    """`share` of pairs whose more stereotyping sentence is likelier, ties apart, with its Wilson interval."""

    share: float | None
    interval: Interval | None
    p: float | None
    pairs: int
    ties: int
    skipped: int


class ModelBias(Record):
    """One model. Keys of the mappings are metrics: rank_difference, log_odds, lpbs."""

    metrics: dict[str, MetricSummary]
    correlation: dict[str, Correlation]
    agreement: list[MetricAgreement]
    share_hij_preferred: float
    pronoun_mass: dict[str, float | None]  # hij, zij, ze, other_case -> mean probability
    rows_with_unknown_pieces: int
    disco: DiscoSummary | None
    crows_pairs: CrowsPairsSummary | None


class Stereotype(Record):
    """One measure of stereotype of one group (teacher or student), mean over its replicates.

    Measures, over professions (base forms, mean over templates): `log_odds_slope` and `rank_slope`, the slope on
    associated gender (of the rank difference with its sign turned, so that both are positive where *hij* goes with
    men's professions); `lpbs_spread`, the standard deviation of LPBS. The level (`MetricSummary.mean`), a preference
    for one pronoun whatever the profession, is no stereotype.
    """

    group: str
    measure: str
    value: float
    interval: Interval  # over replicates and professions
    p: float  # two-sided, of no stereotype; a spread is never none, and its p says little
    replicates: list[float]  # of each
    professions: int


class BiasComparison(Record):
    """One measure of stereotype, teacher minus student: above 0 the student is less biased.

    Slopes by their amount, replicate by replicate: a stereotype turned round is as much of one. Random levels:
    replicates of the student, then professions. The teacher is a given set of weights. `share`: of the teacher's value,
    which was read from the same professions and is no surer than the student's; its interval and error say so.
    """

    student: str
    measure: str
    teacher_value: float
    student_value: float
    difference: float
    interval: Interval
    p: float
    standard_error: float
    degrees: float
    share: float
    share_interval: Interval
    share_error: float
    share_degrees: float
    replicates: int
    professions: int


class ReadBack(Record):
    """How well one model's probe reads the planted P(zij); None where nothing was planted."""

    slope: float | None
    spearman: float | None
    calibration_error: float  # mean absolute difference
    largest_error: float
    leaning_occupations: int


class OccupationRead(Record):
    """`p`: that so large a log odds comes about by chance where hij and zij are equally likely; adjusted by Holm."""

    model: str
    occupation: str
    planted: float
    read: float
    p: float
    adjusted_p: float


class PlantedBias(Record):
    """Planted against read bias on known-answer Dutch."""

    strength: float
    models: dict[str, ReadBack]
    occupations: list[OccupationRead]


class GenderBiasResult(ResultFile):
    """Every model's bias, and the teacher against each student."""

    where: ClassVar[str] = "gender_bias.json"
    version: ClassVar[int] = 4

    models: dict[str, ModelBias]
    stereotypes: list[Stereotype]
    comparisons: list[BiasComparison]
    model_order: list[MetricAgreement]  # of the measures of stereotype, over teacher and students
    planted: PlantedBias | None
