"""Scoring, probing and timing of a whole run write the files that later stages read."""

from pathlib import Path

import numpy as np
import pytest
from transformers import AutoTokenizer

from robbertje_lib.evaluation import efficiency, pseudo_perplexity
from robbertje_lib.experiment.errors import UserError
from robbertje_lib.experiment.profile import TeacherTraining
from robbertje_lib.experiment.results.efficiency import EfficiencyResult
from robbertje_lib.experiment.results.pseudo_perplexity import UNIGRAM, PseudoPerplexityResult, TokenLogProbs
from robbertje_lib.experiment.run import Run, open_run
from robbertje_lib.models.shapes import build_student, build_teacher
from robbertje_lib.show.tables.efficiency import efficiency_table, finetuning_seconds_table
from robbertje_lib.show.tables.pseudo_perplexity import bounds_table, pseudo_perplexity_table, words_that_gain_most
from tests.support.build_corpus import build_corpus
from tests.support.small_models import save_small_model


def untrained_run(profile: str, budget: float) -> Run:
    """A run with its text and tokenizer, and models that have learnt nothing."""
    run = open_run(profile, budget)
    build_corpus(run)
    tokenizer = AutoTokenizer.from_pretrained(run.paths.tokenizer)
    assert isinstance(run.profile.teacher, TeacherTraining)
    models = {"teacher": build_teacher(run.profile.teacher, tokenizer, seed=1)}
    for seed, name in enumerate(run.profile.models[1:], 2):
        student = run.profile.students[run.profile.student_of(name)]
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
    result = pseudo_perplexity.score_models(known, progress=messages.append)
    assert PseudoPerplexityResult.read(known) == result and list(result.models) == known.profile.models
    tokens = TokenLogProbs.read(known).to_pandas()
    for name, model in result.models.items():
        # Words are tokens, a newline is none, and no line is short or long: the library's count is the mean of means.
        assert model.as_published == model.per_line_mean and model.as_published_lines == model.lines
        own = tokens[tokens["model"] == name]
        assert model.corpus == pytest.approx(np.exp(-own["log_prob"].mean()))
        assert len(own) == result.tokens and own["line"].nunique() == result.lines
    alone = tokens[tokens["model"] == UNIGRAM]
    assert result.unigram == pytest.approx(np.exp(-alone["log_prob"].mean())) and len(alone) == result.tokens
    assert alone.groupby("token_id")["log_prob"].nunique().max() == 1
    assert tokens.groupby("line")["document"].nunique().max() == 1
    assert result.documents == tokens["document"].nunique() > 1
    # A model that has learnt nothing knows less than word counts, and those less than the text's own process.
    assert result.floor is not None and result.floor < result.unigram < result.models["teacher"].corpus
    assert len(messages) == len(known.profile.models)
    assert words_that_gain_most(known).empty  # tokens are words here
    assert list(pseudo_perplexity_table(result).index) == known.profile.models
    assert list(bounds_table(result).index) == ["unigram", "teacher", "floor"]


def test_efficiency_of_a_run(known: Run) -> None:
    result = efficiency.measure_models(known, progress=lambda _: None)
    assert list(EfficiencyResult.read(known).models) == list(known.profile.groups)
    assert efficiency_table(result).loc["teacher", "times smaller"] == 1
    assert finetuning_seconds_table(result).shape == (len(known.profile.groups), 0)


def test_another_model_is_scored_beside_the_runs_own(known: Run, tmp_path: Path) -> None:
    other = str(save_small_model("modernbert", tmp_path / "other"))
    result = pseudo_perplexity.score_models(known, also=other, progress=lambda _: None)
    assert list(result.models) == [*known.profile.models, other]


def test_a_stage_without_its_inputs_says_what_to_run() -> None:
    run = open_run("smoke")
    with pytest.raises(UserError, match="10_corpus"):
        pseudo_perplexity.score_models(run)
