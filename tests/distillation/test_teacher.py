"""The teacher learns in two phases, resumes, and depends on its own text alone."""

import shutil
from pathlib import Path

import pytest
from datasets import load_from_disk

from robbertje_lib.distillation.teacher import train_teacher
from robbertje_lib.experiment.errors import UserError
from robbertje_lib.experiment.results.training import TeacherResult
from robbertje_lib.experiment.run import Run
from tests.support.interruption import interrupted_after, weights
from tests.support.tiny_run import tiny_run


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return tiny_run(tmp_path / "output")


def test_the_teacher_learns_in_two_phases_and_resumes(run: Run) -> None:
    run.paths.model("teacher").rename(run.paths.model("old"))
    whole = train_teacher(run)
    expected = weights(run, "teacher")
    assert [p.phase for p in whole.curve] == sorted(p.phase for p in whole.curve)
    assert {p.phase for p in whole.curve} == {"causal", "masked"}
    assert whole.held_out_curve[0].tokens >= 4000  # of 8000: masked phase only
    assert whole.held_out_curve[-1].loss < whole.curve[0].loss
    assert TeacherResult.read(run) == whole
    with interrupted_after(11):
        train_teacher(run, checkpoint_seconds=0.0)
    train_teacher(run)
    assert weights(run, "teacher") == expected


def test_the_arms_do_not_reach_the_teacher(run: Run) -> None:
    """Without their stores, with another merge probability, and with its own text cut in other chunks, it goes on."""
    train_teacher(run)
    expected = weights(run, "teacher")
    with interrupted_after(11):
        train_teacher(run, checkpoint_seconds=0.0)
    for pair in run.profile.arms:
        shutil.rmtree(run.paths.corpus(*pair))
    store = run.paths.teacher_text
    load_from_disk(str(store)).save_to_disk(str(store.with_name("chunked")), num_shards=3)
    shutil.rmtree(store)
    store.with_name("chunked").rename(store)
    corpus = run.profile.corpus.model_copy(update={"merge_probability": 0.9})
    train_teacher(Run(run.profile.model_copy(update={"corpus": corpus}), run.paths))
    assert weights(run, "teacher") == expected


def test_another_text_is_another_teacher(run: Run) -> None:
    with interrupted_after(2):
        train_teacher(run, checkpoint_seconds=0.0)
    other = load_from_disk(str(run.paths.held_out))
    shutil.rmtree(run.paths.teacher_text)
    other.save_to_disk(str(run.paths.teacher_text))
    with pytest.raises(UserError, match="was made with another text; delete"):
        train_teacher(run)


def test_a_run_without_tokenizer_says_what_to_do(run: Run) -> None:
    shutil.rmtree(run.paths.tokenizer)
    with pytest.raises(UserError, match="no tokenizer in .*; run notebook 10_corpus first"):
        train_teacher(run)
