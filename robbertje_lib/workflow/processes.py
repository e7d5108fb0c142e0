"""Child processes: they end with their parent, and their memory is measured."""

import ctypes
import os
import signal
import sys
import threading
import time
from types import TracebackType
from typing import Self

import psutil

from robbertje_lib.experiment import paths

PR_SET_PDEATHSIG = 1  # from linux/prctl.h


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


class PeakMemory:
    """Samples the resident memory of this process's descendants; `peak_bytes` is the largest sum seen.

    Pages that descendants share count once for each of them.
    """

    def __init__(self, seconds: float = 0.2) -> None:
        self.peak_bytes = 0
        self._seconds = seconds
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
        this = psutil.Process()
        while not self._over.wait(self._seconds):
            self.peak_bytes = max(self.peak_bytes, sum(_resident(child) for child in this.children(recursive=True)))


def _resident(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.Error:  # it ended meanwhile
        return 0
