"""Every claim's machinery: planted effects, null effects and too little data give the verdict that the truth implies."""

from pathlib import Path
from typing import Any

import pytest

from robbertje_lib.conclusions.claims.base import settings_of
from robbertje_lib.conclusions.claims.decide import CLAIMS, decide_claims
from robbertje_lib.conclusions.comparisons import compare_models
from robbertje_lib.conclusions.instruments import failed
from robbertje_lib.experiment.results.base import ResultFile
from robbertje_lib.experiment.results.claims import ClaimsResult
from robbertje_lib.experiment.results.efficiency import EfficiencyResult
from robbertje_lib.experiment.results.finetuning import TaskScores
from robbertje_lib.experiment.results.gender_bias import GenderBiasResult
from robbertje_lib.experiment.results.pseudo_perplexity import PseudoPerplexityResult
from robbertje_lib.experiment.results.significance import SignificanceResult
from robbertje_lib.experiment.run import Run
from tests.support.result_files import World, make_run, write_results

TASKS = ("dbrd", "sick_nl", "die_dat")
SHARED: dict[str, Any] = {"examples": 3000, "agreement": 0.985, "seed_spread": 0.0005}
# The truth as the paper has it.
AS_CLAIMED = World(
    **SHARED,
    skill={"teacher": 0.9, "bort": 0.78},
    long_gain={"merged": 0.06},
    nats={"teacher": 2.6, "non_shuffled": 3.0, "shuffled": 3.4, "merged": 3.3, "bort": 3.7},
    speed={"merged": 1.3},
    latency={"bort": 0.3},
    bias={"teacher": 1.0, "non_shuffled": 0.6, "shuffled": 0.6, "merged": 0.6, "bort": 0.4},
)
# The opposite of every claim.
REVERSED = World(
    **SHARED,
    skill={"teacher": 0.9, "bort": 0.88, "shuffled": 0.75},
    long_gain={"merged": -0.06},
    nats={"teacher": 2.6, "non_shuffled": 3.7, "shuffled": 3.2, "merged": 3.1, "bort": 3.4},
    speed={"merged": 0.8},
    latency=dict.fromkeys(("non_shuffled", "shuffled", "merged", "bort"), 1.5),
    bias={"teacher": 0.5, "non_shuffled": 1.0, "shuffled": 1.0, "merged": 1.0, "bort": 1.0},
)
# No effects, and hardly any test examples.
TOO_LITTLE = World(examples=60, agreement=0.5, skill={"bort": 0.84})

MERGED_SPEED = {"merged_faster_per_epoch", "merged_faster_per_token", "merged_faster_per_update"}
EITHER_WAY = {
    "shuffled_alike",
    "merged_better_on_long",
    "distilbert_beats_bort",
    "students_less_biased",
    "students_finetune_faster",
    "students_run_faster",
    "non_shuffled_lowest_pppl",
} | MERGED_SPEED


def decided(folder: Path, world: World, name: str = "mini", tasks: tuple[str, ...] = TASKS) -> tuple[Run, ClaimsResult]:
    run = make_run(folder, name, tasks)
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


def test_an_effect_of_nothing_is_not_a_gain(tmp_path: Path) -> None:
    """With enough data, no gain on long inputs contradicts the claim that there is one."""
    _, result = decided(tmp_path, World(**{**SHARED, "examples": 6000}), tasks=("dbrd",))
    assert verdicts(result)["merged_better_on_long"] == "contradicted"


def test_an_epoch_of_merged_text_is_shorter_too(as_claimed: ClaimsResult) -> None:
    ours = {row.id: row.ours for row in as_claimed.claims if row.setting == "head, fast"}
    assert ours["merged_faster_per_token"] == pytest.approx(1.3, rel=0.02)
    assert ours["merged_faster_per_epoch"] / ours["merged_faster_per_token"] == pytest.approx(300 / 280)


def test_one_timing_curve_says_nothing_of_the_time_to_a_loss(as_claimed: ClaimsResult) -> None:
    rows = [r for r in as_claimed.claims if r.id == "merged_faster_to_loss"]
    (row,) = [r for r in rows if r.setting == "head, fast"]
    assert row.verdict == "undecided" and row.ours == pytest.approx(1.3, rel=0.02) and row.interval is None


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
    assert given["distilbert_beats_bort"] == "supported"  # on NER, POS and SICK-NL, though not on DBRD
    assert given["shuffled_alike"] == "undecided"
    assert given["merged_faster_per_epoch"] is None


