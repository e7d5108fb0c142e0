"""Times, sizes and places in words, the same wherever they are shown."""

import os
from pathlib import Path


def short(path: Path) -> str:
    """A path as the user would type it from here."""
    shown = os.path.relpath(path)
    return str(path) if shown.startswith("..") else shown


def gigabytes(count: int) -> str:
    """`1.2 GB`."""
    return f"{count / 1e9:.1f} GB"


def duration(seconds: float) -> str:
    """`7 s`, `3 min 5 s` or `2 h 11 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def clock(seconds: float) -> str:
    """`0:03:05`."""
    whole = int(seconds)
    return f"{whole // 3600}:{whole % 3600 // 60:02d}:{whole % 60:02d}"


def about(seconds: float) -> str:
    """`about 40 s`, `about 4 min` or `about 2.5 h`: no more digits than an estimate has."""
    if seconds < 57.5:
        return f"about {max(5, 5 * round(seconds / 5))} s"
    if seconds < 90 * 60:
        return f"about {max(1, round(seconds / 60))} min"
    return f"about {seconds / 3600:.1f} h" if seconds < 10 * 3600 else f"about {seconds / 3600:.0f} h"
