"""Every claim's machinery: planted effects, null effects and too little data give the verdict that the truth implies."""

from pathlib import Path
from typing import Any

import pytest

from robbertje_lib.conclusions.claims.decide import CLAIMS, decide_claims
from robbertje_lib.conclusions.comparisons import compare_models
from robbertje_lib.experiment.results.claims import ONE_RUN, ClaimsResult
from robbertje_lib.experiment.results.efficiency import EfficiencyResult
from robbertje_lib.experiment.results.gender_bias import GenderBiasResult
from robbertje_lib.experiment.run import Run
from tests.support.result_files import World, make_run, write_results

TASKS = ("dbrd", "sick_nl", "die_dat")
SHARED: dict[str, Any] = {"examples": 3000, "agreement": 0.985, "seed_spread": 0.0005}
# The truth as the paper has it.
AS_CLAIMED = World(
    **SHARED,
    skill={"teacher": 0.86, "bort": 0.78},
    long_gain={"merged": 0.06},
    nats={"teacher": 2.6, "non_shuffled": 3.0, "shuffled": 3.4, "merged": 3.3, "bort": 3.7},
    speed={"merged": 1.3},
    latency={"bort": 0.3},
    bias={"teacher": 1.0, "non_shuffled": 0.6, "shuffled": 0.6, "merged": 0.6, "bort": 0.4},
)
# The opposite of every claim.
REVERSED = World(
    **SHARED,
    skill={"teacher": 0.93, "bort": 0.88, "shuffled": 0.75},
    long_gain={"merged": -0.06},
    nats={"teacher": 2.6, "non_shuffled": 3.7, "shuffled": 3.2, "merged": 3.1, "bort": 3.4},
    speed={"merged": 0.8},
    latency=dict.fromkeys(("non_shuffled", "shuffled", "merged", "bort"), 1.5),
    bias={"teacher": 0.5, "non_shuffled": 1.0, "shuffled": 1.0, "merged": 1.0, "bort": 1.0},
)
# No effects, and hardly any test examples.
TOO_LITTLE = World(examples=60, agreement=0.5, skill={"bort": 0.84}, replicate_spread=0.01)
# Random weights do as well as any model.
NOTHING_LEARNT = World(examples=300, control=0.85)
# A list of words does better than any model.
OF_NO_USE = World(examples=300, baseline=0.95, zero_shot=0.95)

MERGED_SPEED = {"merged_faster_per_epoch", "merged_faster_per_token", "merged_faster_per_update"}
EITHER_WAY = {
    "shuffled_alike",
    "merged_better_on_long",
    "distilbert_beats_bort",
    "students_less_biased",
    "students_finetune_faster",
    "students_run_faster",
    "non_shuffled_lowest_pppl",
    "merged_faster_to_loss",
} | MERGED_SPEED
OF_TASKS = {
    "shuffled_alike",
    "merged_better_on_long",
    "merging_costs_elsewhere",
    "distilbert_beats_bort",
    "small_trade_off",
}
OF_USE = {"small_trade_off", "students_finetune_faster", "students_run_faster", "merged_four_times_faster"}


def decided(
    folder: Path, world: World, name: str = "mini", tasks: tuple[str, ...] = TASKS, replicates: int = 3
) -> tuple[Run, ClaimsResult]:
    run = make_run(folder, name, tasks, replicates)
    write_results(run, world)
    compare_models(run)
    return run, decide_claims(run)


def verdicts(result: ClaimsResult) -> dict[str, str]:
    """Claim -> verdict in the first setting."""
    first: dict[str, str] = {}
    for row in result.claims:
        first.setdefault(row.id, row.verdict)
    return first


@pytest.fixture(scope="module")
def as_claimed(tmp_path_factory: pytest.TempPathFactory) -> ClaimsResult:
    return decided(tmp_path_factory.mktemp("claimed"), AS_CLAIMED)[1]


