"""Runs one notebook as one stage: strict parameters, whole outputs, a run record written last.

papermill executes, but takes unknown parameters silently, writes its output while it runs, and calls the cells of
a killed kernel completed. `run_notebook` checks parameters against the notebook's cell tagged `parameters`, runs
under a temporary name, checks that every cell ran, and renames. Only the run record means that a stage is done.
"""

import argparse
import ast
import contextlib
import datetime
import json
import math
import os
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

# jsonschema, which nbformat imports, would load this package for a format no notebook holds: 1.8 s at every start.
sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]

import nbformat
import papermill
from jupyter_client.manager import AsyncKernelManager
from nbclient.exceptions import DeadKernelError
from nbformat import NotebookNode
from papermill.exceptions import PapermillExecutionError

from robbertje_lib.experiment import artefacts, paths, provenance
from robbertje_lib.experiment.errors import UserError, did_you_mean
from robbertje_lib.experiment.profile import Profile, load_profile
from robbertje_lib.workflow.processes import PeakMemory, die_with_parent, project_environment

KERNEL = (
    "import os; from robbertje_lib.workflow.processes import die_with_parent;"
    "die_with_parent(int(os.environ['JPY_PARENT_PID']));"
    "from ipykernel.kernelapp import launch_new_instance; launch_new_instance()"
)
ENVIRONMENT = {
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "PYTHONHASHSEED": "0",
    "KMP_WARNINGS": "0",
    "PYDEVD_DISABLE_FILE_VALIDATION": "1",
}


class NotebookError(Exception):
    """A cell failed, other than by bad input. One line: stage, cell, error, and where the notebook is kept."""


def run_notebook(
    notebook: Path,
    output: Path,
    parameters: Mapping[str, Any],
    *,
    record: Path,
    inputs: Iterable[Path] = (),
    outputs: Iterable[Path] = (),
    threads: int = 1,
) -> dict[str, Any]:
    """Execute `notebook` with `parameters` into `output` and return the run record, which is written last.

    `record`: its stem is the stage's name. `inputs` and `outputs` (files or folders) are hashed into the record;
    an output that does not exist afterwards is an error.

    Raises `UserError` for a bad parameter, a missing input and a `UserError` inside the notebook; `NotebookError`
    for any other failure. Then there is no record, and the notebook is kept as `<stage>.failed.ipynb`.
    """
    stage = record.stem
    failed, running = paths.failed_notebook(output.parent, stage), paths.running_notebook(output.parent, stage)
    output.parent.mkdir(parents=True, exist_ok=True)
    try:
        used = _prepare(notebook, running, parameters)
        profile = _profile(used)
        hashed_inputs = _hashes(inputs, f"{stage}: input")
        record.unlink(missing_ok=True)
        failed.unlink(missing_ok=True)
        started, clock = datetime.datetime.now(datetime.UTC), time.monotonic()
        with PeakMemory() as memory:
            _execute(notebook, running, failed, stage, threads)
        seconds = time.monotonic() - clock
        executed = nbformat.read(running, as_version=4)
        # Where the project lies on this machine is nobody's business, and would differ from run to run.
        executed.metadata.papermill.update(input_path=_name(notebook), output_path=_name(output))
        hashed_outputs = _hashes(_with_their_folders(outputs), f"{stage} ran, but its output")
        with artefacts.atomic_path(output) as temporary:
            nbformat.write(executed, temporary)
    finally:
        running.unlink(missing_ok=True)
    content = {
        "stage": stage,
        "notebook": _name(notebook),
        "parameters": used,
        "profile": profile and profile.model_dump(mode="json"),
        "profile_digest": profile and profile.digest(),
        "git": provenance.git_state(),
        "python": sys.version.split()[0],
        "packages": provenance.package_versions(),
        "hardware": provenance.hardware(),
        "threads": threads,
        "started": started.isoformat(timespec="seconds"),
        "seconds": round(seconds, 3),
        "peak_memory_bytes": memory.peak_bytes,
        "inputs": hashed_inputs,
        "outputs": hashed_outputs,
    }
    artefacts.write_json(record, content)
    return content


def read_parameters(notebook: NotebookNode, name: str) -> dict[str, Any]:
    """Names and default values in the cell tagged `parameters`. Raises `UserError` if they are not plain literals."""
    cells = [c for c in _code_cells(notebook) if "parameters" in c.metadata.get("tags", [])]
    if len(cells) != 1:
        raise UserError(f"{name}: {len(cells)} cells are tagged 'parameters'; tag exactly one")
    found: dict[str, Any] = {}
    try:
        for statement in ast.parse(cells[0].source).body:
            if not isinstance(statement, ast.Assign) or len(statement.targets) != 1:
                raise ValueError
            (target,) = statement.targets
            if not isinstance(target, ast.Name):
                raise ValueError
            found[target.id] = ast.literal_eval(statement.value)
    except (ValueError, SyntaxError):
        raise UserError(f"{name}: the cell tagged 'parameters' may hold only lines such as seed = 1") from None
    return found


