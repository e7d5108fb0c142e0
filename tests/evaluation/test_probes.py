"""Probing a whole run writes what the conclusions read."""

from pathlib import Path

import pytest

from robbertje_lib.evaluation import probes
from robbertje_lib.experiment.errors import UserError
from robbertje_lib.experiment.paths import RunPaths
from robbertje_lib.experiment.profile import load_profile
from robbertje_lib.experiment.results.gender_bias import CrowsPairsScores, DiscoFills, ProbeResult, PronounProbe
from robbertje_lib.experiment.run import Run, open_run
from robbertje_lib.known_answer.bias import planted_bias
from robbertje_lib.show.tables.gender_bias import probe_table
from tests.evaluation.test_evaluation_stages import untrained_run
from tests.support.small_models import save_small_model


def test_known_answer_dutch_is_probed_for_its_planted_bias() -> None:
    run = untrained_run("smoke", 1.0)
    messages: list[str] = []
    result = probes.probe_models(run, progress=messages.append)
    assert ProbeResult.read(run) == result and len(messages) == len(run.profile.models)
    planted = planted_bias(run.profile.gender_bias.planted_strength)
    assert (result.professions, result.two_forms, result.left_out) == (len(planted), 0, {})
    assert result.planted_strength == run.profile.gender_bias.planted_strength
    assert result.documents is not None and result.documents and set(result.documents) <= set(planted)
    rows = PronounProbe.read(run).to_pandas()
    assert set(rows["profession"]) == set(planted)
    assert rows.groupby("model").size().eq(3 * len(planted)).all()
    assert not rows["unknown"].any()
    assert CrowsPairsScores.read(run).num_rows == DiscoFills.read(run).num_rows == 0
    table = probe_table(run)
    assert table.index.tolist() == run.profile.models and table["sentences"].eq(3 * len(planted)).all()
    teacher = rows[rows["model"] == "teacher"]
    assert table.loc["teacher", "log_odds"] == pytest.approx(teacher["log_odds"].mean(), abs=1e-4)


def test_real_text_adds_completions_and_pairs_and_another_model(mirror: Path, tmp_path: Path) -> None:
    profile = load_profile("mini")
    bias = profile.gender_bias.model_copy(update={"crows_pairs": 4})
    run = Run(profile.model_copy(update={"students": {}, "gender_bias": bias}), RunPaths("mini", tmp_path))
    save_small_model("roberta", run.paths.model("teacher"))
    other = str(save_small_model("bert", tmp_path / "other"))
    result = probes.probe_models(run, also=other, progress=lambda _: None)
    assert result.planted_strength is None and result.documents is None
    assert result.professions + len(result.left_out) == 320 and result.two_forms > 0
    for kind, rows in ((CrowsPairsScores, 4), (DiscoFills, 14 * 70 * 3)):
        assert kind.read(run).to_pandas().groupby("model").size().to_dict() == {"teacher": rows, other: rows}
    assert probe_table(run).index.tolist() == ["teacher", other]


def test_a_stage_without_its_inputs_says_what_to_run() -> None:
    with pytest.raises(UserError, match="train it first"):
        probes.probe_models(open_run("smoke"))
