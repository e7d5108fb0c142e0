"""A copy of the project for tests of what a user adds to it: a task, an arm."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from robbertje_lib.experiment import paths


def copy_project(root: Path, stages: str) -> str:
    """Copy library, notebooks and rules below `root`, with `stages.py`; the smoke profile as `mine`, of one student, once."""
    for folder in ("robbertje_lib", "notebooks"):
        shutil.copytree(paths.PROJECT / folder, root / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(paths.PROJECT / "Snakefile", root)
    (root / "stages.py").write_text(stages, encoding="utf-8")
    smoke = (paths.PROFILES / "smoke.yaml").read_text(encoding="utf-8").replace("name: smoke", "name: mine")
    smoke = smoke.replace("replicates: 2", "replicates: 1")
    return re.sub(r"(?m)^  (non_shuffled|shuffled|bort): \{arm.*\n", "", smoke)


def call(checkout: Path, *arguments: str) -> str:
    """What Python prints in the copy, where its library comes first."""
    places = os.pathsep.join([str(checkout), str(paths.PROJECT)])
    environment = {**os.environ, "PYTHONPATH": places, "ROBBERTJE_OUTPUT": str(checkout)}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=checkout, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