def check_parameters(given: Mapping[str, Any], defaults: Mapping[str, Any], name: str) -> dict[str, Any]:
    """`defaults` overlaid with `given`. Raises `UserError` for an unknown name, another type, or no plain literal."""
    for key, value in given.items():
        if key not in defaults:
            raise UserError(f"{name} has no parameter '{key}': {did_you_mean(key, defaults)}")
        if not _is_plain(value):
            raise UserError(f"{name}: parameter '{key}' must be text, a number, true, false, or a list of these")
        wanted = type(defaults[key])
        fits = type(value) is wanted or (wanted is float and type(value) is int) or defaults[key] is None
        if not fits:
            raise UserError(f"{name}: parameter '{key}' must be {wanted.__name__}, as {defaults[key]!r}, not {value!r}")
    return {**defaults, **given}


def _is_plain(value: Any) -> bool:
    if isinstance(value, list):
        return all(_is_plain(item) for item in value)
    if isinstance(value, float):
        return math.isfinite(value)
    # Surrogates, as in a broken file name, cannot be written as UTF-8.
    if isinstance(value, str):
        return value.isprintable()
    return value is None or type(value) in {int, bool}


def _prepare(notebook: Path, running: Path, given: Mapping[str, Any]) -> dict[str, Any]:
    """Write the notebook with its parameters to `running`; return all parameters as the notebook will see them."""
    try:
        source = nbformat.read(notebook, as_version=4)
    except FileNotFoundError:
        raise UserError(f"there is no notebook {notebook}") from None
    except (nbformat.reader.NotJSONError, nbformat.ValidationError, UnicodeDecodeError) as error:
        raise UserError(f"{notebook}: not a notebook ({str(error).splitlines()[0]})") from None
    used = check_parameters(given, read_parameters(source, notebook.name), notebook.name)
    papermill.execute_notebook(
        _unformatted(notebook),
        _unformatted(running),
        dict(given),
        prepare_only=True,
        kernel_name="python3",
        progress_bar=False,
    )
    injected = [c for c in nbformat.read(running, 4).cells if "injected-parameters" in c.metadata.get("tags", [])]
    # What runs is what was checked: the cell papermill wrote must read back as exactly these values.
    for cell in injected:
        body = ast.parse(cell.source).body
        written = {s.targets[0].id: ast.literal_eval(s.value) for s in body if isinstance(s, ast.Assign)}  # type: ignore[attr-defined]
        if written != dict(given) or len(written) != len(body):
            raise UserError(f"{notebook.name}: a parameter cannot be written into the notebook; use plainer text")
    return used


def _execute(notebook: Path, running: Path, failed: Path, stage: str, threads: int) -> None:
    environment = project_environment(**ENVIRONMENT, ROBBERTJE_THREADS=str(threads), OMP_NUM_THREADS=str(threads))

    killed = False
    # Sockets in a folder of our own, not on TCP ports: no other user of the machine can reach the kernel.
    with tempfile.TemporaryDirectory(prefix="robbertje-") as sockets:

        class Kernel(AsyncKernelManager):
            """This very interpreter, whatever kernels the user has installed, and ending with this process."""

            def __init__(self, **options: Any) -> None:
                super().__init__(transport="ipc", connection_file=f"{sockets}/kernel.json", **options)

            def format_kernel_cmd(self, extra_arguments: list[str] | None = None) -> list[str]:
                return [sys.executable, "-c", KERNEL, "-f", self.connection_file, *(extra_arguments or [])]

            async def _async_launch_kernel(self, kernel_cmd: list[str], **options: Any) -> None:
                options["env"] = {**(options.get("env") or {}), **environment}
                await super()._async_launch_kernel(kernel_cmd, **options)

        try:
            papermill.execute_notebook(
                _unformatted(running), _unformatted(running), kernel_name="python3", progress_bar=False,
                cwd=str(notebook.parent), kernel_manager_class=Kernel,
            )  # fmt: skip
        except PapermillExecutionError:
            pass  # told from the outputs below
        except DeadKernelError:
            killed = True
        except RuntimeError as error:  # so says nbclient when the kernel does not even start
            raise NotebookError(
                f"{stage}: its Python process did not start ({error}); memory may have run out"
            ) from None
    problem = _problem(nbformat.read(running, 4), killed)
    if problem:
        running.replace(failed)
        if isinstance(problem, UserError):
            raise problem
        raise NotebookError(f"{stage}, {problem} (see {failed})")


