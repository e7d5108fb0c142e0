"""Kill `make reproduce` at random moments, again and again, and compare with a run that was left alone.

    python -m tests.long.kill_reproduce                     # 20 kills of the stand-in stages: some minutes
    python -m tests.long.kill_reproduce --profile smoke     # 20 kills of the real thing: an hour

SIGKILL goes to the whole process group, as from a machine that runs out of memory or loses its session. After each
kill no process may go on, and every file that stands under its final name must be whole; at the end every result must
equal, byte for byte, that of the run left alone.
"""

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors import safe_open

from robbertje_lib.experiment import paths
from robbertje_lib.experiment.artefacts import sha256
from tests.support.standin import make_project

# What a run makes that holds no time measurement.
TIMELESS = (
    "corpus/**/*.arrow", "models/*/model.safetensors", "results/corpus/*.json", "results/predictions/*.parquet",
    "results/pseudo_perplexity.parquet", "results/gender_bias.*", "results/significance.json",
)  # fmt: skip
STANDIN = ("corpus/**/*.*", "models/**/*.*", "results/**/*.*")  # stand-ins measure nothing
# Writes slowly, so that kills strike in the middle; half a file is no JSON, and each file has a content of its own.
SLOW_WRITER = """
import hashlib, time


def write(run, names, **values):
    for name in with_pictures(run, names):
        for arm in ["non_shuffled", "shuffled", "merged"]:
            path = locate(run, name.format(arm=arm, **values), arm)
            write_slowly(path, f"{path.relative_to(run.paths.root)} {values}")


def write_slowly(path, seed):
    lines = [hashlib.sha256(f"{seed} {number}".encode()).hexdigest() for number in range(200)]
    with artefacts.atomic_path(path) as temporary, temporary.open("w") as stream:
        stream.write('{"kind": "')  # what the last stage has to be read by at the end follows behind it
        for line in lines:
            stream.write(line)
            stream.flush()
            time.sleep(0.0005)
        stream.write('", ' + CONTENT.replace('"kind": "instrument check", ', "").removeprefix("{"))
"""


def command(profile: str, cores: int = 2) -> list[str]:
    """What `make reproduce` calls."""
    return [sys.executable, "-m", "robbertje_lib", "reproduce", "--profile", profile, "--cores", str(cores)]


def environment(project: Path, output: Path) -> dict[str, str]:
    """The environment of a run of `project` that writes below `output`; known-answer Dutch needs no mirror."""
    kept = {name: value for name, value in os.environ.items() if name != "ROBBERTJE_MIRROR"}
    return {**kept, "PYTHONPATH": str(project), "ROBBERTJE_OUTPUT": str(output)}


def hashes(run: Path, patterns: Sequence[str] = TIMELESS) -> dict[str, str]:
    """SHA-256 of the files of a run folder that match, by name."""
    files = {path for pattern in patterns for path in run.glob(pattern) if path.is_file()}
    return {path.relative_to(run).as_posix(): sha256(path) for path in sorted(files)}


def faults(run: Path) -> Iterator[str]:
    """Files under their final name that are not whole, or not what the record of their stage says."""
    for path in run.rglob("*"):
        hidden = any(part.startswith(".") for part in path.relative_to(run).parts)
        if path.is_file() and not hidden:
            try:
                _open(path)
            except Exception as error:
                yield f"{path}: {type(error).__name__}: {error}"
    for record in run.glob("records/*.json"):
        for name, digest in json.loads(record.read_text(encoding="utf-8"))["outputs"].items():
            path = run.parent.parent / name
            if path.exists() and sha256(path) != digest:
                yield f"{path} is not what {record.name} says"


def _open(path: Path) -> None:
    """Read a file by its kind; whatever cannot be read raises."""
    stand_in = path.read_bytes()[:1] == b"{" and path.suffix != ".ipynb"
    if stand_in or path.suffix in {".json", ".ipynb"}:
        json.loads(path.read_text(encoding="utf-8"))
    elif path.suffix == ".parquet":
        pq.read_table(path)
    elif path.suffix == ".safetensors":
        with safe_open(path, "np") as stream:
            list(stream.keys())
    elif path.suffix == ".arrow":
        with pa.memory_map(str(path)) as stream:
            pa.ipc.open_stream(stream).read_all()


