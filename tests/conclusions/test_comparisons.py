"""Comparisons of a run: what was planted in the predictions comes out, at the level at which chance acts."""

from itertools import groupby
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from robbertje_lib.conclusions.comparisons import FAMILIES, compare_models, group_pairs
from robbertje_lib.experiment.profile import Profile, Student
from robbertje_lib.experiment.results.finetuning import TaskScores
from robbertje_lib.experiment.results.pseudo_perplexity import PseudoPerplexityResult, TokenLogProbs
from robbertje_lib.experiment.results.significance import Comparison, SignificanceResult
from robbertje_lib.experiment.run import Run
from robbertje_lib.statistics.significance import holm
from tests.support.result_files import World, make_run, write_measured

WORLD = World(
    examples=250,
    skill={"teacher": 0.92, "bort": 0.72},
    nats={"teacher": 2.6, "bort": 3.6},
    replicate_spread=0.004,
    seed_spread=0.004,
    agreement=0.9,
    further={"pos": ["elsewhere"]},
)
SIZES = (100, 400)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = make_run(tmp_path_factory.mktemp("planted"), "smoke", ("dbrd", "die_dat", "ner", "pos"), sizes=SIZES)
    write_measured(run, WORLD)
    return run


@pytest.fixture(scope="module")
def result(run: Run) -> SignificanceResult:
    return compare_models(run)


def row(result: SignificanceResult, task: str, a: str, b: str, train: int = 400) -> Comparison:
    train = 0 if task == "pseudo_perplexity" else train
    (own,) = [r for r in result.comparisons if (r.task, r.a, r.b, r.train) == (task, a, b, train)]
    return own


def test_every_pair_is_compared_on_every_task_and_size_once(run: Run, result: SignificanceResult) -> None:
    pairs = group_pairs(run.profile)
    assert set(pairs) | {"pseudo_perplexity"} == set(FAMILIES)
    runs = len(run.profile.finetuning.tasks) * len(SIZES) + 1
    keys = [(r.task, r.train, r.a, r.b) for r in result.comparisons]
    assert len(keys) == len(set(keys)) == runs * sum(map(len, pairs.values()))


def students(profile: Profile, order: str = "random", **arms: str) -> Profile:
    """A profile with students `name="arm selection recipe"`."""
    recipe = profile.recipes["fast"].model_copy(update={"order": order})
    made = {}
    for name, told in arms.items():
        arm, selection, recipe_name = told.split()
        made[name] = Student(arm=arm, selection=selection, shape="distilbert", recipe=recipe_name)
    recipes = {"fast": recipe, "published": recipe}
    return profile.model_copy(update={"students": made, "recipes": recipes})


def test_pairs_that_differ_in_nothing_but_chance_are_told_apart(run: Run) -> None:
    arms = {"ordered": "non_shuffled head fast", "mixed": "shuffled head fast", "equal": "shuffled same_lines fast",
            "joined": "merged head fast", "other": "non_shuffled head published"}  # fmt: skip
    drawn, kept = (group_pairs(students(run.profile, order, **arms)) for order in ("random", "document"))
    assert drawn["equals"] == [("ordered", "equal")]  # the head of what is in order holds the same lines
    assert kept["equals"] == [] and ("ordered", "equal") in kept["students"]
    assert ("equal", "joined") in drawn["students"] and ("ordered", "mixed") in drawn["students"]
    assert drawn["same_arm"] == [("ordered", "other"), ("mixed", "equal")]
    twice = students(run.profile, "document", one="merged head fast", two="merged same_lines fast")
    assert group_pairs(twice)["equals"] == [("one", "two")]


@pytest.mark.parametrize("task", ["dbrd", "ner", "pos"])
def test_planted_differences_are_found_and_null_ones_are_not(result: SignificanceResult, task: str) -> None:
    planted, null = row(result, task, "non_shuffled", "bort"), row(result, task, "non_shuffled", "shuffled")
    assert planted.difference > 0.05 and planted.p < 0.05 and planted.interval[0] > 0
    assert null.adjusted_p > 0.05 and null.interval[0] < 0 < null.interval[1]


