"""What a result came from: the state of the code, the packages and the machine."""

import functools
import importlib.metadata
import os
import platform
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import psutil

from robbertje_lib.experiment import paths
from robbertje_lib.experiment.results.record import GitState, Hardware, RunRecord


def git_state() -> GitState:
    """The state of the project's code."""
    top = _output("git", "-C", str(paths.PROJECT), "rev-parse", "--show-toplevel")
    commit = _output("git", "-C", str(paths.PROJECT), "rev-parse", "--verify", "--quiet", "HEAD")
    if not commit or not top or Path(top).resolve() != paths.PROJECT:
        return GitState(commit=None, dirty=None)
    changed = _output(
        "git", "-C", str(paths.PROJECT), "status", "--porcelain", "--", "robbertje_lib", "notebooks", "Snakefile"
    )
    return GitState(commit=commit, dirty=bool(changed))


def python_version() -> str:
    """`3.11.9`."""
    return platform.python_version()


def asked_precision() -> str | None:
    """The arithmetic that the user asked for, of training and fine-tuning alike; None for whichever is faster here."""
    return os.environ.get("ROBBERTJE_PRECISION") or None


def package_versions() -> dict[str, str]:
    """Every installed distribution and its version, by name."""
    versions = {d.metadata["Name"]: d.version for d in importlib.metadata.distributions() if d.metadata["Name"]}
    return dict(sorted(versions.items(), key=lambda item: item[0].lower()))


@functools.cache
def hardware() -> Hardware:
    """The machine. A GPU that CUDA_VISIBLE_DEVICES hides does not count."""
    return Hardware(
        platform=platform.platform(),
        processor=_processor(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        memory_bytes=psutil.virtual_memory().total,
        gpus=visible_gpus(),
    )


def visible_gpus() -> list[str]:
    """The names of the GPUs that CUDA_VISIBLE_DEVICES does not hide."""
    # Not torch.cuda: importing torch takes seconds, and every notebook run asks.
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible in {"", "-1"} or not shutil.which("nvidia-smi"):
        return []
    chosen = [] if visible is None else ["--id", visible]
    return (_output("nvidia-smi", *chosen, "--query-gpu=name", "--format=csv,noheader") or "").splitlines()


def _processor() -> str:
    listing = Path("/proc/cpuinfo")
    if listing.is_file():
        for line in listing.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _output(*command: str) -> str | None:
    """What a command prints, or None where it fails or is not installed."""
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def read_records(run: Path) -> dict[str, RunRecord]:
    """The run records below the folder of a run, by stage, in order. Raises `UserError` for a damaged one."""
    return {path.stem: RunRecord.load(path) for path in sorted((run / "records").glob("[!.]*.json"))}


def producers(records: Mapping[str, RunRecord]) -> dict[str, str]:
    """Which stage wrote each file, by the name that records give it."""
    return {name: stage for stage, record in records.items() for name in record.outputs}


def commit(state: GitState, digits: int = 10) -> str:
    """The state of the code in words: `commit 0123456789`, with a `+` if there were changes beyond it."""
    if not state.commit:
        return "no commit"
    return f"commit {state.commit[:digits]}{'+' if state.dirty else ''}"
