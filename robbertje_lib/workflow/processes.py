"""Child processes: they end with their parent, and their memory is measured."""

import contextlib
import ctypes
import os
import signal
import sys
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from robbertje_lib.experiment import paths

PR_SET_PDEATHSIG = 1  # from linux/prctl.h
KERNEL_ENVIRONMENT = {
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "PYTHONHASHSEED": "0",
    "KMP_WARNINGS": "0",
    "PYDEVD_DISABLE_FILE_VALIDATION": "1",
}


def project_environment(**more: str) -> dict[str, str]:
    """This process's environment, with the project importable from any folder, and `more`."""
    search = [str(paths.PROJECT), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(search), **more}


def die_with_parent(parent: int) -> None:
    """Make the kernel of the operating system kill this process as soon as its `parent` (a pid) is gone.

    Elsewhere than on Linux a thread looks twice a second. Without this, `kill -9` of `make reproduce` would
    leave a notebook behind that goes on training and writing.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    else:
        threading.Thread(target=_watch, args=(parent,), daemon=True).start()
    if os.getppid() != parent:  # it was gone before we asked
        os.kill(os.getpid(), signal.SIGKILL)


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGKILL)


def pid_file(connection: Path) -> Path:
    """Where a kernel with such a connection file notes its process."""
    return connection.with_suffix(".pid")


def note_kernel(connection: str) -> None:
    """Note this process, a kernel, for whoever measures it."""
    pid_file(Path(connection)).write_text(str(os.getpid()), encoding="utf-8")


class PeakMemory:
    """Samples the resident memory of a stage's kernel and its descendants; `peak_bytes` is the largest sum seen.

    pid: the file that names the kernel's process once it runs. Pages that processes share count once for each of them.
    Looks every `seconds`, and at first more often, for short stages.
    """

    def __init__(self, pid: Path, seconds: float = 0.5) -> None:
        self.peak_bytes = 0
        self._pid, self._seconds = pid, seconds
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def _sample(self) -> None:
        pause = self._seconds / 10
        while not self._over.wait(pause):
            pause = min(1.2 * pause, self._seconds)
            with contextlib.suppress(OSError, ValueError, psutil.Error):  # not begun yet, or over
                kernel = psutil.Process(int(self._pid.read_text(encoding="utf-8")))
                processes = [kernel, *kernel.children(recursive=True)]
                self.peak_bytes = max(self.peak_bytes, sum(map(_resident, processes)))


def _resident(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.Error:  # it ended meanwhile
        return 0