def test_a_comparison_says_what_is_random_in_it(result: SignificanceResult, tmp_path: Path) -> None:
    two = row(result, "dbrd", "non_shuffled", "bort")
    assert (two.test, two.replicates, two.runs) == ("replicates and examples", (3, 3), (3, 3))
    with_teacher = row(result, "dbrd", "bort", "teacher")
    assert with_teacher.test == "replicates, fine-tuning seeds and examples"
    assert (with_teacher.replicates, with_teacher.runs) == ((3, 1), (3, 3))
    run = make_run(tmp_path, "smoke", ("dbrd",), replicates=1)
    write_measured(run, World(examples=40))
    once = row(own := compare_models(run), "dbrd", "merged", "bort", 64)
    assert (once.test, once.replicates, once.runs) == ("fine-tuning seeds and examples", (1, 1), (2, 2))
    of_lines = row(own, "pseudo_perplexity", "merged", "bort")
    assert of_lines.test == "permutation of one run" and [of_lines.p] == of_lines.p_per_run


def test_clusters_and_replicates_widen_an_interval(tmp_path: Path) -> None:
    def error(folder: str, **world: object) -> float:
        run = make_run(tmp_path / folder, "smoke", ("dbrd",), replicates=5)
        write_measured(run, World(examples=400, agreement=1.0, skill={"bort": 0.7}, **world))  # type: ignore[arg-type]
        return row(compare_models(run), "dbrd", "non_shuffled", "bort", 64).standard_error

    plain = error("plain")
    assert error("clusters", per_cluster=20, cluster_likeness=1.0) > 2 * plain
    assert error("replicates", replicate_spread=0.1) > 1.5 * plain


def test_mcnemar_is_for_examples_that_stand_for_themselves(tmp_path: Path) -> None:
    run = make_run(tmp_path, "smoke", ("dbrd",))
    write_measured(run, World(examples=100, per_cluster=5))
    clustered = row(compare_models(run), "dbrd", "bort", "teacher", 64)
    assert (clustered.test_per_run, clustered.n, clustered.clusters) == ("permutation", 100, 20)
    assert clustered.test == "replicates, fine-tuning seeds and clusters of examples"


def test_pseudo_perplexity_is_compared_in_nats_per_token(result: SignificanceResult, run: Run) -> None:
    compared = row(result, "pseudo_perplexity", "bort", "teacher")
    table = TokenLogProbs.read(run)
    name = pc.cast(table["model"], pa.string())
    mean = {m: -pc.mean(table.filter(pc.equal(name, m))["log_prob"]).as_py() for m in run.profile.models}
    of_bort = np.mean([mean[model] for model in run.profile.replicates_of("bort")])
    assert compared.difference == pytest.approx(of_bort - mean["teacher"])
    assert (compared.test, compared.clusters) == ("replicates and clusters of examples", 50)
    assert (compared.replicates, compared.adjusted_p < 0.01) == ((3, 1), True)


def test_p_values_are_adjusted_within_their_family_and_rank_of_size(result: SignificanceResult) -> None:
    def key(row: Comparison) -> tuple[str, bool]:
        return row.family, row.train == 100

    families = groupby(sorted(result.comparisons, key=key), key)
    for _, members in families:
        rows = list(members)
        assert [r.adjusted_p for r in rows] == pytest.approx(holm([r.p for r in rows]))


def test_single_runs_have_their_own_paired_test(result: SignificanceResult) -> None:
    assert row(result, "dbrd", "bort", "teacher").test_per_run == "exact McNemar"
    assert row(result, "ner", "bort", "teacher").test_per_run == "permutation"
    assert len(row(result, "ner", "bort", "teacher").p_per_run) == 3
    assert row(result, "ner", "bort", "teacher", 100).p_per_run == []  # permutations at the largest size alone


def test_scores_are_those_that_fine_tuning_reported(result: SignificanceResult, run: Run) -> None:
    assert result.mismatches == []
    told = TaskScores.read(run, task="ner").runs
    for group in ("merged", "teacher", "random_bort"):
        (own,) = [s for s in result.scores if (s.task, s.group, s.train) == ("ner", group, 400)]
        for model, scores in own.runs.items():
            reported = {r.seed: r.metrics["f1"] for r in told if (r.model, r.train) == (model, 400)}
            assert scores == pytest.approx([reported[seed] for seed in run.profile.finetuning_seeds(model)])
        assert own.interval[0] < own.score < own.interval[1]


