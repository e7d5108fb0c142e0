"""Instruments: sound ones pass, and a broken one is named."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from robbertje_lib.conclusions.claims.decide import decide_claims
from robbertje_lib.conclusions.comparisons import compare_models
from robbertje_lib.conclusions.instruments import EQUALS, check_instruments
from robbertje_lib.experiment.results.base import ResultFile
from robbertje_lib.experiment.results.claims import ClaimsResult, failed
from robbertje_lib.experiment.results.finetuning import TaskScores
from robbertje_lib.experiment.results.gender_bias import GenderBiasResult
from robbertje_lib.experiment.results.pseudo_perplexity import PseudoPerplexityResult
from robbertje_lib.experiment.results.significance import Comparison, SignificanceResult
from robbertje_lib.experiment.run import Run
from robbertje_lib.statistics import CoverageRate, RejectionRate
from tests.support.claim_evidence import comparison, evidence_of, profile_of
from tests.support.result_files import World, make_run, write_results

KNOWN_ANSWER = World(
    examples=200,
    skill={"teacher": 0.9, "bort": 0.75},
    nats={"teacher": 2.6, "bort": 3.5},
    bias={"bort": 0.5},
)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, ClaimsResult]:
    """A known-answer run whose instruments all read what was planted."""
    run = make_run(tmp_path_factory.mktemp("known"), "smoke", ("dbrd", "ner"))
    write_results(run, KNOWN_ANSWER)
    compare_models(run)
    return run, decide_claims(run)


def test_known_answer_verdicts_are_marked_as_checks(sound: tuple[Run, ClaimsResult]) -> None:
    assert {row.kind for row in sound[1].claims} == {"instrument check"}


def test_sound_instruments_pass(sound: tuple[Run, ClaimsResult]) -> None:
    instruments = sound[1].instruments
    assert failed(instruments) == []
    assert {"pseudo-perplexity", "dbrd accuracy", "ner F1", "gender-bias probe"} <= {r.instrument for r in instruments}


def with_deaf_probe(result: GenderBiasResult, spearman: float | None = 0.5) -> GenderBiasResult:
    assert result.planted is not None
    deaf = result.planted.models["teacher"].model_copy(update={"spearman": spearman})
    planted = result.planted.model_copy(update={"models": {**result.planted.models, "teacher": deaf}})
    return result.model_copy(update={"planted": planted})


def with_strong_majority(result: TaskScores) -> TaskScores:
    rows = [row.model_copy(update={"score": 0.95}) if row.name == "majority" else row for row in result.baselines]
    return result.model_copy(update={"baselines": rows})


@pytest.mark.parametrize(
    ("kind", "names", "change", "named"),
    [
        (PseudoPerplexityResult, {}, lambda r: r.model_copy(update={"floor": 100.0}), "pseudo-perplexity"),
        (PseudoPerplexityResult, {}, lambda r: r.model_copy(update={"floor": 5.0}), "pseudo-perplexity"),
        (PseudoPerplexityResult, {}, lambda r: r.model_copy(update={"unigram": 15.0}), "pseudo-perplexity"),
        (TaskScores, {"task": "ner"}, with_strong_majority, "ner F1"),
        (GenderBiasResult, {}, with_deaf_probe, "gender-bias probe"),
        (GenderBiasResult, {}, lambda r: with_deaf_probe(r, None), "gender-bias probe"),
    ],
)
def test_a_broken_instrument_is_named(
    sound: tuple[Run, ClaimsResult], kind: type[ResultFile], names: dict[str, str], change: Any, named: str
) -> None:
    run = sound[0]
    before = kind.read(run, **names)
    change(before).write(run, **names)
    try:
        assert failed(check_instruments(run, SignificanceResult.read(run))) == [named]
    finally:
        before.write(run, **names)


def checked(change: Callable[[SignificanceResult], SignificanceResult], replicates: int = 2) -> list[str]:
    """The instruments that fail on real text, where nothing but the tests can be checked."""
    evidence = evidence_of(profile_of(replicates), {})
    return failed(check_instruments(evidence.run, change(evidence.significance)))


RATE = RejectionRate(
    test="replicates and examples", data="accuracy", replicates=3, spread_ratio=1.0, offered=True, difference=0.0,
    rejected=0.045, interval=(0.04, 0.05), simulations=2000,
)  # fmt: skip


def rate(replicates: int, rejected: float) -> RejectionRate:
    return replace(RATE, replicates=replicates, rejected=rejected, interval=(rejected - 0.005, rejected + 0.005))


COVERED = CoverageRate(
    method="clusters", offered=True, clusters=20, per_cluster=10, correlation=0.3, covered=0.95,
    interval=(0.94, 0.96), simulations=2000,
)  # fmt: skip


def with_study(rates: list[RejectionRate], coverage: list[CoverageRate]) -> Callable[..., SignificanceResult]:
    def change(result: SignificanceResult) -> SignificanceResult:
        study = result.calibration.model_copy(update={"rates": rates, "coverage": coverage})
        return result.model_copy(update={"calibration": study})

    return change


@pytest.mark.parametrize(
    ("rates", "coverage", "named"),
    [
        ([RATE], [COVERED], []),
        ([RATE, rate(10, 0.08)], [], ["replicates and examples (accuracy)"]),
        ([RATE, rate(10, 0.062)], [], []),  # within what chance does to the simulation
        ([RATE, rate(10, 0.02)], [], ["replicates and examples (accuracy)"]),
        # Two replicates have hardly a spread to read, and few examples hardly a difference: tests may reject too little.
        ([RATE, rate(2, 0.02)], [], []),
        ([RATE, rate(2, 0.08)], [], ["replicates and examples (accuracy, 2 replicates)"]),
        ([replace(rate(3, 0.01), replicates=None)], [], []),
        ([RATE, replace(rate(3, 0.31), offered=False), replace(rate(3, 0.9), difference=0.1)], [], []),
        ([RATE], [replace(COVERED, covered=0.9, interval=(0.89, 0.91))], ["95 % intervals (clusters of examples)"]),
        ([RATE], [replace(COVERED, covered=0.8, interval=(0.79, 0.81), offered=False)], []),
    ],
)
def test_the_calibration_must_hold(rates: list[RejectionRate], coverage: list[CoverageRate], named: list[str]) -> None:
    assert checked(with_study(rates, coverage)) == named


@pytest.mark.parametrize(
    ("rejected", "told"),
    [(0.045, ""), (0.062, "all of these reach into it"), (0.08, "one of these does not reach into it")],
)
def test_a_rate_outside_the_band_is_told_whether_noise_explains_it_or_not(rejected: float, told: str) -> None:
    evidence = evidence_of(profile_of(2), {})
    study = with_study([RATE, rate(10, rejected)], [])(evidence.significance)
    (check,) = [row for row in check_instruments(evidence.run, study) if "accuracy" in row.instrument]
    assert check.detail.endswith(told) and ("not all rates lie in the band of 0.03 to 0.06" in check.detail) == bool(
        told
    )


def test_a_run_is_not_judged_by_fewer_replicates_than_it_has() -> None:
    assert checked(with_study([RATE, rate(2, 0.08)], []), replicates=3) == []


def equal(difference: float, replicates: tuple[int, int] = (3, 3)) -> Comparison:
    row = comparison("dbrd", "shuffled_same_lines", "non_shuffled_same_lines", difference)
    return row.model_copy(update={"family": EQUALS, "replicates": replicates})


@pytest.mark.parametrize(
    ("rows", "named"),
    [
        ([equal(0.0), equal(0.001)], []),
        ([equal(0.0), equal(0.05)], ["equal students"]),
        ([equal(0.05, (1, 1))], []),  # about these very weights, which do differ
    ],
)
def test_students_that_differ_by_chance_must_not_be_told_apart(rows: list[Comparison], named: list[str]) -> None:
    assert checked(lambda result: result.model_copy(update={"comparisons": rows})) == named
