"""GPUs dealt to stages that run side by side, one each. Nothing here starts CUDA.

A student fits one GPU, and one process a GPU has nobody to wait for: several GPUs train several students first.
"""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from robbertje_lib.experiment import provenance

SECONDS_BETWEEN_LOOKS = 0.5


def equal_gpus() -> int:
    """How many GPUs this process sees; 1 if they differ in kind, for times on them would not compare."""
    names = provenance.visible_gpus()
    return len(names) if len(set(names)) == 1 else min(len(names), 1)


@contextmanager
def own_gpu(folder: Path) -> Iterator[str]:
    """Inside, `CUDA_VISIBLE_DEVICES` names one GPU (it is yielded) that no other process has from `folder`.

    Waits until one is free. However its process ends, the GPU is free again: the lock is the operating system's.
    """
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = given.split(",") if given else [str(number) for number in range(len(provenance.visible_gpus()))]
    folder.mkdir(parents=True, exist_ok=True)
    while (taken := _first_free(folder, names)) is None:
        time.sleep(SECONDS_BETWEEN_LOOKS)
    name, lock = taken
    os.environ["CUDA_VISIBLE_DEVICES"] = name
    try:
        yield name
    finally:
        os.close(lock)
        if given is None:
            del os.environ["CUDA_VISIBLE_DEVICES"]
        else:
            os.environ["CUDA_VISIBLE_DEVICES"] = given


def _first_free(folder: Path, names: list[str]) -> tuple[str, int] | None:
    """A GPU and the open file that locks it, or None if all are taken."""
    for name in names:
        lock = os.open(folder / f"gpu-{name.replace('/', '-')}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            continue
        return name, lock
    return None
