"""Real notebooks, run by papermill in real kernels."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import psutil
import pytest

from robbertje_lib.experiment import artefacts, paths
from robbertje_lib.experiment.errors import UserError
from robbertje_lib.experiment.results.record import RunRecord
from robbertje_lib.workflow import notebook_runs
from robbertje_lib.workflow.notebook_runs import NotebookError, check_parameters, run_notebook
from tests.support.standin import make_notebook

BEGUN = "run/checkpoints/stage.begun"  # until the stage succeeds: what it has begun with
PARAMETERS = 'profile = "mini"  # a comment\nseed = 1\nrate = 0.5\nnames = ["a", "b"]\n'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "output"


def _run(folder: Path, cells: list[str], parameters: dict | None = None, **options) -> RunRecord:  # type: ignore[no-untyped-def]
    notebook = make_notebook(folder / "source.ipynb", PARAMETERS, cells)
    return run_notebook(
        notebook,
        folder / "run" / "stage.ipynb",
        parameters or {},
        record=folder / "run" / "records" / "stage.json",
        **options,
    )


def _files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_a_run_leaves_the_notebook_its_outputs_and_a_record(folder: Path) -> None:
    read, written = folder / "read.txt", folder / "run" / "written.txt"
    folder.mkdir()
    read.write_text("tekst")
    cells = [
        f"import os, pathlib\npathlib.Path({str(written)!r}).write_text(f'{{profile}} {{seed}} {{rate}} {{names}}')",
        "print(os.environ['ROBBERTJE_THREADS'], os.environ['OMP_NUM_THREADS'], os.environ['PYTHONHASHSEED'])",
        "import sys; print(sys.executable); ballast = bytearray(150_000_000); import time; time.sleep(0.6)",
    ]
    record = _run(folder, cells, {"seed": 7, "rate": 1}, inputs=[read], outputs=[written], threads=2)

    assert written.read_text() == "mini 7 1 ['a', 'b']"
    assert record == RunRecord.load(folder / "run/records/stage.json")
    assert record.executed_sha256 == artefacts.sha256(folder / "run/stage.ipynb")
    assert record.notebook_sha256 == artefacts.sha256(folder / "source.ipynb") and record.taken_from is None
    assert record.parameters == {"profile": "mini", "seed": 7, "rate": 1, "names": ["a", "b"]}
    assert record.inputs == {"read.txt": artefacts.sha256(read)}
    assert record.outputs == {"run/written.txt": artefacts.sha256(written)}
    assert record.seconds > 0.6
    assert record.profile is None and record.profile_digest is None  # this notebook belongs to no profile
    assert record.peak_memory_bytes > 150_000_000
    assert record.packages["papermill"] and record.hardware.cores >= 1 and record.threads == 2
    executed = nbformat.read(folder / "run" / "stage.ipynb", 4)
    printed = "".join(
        o.text for c in executed.cells if c.cell_type == "code" for o in c.outputs if o.output_type == "stream"
    )
    assert printed == f"2 2 0\n{sys.executable}\n"
    # Nothing tells where on this machine the run took place.
    assert str(folder) not in json.dumps(executed.metadata) and str(folder) not in record.model_dump_json()
    assert _files(folder) == {
        "source.ipynb",
        "read.txt",
        "run/written.txt",
        "run/stage.ipynb",
        "run/records/stage.json",
    }


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"sed": 1}, "source.ipynb has no parameter 'sed': did you mean 'seed'?"),
        ({"seed": "1"}, "parameter 'seed' must be int, as 1, not '1'"),
        ({"seed": True}, "parameter 'seed' must be int"),
        ({"seed": 1.5}, "parameter 'seed' must be int"),
        ({"rate": float("nan")}, "must be text, a number"),
        ({"names": {"a": 1}}, "must be text, a number"),
        ({"names": "a"}, "parameter 'names' must be list"),
        ({"profile": Path("mini")}, "must be text, a number"),
        ({"profile": "two\nlines"}, "must be text, a number"),
        ({"profile": "\ud800"}, "must be text, a number"),
        ({"profile": None}, "parameter 'profile' must be str"),
    ],
)
def test_a_bad_parameter_is_refused_before_anything_runs(folder: Path, parameters: dict, message: str) -> None:
    with pytest.raises(UserError, match=message.replace("?", r"\?")) as error:
        _run(folder, ["1"], parameters)
    assert "\n" not in str(error.value)
    assert _files(folder) == {"source.ipynb"}


@pytest.mark.parametrize(
    "text",
    [
        '"); import os; os.abort(); ("',
        "'''",
        '"""',
        "\\",
        '\\"',
        "{seed}",
        "${HOME}",
        "# x",
        "<script>",
        "é 你 🙂",
        "%%bash",
        "!ls",
    ],
)
def test_a_hostile_parameter_arrives_as_text(folder: Path, text: str) -> None:
    # Running a kernel for each would take a minute; what the kernel would run is the injected cell.
    notebook = make_notebook(folder / "source.ipynb", PARAMETERS, ["1"])
    notebook_runs.prepare(notebook, folder / "running.ipynb", {"profile": text})
    injected = next(
        c for c in nbformat.read(folder / "running.ipynb", 4).cells if "injected-parameters" in c.metadata.tags
    )
    values: dict = {}
    exec(injected.source, values)
    assert values["profile"] == text


