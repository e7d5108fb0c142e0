"""Tables of the last stage: they hold what the result files hold."""

from pathlib import Path

import pytest

from robbertje_lib.conclusions.claims.decide import CLAIMS, decide_claims
from robbertje_lib.conclusions.comparisons import compare_models
from robbertje_lib.conclusions.published import paper_comparisons, published_tables
from robbertje_lib.conclusions.time_to_quality import compare_recipes
from robbertje_lib.experiment.results.claims import ClaimsResult
from robbertje_lib.experiment.run import Run
from robbertje_lib.show.tables import claims
from robbertje_lib.show.tables.formatting import smallest
from tests.support.result_files import World, make_run, write_results


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = make_run(tmp_path_factory.mktemp("tables"), "mini", ("dbrd", "ner"))
    write_results(run, World(examples=60))
    return run


@pytest.fixture(scope="module")
def decided(run: Run) -> ClaimsResult:
    compare_models(run)
    return decide_claims(run)


def test_claims_and_instruments(decided: ClaimsResult) -> None:
    assert len(claims.claims_table(decided)) == len(decided.claims)
    assert claims.instruments_table(decided)["result"].isin(["pass", "FAIL"]).all()
    failed = decided.instruments[0].model_copy(update={"passed": False})
    assert claims.instruments_table(decided.model_copy(update={"instruments": [failed]}))["result"].tolist() == ["FAIL"]


def test_a_verdict_says_about_whom_it_is(decided: ClaimsResult) -> None:
    table = claims.claims_table(decided)
    assert table["about"].tolist() == [row.scope for row in decided.claims]
    assert table["smallest of interest"].tolist() == [smallest(row) for row in decided.claims]
    assert "published" not in table  # which is the same in every setting


def test_each_claim_has_its_test_and_what_is_published(decided: ClaimsResult) -> None:
    table = claims.published_claims_table(decided).set_index("claim")
    assert len(table) == len(CLAIMS) and table["test"].ne("").all()
    judged = table["paper's table"]
    assert judged["The DistilBERT shape scores better than Bort's."] == "undecided"  # of one run each
    assert judged["Merging sentences makes an update faster."] == "–"


def test_claims_by_setting_show_where_the_conclusion_changes(decided: ClaimsResult) -> None:
    table = claims.setting_table(decided)
    assert list(table.columns[:2]) == ["head, fast", "same lines, fast"] and len(table) == len(CLAIMS)
    assert set(table["conclusion"]) == {"CHANGES" if row.changes else "" for row in decided.claims}
    row = decided.claims[0].model_copy(update={"changes": True})
    changed = claims.setting_table(decided.model_copy(update={"claims": [row, *decided.claims[1:]]}))
    assert changed.loc[row.claim, "conclusion"] == "CHANGES"


def test_losses_of_forms(run: Run, decided: ClaimsResult) -> None:
    table = claims.form_losses_table(decided)
    assert len(table) == 2 * len(run.profile.groups)
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
