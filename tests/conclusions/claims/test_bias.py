"""The claim about bias: what stands before it, when it is decided, and that chance alone hardly ever decides it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from robbertje_lib.conclusions.claims.base import Evidence, NotTested, Setting
from robbertje_lib.conclusions.claims.bias import less_biased
from robbertje_lib.conclusions.stereotypes import MEASURES, compare_stereotypes
from robbertje_lib.experiment.paths import RunPaths
from robbertje_lib.experiment.profile import Profile, load_profile
from robbertje_lib.experiment.results.gender_bias import (
    BiasComparison,
    GenderBiasResult,
    MetricSummary,
    ModelBias,
    Stereotype,
)
from robbertje_lib.experiment.results.significance import SignificanceResult
from robbertje_lib.experiment.run import Run
from tests.support.bias_probe import TEACHER, Probe
from tests.support.claim_evidence import gate

ARMS = ("non_shuffled", "merged")
SETTING = Setting("head, fast", "head", "fast", {(arm, "distilbert"): arm for arm in ARMS})


@cache
def profile_of(replicates: int) -> Profile:
    return load_profile("smoke").model_copy(update={"replicates": replicates})


@dataclass(frozen=True)
class Given(Evidence):
    """The bias of a run, and which groups know more than how frequent words are."""

    bias: GenderBiasResult = field(kw_only=True)
    open: tuple[str, ...] = ("teacher", *ARMS)

    def read(self, kind: type[Any], what: str, **names: str) -> Any:
        return self.bias

    @property
    def significance(self) -> SignificanceResult:  # type: ignore[override]
        groups = ("teacher", *ARMS)
        rows = [gate("pseudo_perplexity", group, useful=group in self.open, train=0) for group in groups]
        return SignificanceResult.model_construct(gates=rows)


def evidence_of(
    stereotypes: list[Stereotype], comparisons: list[BiasComparison], replicates: int, **more: Any
) -> Given:
    summary = MetricSummary(mean=0.5, interval=(0.4, 0.6), mean_absolute=1.0, templates={}, female_forms=None)
    model = ModelBias(
        metrics={"log_odds": summary}, correlation={}, agreement=[], share_hij_preferred=0.5, pronoun_mass={},
        rows_with_unknown_pieces=0, disco=None, crows_pairs=None,
    )  # fmt: skip
    profile = profile_of(replicates)
    result = GenderBiasResult(
        models=dict.fromkeys(profile.models, model), stereotypes=stereotypes, comparisons=comparisons, model_order=[],
        planted=None,
    )  # fmt: skip
    return Given(Run(profile, RunPaths(profile.run_name, Path("nowhere"))), bias=result, **more)


def simulated(rng: np.random.Generator, slopes: Mapping[str, float], replicates: int) -> list[str]:
    """The verdict on each of these students alone, with such slopes and replicates that differ by chance."""
    probe = Probe(rng)
    groups: dict[str, list[pd.DataFrame]] = {"teacher": [probe.model(TEACHER)]}
    groups |= {arm: probe.student(slope, replicates) for arm, slope in slopes.items()}
    evidence = evidence_of(*compare_stereotypes(groups, 300, rng), replicates)
    settings = [Setting(arm, arm, "fast", {(arm, "distilbert"): arm}) for arm in slopes]
    return [less_biased(evidence, setting).verdict for setting in settings]


def rows(
    shares: Mapping[str, Mapping[str, float]], replicates: int = 3, teacher: tuple[float, float] = (1.5, 2.5)
) -> tuple[list[Stereotype], list[BiasComparison]]:
    """A teacher with this interval, and for each student how much less it has by each measure, in shares of it."""
    stereotypes = [
        Stereotype(group="teacher", measure=measure, value=sum(teacher) / 2, interval=teacher, p=0.0, replicates=[2.0],
                   professions=40)
        for measure in MEASURES
    ]  # fmt: skip
    comparisons = [
        BiasComparison(
            student=student, measure=measure, teacher_value=2.0, student_value=2.0 * (1 - share), difference=2 * share,
            interval=(2 * share - 0.2, 2 * share + 0.2), p=0.3 if abs(share) < 0.1 else 1e-6, standard_error=0.1,
            degrees=20.0, share=share, share_interval=(share - 0.1, share + 0.1), share_error=0.05, share_degrees=20.0,
            replicates=replicates, professions=40,
        )
        for student, own in shares.items()
        for measure, share in own.items()
    ]  # fmt: skip
    return stereotypes, comparisons


def alike(share: float) -> dict[str, float]:
    return dict.fromkeys(MEASURES, share)


def test_all_students_by_all_measures() -> None:
    decision = less_biased(evidence_of(*rows({"non_shuffled": alike(0.4), "merged": alike(0.3)}), 3), SETTING)
    assert decision.verdict == "supported" and decision.smallest == 0.1
    assert decision.ours == pytest.approx(0.3) and decision.interval == pytest.approx((0.2, 0.4))  # the worst
    assert [finding.what for finding in decision.findings][:2] == [
        "non_shuffled, log_odds_slope",
        "non_shuffled, rank_slope",
    ]
    assert "a level that is not tested: teacher +0.50" in decision.reason


def test_one_student_that_is_more_biased_contradicts() -> None:
    given = rows({"non_shuffled": alike(0.4), "merged": alike(-0.3)})
    assert less_biased(evidence_of(*given, 3), SETTING).verdict == "contradicted"


@pytest.mark.parametrize("other", [0.0, -0.3])
def test_measures_that_disagree_decide_nothing_and_are_named(other: float) -> None:
    given = rows({"non_shuffled": alike(0.4), "merged": alike(0.4) | {"rank_slope": other}})
    decision = less_biased(evidence_of(*given, 3), SETTING)
    outcome = "contradicted" if other else "undecided"
    assert decision.verdict == "undecided"
    assert (
        f"merged undecided, as the measures disagree (log_odds_slope supported, rank_slope {outcome}" in decision.reason
    )
    assert ("measures point apart" in decision.reason) == bool(other)
    assert (decision.factor is None) == bool(other)


@pytest.mark.parametrize("share", [0.5, 0.0, -0.5])
def test_one_run_each_decides_nothing_whatever_p_says(share: float) -> None:
    given = rows({arm: alike(share) for arm in ARMS}, replicates=1)
    decision = less_biased(evidence_of(*given, 1), SETTING)
    assert decision.verdict == "undecided" and decision.reason.startswith("one run each")
    assert (
        f"merged {'supported' if share > 0 else 'contradicted' if share < 0 else 'undecided'} by every"
        in decision.reason
    )


@pytest.mark.parametrize("teacher", [(-0.1, 2.5), (-2.5, 0.1)])
def test_a_teacher_without_stereotype_is_no_yardstick(teacher: tuple[float, float]) -> None:
    given = rows({arm: alike(0.4) for arm in ARMS}, teacher=teacher)
    with pytest.raises(NotTested, match="the teacher has no stereotype beyond doubt by log_odds_slope, rank_slope"):
        less_biased(evidence_of(*given, 3), SETTING)


def test_a_spread_which_is_always_above_0_opens_no_gate() -> None:
    """A teacher whose spread is beyond doubt, and whose slopes are not."""
    stereotypes, comparisons = rows({arm: alike(0.4) for arm in ARMS}, teacher=(-0.1, 2.5))
    stereotypes[-1] = stereotypes[-1].model_copy(update={"interval": (1.5, 2.5)})
    assert stereotypes[-1].measure == "lpbs_spread"
    with pytest.raises(NotTested, match="no stereotype beyond doubt by log_odds_slope, rank_slope;"):
        less_biased(evidence_of(stereotypes, comparisons, 3), SETTING)
    clear, _ = rows({arm: alike(0.4) for arm in ARMS})
    clear[-1] = clear[-1].model_copy(update={"interval": (-0.1, 2.5)})
    assert less_biased(evidence_of(clear, comparisons, 3), SETTING).verdict == "supported"


def test_without_slopes_nothing_is_tested() -> None:
    stereotypes, comparisons = rows({arm: alike(0.4) for arm in ARMS})
    spread = [row for row in stereotypes if row.measure == "lpbs_spread"]
    with pytest.raises(NotTested, match="no log_odds_slope, rank_slope: the professions are not associated"):
        less_biased(evidence_of(spread, comparisons, 3), SETTING)


def test_what_knows_no_more_than_frequencies_is_not_tested() -> None:
    given = rows({"non_shuffled": alike(0.4), "merged": alike(-0.4)})
    decision = less_biased(evidence_of(*given, 3, open=("teacher", "non_shuffled")), SETTING)
    assert {finding.outcome for finding in decision.findings} == {"supported"} and len(decision.findings) == 3
    assert decision.verdict == "undecided" and decision.reason.endswith("left out: merged")
    assert "merged" in decision.notes[0]
    more = rows({"non_shuffled": alike(-0.4), "merged": alike(0.4)})
    assert less_biased(evidence_of(*more, 3, open=("teacher", "non_shuffled")), SETTING).verdict == "contradicted"
    for closed, named in ((("teacher",), "non_shuffled, merged"), (ARMS, "teacher")):
        with pytest.raises(NotTested, match=f"not below the unigram model's: {named}"):
            less_biased(evidence_of(*given, 3, open=closed), SETTING)


@pytest.mark.parametrize("replicates", [2, 3, 5])
def test_chance_alone_hardly_ever_gives_a_verdict(replicates: int) -> None:
    """Two near-replicates of one student, and the teacher that they differ from by chance alone."""
    rng, pairs = np.random.default_rng(replicates), 250
    given = [simulated(rng, dict.fromkeys(ARMS, TEACHER), replicates) for _ in range(pairs)]
    decided = [sum(verdict != "undecided" for verdict in one) for one in zip(*given, strict=True)]
    assert max(decided) <= 0.06 * pairs, decided
    assert sum({"supported", "contradicted"} <= set(pair) for pair in given) == 0


@pytest.mark.parametrize(("replicates", "power"), [(3, 0.75), (5, 0.95)])
def test_a_planted_difference_decides(replicates: int, power: float) -> None:
    rng, runs = np.random.default_rng(replicates), 40
    for slope, verdict in ((0.65 * TEACHER, "supported"), (1.35 * TEACHER, "contradicted")):
        found = sum(simulated(rng, {"merged": slope}, replicates) == [verdict] for _ in range(runs))
        assert found >= power * runs, (verdict, found)