@pytest.mark.parametrize(
    "cell",
    [
        "seed = seed2",
        "seed: int = 1",
        "seed = other = 1",
        "import os",
        "seed += 1",
        "seed = 1 +",
        "a, b = 1, 2",
        "seed = [].append",
    ],
)
def test_the_parameters_cell_holds_literals_only(cell: str) -> None:
    source = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell, metadata={"tags": ["parameters"]})])
    with pytest.raises(UserError, match="may hold only lines such as"):
        notebook_runs.read_parameters(source, "source.ipynb")


def test_one_cell_must_be_tagged() -> None:
    with pytest.raises(UserError, match="0 cells are tagged"):
        notebook_runs.read_parameters(nbformat.v4.new_notebook(), "source.ipynb")


def test_whole_numbers_serve_as_numbers() -> None:
    assert check_parameters({"budget": 1}, {"budget": 0.5}, "source.ipynb") == {"budget": 1}


def test_an_error_of_the_users_making_is_told_in_its_own_words(folder: Path) -> None:
    with pytest.raises(UserError, match=r"^no text in corpus/; add some$"):
        _run(
            folder,
            [
                "from robbertje_lib.experiment.errors import UserError",
                "raise UserError('no text in corpus/;\\n add some')",
            ],
        )
    assert _files(folder) == {"source.ipynb", "run/stage.failed.ipynb", BEGUN}


def test_any_other_error_names_the_cell_and_keeps_the_notebook(folder: Path) -> None:
    with pytest.raises(
        NotebookError, match=r"^stage, cell 3: ZeroDivisionError: division by zero \(see .*stage.failed.ipynb\)$"
    ):
        _run(folder, ["2", "1/0", "3"])
    assert _files(folder) == {"source.ipynb", "run/stage.failed.ipynb", BEGUN}


def test_a_notebook_tells_how_far_it_is_as_long_as_it_runs(folder: Path) -> None:
    told = paths.heartbeat(folder / "run", "stage")
    cells = [
        "from robbertje_lib.experiment import heartbeat\nheartbeat.tell(0.5, 60.0)",
        f"from pathlib import Path\nassert heartbeat.listen(Path({str(told)!r})).share == 0.5",
    ]
    _run(folder, cells)
    assert not told.exists()
    with pytest.raises(NotebookError):
        _run(folder, [*cells, "1 / 0"])
    assert not told.exists()


def test_a_killed_kernel_is_no_success(folder: Path) -> None:
    with pytest.raises(NotebookError, match="stage, cell 3: its process was killed"):
        _run(folder, ["2", "import os; os.kill(os.getpid(), 9)", "3"])
    assert _files(folder) == {"source.ipynb", "run/stage.failed.ipynb", BEGUN}


def test_what_other_code_had_begun_is_told(folder: Path) -> None:
    """A checkpoint may have been made by it: what comes of that is no result of the code that is there now."""
    stop = folder.parent / "stop"
    cell = f"import pathlib\nassert not pathlib.Path({str(stop)!r}).exists()"
    notebook, record = make_notebook(folder / "source.ipynb", PARAMETERS, [cell]), folder / "run/records/stage.json"
    for settings, patchwork in (("a",), False), (("b",), True):
        stop.touch()
        with pytest.raises(NotebookError):
            run_notebook(notebook, folder / "run/stage.ipynb", {}, record=record, settings=("a",))
        stop.unlink()
        done = run_notebook(notebook, folder / "run/stage.ipynb", {}, record=record, settings=settings)
        assert done.patchwork == patchwork and BEGUN not in _files(folder)


def test_the_code_that_began_is_no_judge_of_what_others_did_since(folder: Path) -> None:
    stop = folder.parent / "stop"
    cell = f"import pathlib\nassert not pathlib.Path({str(stop)!r}).exists()"
    notebook, record = make_notebook(folder / "source.ipynb", PARAMETERS, [cell]), folder / "run/records/stage.json"
    stop.touch()
    for settings in (("a",), ("b",)):
        with pytest.raises(NotebookError):
            run_notebook(notebook, folder / "run/stage.ipynb", {}, record=record, settings=settings)
    stop.unlink()
    assert run_notebook(notebook, folder / "run/stage.ipynb", {}, record=record, settings=("a",)).patchwork


