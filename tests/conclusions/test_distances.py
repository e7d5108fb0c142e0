"""Distances to the teacher: each cell of the paper's table beside ours."""

from math import log
from pathlib import Path

import pytest

from robbertje_lib.conclusions.comparisons import compare_models
from robbertje_lib.conclusions.distances import distances_to_teacher
from robbertje_lib.experiment.results.pseudo_perplexity import PseudoPerplexityResult
from robbertje_lib.experiment.results.significance import Comparison, SignificanceResult
from tests.support.result_files import World, make_run, write_measured


def test_every_cell_that_the_paper_has_stands_beside_ours(tmp_path: Path) -> None:
    run = make_run(tmp_path, "mini", ("dbrd",), replicates=2, sizes=(100, 300))
    write_measured(run, World(examples=300, skill={"teacher": 0.9, "bort": 0.6}, nats_spread=0.1))
    significance, perplexity = compare_models(run), PseudoPerplexityResult.read(run)
    cells = {(c.task, c.student): c for c in distances_to_teacher(run.profile, significance, perplexity)}
    students = ("non_shuffled", "shuffled", "merged", "bort")
    assert list(cells) == [(task, student) for task in ("pseudo_perplexity", "dbrd") for student in students]
    bort, row = cells["dbrd", "bort"], ours(significance, 300)
    assert (bort.value, bort.interval, bort.agreement) == (row.difference, row.interval, "same direction")
    nats = cells["pseudo_perplexity", "merged"]
    teacher, *merged = (perplexity.models[name].as_published for name in ("teacher", "merged", "merged.2"))
    assert nats.value == pytest.approx(log(merged[0] * merged[1]) / 2 - log(teacher))
    assert nats.paper.value == pytest.approx(log(17.10 / 7.76)) and nats.agreement == "undecided"


def ours(significance: SignificanceResult, train: int) -> Comparison:
    return next(
        row
        for row in significance.comparisons
        if (row.task, row.a, row.b, row.train) == ("dbrd", "bort", "teacher", train)
    )
