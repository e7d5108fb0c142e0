"""Tables of the last two stages: they hold what the result files hold."""

from pathlib import Path

import pandas as pd
import pytest

from robbertje_lib.conclusions.claims.decide import CLAIMS, decide_claims
from robbertje_lib.conclusions.comparisons import compare_models
from robbertje_lib.conclusions.published import paper_comparisons, published_tables
from robbertje_lib.conclusions.time_to_quality import compare_recipes
from robbertje_lib.experiment.results.claims import ClaimsResult
from robbertje_lib.experiment.results.significance import Mismatch, SignificanceResult
from robbertje_lib.experiment.run import Run
from robbertje_lib.show.tables import claims, formatting, significance
from tests.support.result_files import World, make_run, write_results


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = make_run(tmp_path_factory.mktemp("tables"), "mini", ("dbrd", "ner"))
    write_results(run, World(examples=60))
    return run


@pytest.fixture(scope="module")
def compared(run: Run) -> SignificanceResult:
    return compare_models(run)


@pytest.fixture(scope="module")
def decided(run: Run, compared: SignificanceResult) -> ClaimsResult:
    return decide_claims(run)


def test_scores_and_comparisons(run: Run, compared: SignificanceResult) -> None:
    scores = significance.model_scores_table(compared)
    assert list(scores.index[:2]) == ["teacher", "non-shuffled"] and list(scores.columns) == ["DBRD", "NER"]
    row = next(row for row in compared.scores if (row.model, row.task) == ("bort", "ner"))
    assert scores.loc["bort", "NER"].startswith(f"{100 * row.score:.1f} [{100 * row.interval[0]:.1f}, ")
    table = significance.comparison_table(compared, "students_vs_teacher")
    assert len(table) == 2 * len(run.profile.students) and table.loc[0, "pair"].endswith(" − teacher")
    assert significance.comparison_table(compared, "pseudo_perplexity")["effect (h)"].eq("").all()


def test_lengths_of_one_task(run: Run, compared: SignificanceResult) -> None:
    table = significance.scores_by_length_table(compared, "dbrd")
    assert len(table) == len(run.profile.models) and table.index.name == "DBRD"
    assert sum(int(column.split("n = ")[1].rstrip(")")) for column in table.columns) == 60


def test_mismatches_are_empty_if_all_is_well(compared: SignificanceResult) -> None:
    assert formatting.as_html(significance.mismatch_table(compared)) == formatting.as_html(pd.DataFrame())
    row = Mismatch(task="ner", model="bort", seed=1, reported=None, recomputed=0.5)
    table = significance.mismatch_table(compared.model_copy(update={"mismatches": [row]}))
    assert table.columns.tolist() == ["task", "model", "seed", "reported", "recomputed"] and len(table) == 1


def test_the_first_column_of_the_calibration_is_without_a_difference(compared: SignificanceResult) -> None:
    table = significance.calibration_table(compared)
    assert table.columns[0] == "0" and table.size == len(compared.calibration.rates)


def test_claims_and_instruments(decided: ClaimsResult) -> None:
    assert len(claims.claims_table(decided)) == len(decided.claims)
    assert claims.instruments_table(decided)["result"].isin(["pass", "FAIL"]).all()
    failed = decided.instruments[0].model_copy(update={"passed": False})
    assert claims.instruments_table(decided.model_copy(update={"instruments": [failed]}))["result"].tolist() == ["FAIL"]


def test_claims_by_setting_show_where_the_conclusion_changes(decided: ClaimsResult) -> None:
    table = claims.setting_table(decided)
    assert list(table.columns[:2]) == ["head, fast", "same lines, fast"] and len(table) == len(CLAIMS)
    assert set(table["conclusion"]) == {"CHANGES" if row.changes else "" for row in decided.claims}
    row = decided.claims[0].model_copy(update={"changes": True})
    changed = claims.setting_table(decided.model_copy(update={"claims": [row, *decided.claims[1:]]}))
    assert changed.loc[row.claim, "conclusion"] == "CHANGES"


def test_losses_of_forms(run: Run, decided: ClaimsResult) -> None:
    table = claims.form_losses_table(decided)
    assert len(table) == 2 * len(run.profile.models)
    assert table.loc[("teacher", "ONNX, int8"), "loss"].startswith("+0.0200 [")
    assert claims.form_losses_table(decided.model_copy(update={"form_losses": []})).empty


def test_recipes_beside_the_published_one(run: Run, tmp_path: Path) -> None:
    table = claims.recipe_table(compare_recipes(run))
    assert table["published"].str.endswith("as_published").all() and (table["share"] > 0).all() and len(table)
    assert claims.recipe_table(compare_recipes(make_run(tmp_path, "smoke"))).empty


def test_what_the_papers_table_can_carry() -> None:
    assert len(claims.paper_table()) == len(paper_comparisons())
    assert set(claims.paper_table().query("task == 'die/dat'")["n"]) == {"unknown"}
    assert claims.confound_table()["what differs"].tolist() == [row.what for row in published_tables().confounds]
