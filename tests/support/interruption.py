"""Trainings that stop, as by a kill, after so many updates."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from robbertje_lib.distillation import training
from robbertje_lib.distillation.steps import Measured
from robbertje_lib.experiment.artefacts import sha256
from robbertje_lib.experiment.run import Run


class Interrupted(Exception):
    pass


@contextmanager
def interrupted_after(updates: int) -> Iterator[None]:
    """Inside, a training is interrupted after so many updates."""
    original, left = training.make_update, [updates]

    def make_update(*arguments: Any) -> Measured:
        if left[0] == 0:
            raise Interrupted
        left[0] -= 1
        return original(*arguments)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr(training, "make_update", make_update)
        yield


def weights(run: Run, name: str) -> str:
    """SHA-256 of a model's weights."""
    return sha256(run.paths.model(name) / "model.safetensors")
