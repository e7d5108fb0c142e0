"""Settings, gates and one run each: what stands before every verdict."""

import pytest

from robbertje_lib.conclusions.claims.base import Decision, Narrowing, NotTested, decision, settings_of, told_once
from robbertje_lib.experiment.profile import Student
from robbertje_lib.experiment.results.claims import ONE_RUN
from robbertje_lib.statistics.significance import Difference
from robbertje_lib.statistics.verdicts import every, judge_better
from tests.support.claim_evidence import evidence_of, gate, profile_of

PAIR = ("merged", "non_shuffled")


def test_a_sequential_arm_serves_both_selections() -> None:
    profile = profile_of()
    kept = {name: student for name, student in profile.students.items() if name in {"non_shuffled", "merged", "bort"}}
    kept["shuffled_same_lines"] = profile.students["shuffled"].model_copy(update={"selection": "same_lines"})
    head, same = settings_of(profile.model_copy(update={"students": kept}))
    assert (head.selection, same.selection, same.recipe) == ("head", "same_lines", "fast")
    assert [same.arm(arm) for arm in ("non_shuffled", "merged", "shuffled")] == [*PAIR[::-1], "shuffled_same_lines"]
    assert same.students["non_shuffled", "bort"] == "bort"
    with pytest.raises(NotTested, match="no such pair"):
        head.arm("shuffled")


def test_a_second_student_in_the_place_of_one_has_a_setting_of_its_own() -> None:
    profile = profile_of()
    wide = profile.shapes["distilbert"].model_copy(update={"feed_forward": 1024})
    students = {
        "merged": profile.students["merged"],
        "merged_wide": Student(arm="merged", shape="wide", recipe="fast"),
        "merged_slow": Student(arm="merged", shape="distilbert", recipe="fast", update_size=4096),
    }
    changed = profile.model_copy(update={"shapes": {**profile.shapes, "wide": wide}, "students": students})
    assert [(setting.name, setting.arm("merged")) for setting in settings_of(changed)] == [
        ("head, fast", "merged"),
        ("head, fast, merged_wide", "merged_wide"),
        ("head, fast, merged_slow", "merged_slow"),
    ]


def test_a_task_is_left_out_where_training_did_not_carry_over_to_all() -> None:
    evidence = evidence_of(profile_of(), {}, [gate("dbrd", "merged", carried_over=False)])
    tasks = evidence.open_tasks(PAIR)
    assert list(tasks.sizes) == ["sick_nl", "die_dat"]
    assert tasks.notes[0].startswith("nothing carried over: dbrd (") and "merged" in tasks.notes[0]
    assert list(evidence.open_tasks(("shuffled", "bort")).sizes) == ["dbrd", "sick_nl", "die_dat"]


def test_where_nothing_carried_over_the_claim_is_not_tested() -> None:
    shut = [gate(task, "merged", carried_over=False) for task in ("dbrd", "sick_nl", "die_dat")]
    with pytest.raises(NotTested, match="^nothing carried over: dbrd, sick_nl, die_dat"):
        evidence_of(profile_of(), {}, shut).open_tasks(PAIR)


def test_what_shuts_tasks_is_told_once_for_all_groups_and_tasks() -> None:
    words = "nothing carried over: {} (not above random weights: {})"
    shut = [Narrowing(words, task, ("teacher", name)) for name in PAIR for task in ("dbrd", "ner")]
    told = f"nothing carried over: dbrd, ner (not above random weights: teacher, {', '.join(PAIR)})"
    assert told_once(shut) == (told,)
    assert len(told_once([*shut, Narrowing(words, "pos", ("bort",))])) == 2


def test_a_smaller_size_at_which_all_carried_over_is_taken_and_told() -> None:
    gates = [gate("dbrd", "merged", carried_over=False)] + [gate("dbrd", group, train=100) for group in PAIR]
    tasks = evidence_of(profile_of(), {}, gates).open_tasks(PAIR)
    assert tasks.sizes["dbrd"] == 100 and tasks.notes[0].startswith("at 100 training examples: dbrd (")


def test_below_a_baseline_stands_in_the_scope_and_shuts_claims_of_usefulness() -> None:
    evidence = evidence_of(profile_of(), {}, [gate("dbrd", "merged", useful=False)])
    tasks = evidence.open_tasks(PAIR)
    assert "dbrd" in tasks.sizes and tasks.notes == ("below tf_idf on dbrd: merged",)
    useful = evidence.useful_tasks(PAIR)
    assert "dbrd" not in useful.sizes and useful.notes == tasks.notes
    assert list(evidence.useful_tasks(["shuffled"]).sizes) == evidence.tasks


def test_above_the_unigram_model_nothing_is_tested() -> None:
    evidence = evidence_of(profile_of(), {}, [gate("pseudo_perplexity", "bort", useful=False, train=0)])
    evidence.refuse_above_unigram(PAIR)
    with pytest.raises(NotTested, match="not below the unigram model's: bort"):
        evidence.refuse_above_unigram([*PAIR, "bort"])


def test_differences_are_read_whichever_way_round_they_are_held() -> None:
    evidence = evidence_of(profile_of(), {("dbrd", "merged", "non_shuffled"): 0.04})
    there = evidence.differences("merged", "non_shuffled", {"dbrd": 300})["dbrd"]
    back = evidence.differences("non_shuffled", "merged", {"dbrd": 300})["dbrd"]
    assert there.value == 0.04 == -back.value and (there.low, there.high) == (-back.high, -back.low)
    with pytest.raises(NotTested, match="merged and non_shuffled are not compared on dbrd"):
        evidence.differences("merged", "non_shuffled", {"dbrd": 100})


def judged(value: float, error: float) -> Decision:
    difference = Difference(value, value - 2 * error, value + 2 * error, 0.5, error, 1e9)
    findings = judge_better({"dbrd": difference}, 0.01, 0.05)
    return decision(every(findings), "why", "examples", findings, (value, (0.0, 1.0)), 0.01, ("note",))


def test_undecided_names_the_sample_unless_none_would_help() -> None:
    assert judged(0.01, 0.02).factor > 1 and "times the examples would decide it" in judged(0.01, 0.02).reason
    within = judged(0.0, 0.001)
    assert within.bounded and within.factor is None and within.reason == "why"


@pytest.mark.parametrize("verdict", ["supported", "contradicted", "undecided"])
def test_one_run_decides_nothing_whatever_the_test_says(verdict: str) -> None:
    findings = judged(0.0, 0.001).findings
    alone = Decision(verdict, "because", 1.0, (0.5, 1.5), findings, 2.0, 0.01, False).of_one_run()  # type: ignore[arg-type]
    assert alone.verdict == "undecided" and alone.reason.startswith(ONE_RUN)
    assert f"the test says {verdict}: because" in alone.reason
    assert (alone.factor, alone.bounded, alone.ours) == (None, None, 1.0)
    shut = Decision("not_tested", "nothing carried over")
    assert shut.of_one_run() == shut
