"""Claims about time: runs are the replicates, evaluation does not count, and what is of no use is no lighter deployment."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from robbertje_lib.conclusions.claims import speed
from robbertje_lib.conclusions.claims.base import Evidence, NotTested, Setting, settings_of
from robbertje_lib.experiment.results.efficiency import EfficiencyResult
from robbertje_lib.experiment.results.record import RunRecord
from robbertje_lib.experiment.results.training import DistillationResult, HeldOutPoint
from tests.support.claim_evidence import evidence_of, gate, profile_of
from tests.support.records import run_record
from tests.support.result_files import World, write_measured

PROFILE = profile_of()
SETTING = settings_of(PROFILE)[0]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("speed")
    write_measured(evidence_of(PROFILE, {}, folder=folder).run, World(examples=30, speed={"merged": 1.3}))
    return folder


@pytest.fixture
def evidence(folder: Path) -> Evidence:
    return evidence_of(PROFILE, {}, folder=folder)


Change = Callable[[DistillationResult], DistillationResult]


def with_runs(evidence: Evidence, changes: dict[str, Change], monkeypatch: pytest.MonkeyPatch) -> Evidence:
    """The evidence with changed training results of some models."""
    read = Evidence.read

    def changed(self: Evidence, kind: type, what: str, **names: str) -> object:
        found = read(self, kind, what, **names)
        return changes.get(names.get("student", ""), lambda same: same)(found)

    monkeypatch.setattr(Evidence, "read", changed)
    return evidence


def at_speeds(student: str, speeds: list[float]) -> dict[str, Change]:
    def of(value: float) -> Change:
        return lambda run: run.model_copy(update={"tokens_per_second": value})

    models = PROFILE.replicates_of(student)
    return {model: of(value) for model, value in zip(models, speeds, strict=True)}


@pytest.mark.parametrize(
    ("speeds", "verdict"),
    [
        ([130.0, 131.0, 129.0], "supported"),
        ([70.0, 71.0, 69.0], "contradicted"),
        ([100.0, 100.1, 99.9], "undecided"),  # no difference
        ([80.0, 130.0, 300.0], "undecided"),  # too uncertain
    ],
)
def test_training_speed_has_runs_as_replicates(
    evidence: Evidence, speeds: list[float], verdict: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = at_speeds("merged", speeds) | at_speeds("non_shuffled", [100.0, 100.2, 99.8])
    decision = speed.faster(with_runs(evidence, changes, monkeypatch), SETTING, per="token")
    assert decision.verdict == verdict
    assert decision.ours == pytest.approx(np.exp(np.log(speeds).mean()) / 100, rel=1e-3)
    (finding,) = decision.findings
    assert 2 <= finding.difference.degrees <= 4  # three runs each, however many stretches they have


def test_per_epoch_counts_what_is_trained_on(evidence: Evidence) -> None:
    token, epoch, update = (speed.faster(evidence, SETTING, per=per) for per in ("token", "epoch", "update"))
    assert token.ours and epoch.ours and update.ours
    assert token.verdict == "supported" and token.ours == pytest.approx(1.3, rel=0.03)
    assert epoch.ours / token.ours == pytest.approx(300 / 280)  # merged text has fewer special tokens
    assert update.ours == pytest.approx(token.ours)  # as batches count tokens


def test_one_run_of_each_has_a_number_and_no_interval(folder: Path) -> None:
    once = PROFILE.model_copy(update={"replicates": 1})
    for decide in (lambda e, s: speed.faster(e, s, per="token"), speed.sooner_at_a_loss):
        decision = decide(evidence_of(once, {}, folder=folder), SETTING)
        assert decision.verdict == "undecided" and decision.ours and decision.interval is None


def curve(slowness: float, start: float = 5.0) -> Change:
    """A held-out curve that takes `slowness` s of training an evaluation, each of which takes 100 s itself."""
    points = [
        HeldOutPoint(
            update=i, tokens=i, seconds=(100 + slowness) * i, training_seconds=slowness * i, loss=start - i,
            pseudo_perplexity=float(np.exp(start - i)),
        )
        for i in range(4)
    ]  # fmt: skip
    return lambda run: run.model_copy(update={"held_out_curve": points})


def curves(student: str, slowness: list[float], start: float = 5.0) -> dict[str, Change]:
    return {m: curve(s, start) for m, s in zip(PROFILE.replicates_of(student), slowness, strict=True)}


def test_the_time_to_a_loss_leaves_evaluation_out(evidence: Evidence, monkeypatch: pytest.MonkeyPatch) -> None:
    changes = curves("merged", [10.0, 10.1, 9.9]) | curves("non_shuffled", [20.0, 20.2, 19.8])
    decision = speed.sooner_at_a_loss(with_runs(evidence, changes, monkeypatch), SETTING)
    assert decision.verdict == "supported" and decision.ours == pytest.approx(2.0, rel=1e-3)
    assert decision.interval and 1.9 < decision.interval[0] < 2 < decision.interval[1] < 2.1
    assert "loss of 2.00 takes merged 30 s and non_shuffled 60 s" in decision.reason


def test_a_run_that_starts_below_the_goal_cannot_be_timed(evidence: Evidence, monkeypatch: pytest.MonkeyPatch) -> None:
    changes = curves("merged", [10.0] * 3, start=1.0) | curves("non_shuffled", [20.0] * 3)
    with pytest.raises(NotTested, match="nothing to time"):
        speed.sooner_at_a_loss(with_runs(evidence, changes, monkeypatch), SETTING)


def test_students_of_no_use_are_no_lighter_deployment(folder: Path) -> None:
    useless = [gate(task, "bort", useful=False) for task in PROFILE.finetuning.tasks]
    evidence = evidence_of(PROFILE, {}, useless, folder=folder)
    for decide in (speed.run_faster, speed.finetune_faster):
        assert decide(evidence_of(PROFILE, {}, folder=folder), SETTING).verdict == "supported"
        decision = decide(evidence, SETTING)
        assert {finding.outcome for finding in decision.findings} == {"supported"} and len(decision.findings) == 3
        assert decision.verdict == "undecided" and decision.reason.endswith("left out: bort")
        assert decision.notes == (
            "non_shuffled, shuffled, merged: of use on dbrd, sick_nl, die_dat",
            "bort: left out, of use on no task",
        )
    assert speed.four_times_faster(evidence, SETTING).verdict == "contradicted"  # planted: twice
    useless += [gate(task, student, useful=False) for task in PROFILE.finetuning.tasks for student in PROFILE.students]
    for decide in (speed.run_faster, speed.finetune_faster, speed.four_times_faster):
        with pytest.raises(NotTested, match="below tf_idf on dbrd"):
            decide(evidence_of(PROFILE, {}, useless, folder=folder), SETTING)


def test_one_useful_task_is_enough(folder: Path) -> None:
    weak = [gate(task, "merged", useful=False) for task in ("dbrd", "sick_nl")]
    decision = speed.four_times_faster(evidence_of(PROFILE, {}, weak, folder=folder), SETTING)
    assert decision.notes == ("merged: of use on die_dat",)
    doubtful = [*weak, gate("die_dat", "merged", p=0.02)]  # enough for one task, not for any of three
    with pytest.raises(NotTested, match="not beyond doubt above a baseline on die_dat: merged"):
        speed.four_times_faster(evidence_of(PROFILE, {}, doubtful, folder=folder), SETTING)


def timed(evidence: Evidence, rounds: dict[str, list[float]], monkeypatch: pytest.MonkeyPatch) -> Evidence:
    """The evidence with these latencies of some models, a round each."""
    result = evidence.read(EfficiencyResult, "efficiency results")
    models = {
        name: own.model_copy(update={"timing": own.timing.model_copy(update={"latency_ms_by_round": rounds[name]})})
        if name in rounds else own
        for name, own in result.models.items()
    }  # fmt: skip
    monkeypatch.setattr(Evidence, "read", lambda *_: result.model_copy(update={"models": models}))
    return evidence


@pytest.mark.parametrize(
    ("merged", "faster", "four_times"),
    [
        ([4.0, 4.1, 3.9], "supported", "supported"),
        ([10.0, 10.2, 9.9], "supported", "contradicted"),
        ([5.0, 5.3, 4.8], "supported", "undecided"),
        ([30.0, 31.0, 29.0], "contradicted", "contradicted"),
        ([20.0, 22.0, 18.0], "undecided", "contradicted"),
    ],
)
def test_rounds_tell_how_sure_a_speed_up_is(
    evidence: Evidence, merged: list[float], faster: str, four_times: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    timed(evidence, {"teacher": [20.0, 20.2, 19.9], "merged": merged}, monkeypatch)
    alone = Setting("head, fast", "head", "fast", {("merged", "distilbert"): "merged"})
    assert speed.run_faster(evidence, alone).verdict == faster
    decision = speed.four_times_faster(evidence, SETTING)
    assert decision.verdict == four_times and "on this machine, rounds of one session" in decision.reason
    assert decision.ours == pytest.approx(20 / np.exp(np.log(merged).mean()), rel=0.01)


def test_two_rounds_are_too_few(evidence: Evidence, monkeypatch: pytest.MonkeyPatch) -> None:
    timed(evidence, {"merged": [4.0, 4.1]}, monkeypatch)
    for decide in (speed.run_faster, speed.four_times_faster):
        with pytest.raises(NotTested, match="fewer than 3 rounds"):
            decide(evidence, SETTING)


def test_equal_speeds_hardly_ever_give_a_verdict(evidence: Evidence, monkeypatch: pytest.MonkeyPatch) -> None:
    rng, decided, sessions = np.random.default_rng(0), 0, 300
    result = evidence.read(EfficiencyResult, "efficiency results")
    monkeypatch.setattr(speed, "_of_use", lambda *_: (result.models, (), []))
    for _ in range(sessions):
        for model in result.models.values():
            model.timing.latency_ms_by_round[:] = (20 * np.exp(rng.normal(0, 0.03, 5))).tolist()
        decided += speed.run_faster(evidence, SETTING).verdict != "undecided"
    assert decided <= 26  # nominal 15


def test_what_was_not_timed_is_not_tested(tmp_path: Path, evidence: Evidence) -> None:
    result = evidence.read(EfficiencyResult, "efficiency results")
    nowhere = evidence_of(PROFILE, {}, folder=tmp_path)
    with pytest.raises(NotTested, match="no efficiency results"):
        speed.run_faster(nowhere, SETTING)
    models = {name: costs for name, costs in result.models.items() if name != "merged"}
    result.model_copy(update={"models": models}).write(nowhere.run)
    with pytest.raises(NotTested, match="no timing of merged"):
        speed.four_times_faster(nowhere, SETTING)
    with pytest.raises(NotTested, match="no distillation results"):
        speed.faster(nowhere, SETTING, per="token")


def test_times_of_unlike_machines_are_not_compared(evidence: Evidence) -> None:
    stages = [f"30_distillation-{model}" for model in ("merged", "merged.2")]
    for number, stage in enumerate(stages):
        record = run_record(stage)
        hardware = record.hardware.model_copy(update={"cores": 2 + number})
        record.model_copy(update={"hardware": hardware}).write(evidence.run, stage=stage)
    try:
        with pytest.raises(NotTested, match="unlike machines"):
            speed.faster(evidence, SETTING, per="token")
    finally:
        for stage in stages:
            RunRecord.path(evidence.run, stage=stage).unlink()


def test_the_setting_must_have_both_arms(evidence: Evidence) -> None:
    with pytest.raises(NotTested, match="no such pair"):
        speed.faster(evidence, Setting("head, fast", "head", "fast", {}), per="token")
