"""How far a running stage is: a share of its work, told through one small file that `make reproduce` shows.

The wrapper of a stage names the file in the environment. A notebook that is run by hand has none, and tells nobody.
"""

import json
import math
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

FILE = "ROBBERTJE_HEARTBEAT"  # the variable that names the file
EVERY = 2.0  # seconds between two writes, at the least


@dataclass(frozen=True)
class Heartbeat:
    """The share of its work that a stage has done, 0 to 1, and how many seconds it thinks the rest will take."""

    share: float
    left: float


@dataclass
class Told:
    """What this process has told, and which part of the whole it is at."""

    begun: float = 0.0
    written: float = -math.inf
    share: float = 0.0
    first: float = 0.0
    last: float = 1.0


_told = Told()


def tell(share: float, left: float | None = None) -> None:
    """Say that a share of the stage, or of its current `part`, is done. It never goes back.

    left: seconds; None to reckon with what has passed since the first word. Nothing is written where nobody listens,
    nor twice within EVERY seconds; a disk that takes no file is no reason to stop.
    """
    path, now = os.environ.get(FILE), time.monotonic()
    if not path:
        return
    _told.begun = _told.begun or now
    _told.share = max(_told.share, _told.first + (_told.last - _told.first) * share)
    if now - _told.written < EVERY or not _told.share:
        return
    _told.written = now
    if left is None:
        left = (now - _told.begun) * (1 - _told.share) / _told.share
    _write(Path(path), Heartbeat(_told.share, left))


@contextmanager
def part(number: int, of: int) -> Iterator[None]:
    """Within it `tell` speaks of one of several parts of about equal length; `number` counts from 0."""
    _told.first, _told.last = number / of, (number + 1) / of
    try:
        tell(0.0)
        yield
        tell(1.0)
    finally:
        _told.first, _told.last = 0.0, 1.0


def listen(path: Path) -> Heartbeat | None:
    """What a stage has last told; None where it has told nothing yet."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return Heartbeat(float(content["share"]), float(content["left"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write(path: Path, heartbeat: Heartbeat) -> None:
    # By rename, as a file that is written while it is read would be half a line; on a network's disk, too.
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(json.dumps({"share": heartbeat.share, "left": heartbeat.left}), encoding="utf-8")
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