def test_a_promised_output_must_exist(folder: Path) -> None:
    with pytest.raises(UserError, match=r"stage ran, but its output run/results.json is missing"):
        _run(folder, ["2"], outputs=[folder / "run" / "results.json"])
    assert _files(folder) == {"source.ipynb", BEGUN}


def test_a_missing_input_is_told_before_anything_runs(folder: Path) -> None:
    with pytest.raises(UserError, match="stage: input teacher.json is missing"):
        _run(folder, ["1/0"], inputs=[folder / "teacher.json"])


def test_a_failure_takes_back_an_earlier_record(folder: Path) -> None:
    _run(folder, ["2"])
    with pytest.raises(NotebookError):
        _run(folder, ["1/0"])
    assert "run/records/stage.json" not in _files(folder)


def test_something_else_than_a_notebook(folder: Path) -> None:
    folder.mkdir()
    (folder / "text.ipynb").write_text("tekst")
    for name, message in (("text.ipynb", "not a notebook"), ("none.ipynb", "there is no notebook")):
        with pytest.raises(UserError, match=message):
            run_notebook(folder / name, folder / "out.ipynb", {}, record=folder / "r.json")


def test_braces_in_a_path_are_no_parameters(folder: Path) -> None:
    _run(folder / "{seed}", ["2"])
    assert (folder / "{seed}" / "run" / "stage.ipynb").exists()


def _command(folder: Path, *more: str) -> list[str]:
    files = [str(folder / name) for name in ("source.ipynb", "out.ipynb", "records/stage.json")]
    return [
        sys.executable,
        "-m",
        "robbertje_lib.workflow.notebook_runs",
        *files,
        *more,
    ]


def test_the_command_line(folder: Path) -> None:
    make_notebook(folder / "source.ipynb", PARAMETERS, ["assert (profile, seed, names) == ('7', 7, ['c'])"])
    given = ["-p", "profile=7", "-p", "seed=7", "-p", "names=['c']"]
    done = subprocess.run(_command(folder, *given), cwd=paths.PROJECT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert RunRecord.load(folder / "records" / "stage.json").parameters["seed"] == 7

    refused = subprocess.run(_command(folder, "-p", "sede=7"), cwd=paths.PROJECT, capture_output=True, text=True)
    assert refused.returncode == 2
    assert refused.stderr == "error: source.ipynb has no parameter 'sede': did you mean 'seed'?\n"
    reason = paths.failed_reason(folder, "stage")
    assert refused.stderr == f"error: {reason.read_text()}"
    assert subprocess.run(_command(folder, *given), cwd=paths.PROJECT).returncode == 0 and not reason.exists()


def test_files_of_one_name_elsewhere_are_each_recorded(tmp_path: Path) -> None:
    folder = tmp_path / "elsewhere"
    for name in ("a", "b"):
        (folder / name).mkdir(parents=True)
        (folder / name / "text.txt").write_text(name)
    notebook = make_notebook(paths.output_root() / "source.ipynb", PARAMETERS, ["1"])
    record = run_notebook(
        notebook, paths.output_root() / "run" / "stage.ipynb", {},
        record=paths.output_root() / "run" / "records" / "stage.json",
        inputs=[folder / "a" / "text.txt", folder / "b" / "text.txt"],
    )  # fmt: skip
    hashes = [artefacts.sha256(folder / name / "text.txt") for name in ("a", "b")]
    assert record.inputs == {"text.txt": hashes[0], "text.txt (2)": hashes[1]}


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_kernel_does_not_outlive_its_wrapper(folder: Path, number: signal.Signals) -> None:
    pid = folder / "pid"
    make_notebook(
        folder / "source.ipynb",
        PARAMETERS,
        [f"import os, time; open({str(pid)!r}, 'w').write(str(os.getpid()))", "time.sleep(60)"],
    )
    wrapper = subprocess.Popen(_command(folder), cwd=paths.PROJECT, stderr=subprocess.DEVNULL)
    _until(lambda: pid.exists() and pid.read_text() != "", 30)
    kernel = psutil.Process(int(pid.read_text()))
    os.kill(wrapper.pid, number)
    wrapper.wait()
    _until(lambda: not kernel.is_running() or kernel.status() == psutil.STATUS_ZOMBIE, 5)
    assert not (folder / "records").exists()


def _until(condition, seconds: float) -> None:  # type: ignore[no-untyped-def]
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)
