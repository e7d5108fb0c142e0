"""The speed of a machine: measured by the code of the stages, kept, and measured anew elsewhere."""

import subprocess
from pathlib import Path
from typing import Any

import pytest

from robbertje_lib.experiment import provenance
from robbertje_lib.experiment.run import open_run
from robbertje_lib.workflow import machine_speed as module
from robbertje_lib.workflow.amounts import Amounts
from robbertje_lib.workflow.machine_speed import MachineSpeed, machine_speed
from robbertje_lib.workflow.speed_measurement import measure

SPEED = MachineSpeed(start=4.0, seconds={"train teacher": 1e-4})


@pytest.fixture(autouse=True)
def _allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ROBBERTJE_MEASURE")


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What is run in place of the measurement, which writes SPEED."""
    made: list[list[str]] = []
    real = subprocess.run

    def run(command: list[str], **options: Any) -> Any:
        if module.MEASUREMENT not in command:  # others ask for the processor
            return real(command, **options)
        made.append(command)
        Path(command[4]).write_text(SPEED.model_dump_json())

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr("os.getloadavg", lambda: (1.0, 1.0, 1.0))
    return made


def test_it_is_measured_once_for_a_machine_and_a_profile(
    calls: list[list[str]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    demo = open_run("demo")
    assert machine_speed(demo, 2) == machine_speed(demo, 2) == SPEED
    assert len(calls) == 1 and capsys.readouterr().out.count("Measuring this machine") == 1
    machine_speed(demo, 4)
    machine_speed(open_run("smoke"), 2)
    assert len(calls) == 3
    elsewhere = provenance.hardware().model_copy(update={"processor": "another"})
    monkeypatch.setattr(provenance, "hardware", lambda: elsewhere)
    machine_speed(demo, 2)
    assert len(calls) == 4


def test_it_can_be_forbidden(calls: list[list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROBBERTJE_MEASURE", "0")
    assert machine_speed(open_run("demo"), 2) is None and not calls


def test_one_that_was_cut_short_is_used_and_not_kept(
    calls: list[list[str]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = subprocess.run

    def cut(command: list[str], **options: Any) -> Any:
        done = whole(command, **options)
        if module.MEASUREMENT in command:
            raise subprocess.TimeoutExpired(command, 1.0)
        return done

    monkeypatch.setattr(subprocess, "run", cut)
    assert machine_speed(open_run("demo"), 2) == machine_speed(open_run("demo"), 2) == SPEED
    assert len(calls) == 2 and "busy or slow" in capsys.readouterr().out


def test_one_of_a_busy_machine_is_not_kept(
    calls: list[list[str]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("os.getloadavg", lambda: (999.0, 1.0, 1.0))
    assert machine_speed(open_run("demo"), 2) == machine_speed(open_run("demo"), 2) == SPEED
    assert len(calls) == 2 and "measured again next time" in capsys.readouterr().out


def test_one_that_fails_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(module, "MEASUREMENT", "robbertje_lib.no_such_module")
    assert machine_speed(open_run("demo"), 2) is None
    assert "was not measured (" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["smoke", "released"])
def test_every_unit_that_a_plan_asks_for_is_measured(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("ROBBERTJE_THREADS", "1")
    monkeypatch.setattr("robbertje_lib.workflow.speed_measurement.SECONDS", 0.3)
    monkeypatch.setattr("robbertje_lib.workflow.speed_measurement.PASSES", 0.005)
    profile = open_run("smoke").profile
    if name == "released":  # a teacher of the hub, of which the size is known and the weights are not there
        monkeypatch.setattr("robbertje_lib.workflow.amounts.RELEASED", {"some/teacher": (3, 64, 128, 500)})
        teacher = open_run("published").profile.teacher.model_copy(update={"hub": "some/teacher"})
        profile = profile.model_copy(update={"teacher": teacher})
    *_, speed = measure(profile, tmp_path, cores=1, start=3.0)
    parts = [part for stage in profile.stages for part in Amounts(profile).of(stage)]
    assert {part.what for part in parts if part.kind == "train"} >= {"distilbert fast", "bort fast"}
    assert all((speed.of(part) or 0) > 0 for part in parts)


def test_a_training_too_large_for_these_seconds_is_not_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROBBERTJE_THREADS", "1")
    monkeypatch.setattr("robbertje_lib.workflow.speed_measurement.SECONDS", 0.03)
    monkeypatch.setattr("robbertje_lib.workflow.speed_measurement.PASSES", 0.005)
    *_, speed = measure(open_run("smoke").profile, tmp_path, cores=1, start=3.0)
    assert {unit.split()[0] for unit in speed.seconds} == {"score", "finetune"}
