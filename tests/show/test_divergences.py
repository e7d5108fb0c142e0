"""DIVERGENCES.md: its hand-written part is what the data says, its generated part is what the results say."""

import json
import math
from pathlib import Path

import pytest

from robbertje_lib.conclusions.claims.decide import CLAIMS, decide_claims
from robbertje_lib.conclusions.comparisons import compare_models
from robbertje_lib.experiment import paths
from robbertje_lib.experiment.errors import UserError
from robbertje_lib.experiment.run import Run
from robbertje_lib.show import divergences
from robbertje_lib.show.divergences import cells_table, sizes_table
from tests.support.records import run_record
from tests.support.result_files import World, make_run, write_results

GENERATED = "## By how much: "  # begins the part that comes from a run
NO_EVIDENCE = (
    "**This run is on known-answer Dutch.** Its text was generated to check the instruments, so that nothing below is "
    "evidence about the paper, and no cell is compared with it."
)
WORLD = World(
    examples=2000,
    agreement=0.98,
    skill={"teacher": 0.9, "bort": 0.5, "merged": 0.885},
    nats={"teacher": 2.0, "non_shuffled": 2.0 + math.log(12.95 / 7.76), "bort": 2.2},
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run on real text, from a known world."""
    return decided(tmp_path_factory.mktemp("real"), "mini", WORLD)


def decided(folder: Path, name: str, world: World) -> Run:
    run = make_run(folder, name, ("dbrd", "sick_nl"))
    write_results(run, world)
    compare_models(run)
    decide_claims(run)
    return run


def test_the_hand_written_part_of_the_file_is_up_to_date() -> None:
    text = divergences.FILE.read_text(encoding="utf-8")
    by_hand, _, generated = text.partition(GENERATED)
    assert by_hand.rstrip() == divergences.text().rstrip(), "run `python -m robbertje_lib.show.divergences PROFILE`"
    assert generated


@pytest.mark.parametrize("file", ["README.md", "70_significance.ipynb", "90_claims_and_figures.ipynb"])
def test_what_a_verdict_means_is_told_alike_everywhere(file: str) -> None:
    meaning = (paths.DATA / "verdicts.md").read_text(encoding="utf-8").rstrip()
    text = (paths.PROJECT / ("notebooks" if file.endswith(".ipynb") else "") / file).read_text(encoding="utf-8")
    if file.endswith(".ipynb"):
        text = "\n".join("".join(cell["source"]) for cell in json.loads(text)["cells"])
    assert meaning in text and meaning in divergences.text()


def test_every_row_is_whole_and_every_claim_is_touched() -> None:
    rows = divergences.choices()
    for row in rows:
        assert set(row) == {"what", "paper", "certainty", "ours", "why", "claims"}
        assert row["certainty"] in {"confirmed", "inferred", "not available", "recollected"}
        assert all(isinstance(value, str) and value for key, value in row.items() if key != "claims")
    assert len({row["what"] for row in rows}) == len(rows)
    assert {claim for row in rows for claim in row["claims"]} == set(CLAIMS)


def test_cells_say_how_far_and_whether_the_direction_agrees(run: Run) -> None:
    table = cells_table(run)
    assert list(table.index.unique()) == ["PPPL", "DBRD", "SICK-NL"]
    assert len(table) == 3 * 4  # students of the paper alone, not those on the same lines
    dbrd = table.loc["DBRD"].set_index("student")
    assert dbrd.loc["bort", "agreement"] == "same direction"  # planted: −40 points
    assert dbrd.loc["non-shuffled", "agreement"] == "same direction"  # planted: −5 points
    assert dbrd.loc["bort", "paper"].startswith("−4.8 [−6.")
    pppl = table.loc["PPPL"].set_index("student")
    assert set(pppl["agreement"]) == {"undecided"}  # the paper gives no interval
    assert pppl.loc["non-shuffled", "paper"] == "+0.51 nats"


def test_controls_and_baselines_stand_among_the_scores(run: Run) -> None:
    groups = divergences.scores_table(run).loc["dbrd", "group"].tolist()
    assert {"teacher", "merged", "random_teacher", "random_distilbert", "majority", "tf_idf"} <= set(groups)


def test_precision_is_told_of_every_stage_that_computes(run: Run) -> None:
    table = divergences.precision_table(run).reset_index()
    assert table[""].tolist() == ["distillation", "pseudo-perplexity", "fine-tuning"]
    assert table["precision"].tolist() == ["fp32", "float32", "float32"] and table.loc[0, "because"] == "no GPU"
    assert table.loc[0, "of"].startswith("non-shuffled, shuffled, merged, bort")  # each once, however many replicates
    assert table.loc[2, "of"] == "dbrd, sick nl"


def test_sizes_are_ratios_of_ours_to_theirs(run: Run) -> None:
    table = sizes_table(run)
    assert table.loc["text per arm, bytes", "ratio"] == "0.001"
    assert table.loc["tokens that non-shuffled was trained on", "this run"] == "600,000"
    assert table.loc["parameters of teacher", "ratio"] == "0.06"
    assert table.loc["distillations per student", "this run"] == table.loc["fine-tuning runs per score", "ratio"] == "3"
    assert table.loc["test examples of SICK-NL", "this run"] == "2,000"


def test_the_file_is_written_alike_twice_and_says_where_it_comes_from(run: Run, tmp_path: Path) -> None:
    stage = "90_claims_and_figures"
    run_record(stage, git={"commit": "0123456789abcdef", "dirty": True}).write(run, stage=stage)
    first = divergences.write_divergences(run, tmp_path / "first.md").read_bytes()
    assert first == divergences.write_divergences(run, tmp_path / "second.md").read_bytes()
    text = first.decode()
    assert text.startswith(divergences.text())
    assert "run mini-budget0.05" in text and "commit 0123456789+" in text and "real Dutch" in text
    assert NO_EVIDENCE not in text
    for line in text.splitlines():
        assert not line.startswith("|") or line.endswith(" |")
    for name in ("Sizes", "Precision", "Distances to the teacher", "Scores", "Gates", "Claims by setting", "Verdicts"):
        assert f"### {name}\n" in text


def test_known_answer_text_is_never_compared_with_the_paper(tmp_path: Path) -> None:
    run = decided(tmp_path, "smoke", WORLD)
    assert set(cells_table(run)["agreement"]) == {"not compared"}
    assert NO_EVIDENCE in divergences.text(run)


def test_without_results_the_file_stays(tmp_path: Path) -> None:
    file = tmp_path / "DIVERGENCES.md"
    file.write_text("before")
    with pytest.raises(UserError, match=r"claims\.json is missing"):
        divergences.write_divergences(make_run(tmp_path), file)
    assert file.read_text() == "before"
