"""Tables of comparisons: gates, spreads, scores, and families at the largest training size."""

import pytest

from robbertje_lib.conclusions.comparisons import compare_models
from robbertje_lib.experiment.results.significance import Calibration, SignificanceResult
from robbertje_lib.show.tables import significance as tables
from robbertje_lib.statistics import CoverageRate, RejectionRate
from tests.support.result_files import World, make_run, write_measured

WORLD = World(
    examples=80,
    skill={"bort": 0.5, "teacher": 0.95},
    replicate_spread=0.02,
    seed_spread=0.01,
    further={"pos": ["elsewhere"]},
)


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> SignificanceResult:
    run = make_run(tmp_path_factory.mktemp("compared"), "smoke", ("pos", "die_dat"), sizes=(32, 64))
    write_measured(run, WORLD)
    return compare_models(run)


def test_scores_of_all_groups_at_the_largest_size(result: SignificanceResult) -> None:
    table = tables.model_scores_table(result)
    assert list(table.columns) == ["die/dat", "POS", "POS, elsewhere"]
    assert {"merged", "random bort", "majority", "word tag", "zero shot/merged"} <= set(table.index)
    (own,) = [s for s in result.scores if (s.task, s.train, s.group) == ("die_dat", 64, "merged")]
    assert table.loc["merged", "die/dat"].startswith(f"{100 * own.score:.1f} [")
    assert table.loc["word tag", "die/dat"] == ""


def test_gates_say_yes_or_no_and_with_how_many_examples(result: SignificanceResult) -> None:
    table = tables.carry_over_table(result).set_index(["task", "model"])
    assert len(table) == 3 * 5
    teacher, bort, lines = (table.loc[key] for key in (("POS", "teacher"), ("POS", "bort"), ("PPPL", "bort")))
    assert (teacher["carried over?"], teacher["of use?"], teacher["with examples"]) == ("yes", "yes", "32, 64")
    assert (bort["carried over?"], bort["of use?"], bort["with examples"]) == ("no", "no", "–")
    assert (lines["above random weights"], lines["baseline"], lines["of use?"]) == ("–", "unigram", "yes")


def test_spreads_and_comparisons_are_of_the_largest_size(result: SignificanceResult) -> None:
    (own,) = [s for s in result.spreads if (s.task, s.train, s.group) == ("pos", 64, "merged")]
    assert tables.spread_table(result).loc["merged", "POS"] == f"{100 * own.of_replicates:.1f} / –"
    family = tables.comparison_table(result, "students_vs_teacher")
    assert len(family) == 2 * 4 and set(family["replicates"]) == {"3 and 1"} and set(family["runs"]) == {"3 and 3"}
    assert tables.comparison_table(result, "equals").empty


def test_calibration_has_a_column_a_difference_and_says_what_is_missing(result: SignificanceResult) -> None:
    rates = [
        RejectionRate("welch", "speeds", 3, 0.5, True, difference, 0.05, (0.04, 0.06), 1000)
        for difference in (0.0, 0.02)
    ] + [RejectionRate("exact McNemar", "accuracy", None, None, True, 0.0, 0.04, (0.03, 0.05), 1000)]
    coverage = [CoverageRate("clusters", True, 20, 10, 0.3, 0.95, (0.94, 0.96), 1000)]
    study = Calibration(alpha=0.05, settings={}, rates=rates, coverage=coverage)
    told = result.model_copy(update={"calibration": study})
    table = tables.calibration_table(told)
    assert list(table.columns) == ["0", "2"] and table["2"].tolist() == ["–", "0.050"]
    assert {key[3:] for key in table.index} == {(3, 0.5), ("–", "–")}
    assert tables.coverage_table(told)["interval"].tolist() == ["0.940 to 0.960"]