@pytest.fixture(scope="module")
def reversed_(tmp_path_factory: pytest.TempPathFactory) -> ClaimsResult:
    return decided(tmp_path_factory.mktemp("reversed"), REVERSED)[1]


@pytest.fixture(scope="module")
def too_little(tmp_path_factory: pytest.TempPathFactory) -> ClaimsResult:
    return decided(tmp_path_factory.mktemp("little"), TOO_LITTLE)[1]


def test_planted_effects_support_every_claim(as_claimed: ClaimsResult) -> None:
    given = verdicts(as_claimed)
    assert {name: given[name] for name in EITHER_WAY if given[name] != "supported"} == {}
    assert given["merged_four_times_faster"] == "contradicted"  # planted: twice


def test_reversed_effects_contradict_every_claim(reversed_: ClaimsResult) -> None:
    given = verdicts(reversed_)
    assert {name: given[name] for name in EITHER_WAY if given[name] != "contradicted"} == {}


def test_too_little_data_decides_nothing_and_says_what_would(too_little: ClaimsResult) -> None:
    rows = {row.id: row for row in too_little.claims if row.setting.startswith("head, fast")}
    for name in ("shuffled_alike", "merged_better_on_long", "distilbert_beats_bort"):
        assert rows[name].verdict == "undecided"
        assert rows[name].sample_factor > 2
        assert "would decide it" in rows[name].reason


def test_no_difference_is_not_taken_for_likeness(too_little: ClaimsResult, as_claimed: ClaimsResult) -> None:
    """Both worlds have no difference between shuffled and non-shuffled; only one has the data to show it."""
    assert (verdicts(too_little)["shuffled_alike"], verdicts(as_claimed)["shuffled_alike"]) == (
        "undecided",
        "supported",
    )


@pytest.mark.parametrize("world", [AS_CLAIMED, REVERSED])
def test_one_run_each_decides_nothing_about_arms_shapes_bias_and_speed(tmp_path: Path, world: World) -> None:
    """Effects that are beyond doubt for these very weights."""
    result = decided(tmp_path, world, replicates=1)[1]
    rows = {row.id: row for row in result.claims if row.setting == "head, fast"}
    for name in EITHER_WAY - {"students_finetune_faster", "students_run_faster"}:
        assert rows[name].verdict == "undecided" and rows[name].reason.startswith(ONE_RUN), name
        assert rows[name].reason.count(ONE_RUN) == 1 and rows[name].sample_factor is None
        assert "these very weights, one run each" in rows[name].scope
    assert "the test says " in rows["distilbert_beats_bort"].reason
    assert rows["students_run_faster"].verdict != "undecided"  # takes the time of its shape, whatever the weights


def test_what_training_did_not_carry_over_to_decides_nothing(tmp_path: Path) -> None:
    # In one setting: of some thirty gates, each of which lets chance through in at most alpha of cases, one may open.
    rows = [row for row in decided(tmp_path, NOTHING_LEARNT)[1].claims if row.setting == "head, fast"]
    told = {row.id: row for row in rows}
    assert {told[name].verdict for name in OF_TASKS | OF_USE} == {"not_tested"}
    for name in OF_TASKS:
        assert told[name].reason.startswith("nothing carried over: ")
    assert not any(row.bounded or row.findings for row in rows if row.id in OF_TASKS)


def test_below_a_baseline_claims_of_usefulness_are_not_tested(tmp_path: Path) -> None:
    told = {row.id: row for row in decided(tmp_path, OF_NO_USE)[1].claims if row.setting == "head, fast"}
    for name in OF_USE:
        assert told[name].verdict == "not_tested" and told[name].reason.startswith("below tf_idf on dbrd: ")
    assert told["shuffled_alike"].verdict != "not_tested"
    assert "below tf_idf on dbrd: shuffled, non_shuffled" in told["shuffled_alike"].scope


