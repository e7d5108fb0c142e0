"""Updates are the same whoever makes their passes, and wherever in the run one starts; makers end with their parent."""

import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psutil
import pytest
import torch
from transformers import AutoTokenizer

from robbertje_lib.distillation import updates
from robbertje_lib.distillation.batching import Masking, Plan, TokenStore
from robbertje_lib.distillation.held_out import HeldOut
from robbertje_lib.distillation.job import Job, TrainingState
from robbertje_lib.distillation.teacher import LanguageModelling
from robbertje_lib.distillation.updates import Pass, PassMaker, Update, planned_updates, updates_ahead
from robbertje_lib.experiment import paths
from robbertje_lib.experiment.profile import Recipe
from robbertje_lib.models.devices import Precision
from tests.support.tiny_run import AS_PUBLISHED, FAST, tiny_run

CPU = torch.device("cpu")
OBJECTIVE = LanguageModelling(causal_share=0.4)
AT_ONCE = 2


def job_of(folder: Path, recipe: Recipe) -> Job:
    """A job on a tiny run's text, of more than one epoch."""
    run = tiny_run(folder)
    tokenizer = AutoTokenizer.from_pretrained(run.paths.tokenizer)
    store = TokenStore(run.paths.teacher_text, recipe.minimum_tokens)
    return Job(
        name="fast",
        plan=Plan(store, recipe.batching, recipe.batch_size, seed=5),
        masking=Masking(tokenizer, recipe.mask_fraction),
        recipe=recipe,
        held_out=HeldOut(run.paths.held_out, tokenizer, seed=1),
        checkpoints=run.paths.checkpoints("fast"),
        fingerprint={},
        precision=Precision("fp32"),
    )


RECIPES = {
    "tokens": Recipe.model_validate({**FAST, "amount": 25_000}),
    "sequences": Recipe.model_validate({**AS_PUBLISHED, "amount": 90}),
}


@pytest.fixture(params=list(RECIPES))
def job(request: pytest.FixtureRequest, tmp_path: Path) -> Job:
    return job_of(tmp_path / "output", RECIPES[request.param])


def made(job: Job, state: TrainingState) -> Iterator[tuple[Update, list[Pass]]]:
    maker = PassMaker(job, process=0, processes=1, budget=2048)
    with closing(updates_ahead(planned_updates(job, OBJECTIVE, state, AT_ONCE), maker, CPU)) as ahead:
        yield from ahead


def _bits(update: Update, passes: list[Pass]) -> bytes:
    return pickle.dumps((update, passes))


def test_makers_make_the_same_passes_from_any_update_on(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    state, reached, expected = TrainingState(), [], []
    for update, passes in made(job, state):
        reached.append(state.model_copy())
        update.count_in(state)
        expected.append(_bits(update, passes))
    assert state.share(job.recipe) == 1 and state.epoch >= 1 and {u[0].phase for u in expected} == {"causal", "masked"}
    monkeypatch.setitem(updates.MAKERS, "cpu", 2)
    for start in (0, 7, len(expected) - 1):
        assert [_bits(*both) for both in made(job, reached[start])] == expected[start:]


def test_processes_share_an_update(job: Job) -> None:
    update = next(planned_updates(job, OBJECTIVE, TrainingState(), 5))
    whole, *parts = (PassMaker(job, i, n, 2048)[update] for i, n in ((0, 1), (0, 2), (1, 2)))
    assert sorted(r for part in parts for p in part for r in p.batch.rows) == sorted(
        r for p in whole for r in p.batch.rows
    )
    assert len(parts) == 2 and all(parts)


def test_makers_end_when_training_stops(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(updates.MAKERS, "cpu", 2)
    before = set(psutil.Process().children())
    with closing(made(job, TrainingState())) as ahead:
        next(ahead)
        makers = set(psutil.Process().children()) - before
        assert len(makers) == 2
    assert psutil.wait_procs(makers, timeout=20)[1] == []


PARENT = """
import sys, time
from pathlib import Path
import psutil
from tests.distillation.test_updates import *
updates.MAKERS["cpu"] = 2
ahead = made(job_of(Path(sys.argv[1]), RECIPES["tokens"]), TrainingState())
next(ahead)
print(*(child.pid for child in psutil.Process().children()), flush=True)
time.sleep(600)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the loader's own watch does it, in five seconds or more")
def test_a_killed_parent_leaves_no_maker(tmp_path: Path) -> None:
    output = tmp_path / "output"
    environment = {**os.environ, "PYTHONPATH": str(paths.PROJECT), "ROBBERTJE_OUTPUT": str(output)}
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, str(output)],
        cwd=paths.PROJECT,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    ) as parent:
        assert parent.stdout is not None
        makers = [psutil.Process(int(pid)) for pid in parent.stdout.readline().split()]
        assert len(makers) == 2
        os.kill(parent.pid, signal.SIGKILL)
    assert psutil.wait_procs(makers, timeout=20)[1] == []
