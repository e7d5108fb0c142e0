"""Gates: they let through what carried over and is of use, and little else."""

from dataclasses import replace
from pathlib import Path
from statistics import NormalDist

import numpy as np
import pytest

from robbertje_lib.conclusions.comparisons import compare_models
from robbertje_lib.conclusions.counts import TaskCounts
from robbertje_lib.conclusions.gates import open_size, task_gates, useful_somewhere
from robbertje_lib.conclusions.redrawn import Redrawn
from robbertje_lib.experiment.results.finetuning import TaskScores
from robbertje_lib.experiment.results.significance import Gate
from robbertje_lib.statistics.resampling import ratio
from tests.support.claim_evidence import gate as hand_made
from tests.support.result_files import World, make_run, write_measured

PROFILE = make_run(Path("unused"), "smoke", ("dbrd",)).profile.model_copy(update={"students": {}})
EXAMPLES, UNITS = 200, 5


def simulated(rng: np.random.Generator, teacher: float, control: float, spread: float) -> TaskCounts:
    """The teacher and its control, in runs whose skill varies by `spread`, and a baseline at 0.7."""
    shared = rng.standard_normal(EXAMPLES)

    def counts(skill: float, units: int) -> np.ndarray:
        own = rng.standard_normal((units, 1, EXAMPLES)) * 0.5 + rng.normal(0, spread, (units, 1, 1))
        right = (shared + own) / np.sqrt(1.25) < NormalDist().inv_cdf(skill)
        return np.stack([right, np.ones_like(right)], axis=-1).astype(float)

    groups = {"teacher": counts(teacher, UNITS), "random_teacher": counts(control, UNITS), "tf_idf": counts(0.7, 1)}
    models = {group: {group: list(range(c.shape[0]))} for group, c in groups.items()}
    places = np.arange(EXAMPLES)
    return TaskCounts("dbrd", 64, "test", "accuracy", ratio, models, groups, {}, places, places)


def gate(data: TaskCounts, rng: np.random.Generator) -> Gate:
    (own,) = task_gates(PROFILE, Redrawn.draw(data, 200, rng), None, "tf_idf", rng)
    return own


def test_what_did_not_carry_over_is_let_through_at_no_more_than_the_nominal_rate() -> None:
    rng = np.random.default_rng(0)
    passed = sum(gate(simulated(rng, 0.8, 0.8, 0.2), rng).carried_over for _ in range(600))
    assert 3 <= passed <= 26  # nominal: 15


def test_what_carried_over_is_let_through() -> None:
    rng = np.random.default_rng(0)
    passed = sum(gate(simulated(rng, 0.9, 0.75, 0.2), rng).carried_over for _ in range(100))
    assert passed > 80


def test_a_baseline_that_is_better_or_as_good_leaves_no_use() -> None:
    rng = np.random.default_rng(0)
    as_good = sum(gate(simulated(rng, 0.7, 0.6, 0.0), rng).useful for _ in range(300))
    better = sum(gate(simulated(rng, 0.6, 0.55, 0.1), rng).useful for _ in range(100))
    worse = sum(gate(simulated(rng, 0.85, 0.55, 0.1), rng).useful for _ in range(100))
    assert as_good <= 18 and better == 0 and worse > 80


def test_gates_of_a_run_say_what_was_planted(tmp_path: Path) -> None:
    skill = {"teacher": 0.9, "merged": 0.9, "bort": 0.72, "random_bort": 0.6, "shuffled": 0.5}
    run = make_run(tmp_path, "smoke", ("dbrd", "die_dat"), sizes=(100, 400))
    world = World(examples=300, skill=skill, baseline=0.75, nats={"bort": 6.5}, unigram=6.0)
    write_measured(run, world)
    gates = {(g.task, g.train, g.group): g for g in compare_models(run).gates}
    assert len(gates) == (2 * 2 + 1) * len(run.profile.groups)
    told = {
        group: (gates["dbrd", 400, group].carried_over, gates["dbrd", 400, group].useful)
        for group in skill
        if group in run.profile.groups
    }
    assert told == {"teacher": (True, True), "merged": (True, True), "bort": (True, False), "shuffled": (False, False)}
    assert gates["dbrd", 400, "bort"].baseline == "tf_idf" and gates["dbrd", 400, "bort"].control == "random_bort"
    lines = {group: gates["pseudo_perplexity", 0, group] for group in ("merged", "bort")}
    assert [(g.carried_over, g.useful, g.control) for g in lines.values()] == [(True, True, None), (False, False, None)]
    assert lines["merged"].above_baseline > 0 > lines["bort"].above_baseline