def _problem(executed: NotebookNode, killed: bool) -> UserError | str | None:
    """Why the notebook did not run to its end, or None if every code cell did."""
    cells = [(number, cell) for number, cell in enumerate(_code_cells(executed), start=1) if cell.source.strip()]
    for number, cell in cells:
        for error in (o for o in cell.outputs if o.output_type == "error"):
            if error.ename == "UserError":
                return UserError(error.evalue)
            return " ".join(f"cell {number}: {error.ename}: {error.evalue}".split())
    if killed:
        reached = [number for number, cell in cells if cell.metadata.get("papermill", {}).get("start_time")]
        advice = "its process was killed; if memory ran out, choose a smaller BUDGET or profile"
        return f"cell {max(reached, default=1)}: {advice}"
    # papermill calls cells completed that no kernel ever saw.
    return next((f"cell {number} did not run" for number, cell in cells if cell.execution_count is None), None)


def _code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def _unformatted(path: Path) -> str:
    """papermill reads `{name}` in a path as a parameter; doubled braces are taken as they stand."""
    return str(path).replace("{", "{{").replace("}", "}}")


def _name(path: Path) -> str:
    """A path as records show it: below the project or the output root, never where those lie."""
    path = path.absolute()
    for root in (paths.output_root(), paths.PROJECT):
        if path.is_relative_to(root):
            return path.relative_to(root).as_posix()
    return path.name


def _profile(parameters: Mapping[str, Any]) -> Profile | None:
    """Which experiment this is, as the profile stands when the notebook begins; None for a notebook without one."""
    if not {"profile", "budget"} <= set(parameters):
        return None
    return load_profile(parameters["profile"], parameters["budget"])


def _with_their_folders(outputs: Iterable[Path]) -> list[Path]:
    """`outputs`, and for a file that stands for its folder all other files there, too."""
    found: dict[Path, None] = {}
    for output in outputs:
        found[output] = None
        if output.name in paths.STAND_FOR_FOLDERS and output.parent.is_dir():
            found |= dict.fromkeys(sorted(file for file in output.parent.iterdir() if file.is_file()))
    return list(found)


def _hashes(files: Iterable[Path], what: str) -> dict[str, str]:
    files = list(files)
    for file in files:
        if not file.exists():
            raise UserError(f"{what} {_name(file)} is missing; `make reproduce` makes it")
    return {_name(file): artefacts.sha256(file) for file in files}


def log_event(events: Path | None, **entry: Any) -> None:
    """Append a line of JSON that `make reproduce` reads to show progress."""
    if events is not None:
        with events.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(entry) + "\n")


def _parse_value(text: str, default: Any) -> Any:
    """A value from the command line: text where the notebook has text, else a Python literal."""
    if isinstance(default, str):
        return text
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line, as the Snakefile uses it. Returns the exit status: 2 for bad input, 1 for a failed cell."""
    parser = argparse.ArgumentParser(
        prog="python -m robbertje_lib.workflow.notebook_runs", description="Run one notebook."
    )
    parser.add_argument("notebook", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("record", type=Path)
    parser.add_argument("-p", "--parameter", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--inputs", nargs="*", type=Path, default=[])
    parser.add_argument("--outputs", nargs="*", type=Path, default=[])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--events", type=Path)
    options = parser.parse_args(arguments)
    die_with_parent(os.getppid())
    stage = options.record.stem
    log_event(options.events, stage=stage, event="started")
    try:
        record = run_notebook(
            options.notebook.absolute(),
            options.output.absolute(),
            _parameters(options.parameter, options.notebook),
            record=options.record.absolute(),
            inputs=options.inputs,
            outputs=options.outputs,
            threads=options.threads,
        )
    except (UserError, NotebookError) as error:
        return _report(error, stage, options.events)
    except OSError as error:  # the executed notebook or the record could not be written
        if (reason := artefacts.no_room(error)) is None:
            raise
        return _report(NotebookError(f"{stage}: cannot write ({reason}); {artefacts.MAKE_ROOM}"), stage, options.events)
    log_event(options.events, stage=stage, event="finished", seconds=record["seconds"])
    return 0


def _report(error: Exception, stage: str, events: Path | None) -> int:
    print(f"error: {error}", file=sys.stderr)
    with contextlib.suppress(OSError):  # a full disk takes no event either
        log_event(events, stage=stage, event="failed", error=str(error))
    return 2 if isinstance(error, UserError) else 1


def _parameters(given: list[str], notebook: Path) -> dict[str, Any]:
    defaults: dict[str, Any] = {}
    if notebook.is_file():
        defaults = read_parameters(nbformat.read(notebook, as_version=4), notebook.name)
    pairs = {}
    for entry in given:
        name, equals, value = entry.partition("=")
        if not equals:
            raise UserError(f"parameter '{entry}': write NAME=VALUE")
        pairs[name] = _parse_value(value, defaults.get(name))
    return pairs


if __name__ == "__main__":
    sys.exit(main())
