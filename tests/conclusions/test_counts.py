"""Counts from stored predictions: in the order of names and of the file, and damaged files are refused."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from robbertje_lib.conclusions.counts import load_counts, load_line_counts, pseudo_perplexity_counts
from robbertje_lib.experiment.errors import UserError
from robbertje_lib.experiment.results.finetuning import Predictions
from robbertje_lib.experiment.run import Run
from tests.support.result_files import World, make_run, write_results


def test_examples_stand_by_name_and_can_be_put_back_into_the_order_of_the_file(tmp_path: Path) -> None:
    run = make_run(tmp_path, tasks=("dbrd",))
    write_results(run, World(examples=30))
    table = Predictions.read(run, task="dbrd")
    before = load_counts(run, "dbrd")
    assert np.array_equal(before.stored, np.arange(30))
    shuffled = np.random.default_rng(0).permutation(30)
    places = np.concatenate([start + shuffled for start in range(0, len(table), 30)])
    Predictions.write(run, table.take(places), task="dbrd")
    after = load_counts(run, "dbrd")
    assert np.array_equal(after.counts["bort"], before.counts["bort"])
    assert np.array_equal(after.stored, shuffled)


def damaged(tmp_path: Path, keep: pa.compute.Expression) -> Run:
    run = make_run(tmp_path, tasks=("dbrd",))
    write_results(run, World(examples=30))
    Predictions.write(run, Predictions.read(run, task="dbrd").filter(keep), task="dbrd")
    return run


def test_a_missing_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no predictions of merged"):
        load_counts(damaged(tmp_path, pc.field("model") != "merged"), "dbrd")


def test_a_missing_example_is_refused(tmp_path: Path) -> None:
    keep = (pc.field("model") != "bort") | (pc.field("example_id") != "dbrd-00003")
    with pytest.raises(UserError, match="bort, seed 1 was tested on other examples"):
        load_counts(damaged(tmp_path, keep), "dbrd")


def test_a_cut_prediction_is_refused(tmp_path: Path) -> None:
    run = make_run(tmp_path, tasks=("pos",))
    write_results(run, World(examples=20))
    table = Predictions.read(run, task="pos")
    rows = table.to_pylist()
    rows[5]["prediction"] = rows[5]["prediction"][:-1]
    Predictions.write(run, pa.Table.from_pylist(rows, table.schema), task="pos")
    with pytest.raises(UserError, match=r"pos\.parquet: teacher, seed 1"):
        load_counts(run, "pos")


def test_a_model_scored_on_other_tokens_is_refused(tmp_path: Path) -> None:
    run = make_run(tmp_path, tasks=("dbrd",))
    write_results(run, World(examples=20))
    lines = load_line_counts(run)
    assert set(lines) == set(run.profile.models) and lines["bort"].shape == (200, 2)
    with pytest.raises(UserError, match="bort was scored on other tokens"):
        pseudo_perplexity_counts(run, {**lines, "bort": lines["bort"][:-1]})
    with pytest.raises(UserError, match="no predictions of bort"):
        pseudo_perplexity_counts(run, {name: of for name, of in lines.items() if name != "bort"})