def test_no_difference_of_interest_is_told(tmp_path: Path) -> None:
    rows = decided(tmp_path, World(**SHARED), tasks=("dbrd",))[1].claims
    row = next(row for row in rows if row.id == "distilbert_beats_bort")
    assert (row.verdict, row.bounded, row.smallest, row.sample_factor) == ("undecided", True, 1.0, None)
    assert row.reason.endswith("it differs by less than 1 point, so there is no difference of interest")


def test_an_epoch_of_merged_text_is_shorter_too(as_claimed: ClaimsResult) -> None:
    ours = {row.id: row.ours for row in as_claimed.claims if row.setting == "head, fast"}
    assert ours["merged_faster_per_token"] == pytest.approx(1.3, rel=0.02)
    assert ours["merged_faster_per_epoch"] / ours["merged_faster_per_token"] == pytest.approx(300 / 280)


def test_claims_without_results_are_not_tested(tmp_path: Path) -> None:
    run = make_run(tmp_path, tasks=("dbrd",))
    write_results(run, World(examples=60))
    compare_models(run)
    for kind in (EfficiencyResult, GenderBiasResult):
        kind.path(run).unlink()
    given = verdicts(decide_claims(run))
    assert {given[n] for n in ("students_less_biased", "students_run_faster", "students_finetune_faster")} == {
        "not_tested"
    }


def test_the_papers_own_table_is_judged_by_the_same_rules(as_claimed: ClaimsResult) -> None:
    given = {row.id: row.published_verdict for row in as_claimed.claims}
    told = next(row.published for row in as_claimed.claims if row.id == "distilbert_beats_bort")
    assert given["distilbert_beats_bort"] == "undecided" and f"; {ONE_RUN}" in told
    assert "of these very weights the test says supported" in told  # on NER, POS and SICK-NL, though not on DBRD
    assert given["shuffled_alike"] == given["merged_better_on_long"] == "undecided"
    assert given["merged_faster_per_epoch"] is None


def test_every_row_is_complete(as_claimed: ClaimsResult) -> None:
    assert {row.id for row in as_claimed.claims} == set(CLAIMS)
    for row in as_claimed.claims:
        assert row.verdict in {"supported", "contradicted", "undecided", "not_tested"}
        assert row.reason and row.test and row.published and row.kind == "real text"
        assert "students of a 4-layer teacher" in row.scope and "\n" not in row.scope and "real Dutch" in row.scope
        if row.interval:
            assert row.interval[0] <= row.ours <= row.interval[1]


def test_a_conclusion_that_depends_on_the_setting_is_marked(tmp_path: Path) -> None:
    """Planted: merged is faster under one recipe alone. No setting repeats the students of one before."""
    run = make_run(tmp_path, tasks=("dbrd",))
    chosen = {name: run.profile.students[name] for name in ("non_shuffled", "merged", "bort")}
    for name in ("non_shuffled", "merged"):
        chosen[f"{name}_as_published"] = chosen[name].model_copy(update={"recipe": "as_published"})
    chosen["shuffled_same_lines"] = chosen["merged"].model_copy(update={"arm": "shuffled", "selection": "same_lines"})
    run = Run(run.profile.model_copy(update={"students": chosen}), run.paths)
    write_results(run, World(**SHARED, speed={"merged": 1.3, "merged_as_published": 0.8}))
    compare_models(run)
    rows = [row for row in decide_claims(run).claims if row.id in MERGED_SPEED | {"distilbert_beats_bort"}]
    per_token = [row for row in rows if row.id == "merged_faster_per_token"]
    assert [row.setting for row in per_token] == ["head, fast", "head, as_published"]  # same_lines: the same students
    assert [row.verdict for row in per_token] == ["supported", "contradicted"]
    assert [row.changes for row in per_token] == [True, True]
    assert [(row.setting, row.changes) for row in rows if row.id == "distilbert_beats_bort"] == [("head, fast", False)]
