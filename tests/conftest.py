"""Fixtures every test may use."""

import os
from pathlib import Path

import pytest

os.environ["ROBBERTJE_MEASURE"] = "0"  # a plan would time this machine for seconds, in each of many projects


@pytest.fixture(autouse=True)
def _own_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test writes into the project: `papermill_runs/` and `figures/` go to the test's own folder."""
    monkeypatch.setenv("ROBBERTJE_OUTPUT", str(tmp_path / "output"))


@pytest.fixture
def mirror() -> Path:
    """The folder that serves the real data offline; tests that need it are skipped where there is none."""
    root = os.environ.get("ROBBERTJE_MIRROR")
    if not root:
        pytest.skip("real data: set ROBBERTJE_MIRROR to a mirror folder to run this test")
    return Path(root)
