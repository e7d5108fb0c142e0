"""How much sooner a recipe is where another one ends."""

from pathlib import Path

import numpy as np

from robbertje_lib.conclusions.time_to_quality import compare_recipes
from robbertje_lib.experiment.results.training import DistillationResult, HeldOutPoint
from robbertje_lib.experiment.run import Run
from tests.support.result_files import World, make_run, write_results


def watched(run: Run, student: str, perplexities: list[float], seconds: float) -> None:
    """Replace the held-out curve of a student; seconds: of training, between two points."""
    points = [
        HeldOutPoint(update=10 * i, tokens=1000 * i, seconds=9.0 * i, training_seconds=seconds * i,
                     loss=float(np.log(value)), pseudo_perplexity=value)
        for i, value in enumerate(perplexities)
    ]  # fmt: skip
    result = DistillationResult.read(run, student=student)
    result.model_copy(update={"held_out_curve": points}).write(run, student=student)


def test_students_that_differ_in_their_recipe_alone_are_compared(tmp_path: Path) -> None:
    run = make_run(tmp_path, "mini", ("dbrd",))
    assert compare_recipes(run) == []
    write_results(run, World(examples=20))
    watched(run, "non_shuffled_as_published", [900.0, 600.0, 300.0], 50.0)
    watched(run, "non_shuffled", [1000.0, 290.0, 80.0], 5.0)
    (row,) = compare_recipes(run)
    assert (row.published, row.other) == ("non_shuffled_as_published", "non_shuffled")
    assert row.reached is not None
    assert (row.end.training_seconds, row.reached.training_seconds, row.share) == (100.0, 5.0, 0.05)
    watched(run, "non_shuffled", [1000.0, 1000.0], 5.0)
    (row,) = compare_recipes(run)
    assert row.reached is row.share is None
