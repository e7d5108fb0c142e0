from typing import Any

import pytest

from robbertje_lib.distillation.job import TrainingState
from robbertje_lib.distillation.training import train
from robbertje_lib.experiment.profile import load_profile
from robbertje_lib.experiment.results.training import HeldOutPoint
from tests.benchmarks.bench_training import Bench, Counted, Stopped, steady_rate
from tests.benchmarks.random_text import write_store

SMALL = {"batch_size": 4, "update_size": 8, "precision": "float32"}  # of `as_published`: its dropout and its masking


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    folder = tmp_path_factory.mktemp("bench")
    write_store(folder / "store", 200, 2000)
    return Bench(folder, "demo", load_profile("paper").recipes["as_published"].model_copy(update=SMALL))


class Drifting:
    """An objective that no checkpoint can bring back: it depends on how often it was called."""

    def __init__(self, objective: Any) -> None:
        self.objective, self.parts, self.calls = objective, objective.parts, 0

    def phase(self, progress: float) -> str:
        return str(self.objective.phase(progress))

    def __call__(self, *arguments: Any) -> dict[str, Any]:
        self.calls += 1
        losses = dict(self.objective(*arguments))
        return {**losses, "loss": losses["loss"] * (1 + self.calls)}


def test_a_resumed_run_is_told_from_one_that_is_not_the_same(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    assert bench.resumed_alike()
    monkeypatch.setattr(bench, "folder", bench.folder / "other", raising=True)
    write_store(bench.folder / "store", 200, 2000)
    monkeypatch.setattr(bench, "objective", Drifting(bench.objective))
    assert not bench.resumed_alike()


def test_a_run_stops_at_the_pass_that_is_named(bench: Bench) -> None:
    stopping = Counted(bench.objective, stop=2)
    with pytest.raises(Stopped):
        train(bench.student(), stopping, bench.job("stopped", 2_000))
    assert stopping.passes == 2


def test_the_rate_leaves_the_first_tenths_out() -> None:
    def point(tokens: int, seconds: float) -> HeldOutPoint:
        return HeldOutPoint(
            update=1, tokens=tokens, seconds=9 * seconds, training_seconds=seconds, loss=1.0, pseudo_perplexity=2.0
        )

    points = [point(0, 0.0), point(10, 50.0), point(20, 60.0), point(30, 61.0), point(40, 61.5), point(90, 63.0)]
    assert steady_rate(TrainingState(held_out_curve=points)) == 30.0
    with pytest.raises(SystemExit, match="too few"):
        steady_rate(TrainingState(held_out_curve=points[:4]))
