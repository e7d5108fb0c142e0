"""Scoring, probing and timing of a whole run write the files that later stages read."""

from pathlib import Path

import numpy as np
import pytest
from transformers import AutoTokenizer

from robbertje_lib.corpus.preparation import build_corpus
from robbertje_lib.evaluation import efficiency, pseudo_perplexity
from robbertje_lib.experiment.artefacts import read_json, read_parquet
from robbertje_lib.experiment.errors import UserError
from robbertje_lib.experiment.profile import TeacherTraining
from robbertje_lib.experiment.run import Run, open_run
from robbertje_lib.models.shapes import build_student, build_teacher
from tests.support.small_models import save_small_model


def untrained_run(profile: str, budget: float) -> Run:
    """A run with its text and tokenizer, and models that have learnt nothing."""
    run = open_run(profile, budget)
    build_corpus(run)
    tokenizer = AutoTokenizer.from_pretrained(run.paths.tokenizer)
    assert isinstance(run.profile.teacher, TeacherTraining)
    models = {"teacher": build_teacher(run.profile.teacher, tokenizer, seed=1)}
    for seed, (name, student) in enumerate(run.profile.students.items(), 2):
        shape, recipe = run.profile.shapes[student.shape], run.profile.recipes[student.recipe]
        random = recipe.model_copy(update={"initialisation": "random"})
        models[name] = build_student(shape, models["teacher"], random, seed)
    for name, model in models.items():
        model.save_pretrained(run.paths.model(name))
        tokenizer.save_pretrained(run.paths.model(name))
    return run


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Run:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ROBBERTJE_OUTPUT", str(tmp_path_factory.mktemp("output")))
        return untrained_run("smoke", 1.0)


def test_pseudo_perplexity_of_a_run(known: Run) -> None:
    messages: list[str] = []
    summary = pseudo_perplexity.score_models(known, progress=messages.append)
    assert list(read_json(known.paths.result("pseudo_perplexity.json"))["models"]) == known.profile.models
    tokens = read_parquet(known.paths.result("pseudo_perplexity.parquet")).to_pandas()
    for name, model in summary["models"].items():
        own = tokens[tokens["model"] == name]
        assert model["corpus"] == pytest.approx(np.exp(-own["log_prob"].mean()))
        assert len(own) == summary["tokens"] and own["line"].nunique() == summary["lines"]
        low, high = model["corpus_interval"]
        assert low < model["corpus"] < high
    # A model that has learnt nothing knows less than word counts, and those less than the text's own process.
    assert summary["floor"] < summary["unigram"] < summary["models"]["teacher"]["corpus"]
    assert len(messages) == len(known.profile.models)
    assert pseudo_perplexity.words_that_gain_most(known).empty  # tokens are words here
    assert len(pseudo_perplexity.summary_table(summary)) == len(known.profile.models)
    assert list(pseudo_perplexity.bounds_table(summary).index) == ["unigram", "teacher", "floor"]


def test_efficiency_of_a_run(known: Run) -> None:
    summary = efficiency.measure_models(known, progress=lambda _: None)
    assert list(read_json(known.paths.result("efficiency.json"))["models"]) == known.profile.models
    assert efficiency.summary_table(summary).loc["teacher", "times smaller"] == 1
    assert efficiency.finetuning_table(summary).shape == (len(known.profile.models), 0)


def test_another_model_is_scored_beside_the_runs_own(known: Run, tmp_path: Path) -> None:
    other = str(save_small_model("modernbert", tmp_path / "other"))
    summary = pseudo_perplexity.score_models(known, also=other, progress=lambda _: None)
    assert list(summary["models"]) == [*known.profile.models, other]


def test_a_stage_without_its_inputs_says_what_to_run() -> None:
    run = open_run("smoke")
    with pytest.raises(UserError, match="10_corpus"):
        pseudo_perplexity.score_models(run)
