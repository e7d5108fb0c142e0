"""Counts from stored predictions: replicates above seeds, examples by name, and damaged files are refused."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from robbertje_lib.conclusions.counts import load_counts, pseudo_perplexity_counts
from robbertje_lib.conclusions.redrawn import Redrawn
from robbertje_lib.experiment.errors import UserError
from robbertje_lib.experiment.results.finetuning import Predictions, TaskScores
from robbertje_lib.experiment.results.pseudo_perplexity import TokenLogProbs
from robbertje_lib.experiment.run import Run
from tests.support.result_files import World, make_run, write_measured


def written(folder: Path, *tasks: str, replicates: int = 2, seeds: int = 1, **world: object) -> Run:
    run = make_run(folder, "smoke", tasks, replicates, seeds, sizes=(32, 64))
    write_measured(run, World(examples=30, **world))  # type: ignore[arg-type]
    return run


def test_the_highest_random_level_comes_first(tmp_path: Path) -> None:
    run = written(tmp_path, "dbrd", replicates=3, seeds=2)
    data = load_counts(run, "dbrd")
    shapes = {group: counts.shape[:3] for group, counts in data.counts.items()}
    assert shapes["merged"] == (3, 2, 30)  # replicates, with their seeds within
    assert shapes["teacher"] == shapes["random_teacher"] == (6, 1, 30)  # as many runs, and nothing above their seeds
    assert shapes["tf_idf"] == shapes["majority"] == (1, 1, 30)
    assert (data.replicates("merged"), data.replicates("teacher"), data.train) == (3, 1, 64)
    told = {(r.model, r.seed): r.metrics["accuracy"] for r in TaskScores.read(run, task="dbrd").runs if r.train == 64}
    for group in ("merged", "teacher", "random_bort"):
        for model, scores in data.scores(group).items():
            assert scores == pytest.approx([told[model, seed] for seed in run.profile.finetuning_seeds(model)])


def test_without_replicates_seeds_are_the_units(tmp_path: Path) -> None:
    assert load_counts(written(tmp_path, "dbrd", replicates=1, seeds=3), "dbrd").counts["merged"].shape[:2] == (3, 1)


def test_every_size_has_its_own_counts(tmp_path: Path) -> None:
    run = written(tmp_path, "dbrd", halving=0.3)
    small, large = load_counts(run, "dbrd", 32), load_counts(run, "dbrd")
    assert np.mean(small.scores("merged")["merged"]) < np.mean(large.scores("merged")["merged"])
    with pytest.raises(UserError, match="test, 50 training examples: has no predictions of teacher"):
        load_counts(run, "dbrd", 50)


def test_further_test_sets_are_told_apart(tmp_path: Path) -> None:
    run = written(tmp_path, "pos", further={"pos": ["alpino"]})
    ours, further = load_counts(run, "pos"), load_counts(run, "pos", test_set="alpino")
    assert not np.array_equal(ours.counts["merged"], further.counts["merged"])
    told = [r.further["alpino"] for r in TaskScores.read(run, task="pos").runs if (r.model, r.train) == ("merged", 64)]
    assert further.scores("merged")["merged"] == pytest.approx(told)


def test_what_was_not_asked_without_tuning_is_left_out_of_that_comparison(tmp_path: Path) -> None:
    run = written(tmp_path, "die_dat", "dbrd")
    data = load_counts(run, "die_dat")
    asked = data.without_tuning()
    assert asked is not None and (data.examples, asked.examples) == (30, 24)
    assert asked.counts["zero_shot/merged"].shape == (2, 1, 24, 2) and asked.counts["merged"].shape == (2, 1, 24, 2)
    told = TaskScores.read(run, task="die_dat").extra_metrics
    for model, (score,) in asked.scores("zero_shot/merged").items():
        assert score == pytest.approx(told[model.removeprefix("zero_shot/")]["zero_shot"])
    assert load_counts(run, "dbrd").without_tuning() is None


def test_clusters_are_summed_before_they_are_redrawn(tmp_path: Path) -> None:
    data = load_counts(written(tmp_path, "dbrd", per_cluster=5), "dbrd")
    redrawn = Redrawn.draw(data, 100, np.random.default_rng(0))
    assert redrawn.clusters == 6 and not data.one_answer_each
    assert np.array_equal(redrawn.by_cluster["merged"][0, 0, 0], data.counts["merged"][0, 0, :5].sum(axis=0))
    part = data.subset(np.arange(30) % 5 == 0)
    assert Redrawn.draw(part, 100, np.random.default_rng(0)).clusters == part.examples == 6
    with pytest.raises(UserError, match="all 3 examples come from one document"):
        Redrawn.draw(data.subset(np.arange(30) < 3), 100, np.random.default_rng(0))


def test_the_order_of_the_file_does_not_matter(tmp_path: Path) -> None:
    run = written(tmp_path, "dbrd")
    table, before = Predictions.read(run, task="dbrd"), load_counts(run, "dbrd")
    Predictions.write(run, table.take(np.random.default_rng(0).permutation(len(table))), task="dbrd")
    after = load_counts(run, "dbrd")
    assert all(np.array_equal(after.counts[group], counts) for group, counts in before.counts.items())


@pytest.mark.parametrize("model", ["merged.2", "random_bort", "tf_idf"])
def test_a_missing_model_is_refused(tmp_path: Path, model: str) -> None:
    run = written(tmp_path, "dbrd")
    Predictions.write(run, Predictions.read(run, task="dbrd").filter(pc.field("model") != model), task="dbrd")
    with pytest.raises(UserError, match=f"no predictions of {model}"):
        load_counts(run, "dbrd")


def test_a_missing_seed_is_refused(tmp_path: Path) -> None:
    run = written(tmp_path, "dbrd", seeds=2)
    keep = (pc.field("model") != "bort") | (pc.field("seed") != run.profile.finetuning_seeds("bort")[1])
    Predictions.write(run, Predictions.read(run, task="dbrd").filter(keep), task="dbrd")
    with pytest.raises(UserError, match="no predictions of bort, or not with every seed"):
        load_counts(run, "dbrd")


def test_a_missing_example_is_refused(tmp_path: Path) -> None:
    run = written(tmp_path, "dbrd")
    keep = (pc.field("model") != "bort") | (pc.field("example_id") != "dbrd-00003")
    Predictions.write(run, Predictions.read(run, task="dbrd").filter(keep), task="dbrd")
    with pytest.raises(UserError, match=r"bort, seed \d+ was tested on other examples"):
        load_counts(run, "dbrd")


def test_a_cut_or_missing_prediction_is_refused(tmp_path: Path) -> None:
    run = written(tmp_path, "pos")
    table = Predictions.read(run, task="pos")
    place = next(i for i, row in enumerate(table.to_pylist()) if (row["model"], row["train"]) == ("teacher", 64))
    for told, reason in ((lambda labels: labels[:-1], "zip"), (lambda labels: None, "1 examples have no prediction")):
        rows = table.to_pylist()
        rows[place]["prediction"] = told(rows[place]["prediction"])
        Predictions.write(run, pa.Table.from_pylist(rows, table.schema), task="pos")
        with pytest.raises(UserError, match=rf"pos\.parquet: teacher, seed \d+: .*{reason}"):
            load_counts(run, "pos")


def test_lines_are_clustered_by_document_and_models_are_units(tmp_path: Path) -> None:
    data = pseudo_perplexity_counts(written(tmp_path, "dbrd"))
    assert data.counts["bort"].shape == (2, 1, 200, 2)
    assert data.counts["teacher"].shape == data.counts["unigram"].shape == (1, 1, 200, 2)
    assert len(np.unique(data.clusters)) == 50


def test_a_model_scored_on_other_tokens_is_refused(tmp_path: Path) -> None:
    run = written(tmp_path, "dbrd")
    table = TokenLogProbs.read(run)
    of_bort = pc.equal(pc.cast(table["model"], pa.string()), "bort.2")
    cut = pc.and_(of_bort, pc.equal(table["line"], 3))
    for drop, reason in ((cut, "bort.2 was scored on other tokens"), (of_bort, "no predictions of bort.2")):
        TokenLogProbs.write(run, table.filter(pc.invert(drop)))
        with pytest.raises(UserError, match=reason):
            pseudo_perplexity_counts(run)
