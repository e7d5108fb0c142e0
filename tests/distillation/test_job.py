"""A schedule's learning rate, and how far a run is."""

import pytest

from robbertje_lib.distillation.job import TrainingState, learning_rate
from robbertje_lib.experiment.profile import Recipe
from tests.support.tiny_run import FAST


def test_the_rate_warms_up_and_decays() -> None:
    recipe = Recipe.model_validate({**FAST, "amount": 100, "amount_unit": "updates", "learning_rate": 2.0})
    assert [learning_rate(recipe, x) for x in (0.0, 0.05, 0.1, 0.55, 1.0)] == pytest.approx([0, 1, 2, 1, 0])
    assert TrainingState(update=25).share(recipe) == 0.25
