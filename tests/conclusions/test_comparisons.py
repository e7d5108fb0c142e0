"""Comparisons of a run: what was planted in the predictions comes out."""

from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pytest

from robbertje_lib.conclusions.comparisons import FAMILIES, compare_models, model_pairs
from robbertje_lib.experiment.results.finetuning import TaskScores
from robbertje_lib.experiment.results.pseudo_perplexity import PseudoPerplexityResult, TokenLogProbs
from robbertje_lib.experiment.results.significance import Comparison, SignificanceResult
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
def result(run: Run) -> SignificanceResult:
    return compare_models(run)


def row(result: SignificanceResult, task: str, a: str, b: str) -> Comparison:
    (own,) = [r for r in result.comparisons if (r.task, r.a, r.b) == (task, a, b)]
    return own


def test_every_pair_is_compared_on_every_task_once(run: Run, result: SignificanceResult) -> None:
    pairs = model_pairs(run.profile)
    assert set(pairs) | {"pseudo_perplexity"} == set(FAMILIES)
    assert ("merged", "bort") in pairs["students"] and ("shuffled", "merged") in pairs["students"]
    assert ("non_shuffled", "non_shuffled_as_published") in pairs["controls"]
    tasks = len(run.profile.finetuning.tasks) + 1
    keys = [(r.task, r.a, r.b) for r in result.comparisons]
    assert len(keys) == len(set(keys)) == tasks * sum(map(len, pairs.values()))


@pytest.mark.parametrize("task", ["dbrd", "ner", "pos"])
def test_planted_differences_are_found_and_null_ones_are_not(result: SignificanceResult, task: str) -> None:
    planted, null = row(result, task, "non_shuffled", "bort"), row(result, task, "non_shuffled", "shuffled")
    assert planted.difference > 0.05 and planted.p < 0.05 and planted.interval[0] > 0
    assert null.adjusted_p > 0.05 and null.interval[0] < 0 < null.interval[1]


def test_pseudo_perplexity_is_compared_in_nats_per_token(result: SignificanceResult, run: Run) -> None:
    compared = row(result, "pseudo_perplexity", "bort", "teacher")
    table = TokenLogProbs.read(run)
    mean = {
        name: -pc.mean(table.filter(pc.equal(table["model"], name))["log_prob"]).as_py() for name in ("bort", "teacher")
    }
    assert compared.difference == pytest.approx(mean["bort"] - mean["teacher"])
    assert (compared.test, compared.seeds, compared.adjusted_p < 0.01) == ("permutation", 1, True)


def test_p_values_are_adjusted_within_their_family(result: SignificanceResult) -> None:
    for family in FAMILIES:
        members = [r for r in result.comparisons if r.family == family]
        assert [r.adjusted_p for r in members] == pytest.approx(holm([r.p for r in members]))


def test_each_seed_has_its_own_paired_test(result: SignificanceResult) -> None:
    assert row(result, "dbrd", "bort", "teacher").test_per_seed == "exact McNemar"
    assert row(result, "ner", "bort", "teacher").test_per_seed == "permutation"
    assert len(row(result, "dbrd", "bort", "teacher").p_per_seed) == len(SEEDS)


def test_scores_are_those_that_fine_tuning_reported(result: SignificanceResult, run: Run) -> None:
    assert result.mismatches == []
    (teacher,) = [s for s in result.scores if (s.task, s.model) == ("ner", "teacher")]
    runs = [r for r in TaskScores.read(run, task="ner").runs if r.model == "teacher"]
    assert teacher.seeds == pytest.approx([r.metrics["f1"] for r in runs])
    assert teacher.interval[0] < teacher.score < teacher.interval[1]


def test_a_tampered_score_is_listed(tmp_path: Path) -> None:
    run = make_run(tmp_path, tasks=("dbrd",))
    write_results(run, World(examples=40))
    scores = TaskScores.read(run, task="dbrd")
    scores.runs[0].metrics["accuracy"] = 0.99
    scores.write(run, task="dbrd")
    (mismatch,) = compare_models(run).mismatches
    assert (mismatch.model, mismatch.seed, mismatch.reported) == ("teacher", 1, 0.99)


def test_the_result_is_the_same_every_time(run: Run, result: SignificanceResult) -> None:
    before = run.paths.result("significance.json").read_bytes()
    compare_models(run)
    assert run.paths.result("significance.json").read_bytes() == before


def test_a_pseudo_perplexity_lies_in_its_interval(run: Run, result: SignificanceResult) -> None:
    for model, told in PseudoPerplexityResult.read(run).models.items():
        low, high = result.pseudo_perplexity[model]
        assert low < told.corpus < high < 1.3 * low


def test_scores_by_length_cover_every_example_once(run: Run, result: SignificanceResult) -> None:
    assert list(result.by_length) == list(run.profile.finetuning.tasks)
    for by_length in result.by_length.values():
        assert sum(length_bin.n for length_bin in by_length.bins) == WORLD.examples
        assert [b.low for b in by_length.bins] == sorted(b.low for b in by_length.bins) and len(by_length.bins) == 4
        assert list(by_length.models) == run.profile.models
        assert all(low <= s.score <= high for of in by_length.models.values() for s in of for low, high in [s.interval])
    accuracy, sizes = result.by_length["dbrd"].models["bort"], [b.n for b in result.by_length["dbrd"].bins]
    (whole,) = [s.score for s in result.scores if (s.task, s.model) == ("dbrd", "bort")]
    assert np.average([s.score for s in accuracy], weights=sizes) == pytest.approx(whole)


def test_what_is_written_is_what_is_returned(run: Run, result: SignificanceResult) -> None:
    assert SignificanceResult.read(run) == result
