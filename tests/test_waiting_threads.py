"""How threads wait is set before PyTorch is imported, in every process of the project, unless the user has set it."""

import os
import subprocess
import sys

import pytest

from robbertje_lib.experiment import paths

VARIABLES = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
CODE = """
import os, sys
import {module}
print("torch" in sys.modules, *(os.environ.get(name) for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")))
"""


def _told(module: str, **set_by_user: str) -> list[str]:
    environment = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    done = subprocess.run(
        [sys.executable, "-c", CODE.format(module=module)],
        cwd=paths.PROJECT, env=environment | set_by_user, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout.split()


def test_it_is_set_before_pytorch_is_there() -> None:
    torch_is_there, spins, policy = _told("robbertje_lib")
    assert torch_is_there == "False" and int(spins) > 0 and policy == "None"


@pytest.mark.parametrize("mine", [{"GOMP_SPINCOUNT": "7"}, {"OMP_WAIT_POLICY": "ACTIVE"}])
def test_the_users_setting_stays(mine: dict[str, str]) -> None:
    assert _told("robbertje_lib", **mine)[1:] == [mine.get(name, "None") for name in VARIABLES]


def test_no_process_imports_pytorch_first() -> None:
    """A stage's kernel and the command line begin with this package; so must whatever else imports both."""
    assert _told("robbertje_lib.workflow.processes")[0] == _told("robbertje_lib.__main__")[0] == "False"
