"""Claims about scores: planted differences found, planted nothing not found, gates respected."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robbertje_lib.conclusions.claims import quality
from robbertje_lib.conclusions.claims.base import NotTested, Setting, settings_of
from robbertje_lib.experiment.profile import Profile
from tests.support.claim_evidence import evidence_of, gate, profile_of

PROFILE = profile_of(tasks=("dbrd", "die_dat", "ner"))
TASKS = tuple(PROFILE.finetuning.tasks)


def first(profile: Profile = PROFILE) -> Setting:
    return settings_of(profile)[0]


def everywhere(a: str, b: str, difference: float) -> dict[tuple[str, str, str], float]:
    return {(task, a, b): difference for task in TASKS}


@pytest.mark.parametrize(("difference", "verdict"), [(0.0, "supported"), (0.05, "contradicted"), (0.01, "undecided")])
def test_alike_is_likeness_within_the_smallest_difference(difference: float, verdict: str) -> None:
    evidence = evidence_of(PROFILE, everywhere("shuffled", "non_shuffled", difference))
    decision = quality.alike(evidence, first())
    assert decision.verdict == verdict and decision.smallest == 0.01 and decision.bounded is None


def test_on_the_same_lines_in_random_order_two_arms_are_equals() -> None:
    same = next(setting for setting in settings_of(PROFILE) if setting.selection == "same_lines")
    assert any("comparison of equals" in note for note in quality.alike(evidence_of(PROFILE, {}), same).notes)
    ordered = PROFILE.recipes["fast"].model_copy(update={"order": "document"})
    documents = PROFILE.model_copy(update={"recipes": {**PROFILE.recipes, "fast": ordered}})
    assert quality.alike(evidence_of(documents, {}), same).notes == ()
    assert quality.alike(evidence_of(PROFILE, {}), first()).notes == ()


@pytest.mark.parametrize(("difference", "verdict"), [(0.1, "supported"), (-0.1, "contradicted"), (0.0, "undecided")])
def test_the_larger_shape_against_bort(difference: float, verdict: str) -> None:
    decision = quality.beats_bort(evidence_of(PROFILE, everywhere("non_shuffled", "bort", difference)), first())
    assert decision.verdict == verdict
    assert decision.bounded is (verdict == "undecided")


def test_a_shut_task_does_not_vote() -> None:
    """Bort is better on DBRD, which training did not carry over to."""
    differences = everywhere("non_shuffled", "bort", 0.1) | {("dbrd", "non_shuffled", "bort"): -0.1}
    decision = quality.beats_bort(
        evidence_of(PROFILE, differences, [gate("dbrd", "bort", carried_over=False)]), first()
    )
    assert decision.verdict == "supported" and [finding.what for finding in decision.findings] == ["die_dat", "ner"]
    assert "nothing carried over: dbrd" in decision.notes[0]


def test_all_tasks_shut_is_not_tested() -> None:
    shut = [gate(task, "bort", carried_over=False) for task in TASKS]
    with pytest.raises(NotTested, match="^nothing carried over"):
        quality.beats_bort(evidence_of(PROFILE, everywhere("non_shuffled", "bort", 0.1), shut), first())


@pytest.mark.parametrize(("loss", "verdict"), [(0.0, "supported"), (-0.1, "contradicted"), (-0.03, "undecided")])
def test_the_trade_off_is_small_where_no_student_loses_more(loss: float, verdict: str) -> None:
    decision = quality.small_trade_off(evidence_of(PROFILE, everywhere("bort", "teacher", loss)), first())
    assert decision.verdict == verdict and decision.smallest == 0.03


def test_what_is_below_a_baseline_has_no_trade_off() -> None:
    useless = [gate(task, "bort", useful=False) for task in TASKS]
    decision = quality.small_trade_off(evidence_of(PROFILE, {}, useless), first())
    assert decision.verdict == "undecided"  # it may fall without Bort, but not stand
    assert "bort not tested" in decision.reason and "below tf_idf on dbrd, die_dat, ner: bort" in decision.notes
    lost = everywhere("merged", "teacher", -0.1)
    assert quality.small_trade_off(evidence_of(PROFILE, lost, useless), first()).verdict == "contradicted"
    teacher = [gate(task, "teacher", useful=False) for task in TASKS]
    with pytest.raises(NotTested, match="^below tf_idf on dbrd, die_dat, ner: teacher"):
        quality.small_trade_off(evidence_of(PROFILE, {}, teacher), first())


@pytest.mark.parametrize(("on_ner", "verdict"), [(0.05, "supported"), (0.0, "undecided"), (-0.05, "contradicted")])
def test_merging_costs_elsewhere_if_it_does_on_all_tasks_of_short_inputs(on_ner: float, verdict: str) -> None:
    differences = {("die_dat", "non_shuffled", "merged"): 0.05, ("ner", "non_shuffled", "merged"): on_ner}
    assert quality.costs_elsewhere(evidence_of(PROFILE, differences), first()).verdict == verdict


def test_without_those_tasks_it_is_not_tested() -> None:
    with pytest.raises(NotTested, match="neither die/dat nor NER"):
        quality.costs_elsewhere(evidence_of(profile_of(tasks=("dbrd",)), {}), first())


@pytest.mark.parametrize(("above", "verdict"), [(0.1, "supported"), (0.0, "undecided"), (-0.1, "contradicted")])
def test_the_lowest_pseudo_perplexity(above: float, verdict: str) -> None:
    """The others' minus non-shuffled's; Bort's alone varies."""
    differences = {("pseudo_perplexity", name, "non_shuffled"): 0.1 for name in ("shuffled", "merged")}
    differences["pseudo_perplexity", "bort", "non_shuffled"] = above
    assert quality.non_shuffled_lowest(evidence_of(PROFILE, differences), first()).verdict == verdict
    shut = [gate("pseudo_perplexity", "bort", useful=False, train=0)]
    with pytest.raises(NotTested, match="unigram"):
        quality.non_shuffled_lowest(evidence_of(PROFILE, differences, shut), first())


@given(st.floats(-0.05, 0.05), st.floats(-0.009, 0.009), st.floats(1e-4, 0.03), st.floats(1e-4, 0.03))
@settings(max_examples=150, deadline=None)
def test_near_replicates_never_get_opposite_verdicts(value: float, shift: float, error: float, other: float) -> None:
    """Two pairs whose differences lie less than the smallest difference of interest apart, whatever their errors."""
    verdicts = {
        quality.beats_bort(
            evidence_of(PROFILE, everywhere("non_shuffled", "bort", difference), error=spread), first()
        ).verdict
        for difference, spread in ((value, error), (value + shift, other))
    }
    assert verdicts != {"supported", "contradicted"}


def test_the_papers_own_table() -> None:
    verdicts = {
        "alike": quality.alike_on_paper(),
        "long": quality.better_on_long_on_paper(),
        "bort": quality.beats_bort_on_paper(),
        "trade-off": quality.small_trade_off_on_paper(),
        "elsewhere": quality.costs_elsewhere_on_paper(),
    }
    assert {name: decision.verdict for name, decision in verdicts.items()} == {
        "alike": "undecided",
        "long": "undecided",  # merged is above non-shuffled on DBRD, but not beyond doubt above shuffled
        "bort": "supported",  # on NER, POS and SICK-NL, though not on DBRD
        "trade-off": "undecided",
        "elsewhere": "undecided",
    }
    outcomes = [finding.outcome for finding in verdicts["long"].findings]
    assert outcomes == ["supported", "undecided"]