def test_answers_without_tuning_can_be_the_harder_baseline(tmp_path: Path) -> None:
    run = make_run(tmp_path, "smoke", ("die_dat",))
    write_measured(run, World(examples=300, baseline=0.6, zero_shot=0.95))
    gates = [g for g in compare_models(run).gates if g.task == "die_dat"]
    assert {(g.baseline, g.useful) for g in gates} == {(f"zero_shot/{g.group}", False) for g in gates}
    assert all(g.carried_over for g in gates)


def test_the_best_baseline_is_chosen_on_the_validation_split(tmp_path: Path) -> None:
    run = make_run(tmp_path, "smoke", ("dbrd",))
    write_measured(run, World(examples=50))
    told = TaskScores.read(run, task="dbrd")
    assert told.best_baseline(64) == "tf_idf"
    told.baselines[0] = told.baselines[0].model_copy(update={"validation": 1.0})
    assert told.best_baseline(64) == "majority"


BASE = hand_made("dbrd", "merged", train=400)


def gates(**carried: tuple[bool, bool]) -> list[Gate]:
    """Of the sizes 100 and 400."""
    return [
        BASE.model_copy(update={"group": group, "train": train, "carried_over": over})
        for group, both in carried.items()
        for train, over in zip((100, 400), both, strict=True)
    ]


@pytest.mark.parametrize(
    ("told", "size", "why", "of"),
    [
        ({"merged": (False, True), "bort": (False, True)}, 400, "", []),
        ({"merged": (True, True), "bort": (True, False)}, 100, "not above random weights", ["bort"]),
        ({"merged": (False, True), "bort": (True, False)}, None, "not above random weights", ["bort"]),
    ],
)
def test_a_task_is_open_at_the_largest_size_at_which_all_carried_over(
    told: dict, size: int | None, why: str, of: list[str]
) -> None:
    assert open_size(gates(**told), "dbrd", ["merged", "bort"], 0.05) == (size, why, of)
    assert open_size(gates(**told), "ner", ["merged"], 0.05) == (None, "no gates", ["merged"])


def test_pseudo_perplexity_is_open_or_shut() -> None:
    shut = BASE.model_copy(
        update={"task": "pseudo_perplexity", "train": 0, "group": "bort", "control": None, "carried_over": False}
    )
    assert open_size([shut], "pseudo_perplexity", ["bort"], 0.05) == (None, "not below the unigram model", ["bort"])


@pytest.mark.parametrize(("p", "open_at"), [(0.02, None), (0.02 / 2, 100), (1e-6, 100)])
def test_one_of_two_sizes_must_be_open_at_half_the_level(p: float, open_at: int | None) -> None:
    shut, small = BASE.model_copy(update={"carried_over": False}), hand_made("dbrd", "merged", train=100, p=p)
    assert open_size([shut, small], "dbrd", ["merged"], 0.05)[0] == open_at
    assert open_size([small], "dbrd", ["merged"], 0.05)[0] == 100  # which is the only one there is


def test_of_use_on_some_task_by_chance_is_as_rare_as_on_one() -> None:
    rng, alpha, runs = np.random.default_rng(0), 0.05, 2000
    false = 0
    for _ in range(runs):
        ps = rng.uniform(size=5)
        gates_of_null = [hand_made(f"task{i}", "merged", useful=bool(p <= alpha / 2), p=p) for i, p in enumerate(ps)]
        of_use = [g.model_copy(update={"above_baseline_p": p}) for g, p in zip(gates_of_null, ps, strict=True)]
        false += bool(useful_somewhere(of_use, 5, alpha))
    assert false <= 70  # nominal 50; one task in five asked alone would give 238
    one = [hand_made("dbrd", "merged", p=0.01)]
    assert not useful_somewhere(one, 5, alpha) and useful_somewhere(one, 1, alpha) == one


def test_with_one_fine_tuning_run_the_gates_are_shut() -> None:
    """However far above its baseline a group is: nothing tells how much another run would differ."""
    rng = np.random.default_rng(0)
    data = simulated(rng, 0.95, 0.5, 0.0)
    for once in ("teacher", "random_teacher"):
        counts = {**data.counts, once: data.counts[once][:1]}
        shut = gate(replace(data, counts=counts, models={**data.models, once: {once: [0]}}), rng)
        assert (shut.runs, shut.carried_over, shut.useful) == (1, False, False)
        assert open_size([shut], "dbrd", ["teacher"], 0.05) == (None, "one fine-tuning run", ["teacher"])
    assert gate(data, rng).carried_over
