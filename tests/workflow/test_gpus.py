"""Several GPUs: students are planned side by side, and each stage has one to itself. The GPUs are pretended."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from robbertje_lib.experiment import paths
from robbertje_lib.experiment.profile import freeze_profile
from robbertje_lib.experiment.run import open_run
from robbertje_lib.workflow.engine import Snakemake
from robbertje_lib.workflow.gpus import equal_gpus, own_gpu
from robbertje_lib.workflow.stage_call import MODULE
from tests.support.standin import make_notebook


def _pretend(folder: Path, monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """An `nvidia-smi` that lists GPUs of these names."""
    folder.mkdir(exist_ok=True)
    tool = folder / "nvidia-smi"
    tool.write_text("#!/bin/sh\n" + "".join(f"echo '{name}'\n" for name in names))
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def test_only_gpus_of_one_kind_work_side_by_side(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for names, expected in (((), 0), (("H100",), 1), (("H100", "H100"), 2), (("H100", "T4"), 1)):
        _pretend(tmp_path, monkeypatch, *names)
        assert equal_gpus() == expected


HOLDER = "import sys, time\nfrom pathlib import Path\nfrom robbertje_lib.workflow.gpus import own_gpu\n"
HOLDER += "with own_gpu(Path(sys.argv[1])) as name:\n    print(name, flush=True)\n    time.sleep(600)\n"


def test_a_killed_process_gives_its_gpu_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], cwd=paths.PROJECT, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "3\n"
        with own_gpu(tmp_path) as name:
            assert name == os.environ["CUDA_VISIBLE_DEVICES"] == "5"
        holder.send_signal(signal.SIGKILL)
    with own_gpu(tmp_path) as name:
        assert name == "3"
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "3,5"


@pytest.mark.parametrize("gpus, threads, own", [(1, 4, 0), (3, 2, 1)])
def test_students_are_planned_side_by_side(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gpus: int, threads: int, own: int
) -> None:
    _pretend(tmp_path, monkeypatch, *["H100"] * gpus)
    run = open_run("smoke")
    run.paths.run.mkdir(parents=True)
    freeze_profile(run.profile, run.paths.profile)
    jobs = Snakemake(run, run.paths.profile, cores=4, wanted=()).jobs()
    of_students = [job.call for job in jobs if job.stage.startswith("30_")]
    assert {(call.threads, call.gpus) for call in of_students} == {(threads, own)}
    assert {(job.call.threads, job.call.gpus) for job in jobs if job.stage in ("20_teacher", "80_efficiency")} == {
        (4, 0)
    }


def test_two_stages_at_once_see_a_gpu_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each tells the other what it sees, and ends once both have."""
    _pretend(tmp_path / "bin", monkeypatch, "H100", "H100")
    told = f"pathlib.Path({str(tmp_path)!r})"
    make_notebook(
        tmp_path / "stage.ipynb",
        'name = "a"\n',
        [
            "import os, pathlib, time",
            f"({told} / (name + '.sees')).write_text(os.environ['CUDA_VISIBLE_DEVICES'])",
            f"while len(list({told}.glob('*.sees'))) < 2:\n    time.sleep(0.05)",
        ],
    )
    command = [sys.executable, "-m", MODULE, "stage.ipynb"]
    stages = [
        subprocess.Popen(
            [*command, f"notebooks/{name}.ipynb", f"records/{name}.json", "-p", f"name={name}", "--gpus", "1"],
            cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(paths.PROJECT)},
        )
        for name in "ab"
    ]  # fmt: skip
    assert [stage.wait(timeout=120) for stage in stages] == [0, 0]
    assert {(tmp_path / f"{name}.sees").read_text() for name in "ab"} == {"0", "1"}
