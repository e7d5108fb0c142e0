"""How much sooner a recipe is where another one ends."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from robbertje_lib.conclusions.time_to_quality import RecipeComparison, compare_students, recipe_pairs
from robbertje_lib.experiment.profile import load_profile
from robbertje_lib.experiment.results.training import HeldOutPoint

MINI = load_profile("mini")
PAIR = ("non_shuffled_as_published", "non_shuffled")


def watched(perplexities: list[float], seconds: float) -> Any:
    """A distillation as it is watched; seconds: of training, between two points."""
    points = [
        HeldOutPoint(update=10 * i, tokens=1000 * i, seconds=9.0 * i, training_seconds=seconds * i,
                     loss=float(np.log(value)), pseudo_perplexity=value)
        for i, value in enumerate(perplexities)
    ]  # fmt: skip
    return SimpleNamespace(held_out_curve=points)


def compared(**other: list[float]) -> RecipeComparison:
    """The first pair of `mini`: its published student ends at 400, 300 and 225, another curve for each replicate."""
    models = {
        model: watched([900.0, 600.0, end], seconds)
        for model, end, seconds in zip(
            MINI.replicates_of(PAIR[0]), (400.0, 300.0, 225.0), (40.0, 50.0, 60.0), strict=True
        )
    }
    models |= {
        model: watched(curve, 5.0) for model, curve in zip(MINI.replicates_of(PAIR[1]), other.values(), strict=True)
    }
    (row,) = compare_students(MINI, models)
    return row


def test_students_that_differ_in_their_recipe_alone_are_pairs() -> None:
    pairs = [(f"{student}_as_published", student) for student in ("non_shuffled", "shuffled", "merged", "bort")]
    pairs.insert(1, ("non_shuffled_as_published", "non_shuffled_in_order"))
    assert recipe_pairs(MINI) == pairs
    assert recipe_pairs(load_profile("published")) == recipe_pairs(load_profile("smoke")) == []


def test_replicates_are_compared_with_where_the_published_ones_end_in_the_mean() -> None:
    row = compared(a=[1000.0, 290.0, 80.0], b=[1000.0, 500.0, 299.0], c=[1000.0, 301.0, 300.0 - 1e-9])
    assert (row.published, row.other) == PAIR and len(row.curves[PAIR[1]]) == 3
    assert row.target == pytest.approx(300.0)
    assert [point and point.training_seconds for point in row.reached] == [5.0, 10.0, 10.0]
    assert (row.published_seconds, row.seconds) == pytest.approx((100.0, 25 / 3))
    assert row.share == pytest.approx(1 / 12)


def test_there_is_no_mean_time_unless_all_get_there() -> None:
    row = compared(a=[1000.0, 290.0], b=[1000.0, 1000.0], c=[1000.0, 290.0])
    assert [point is None for point in row.reached] == [False, True, False]
    assert row.seconds is row.share is None


def test_a_pair_without_all_its_replicates_is_left_out() -> None:
    models = {model: watched([9.0], 1.0) for model in (*MINI.replicates_of(PAIR[0]), PAIR[1], f"{PAIR[1]}.2")}
    assert compare_students(MINI, models) == []
