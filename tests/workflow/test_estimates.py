"""How long a stage will take: by a record of like work, else by the speed of this machine; else it is said why not."""

import subprocess
import sys
from typing import Any

import pytest

from robbertje_lib.experiment import paths
from robbertje_lib.experiment.profile import Profile, load_profile
from robbertje_lib.experiment.provenance import hardware
from robbertje_lib.experiment.run import Run
from robbertje_lib.experiment.words import about
from robbertje_lib.workflow.amounts import Amounts
from robbertje_lib.workflow.estimates import START, Estimate, estimates
from robbertje_lib.workflow.machine_speed import MachineSpeed
from tests.support.records import run_record
from tests.workflow.test_amounts import profile

TEACHER, STUDENT = "20_teacher", "30_distillation-merged"


def open_as(of: Profile, name: str = "") -> Run:
    return Run(of, paths.RunPaths(name or of.name, paths.output_root()))


def record(run_name: str, stage: str, seconds: float, of: Profile, started: str = "2026-01-01", **machine: Any) -> None:
    told = run_record(
        stage,
        seconds=seconds,
        started=started,
        profile=of.model_dump(mode="json"),
        profile_digest=of.digest(),
        hardware={**hardware().model_dump(), **machine},
    )
    told.save(paths.RunPaths(run_name, paths.output_root()).record(stage))


def measured(run: Run, cores: int) -> MachineSpeed:
    units = {f"{part.kind} {part.what}" for stage in run.profile.stages for part in Amounts(run.profile).of(stage)}
    return MachineSpeed(start=5.0, seconds=dict.fromkeys(units, 1e-4))


def never(run: Run, cores: int) -> MachineSpeed | None:
    raise AssertionError("measured, though nothing had to be")


def estimate(run: Run, stage: str, measure: Any = never) -> Estimate:
    return estimates(run, [stage], 2, measure)[stage]


def test_what_was_done_before_takes_as_long_again() -> None:
    demo = load_profile("demo")
    record("demo", TEACHER, 245.2, demo)
    assert estimate(open_as(demo), TEACHER) == Estimate(245.2, "took 4 min 5 s last time")
    assert estimate(open_as(demo, "other"), TEACHER) == Estimate(245.2, "took 4 min 5 s in demo")


def test_ten_times_the_tokens_take_ten_times_as_long() -> None:
    record("demo", TEACHER, 245.0, load_profile("demo"))
    more = profile("demo", teacher__tokens=32_000_000)
    told = estimate(open_as(more, "more"), TEACHER)
    assert told.seconds and 9.5 < (told.seconds - START) / (245.0 - START) < 10
    assert told.words == f"{about(told.seconds)}: 10 times the work of demo's" and "about 39 min" in told.words
    again = estimate(open_as(more, "demo"), TEACHER)
    assert again.words == "about 39 min: 10 times the work of last time's"
    record("short", TEACHER, 30.0, profile("demo", teacher__tokens=320_000))
    assert estimate(open_as(more, "more"), TEACHER) == told  # of two, the one that is more alike


def test_a_record_of_another_model_machine_or_time_says_nothing() -> None:
    demo = load_profile("demo")
    record("smoke", TEACHER, 8.0, load_profile("smoke"))
    record("old", TEACHER, 90.0, demo, cores=999)
    (paths.output_root() / "papermill_runs/notes").mkdir(parents=True)
    broken = paths.output_root() / "papermill_runs/broken/records"
    broken.mkdir(parents=True)
    (broken / "20_teacher.json").write_text("{")
    told = run_record(TEACHER, profile={"name": "of another time"}, profile_digest="0" * 64)
    told.save(paths.RunPaths("older", paths.output_root()).record(TEACHER))
    assert estimate(open_as(demo), TEACHER, measured).words.endswith(", estimated")


def test_one_distillation_tells_of_another_of_its_kind() -> None:
    demo = load_profile("demo")
    record("demo", STUDENT, 30.0, demo)
    assert estimate(open_as(demo), "30_distillation-shuffled").words == "took 30 s in demo by 30_distillation-merged"
    assert estimate(open_as(demo), "30_distillation-bort", measured).words.endswith(", estimated")


def test_without_records_amounts_are_multiplied_by_the_speed_of_this_machine() -> None:
    seconds = estimate(open_as(load_profile("demo")), TEACHER, measured).seconds
    more = estimate(open_as(profile("demo", teacher__tokens=32_000_000)), TEACHER, measured).seconds
    assert seconds and more and more - seconds == pytest.approx(9 * 3_200_000 * 1e-4)


def test_a_kind_of_work_that_was_not_measured_is_told_roughly_from_the_others() -> None:
    demo = open_as(load_profile("demo"))
    reference = {f"{part.kind} {part.what}": part.reference for part in Amounts(demo.profile).of("50_finetuning-ner")}
    three = {unit: 3 * seconds for unit, seconds in reference.items() if not unit.startswith("other")}
    told = estimate(demo, TEACHER, lambda run, cores: MachineSpeed(start=5.0, seconds=three))
    work = sum(part.seconds for part in Amounts(demo.profile).of(TEACHER))
    assert told.seconds == pytest.approx(5.0 + 3 * work) and told.words.endswith(", roughly estimated")


def test_what_cannot_be_told_says_why() -> None:
    published = load_profile("published")
    told = estimate(open_as(published), "50_finetuning-ner")
    assert told == Estimate(None, "no estimate: takes all examples that there are")
    other = published.model_copy(update={"teacher": published.teacher.model_copy(update={"hub": "someone/else"})})
    assert "the size of someone/else is not known" in estimate(open_as(other), "40_pseudo_perplexity").words
    nothing = estimate(open_as(load_profile("demo")), TEACHER, lambda run, cores: None)
    assert nothing == Estimate(None, "no estimate: this machine was not measured")
    # Figures are drawn alike everywhere.
    assert estimate(open_as(published), "90_claims_and_figures").words.endswith(", estimated")


def test_where_nothing_has_to_run_nothing_is_measured_and_no_torch_imported() -> None:
    code = """
import sys
from robbertje_lib.experiment.run import open_run
from robbertje_lib.workflow import reproduce
from robbertje_lib.workflow.estimates import estimates
assert estimates(open_run("demo"), [], 2) == {}
assert not {"torch", "transformers", "datasets"} & set(sys.modules), "imported"
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=paths.PROJECT)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(1, "about 5 s"), (41, "about 40 s"), (58, "about 1 min"), (250, "about 4 min"), (9000, "about 2.5 h")],
)
def test_an_estimate_has_no_more_digits_than_it_is_worth(seconds: float, words: str) -> None:
    assert about(seconds) == words