def leftovers(run: Path) -> list[Path]:
    """Half-written files of any run; after a run that ended well there are none."""
    return [path for pattern in (".*.tmp", ".*.running.ipynb") for path in run.rglob(pattern)]


def run_whole(project: Path, output: Path, profile: str) -> float:
    """Run to the end, left alone; returns the seconds it took."""
    began = time.monotonic()
    done = subprocess.run(
        command(profile), cwd=project, env=environment(project, output), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return time.monotonic() - began


def run_killed(project: Path, output: Path, profile: str, after: float) -> bool:
    """Run, and kill the process group after so many seconds. Returns whether it struck before the end."""
    with subprocess.Popen(
        command(profile), cwd=project, env=environment(project, output), start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    ) as process:  # fmt: skip
        try:
            told, _ = process.communicate(timeout=after)
            assert process.returncode == 0, told
            return False
        except subprocess.TimeoutExpired:
            family = psutil.Process(process.pid).children(recursive=True)
            os.killpg(process.pid, signal.SIGKILL)
    # Kernels are in groups of their own: they must end by themselves.
    end = time.monotonic() + 10
    while alive := list(filter(_alive, family)):
        assert time.monotonic() < end, f"still running after the kill: {alive}"
        time.sleep(0.05)
    return True


def _alive(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def kill_at_random(
    project: Path, output: Path, profile: str, kills: int, within: float, seed: int, expected: dict[str, str],
    patterns: Sequence[str],
) -> None:  # fmt: skip
    """Strike `kills` times, each up to `within` seconds after a start, then let the run end.

    Whenever a run ends before its kill it is compared and started afresh. Raises AssertionError for a file that is not
    whole, a process that goes on, or results other than `expected`.
    """
    generator, struck, run, starts = np.random.default_rng(seed), 0, output / "papermill_runs" / profile, 1
    while struck < kills:
        if run_killed(project, output, profile, generator.uniform(0.2, within)):
            struck += 1
            assert not (found := list(faults(run))), found
            print(f"kill {struck}: {len(list(run.glob('records/*.json')))} stages done, every file whole", flush=True)
        else:
            _compare(run, expected, patterns)
            output, starts = output.with_name(f"again-{starts}"), starts + 1
            run = output / "papermill_runs" / profile
    run_whole(project, output, profile)
    _compare(run, expected, patterns)


def _compare(run: Path, expected: dict[str, str], patterns: Sequence[str]) -> None:
    found = hashes(run, patterns)
    differ = sorted(name for name in {*found, *expected} if found.get(name) != expected.get(name))
    assert not differ, f"differ from the run left alone: {differ}"
    assert not leftovers(run), leftovers(run)


def slow_project(root: Path) -> Path:
    """The stand-in project with stages that write slowly."""
    make_project(root)
    module = root / "robbertje_lib" / "standin.py"
    content = module.read_text(encoding="utf-8")
    module.write_text(content.replace("def write(", "def _write_at_once(") + SLOW_WRITER, encoding="utf-8")
    return root


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", help="a profile of the project; without it, the stand-in stages")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="robbertje-kill-") as folder:
        chosen = paths.PROJECT if options.profile else slow_project(Path(folder) / "project")
        name, compared = (options.profile, TIMELESS) if options.profile else ("tiny", STANDIN)
        taken = run_whole(chosen, Path(folder) / "alone", name)
        alone = hashes(Path(folder) / "alone" / "papermill_runs" / name, compared)
        print(f"left alone: {taken:.0f} s, {len(alone)} files to compare", flush=True)
        kill_at_random(chosen, Path(folder) / "killed", name, options.kills, taken, options.seed, alone, compared)
        print(f"{options.kills} kills, and the results are byte-equal")
