"""A choice by timing is kept for its machine: it decides again, whatever is faster by then."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from robbertje_lib.experiment import paths
from robbertje_lib.experiment.errors import UserError
from robbertje_lib.models import choices
from robbertje_lib.models.choices import KeptChoice, fastest
from robbertje_lib.models.devices import choose_precision, training_device


class Clock:
    """Time passes only in turns of work."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.turns = 0.0, 0
        monkeypatch.setattr(time, "perf_counter", lambda: self.now)

    def work(self, *seconds: float) -> object:
        """Takes so many seconds a turn, the last from there on."""
        left = list(seconds)

        def turn() -> None:
            self.turns += 1
            self.now += left.pop(0) if len(left) > 1 else left[0]

        return turn


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.mark.parametrize(
    ("first", "second", "name", "reason"),
    [
        (0.3, 0.2, "b", "b takes 1/1.50 of a's time"),
        (0.3, 0.28, "a", "b takes 1/1.07 of a's time, and no less than 1/1.10"),
        (0.2, 0.5, "a", "b takes 2.50 times a's time"),
    ],
)
def test_the_first_stays_unless_another_is_clearly_faster(
    clock: Clock, first: float, second: float, name: str, reason: str
) -> None:
    choice = fastest({"a": clock.work(first), "b": clock.work(second)})
    assert (choice.name, choice.reason) == (name, reason)


def test_neither_a_slow_start_nor_a_load_peak_decides(clock: Clock) -> None:
    slow_start, peak = clock.work(5.0, 0.2), clock.work(0.1, 0.1, 3.0, 0.1)
    assert fastest({"a": slow_start, "b": peak}).name == "b"


def test_a_hopeless_option_is_tried_once(clock: Clock) -> None:
    hopeless = []

    def work() -> None:
        hopeless.append(1)
        clock.now += 10.0

    choice = fastest({"a": clock.work(0.1), "b": work, "c": clock.work(0.05)})
    assert (choice.name, len(hopeless)) == ("c", 1)


def test_a_kept_choice_decides_without_timing(clock: Clock, tmp_path: Path) -> None:
    kept = tmp_path / "choices" / "x.json"
    first = fastest({"a": clock.work(0.3), "b": clock.work(0.1)}, kept)
    turns = clock.turns
    assert fastest({"a": clock.work(0.1), "b": clock.work(0.3)}, kept) == first and clock.turns == turns
    assert [file.name for file in kept.parent.iterdir()] == ["x.json"]


def test_of_two_processes_the_first_to_write_wins(clock: Clock, tmp_path: Path) -> None:
    kept = tmp_path / "x.json"

    def meanwhile() -> None:
        clock.now += 0.1
        if not kept.exists():
            fastest({"a": clock.work(0.1), "b": clock.work(0.3)}, kept)

    assert fastest({"a": clock.work(0.3), "b": meanwhile}, kept).name == "a"


def test_on_another_machine_it_is_made_anew(clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = tmp_path / "x.json"
    fastest({"a": clock.work(0.3), "b": clock.work(0.1)}, kept)
    monkeypatch.setattr(choices, "machine", lambda: "another processor")
    assert fastest({"a": clock.work(0.1), "b": clock.work(0.3)}, kept).name == "a"
    assert KeptChoice.load(kept).machine == "another processor"


def test_a_bad_file_is_one_line(clock: Clock, tmp_path: Path) -> None:
    kept = tmp_path / "x.json"
    options = {"a": clock.work(0.3), "b": clock.work(0.1)}
    fastest(options, kept)
    content = json.loads(kept.read_text())
    content["choice"]["name"] = "c"
    kept.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"^.*x.json says 'c', not one of a, b; delete it$"):
        fastest(options, kept)
    kept.write_text("{")
    with pytest.raises(UserError, match=r"^.*x.json is damaged \(.*delete it"):
        fastest(options, kept)


def test_what_the_user_leaves_unused_is_not_tried() -> None:
    """In a process of its own: PyTorch reads the variable as it starts."""
    code = (
        "from robbertje_lib.models.devices import choose_precision, training_device;"
        "print(choose_precision(training_device(), tried=lambda p: 1 / 0).name)"
    )
    environment = {**os.environ, "ATEN_CPU_CAPABILITY": "avx2", "CUDA_VISIBLE_DEVICES": ""}
    environment.pop("ROBBERTJE_PRECISION", None)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=paths.PROJECT, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["fp32"]


def test_who_asks_for_a_precision_has_it_untried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROBBERTJE_PRECISION", "bf16")
    kept = tmp_path / "x.json"
    assert choose_precision(training_device(), tried=lambda precision: iter(()), kept=kept).name == "bf16"
    assert not kept.exists()
