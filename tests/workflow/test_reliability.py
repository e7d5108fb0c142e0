"""What can go wrong around a run: kills, full and read-only disks, two at once, no memory, damaged files, odd clocks.

The real runner on the stand-in project, whose stages take no time of their own.
"""

import fcntl
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import datasets
import pyarrow as pa
import pytest

from robbertje_lib.experiment import artefacts, paths, sources
from robbertje_lib.experiment.errors import UserError
from robbertje_lib.experiment.run import open_run
from robbertje_lib.workflow.reproduce import disk_needed
from tests.long import kill_reproduce
from tests.long.kill_reproduce import STANDIN, command, environment, faults, hashes, leftovers

MEGABYTE = 1_000_000


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stand-in project, run once, left alone, into `alone`."""
    root = kill_reproduce.slow_project(tmp_path_factory.mktemp("reliability") / "project")
    kill_reproduce.run_whole(root, root / "alone", "tiny")
    return root


@pytest.fixture
def alone(project: Path) -> Path:
    return project / "alone" / "papermill_runs" / "tiny"


def _call(project: Path, output: Path, **options: object) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(  # type: ignore[call-overload]
        command("tiny"), cwd=project, env=environment(project, output), capture_output=True, text=True, **options
    )
    assert "Traceback" not in done.stdout + done.stderr
    return done


@pytest.fixture
def stage(project: Path) -> Iterator[Path]:
    """The module of the stage 60_gender_bias, for a test to spoil; as it was afterwards."""
    module = project / "robbertje_lib" / "standin_gender_bias.py"
    before, times = module.read_bytes(), module.stat()
    yield module
    module.write_bytes(before)
    os.utime(module, ns=(times.st_atime_ns, times.st_mtime_ns))


# --- kills -----------------------------------------------------------------------------------------------


def test_killed_at_random_it_ends_with_the_same_bytes(project: Path, alone: Path, tmp_path: Path) -> None:
    """Three kills; `python -m tests.long.kill_reproduce` strikes twenty times."""
    expected = hashes(alone, STANDIN)
    assert len(expected) > 12 and not list(faults(alone)) and not leftovers(alone)
    kill_reproduce.kill_at_random(project, tmp_path / "killed", "tiny", 3, 15.0, 1, expected, STANDIN)


def test_half_a_file_would_be_seen(alone: Path, tmp_path: Path) -> None:
    """So that the silence of the kill test means something."""
    copied = tmp_path / "papermill_runs" / "tiny"
    shutil.copytree(alone, copied)
    path = copied / "results" / "significance.json"
    path.write_bytes(path.read_bytes()[:-20])
    (copied / "results" / ".claims.json.1.tmp").touch()
    told = list(faults(copied))
    assert len(told) == 2 and all("significance" in line for line in told)
    assert len(leftovers(copied)) == 1 and hashes(copied, STANDIN) != hashes(alone, STANDIN)


def test_a_killed_writer_leaves_the_old_folder_or_none(tmp_path: Path) -> None:
    """A folder is replaced in two steps; killed between them, or while the old one is deleted, nothing looks whole."""
    folder = tmp_path / "model"
    with artefacts.atomic_path(folder) as temporary:
        temporary.mkdir()
        for number in range(50):
            (temporary / f"{number}").write_text("old")
    code = (
        "import os, shutil, sys\nfrom pathlib import Path\nfrom robbertje_lib.experiment import artefacts\n"
        "def deleted(path):\n    next(iter(Path(path).iterdir())).unlink()\n    os._exit(9)\n"
        "shutil.rmtree = deleted\n"  # dies as a killed process would, in the middle of deleting
        "with artefacts.atomic_path(Path(sys.argv[1])) as temporary:\n"
        "    temporary.mkdir()\n    (temporary / '0').write_text('new')\n"
    )
    died = subprocess.run([sys.executable, "-c", code, str(folder)], env=environment(paths.PROJECT, tmp_path))
    assert died.returncode == 9
    assert not folder.exists() or len(list(folder.iterdir())) in {1, 50}
    assert not folder.exists() or {file.read_text() for file in folder.iterdir()} in ({"new"}, {"old"})


# --- disks -----------------------------------------------------------------------------------------------


def _mount(folder: Path, *options: str) -> bool:
    folder.mkdir(exist_ok=True)
    if os.geteuid() or not shutil.which("mount"):
        return False
    return subprocess.run(["mount", "-t", "tmpfs", *options, "tmpfs", folder], capture_output=True).returncode == 0


@pytest.fixture
def small_disk(project: Path, tmp_path: Path) -> Iterator[tuple[Path, int]]:
    """An output folder, and the megabytes that it takes to overfill it: a small file system, else a limit on files."""
    folder, megabytes = tmp_path / "disk", disk_needed(open_run("smoke").profile) // MEGABYTE + 60
    mounted = _mount(folder, "-o", f"size={megabytes}m")
    yield folder, megabytes + 10
    if mounted:
        subprocess.run(["umount", "--lazy", folder], check=True)


def test_a_disk_that_fills_up_is_told_and_a_later_run_completes(
    project: Path, alone: Path, stage: Path, small_disk: tuple[Path, int]
) -> None:
    output, megabytes = small_disk
    stage.write_text(
        "from robbertje_lib import standin\nfrom robbertje_lib.experiment import artefacts\n\n\n"
        "def write(run, names):\n"
        "    with artefacts.atomic_path(run.paths.result('gender_bias.json')) as path, path.open('wb') as stream:\n"
        f"        for _ in range({megabytes}):\n            stream.write(bytes({MEGABYTE}))\n"
    )

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (50 * MEGABYTE, 50 * MEGABYTE))

    mounted = output.is_mount()
    full = _call(project, output, preexec_fn=None if mounted else limit)
    assert full.returncode == 1
    reason = "no space left on device" if mounted else "file too large"
    first, kept = full.stderr.splitlines()[:2]
    assert first.startswith("error: cannot write ") and f"gender_bias.json ({reason}); free some space" in first
    assert "are done and kept" in kept
    run = output / "papermill_runs" / "tiny"
    assert (
        not (run / "results" / "gender_bias.json").exists() and not (run / "records" / "60_gender_bias.json").exists()
    )
    assert not list(faults(run)) and not leftovers(run)

    stage.write_text("from robbertje_lib.standin import write\n")
    done = _call(project, output)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "10_corpus ..." not in done.stdout and hashes(run, STANDIN) == hashes(alone, STANDIN)


def test_too_small_a_disk_is_refused_before_anything_runs(project: Path, tmp_path: Path) -> None:
    if not _mount(tmp_path / "disk", "-o", "size=1m"):
        pytest.skip("a file system of a megabyte: needs the right to mount one")
    try:
        refused = _call(project, tmp_path / "disk")
    finally:
        subprocess.run(["umount", "--lazy", tmp_path / "disk"], check=True)
    assert refused.returncode == 2
    assert "GB free, about" in refused.stderr and "needed; free some, or set ROBBERTJE_OUTPUT" in refused.stderr


# Every kind of file that a stage writes, larger than the limit.
WRITERS = {
    "json": "artefacts.write_json(path, {'x': 'y' * 3_000_000})",
    "parquet": "artefacts.write_parquet(path, pa.table({'x': np.random.default_rng(0).random(500_000)}))",
    "safetensors": "with artefacts.atomic_path(path) as new:\n    save_file({'x': np.zeros(500_000)}, new)",
    "store": "with artefacts.atomic_path(path) as new:\n    datasets.Dataset.from_dict({'x': ['y' * 100] * 30_000}).save_to_disk(new)",
}


def test_whatever_does_not_fit_is_told_in_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    code = (
        "import datasets, numpy as np, pyarrow as pa, resource, sys\nfrom pathlib import Path\n"
        "from safetensors.numpy import save_file\nfrom robbertje_lib.experiment import artefacts\n"
        "from robbertje_lib.experiment.errors import UserError\ndatasets.disable_progress_bars()\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))\npath = Path(sys.argv[1])\n"
    )
    for name, writer in WRITERS.items():
        indented = "\n".join(f"    {line}" for line in writer.split("\n"))
        code += f"try:\n{indented}\nexcept UserError as error:\n    print('{name}', error)\n"
    path = tmp_path / "new" / "file"
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)],
        env=environment(paths.PROJECT, tmp_path),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    told = f"cannot write {path} (file too large); free some space, or set ROBBERTJE_OUTPUT to another folder"
    assert [line.split(",")[0] for line in done.stdout.splitlines()] == [
        f"{name} {told}".split(",")[0] for name in WRITERS
    ]
    assert list(path.parent.iterdir()) == []


def test_a_read_only_output_folder_is_refused(project: Path, tmp_path: Path) -> None:
    folder = tmp_path / "output"
    mounted = _mount(folder, "-o", "ro")  # the superuser may write anywhere else
    try:
        if not mounted:
            folder.chmod(0o555)
            if os.access(folder, os.W_OK):
                pytest.skip("this user may write anywhere")
        refused = _call(project, folder)
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True) if mounted else folder.chmod(0o755)
    assert refused.returncode == 2
    assert refused.stderr.startswith("error: cannot write below ") and "set ROBBERTJE_OUTPUT" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1 and not list(folder.iterdir())


def test_an_output_folder_that_is_a_file_is_refused(project: Path, tmp_path: Path) -> None:
    (tmp_path / "output").write_text("tekst")
    refused = _call(project, tmp_path / "output")
    assert refused.returncode == 2 and refused.stderr.startswith("error: cannot write below ")
    assert (tmp_path / "output").read_text() == "tekst"


# --- two at once, and memory -----------------------------------------------------------------------------


def test_a_second_run_of_the_same_profile_is_refused(project: Path, alone: Path) -> None:
    before = hashes(alone, STANDIN)
    with (alone / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        refused = _call(project, project / "alone")
    assert refused.returncode == 2
    assert refused.stderr == "error: tiny is already being run; wait for it, or stop it first\n"
    assert hashes(alone, STANDIN) == before
    assert _call(project, project / "alone").returncode == 0  # the lock went with its holder


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (
            "    import os, signal\n    os.kill(os.getpid(), signal.SIGKILL)\n",
            "its process was killed; if memory ran out",
        ),
        (
            "    import psutil, resource\n    room = psutil.Process().memory_info().vms + 10**9\n"
            "    resource.setrlimit(resource.RLIMIT_AS, (room, room))\n    bytearray(4 * 10**9)\n",
            "MemoryError",
        ),
    ],
    ids=["killed", "refused"],
)
def test_a_stage_without_memory_is_told_and_the_rest_is_kept(
    project: Path, alone: Path, stage: Path, spoil: str, told: str
) -> None:
    """The kernel of the operating system kills the largest process, or refuses what it asks for."""
    before = hashes(alone, STANDIN)
    records = {path.stem for path in (alone / "records").iterdir()}
    good = stage.read_text()
    stage.write_text(f"def write(run, names):\n{spoil}")
    failed = _call(project, project / "alone")
    assert failed.returncode == 1
    assert failed.stderr.startswith("error: 60_gender_bias, cell ") and told in failed.stderr.splitlines()[0]
    left = {path.stem for path in (alone / "records").iterdir()}
    assert records - left <= {"60_gender_bias", "70_significance", "90_claims_and_figures"}
    kept = hashes(alone, STANDIN)
    assert {name for name in before if name not in kept} <= {
        "results/gender_bias.parquet", "results/crows_pairs.parquet", "results/disco.parquet", "results/probe.json",
        "results/significance.json", "results/gender_bias.json", "results/claims.json",
    }  # fmt: skip
    assert all(kept[name] == before[name] for name in kept) and not list(faults(alone))
    stage.write_text(good)
    assert _call(project, project / "alone").returncode == 0
    assert hashes(alone, STANDIN) == before


# --- damaged files ---------------------------------------------------------------------------------------


@pytest.fixture
def store(tmp_path: Path) -> Path:
    datasets.disable_progress_bars()
    columns = {"text": [f"Zin {n}." for n in range(3000)], "input_ids": [[0, n, 2] for n in range(3000)]}
    datasets.Dataset.from_dict(columns).save_to_disk(tmp_path / "store")
    assert len(artefacts.open_store(tmp_path / "store")) == 3000
    return tmp_path / "store"


@pytest.mark.parametrize(
    ("part", "keep"),
    [("*.arrow", 0.5), ("*.arrow", 0.0), ("*.arrow", None), ("state.json", 0.5), ("state.json", None), ("dataset_info.json", 0.5)],
)  # fmt: skip
def test_a_damaged_token_store_is_named(store: Path, part: str, keep: float | None) -> None:
    path = next(store.glob(part))
    content = path.read_bytes()
    path.unlink() if keep is None else path.write_bytes(content[: int(keep * len(content))])
    with pytest.raises(UserError, match=r"store is damaged .*; delete it and run `make reproduce` again$") as error:
        artefacts.open_store(store)
    assert str(store) in str(error.value) and "\n" not in str(error.value)


def test_a_missing_token_store_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"store is missing; `make reproduce` makes it$"):
        artefacts.open_store(tmp_path / "store")


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[1]", b"7", b"null", b"\xff", b'{"x": 1}', b'{"schema_version": 2}', b"[" * 99999]
)
def test_a_damaged_result_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "claims.json"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"claims.json.*; delete it and run `make reproduce` again$") as error:
        artefacts.read_json(path)
    assert "\n" not in str(error.value) and len(str(error.value)) < 600


@pytest.mark.parametrize("part", ["half", "empty", "noise", "footer", "folder"])
def test_damaged_rows_are_named(tmp_path: Path, part: str) -> None:
    path = tmp_path / "ner.parquet"
    artefacts.write_parquet(path, pa.table({"gold": [f"B-{n}" for n in range(2000)]}))
    content = path.read_bytes()
    damaged = {"half": content[: len(content) // 2], "empty": b"", "noise": b"PAR1" * 99,
               "footer": content[:-200] + b"\xff" * 150 + content[-50:]}  # fmt: skip
    if part == "folder":
        path.unlink()
        path.mkdir()
        (path / "x").write_text("tekst")
    else:
        path.write_bytes(damaged[part])
    with pytest.raises(
        UserError, match=r"ner.parquet is damaged .*; delete it and run `make reproduce` again$"
    ) as error:
        artefacts.read_parquet(path)
    assert "\n" not in str(error.value) and len(str(error.value)) < 600


def test_a_truncated_download_in_a_mirror_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = tmp_path / "sources.tsv"
    row = ("boeken", "https://voorbeeld.nl/boek.txt", "12", "a" * 64, "eigen")
    manifest.write_text("\n".join(map("\t".join, (sources.COLUMNS, row))) + "\n", encoding="utf-8")
    monkeypatch.setattr(sources, "MANIFEST", manifest)
    monkeypatch.setenv("ROBBERTJE_MIRROR", str(tmp_path))
    (tmp_path / "voorbeeld.nl").mkdir()
    (tmp_path / "voorbeeld.nl" / "boek.txt").write_bytes(b"Het reg")
    with pytest.raises(UserError, match=r"boek.txt: wrong checksum, not the file the manifest means; delete it"):
        sources.fetch("boeken")


def test_a_cache_that_cannot_be_written_is_told_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not as a network that cannot be reached."""
    (tmp_path / "cache").write_text("tekst")
    monkeypatch.setenv("ROBBERTJE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("ROBBERTJE_MIRROR", raising=False)
    with pytest.raises(UserError, match=r"cannot keep .*set ROBBERTJE_CACHE to another folder") as error:
        sources.fetch("sick_nl")
    assert "\n" not in str(error.value)


# --- clocks ----------------------------------------------------------------------------------------------


def test_files_dated_in_the_future_do_no_harm(project: Path, alone: Path) -> None:
    """A clock that went back: what was read is newer than what is written from it, by a day."""
    before = hashes(alone, STANDIN)
    path = alone / "results" / "pseudo_perplexity.json"
    times, tomorrow = path.stat(), time.time() + 86_400
    os.utime(path, (tomorrow, tomorrow))
    try:
        done = _call(project, project / "alone")
        assert done.returncode == 0, done.stdout + done.stderr
    finally:
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert hashes(alone, STANDIN) == before and not list(faults(alone))
    for record in (alone / "records").iterdir():
        assert json.loads(record.read_text())["seconds"] > 0
    again = _call(project, project / "alone")
    assert again.returncode == 0 and "Nothing to run" in again.stdout
