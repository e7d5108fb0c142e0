"""A schedule's learning rate, and how far a run is."""

import pytest

from robbertje_lib.distillation.job import Schedule, TrainingState


def test_the_rate_warms_up_and_decays() -> None:
    schedule = Schedule(100, "updates", 1, "update", 2.0, 0.1, 0.0, (0.9, 0.98), 1e-6, 5.0)
    assert [schedule.rate(x) for x in (0.0, 0.05, 0.1, 0.55, 1.0)] == pytest.approx([0, 1, 2, 1, 0])
    assert TrainingState(update=25).share(schedule) == 0.25
