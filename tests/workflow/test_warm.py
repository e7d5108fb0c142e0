"""Kernels that fork from a warm process: as strict as others, and nothing of them is left behind."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import nbformat
import psutil
import pytest

from robbertje_lib.experiment import paths
from robbertje_lib.experiment.results.record import RunRecord
from robbertje_lib.workflow import notebook_runs
from robbertje_lib.workflow.notebook_runs import NotebookError, run_notebook
from robbertje_lib.workflow.warm import SERVE, WARM, warm_process
from tests.support.standin import make_notebook

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="no kernel forks here")

MODEL = paths.PACKAGE / "models" / "masked_lm.py"  # brings torch along


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with (tmp_path_factory.mktemp("warm") / "log").open("w") as log, warm_process(log) as environment:
        yield environment[WARM]


@pytest.fixture
def folder(tmp_path: Path, warm: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(WARM, warm)
    return tmp_path / "output"


def _run(folder: Path, *cells: str, modules: tuple[Path, ...] = (MODEL,), threads: int = 2) -> RunRecord:
    make_notebook(folder / "source.ipynb", "seed = 1\n", list(cells))
    return run_notebook(
        folder / "source.ipynb", folder / "run" / "stage.ipynb", {},
        record=folder / "run" / "records" / "stage.json", modules=modules, threads=threads,
    )  # fmt: skip


def _printed(folder: Path) -> list[str]:
    executed = nbformat.read(folder / "run" / "stage.ipynb", as_version=4)
    return [output.text for cell in executed.cells for output in cell.get("outputs", [])]


@pytest.mark.parametrize("threads", [1, 2])
def test_a_kernel_forks_with_its_own_environment_folder_and_threads(
    folder: Path, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OWN", "mine")
    record = _run(
        folder,
        "import os, sys\nprint('torch' in sys.modules, os.environ['OWN'], os.getcwd())",
        "import torch; print(torch.get_num_threads(), float(torch.ones(300, 300).mm(torch.ones(300, 300)).sum()))",
        threads=threads,
    )
    assert _printed(folder) == [f"True mine {folder}\n", f"{threads} {300.0**3}\n"]
    assert record.peak_memory_bytes > 50e6


def test_a_stage_without_torch_has_a_kernel_of_its_own(folder: Path) -> None:
    _run(folder, "import os, sys; print('torch' in sys.modules, os.getppid())", modules=())
    assert _printed(folder) == [f"False {os.getpid()}\n"]


def test_kernels_do_not_draw_alike_where_nobody_gives_a_seed(folder: Path) -> None:
    drawn = []
    for _ in range(2):
        _run(folder, "import random, torch; print(random.random()); print(float(torch.rand(())))")
        drawn += "".join(_printed(folder)).split()
    assert len(set(drawn)) == 4


def test_a_failed_cell_and_a_killed_kernel_are_told(folder: Path) -> None:
    with pytest.raises(NotebookError, match=r"^stage, cell 2: ValueError: no \(see .*stage.failed.ipynb\)$"):
        _run(folder, "raise ValueError('no')")
    with pytest.raises(NotebookError, match="cell 2: its process was killed"):
        _run(folder, "import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    assert not (folder / "run" / "records").exists()


@pytest.mark.parametrize("victim", ["wrapper", "caller", "keeper"])
def test_a_kernel_ends_with_whoever_stands_behind_it(folder: Path, victim: str) -> None:
    wrapper, kernel = _sleeping(folder)
    keeper = kernel.parent()
    assert keeper is not None
    caller = next(child for child in psutil.Process(wrapper.pid).children() if "warm" in " ".join(child.cmdline()))
    {"wrapper": wrapper, "caller": caller, "keeper": keeper}[victim].send_signal(signal.SIGKILL)
    wrapper.wait()
    _until(lambda: all(_over(process) for process in (kernel, keeper, caller)))
    assert not (folder / "run" / "records").exists()


def test_a_kernel_ends_with_the_warm_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (tmp_path / "log").open("w") as log, warm_process(log) as environment:
        monkeypatch.setenv(WARM, environment[WARM])
        wrapper, kernel = _sleeping(tmp_path / "output")
        keeper = kernel.parent()
        assert keeper is not None
        os.kill(keeper.ppid(), signal.SIGKILL)
        assert wrapper.wait() == 1
        _until(lambda: _over(kernel) and _over(keeper))


def test_without_a_warm_process_a_stage_has_a_kernel_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(WARM, str(tmp_path))  # as after the warm process was killed
    folder = tmp_path / "output"
    record = _run(folder, "import os, sys; print('torch' in sys.modules, os.getppid())")
    assert _printed(folder) == [f"False {os.getpid()}\n"] and record.peak_memory_bytes > 0


def test_a_process_with_threads_is_not_forked_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import sys, threading, time\n"
        f"if {SERVE!r} in sys.orig_argv:\n"
        "    threading.Thread(target=time.sleep, args=[600], daemon=True).start()\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with (tmp_path / "log").open("w") as log, warm_process(log) as environment:
        monkeypatch.setenv(WARM, environment[WARM])
        _run(tmp_path / "output", "import os, sys; print('torch' in sys.modules, os.getppid())")
    assert _printed(tmp_path / "output") == [f"False {os.getpid()}\n"]
    assert "a process with 2 threads; each imports for itself" in (tmp_path / "log").read_text()


def _sleeping(folder: Path) -> tuple[subprocess.Popen[bytes], psutil.Process]:
    """A stage under way, as `make reproduce` starts it, and its kernel."""
    pid = folder / "pid"
    make_notebook(
        folder / "source.ipynb", "seed = 1\n", [f"import os, time; open({str(pid)!r}, 'w').write(str(os.getpid()))", "time.sleep(100)"]
    )  # fmt: skip
    wrapper = subprocess.Popen(
        [sys.executable, "-m", notebook_runs.__name__, folder / "source.ipynb", folder / "run" / "stage.ipynb",
         folder / "run" / "records" / "stage.json", "--modules", MODEL],
        cwd=paths.PROJECT, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    _until(lambda: pid.exists() and pid.read_text() != "")
    return wrapper, psutil.Process(int(pid.read_text()))


def _over(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def _until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)
