"""Comparisons of a run: what was planted in the predictions comes out, and damaged files are refused."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from robbertje_lib.conclusions.comparisons import FAMILIES, compare_models, load_task, model_pairs
from robbertje_lib.experiment.artefacts import read_json, read_parquet, write_json, write_parquet
from robbertje_lib.experiment.errors import UserError
from robbertje_lib.experiment.run import Run
from robbertje_lib.statistics.significance import holm
from tests.support.result_files import SEEDS, World, make_run, write_results

WORLD = World(
    examples=250,
    skill={"teacher": 0.92, "bort": 0.72},
    nats={"teacher": 2.6, "bort": 3.6},
    seed_spread=0.004,
    agreement=0.9,
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = make_run(tmp_path_factory.mktemp("planted"))
    write_results(run, WORLD)
    return run


@pytest.fixture(scope="module")
def result(run: Run) -> dict[str, Any]:
    return compare_models(run)


def row(result: dict[str, Any], task: str, a: str, b: str) -> dict[str, Any]:
    (found,) = [r for r in result["comparisons"] if (r["task"], r["a"], r["b"]) == (task, a, b)]
    return found


def test_every_pair_is_compared_on_every_task_once(run: Run, result: dict[str, Any]) -> None:
    pairs = model_pairs(run.profile)
    assert set(pairs) | {"pseudo_perplexity"} == set(FAMILIES)
    assert ("merged", "bort") in pairs["students"] and ("shuffled", "merged") in pairs["students"]
    assert ("non_shuffled", "non_shuffled_as_published") in pairs["controls"]
    tasks = len(run.profile.finetuning.tasks) + 1
    keys = [(r["task"], r["a"], r["b"]) for r in result["comparisons"]]
    assert len(keys) == len(set(keys)) == tasks * sum(map(len, pairs.values()))


@pytest.mark.parametrize("task", ["dbrd", "ner", "pos"])
def test_planted_differences_are_found_and_null_ones_are_not(result: dict[str, Any], task: str) -> None:
    planted, null = row(result, task, "non_shuffled", "bort"), row(result, task, "non_shuffled", "shuffled")
    assert planted["difference"] > 0.05 and planted["p"] < 0.05 and planted["interval"][0] > 0
    assert null["adjusted_p"] > 0.05 and null["interval"][0] < 0 < null["interval"][1]


def test_pseudo_perplexity_is_compared_in_nats_per_token(result: dict[str, Any], run: Run) -> None:
    found = row(result, "pseudo_perplexity", "bort", "teacher")
    table = read_parquet(run.paths.result("pseudo_perplexity.parquet"))
    mean = {
        name: -pc.mean(table.filter(pc.equal(table["model"], name))["log_prob"]).as_py() for name in ("bort", "teacher")
    }
    assert found["difference"] == pytest.approx(mean["bort"] - mean["teacher"])
    assert (found["test"], found["seeds"], found["adjusted_p"] < 0.01) == ("permutation", 1, True)


def test_p_values_are_adjusted_within_their_family(result: dict[str, Any]) -> None:
    for family in FAMILIES:
        members = [r for r in result["comparisons"] if r["family"] == family]
        assert [r["adjusted_p"] for r in members] == pytest.approx(holm([r["p"] for r in members]))


def test_each_seed_has_its_own_paired_test(result: dict[str, Any]) -> None:
    assert row(result, "dbrd", "bort", "teacher")["test_per_seed"] == "exact McNemar"
    assert row(result, "ner", "bort", "teacher")["test_per_seed"] == "permutation"
    assert len(row(result, "dbrd", "bort", "teacher")["p_per_seed"]) == len(SEEDS)


def test_scores_are_those_that_fine_tuning_reported(result: dict[str, Any], run: Run) -> None:
    assert result["mismatches"] == []
    (teacher,) = [s for s in result["scores"] if (s["task"], s["model"]) == ("ner", "teacher")]
    runs = [r for r in read_json(run.paths.result("scores", "ner.json"))["runs"] if r["model"] == "teacher"]
    assert teacher["seeds"] == pytest.approx([r["metrics"]["f1"] for r in runs])
    assert teacher["interval"][0] < teacher["score"] < teacher["interval"][1]


def test_a_tampered_score_is_listed(tmp_path: Path) -> None:
    run = make_run(tmp_path, tasks=("dbrd",))
    write_results(run, World(examples=40))
    path = run.paths.result("scores", "dbrd.json")
    scores = read_json(path)
    scores["runs"][0]["metrics"]["accuracy"] = 0.99
    write_json(path, {k: v for k, v in scores.items() if k != "schema_version"})
    (found,) = compare_models(run)["mismatches"]
    assert (found["model"], found["seed"], found["reported"]) == ("teacher", 1, 0.99)


def test_the_result_is_the_same_every_time(run: Run, result: dict[str, Any]) -> None:
    before = run.paths.result("significance.json").read_bytes()
    compare_models(run)
    assert run.paths.result("significance.json").read_bytes() == before


def damaged(tmp_path: Path, keep: pa.compute.Expression) -> Run:
    run = make_run(tmp_path, tasks=("dbrd",))
    write_results(run, World(examples=30))
    path = run.paths.result("predictions", "dbrd.parquet")
    write_parquet(path, read_parquet(path).filter(keep))
    return run


def test_a_missing_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no predictions of merged"):
        load_task(damaged(tmp_path, pc.field("model") != "merged"), "dbrd")


def test_a_missing_example_is_refused(tmp_path: Path) -> None:
    keep = (pc.field("model") != "bort") | (pc.field("example_id") != "dbrd-00003")
    with pytest.raises(UserError, match="bort, seed 1 was tested on other examples"):
        load_task(damaged(tmp_path, keep), "dbrd")


def test_a_cut_prediction_is_refused(tmp_path: Path) -> None:
    run = make_run(tmp_path, tasks=("pos",))
    write_results(run, World(examples=20))
    path = run.paths.result("predictions", "pos.parquet")
    rows = read_parquet(path).to_pylist()
    rows[5]["prediction"] = rows[5]["prediction"][:-1]
    write_parquet(path, pa.Table.from_pylist(rows))
    with pytest.raises(UserError, match=r"pos\.parquet: teacher, seed 1"):
        load_task(run, "pos")