def test_controls_baselines_and_answers_without_tuning_have_scores(result: SignificanceResult, run: Run) -> None:
    by_task = {
        task: {s.group for s in result.scores if (s.task, s.test_set) == (task, "test")} for task in ("die_dat", "pos")
    }
    trained = {*run.profile.groups, *run.profile.controls, "majority"}
    assert by_task["pos"] == trained | {"word_tag"}
    assert by_task["die_dat"] == trained | {"bigram_rule"} | {f"zero_shot/{group}" for group in run.profile.groups}
    further = [s for s in result.scores if s.test_set == "elsewhere"]
    assert {(s.task, s.train) for s in further} == {("pos", 400)} and {s.group for s in further} == by_task["pos"]


def test_spreads_are_those_of_replicates_and_of_seeds(result: SignificanceResult, tmp_path: Path) -> None:
    rows = {(s.task, s.train, s.group): s for s in result.spreads}
    assert rows["dbrd", 400, "teacher"].of_replicates is None and rows["dbrd", 400, "teacher"].of_seeds is not None
    assert (
        rows["dbrd", 400, "merged"].of_seeds is None and rows["pseudo_perplexity", 0, "teacher"].of_replicates is None
    )
    run = make_run(tmp_path, "smoke", ("dbrd",), replicates=12, seeds=2)
    write_measured(run, World(examples=300, agreement=1.0, base=0.5, replicate_spread=0.1, seed_spread=0.02))
    (own,) = [s for s in compare_models(run).spreads if (s.task, s.group) == ("dbrd", "merged")]
    assert own.of_replicates == pytest.approx(0.1, rel=0.4) and own.of_seeds == pytest.approx(0.02, rel=0.6)


def test_a_tampered_score_is_listed(tmp_path: Path) -> None:
    run = make_run(tmp_path, "smoke", ("dbrd",))
    write_measured(run, World(examples=40))
    scores = TaskScores.read(run, task="dbrd")
    scores.runs[0].metrics["accuracy"] = 0.99
    scores.baselines[1] = scores.baselines[1].model_copy(update={"score": 0.98})
    scores.write(run, task="dbrd")
    told = [(m.model, m.seed, m.train, m.reported) for m in compare_models(run).mismatches]
    assert told == [("teacher", run.profile.finetuning_seeds("teacher")[0], 64, 0.99), ("tf_idf", 0, 64, 0.98)]


def test_the_result_is_the_same_every_time(run: Run, result: SignificanceResult) -> None:
    before = run.paths.result("significance.json").read_bytes()
    compare_models(run)
    assert run.paths.result("significance.json").read_bytes() == before


def test_a_pseudo_perplexity_lies_in_its_interval(run: Run, result: SignificanceResult) -> None:
    assert list(result.pseudo_perplexity) == [*run.profile.groups, "unigram"]
    for group, (low, high) in result.pseudo_perplexity.items():
        told = PseudoPerplexityResult.read(run)
        models = run.profile.groups.get(group, [])
        values = [told.models[model].corpus for model in models] or [told.unigram]
        assert low < np.exp(np.mean(np.log(values))) < high < 2 * low


def test_scores_by_length_cover_every_example_once(run: Run, result: SignificanceResult) -> None:
    assert list(result.by_length) == list(run.profile.finetuning.tasks)
    for by_length in result.by_length.values():
        assert sum(length_bin.n for length_bin in by_length.bins) == WORLD.examples
        assert [b.low for b in by_length.bins] == sorted(b.low for b in by_length.bins) and len(by_length.bins) == 4
        assert list(by_length.groups) == list(run.profile.groups)
        assert all(low <= s.score <= high for of in by_length.groups.values() for s in of for low, high in [s.interval])
    accuracy, sizes = result.by_length["dbrd"].groups["bort"], [b.n for b in result.by_length["dbrd"].bins]
    (whole,) = [s.score for s in result.scores if (s.task, s.group, s.train) == ("dbrd", "bort", 400)]
    assert np.average([s.score for s in accuracy], weights=sizes) == pytest.approx(whole)


def test_what_is_written_is_what_is_returned(run: Run, result: SignificanceResult) -> None:
    assert SignificanceResult.read(run) == result