def test_every_row_is_complete(as_claimed: ClaimsResult) -> None:
    assert {row.id for row in as_claimed.claims} == set(CLAIMS)
    for row in as_claimed.claims:
        assert row.verdict in {"supported", "contradicted", "undecided", "not_tested"}
        assert row.reason and row.test and row.published and row.kind == "real text"
        if row.interval:
            assert row.interval[0] <= row.ours <= row.interval[1]


def test_a_conclusion_that_depends_on_the_selection_is_marked(tmp_path: Path) -> None:
    """Planted: merged is faster on the heads alone, and Bort was trained on one selection only."""
    speed = {"merged": 1.3, "merged_same_lines": 0.8}
    result = decided(tmp_path, World(**SHARED, speed=speed), tasks=("dbrd",))[1]
    rows = {(row.id, row.setting): row for row in result.claims}
    per_token = [rows["merged_faster_per_token", setting] for setting in ("head, fast", "same_lines, fast")]
    assert [row.verdict for row in per_token] == ["supported", "contradicted"]
    assert [row.changes for row in per_token] == [True, True]
    assert not any(row.changes for row in result.claims if row.id in {"shuffled_alike", "distilbert_beats_bort"})


def test_settings_separate_selections_and_recipes(tmp_path: Path) -> None:
    settings = settings_of(make_run(tmp_path).profile)
    assert settings[0].arm("merged") == "merged"
    assert settings[0].students["non_shuffled", "bort"] == "bort"
    assert [setting.name for setting in settings] == ["head, fast", "same_lines, fast", "head, as_published"]
    assert settings[1].arm("non_shuffled") == "non_shuffled_same_lines"
    assert settings[2].arm("non_shuffled") == "non_shuffled_as_published"


KNOWN_ANSWER = World(
    examples=200,
    skill={"teacher": 0.9, "bort": 0.75},
    nats={"teacher": 2.6, "bort": 3.5},
    bias={"bort": 0.5},
)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, ClaimsResult]:
    """A known-answer run whose instruments all read what was planted."""
    return decided(tmp_path_factory.mktemp("known"), KNOWN_ANSWER, "smoke", ("dbrd", "ner"))


def test_known_answer_verdicts_are_marked_as_checks(sound: tuple[Run, ClaimsResult]) -> None:
    assert {row.kind for row in sound[1].claims} == {"instrument check"}


def test_sound_instruments_pass(sound: tuple[Run, ClaimsResult]) -> None:
    instruments = sound[1].instruments
    assert failed(instruments) == []
    assert {"pseudo-perplexity", "dbrd accuracy", "ner F1", "gender-bias probe"} <= {r.instrument for r in instruments}


def with_deaf_probe(result: GenderBiasResult, spearman: float | None = 0.5) -> GenderBiasResult:
    assert result.planted is not None
    deaf = result.planted.models["teacher"].model_copy(update={"spearman": spearman})
    planted = result.planted.model_copy(update={"models": {**result.planted.models, "teacher": deaf}})
    return result.model_copy(update={"planted": planted})


def with_eager_test(result: SignificanceResult) -> SignificanceResult:
    first, *others = result.calibration.rates
    rates = [first.model_copy(update={"rejected": 0.2}), *others]
    return result.model_copy(update={"calibration": result.calibration.model_copy(update={"rates": rates})})


@pytest.mark.parametrize(
    ("kind", "names", "change", "named"),
    [
        (PseudoPerplexityResult, {}, lambda r: r.model_copy(update={"floor": 100.0}), "pseudo-perplexity"),
        (PseudoPerplexityResult, {}, lambda r: r.model_copy(update={"floor": 5.0}), "pseudo-perplexity"),
        (PseudoPerplexityResult, {}, lambda r: r.model_copy(update={"unigram": 15.0}), "pseudo-perplexity"),
        (TaskScores, {"task": "ner"}, lambda r: r.model_copy(update={"majority_baseline": 0.95}), "ner F1"),
        (GenderBiasResult, {}, with_deaf_probe, "gender-bias probe"),
        (GenderBiasResult, {}, lambda r: with_deaf_probe(r, None), "gender-bias probe"),
        (SignificanceResult, {}, with_eager_test, "exact McNemar (accuracy)"),
    ],
)
def test_a_broken_instrument_is_named(
    sound: tuple[Run, ClaimsResult], kind: type[ResultFile], names: dict[str, str], change: Any, named: str
) -> None:
    run = sound[0]
    before = kind.read(run, **names)
    change(before).write(run, **names)
    try:
        assert failed(decide_claims(run).instruments) == [named]
    finally:
        before.write(run, **names)
