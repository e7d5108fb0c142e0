"""Runs one notebook as one stage: strict parameters, whole outputs, a run record written last.

papermill executes, but takes unknown parameters silently, writes its output while it runs, and calls the cells of
a killed kernel completed. `run_notebook` checks parameters against the notebook's cell tagged `parameters`, runs
under a temporary name, checks that every cell ran, and renames. Only the run record means that a stage is done.
"""

import ast
import contextlib
import dataclasses
import datetime
import hashlib
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

from robbertje_lib.experiment import artefacts, heartbeat, paths, provenance
from robbertje_lib.experiment.artefacts import sha256
from robbertje_lib.experiment.errors import UserError, did_you_mean
from robbertje_lib.experiment.paths import recorded_name
from robbertje_lib.experiment.profile import Profile, load_profile
from robbertje_lib.experiment.results.record import RunRecord
from robbertje_lib.workflow.gpus import own_gpu
from robbertje_lib.workflow.processes import (
    KERNEL_ENVIRONMENT,
    PeakMemory,
    die_with_parent,
    pid_file,
    project_environment,
)
from robbertje_lib.workflow.stage_call import StageCall
from robbertje_lib.workflow.take_over import Ingredients, take_over
from robbertje_lib.workflow.warm import WARM, WARM_MODULE

KERNEL = (
    "import os, sys; from robbertje_lib.workflow.processes import die_with_parent, note_kernel;"
    "die_with_parent(int(os.environ['JPY_PARENT_PID'])); note_kernel(sys.argv[2]);"
    "from ipykernel.kernelapp import launch_new_instance; launch_new_instance()"
)
CONNECTION = "kernel.json"
SEVERAL = "several"  # have begun a stage


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
    modules: Iterable[Path] = (),
    settings: Iterable[str] = (),
    threads: int = 1,
) -> RunRecord:
    """Execute `notebook` with `parameters` into `output` and return the run record, which is written last.

    `record`: its stem is the stage's name. `inputs`, `modules` and `outputs` (files or folders) are hashed into the
    record, `settings` stand there; an output that does not exist afterwards is an error. Where another run has made the
    same already, its results are taken over instead (`take_over`).

    Raises `UserError` for a bad parameter, a missing input and a `UserError` inside the notebook; `NotebookError`
    for any other failure. Then there is no record, and the notebook is kept as `<stage>.failed.ipynb`.
    """
    call = StageCall(
        notebook, output, record, (), tuple(inputs), tuple(modules), tuple(outputs), threads, tuple(settings)
    )
    failed, running = (name(output.parent, call.stage) for name in (paths.failed_notebook, paths.running_notebook))
    output.parent.mkdir(parents=True, exist_ok=True)
    try:
        used = prepare(notebook, running, parameters)
        profile = _profile(used)
        read = _hashes(paths.with_folders(call.inputs), f"{call.stage}: input")
        done = take_over(call, used, read, profile)
        if done is None:
            record.unlink(missing_ok=True)
            failed.unlink(missing_ok=True)
            done = _run(call, running, failed, used, profile, read)
    finally:
        running.unlink(missing_ok=True)
        paths.heartbeat(output.parent, call.stage).unlink(missing_ok=True)
    failed.unlink(missing_ok=True)
    done.save(record)
    return done


def _run(
    call: StageCall, running: Path, failed: Path, used: dict[str, Any], profile: Profile | None, read: dict[str, str]
) -> RunRecord:
    """Execute the notebook that was prepared as `running`; the record of that, not written yet."""
    notebook, modules = sha256(call.notebook), _hashes(call.modules, f"{call.stage}: module")
    begun = call.run / "checkpoints" / f"{call.stage}.begun"
    patchwork = _begins(begun, Ingredients.of_call(call, read))
    started, clock = datetime.datetime.now(datetime.UTC), time.monotonic()
    peak = _execute(call, running, failed)
    seconds = time.monotonic() - clock
    written = _hashes(paths.with_products(call.outputs), f"{call.stage} ran, but its output")
    _keep(running, call)
    begun.unlink()
    return RunRecord(
        stage=call.stage,
        notebook=recorded_name(call.notebook),
        notebook_sha256=notebook,
        modules=modules,
        executed_sha256=sha256(call.executed),
        settings=list(call.settings),
        parameters=used,
        profile=profile.model_dump(mode="json") if profile else None,
        profile_digest=profile.digest() if profile else None,
        git=provenance.git_state(),
        python=provenance.python_version(),
        packages=provenance.package_versions(),
        hardware=provenance.hardware(),
        threads=call.threads,
        precision=provenance.asked_precision(),
        patchwork=patchwork,
        started=started.isoformat(timespec="seconds"),
        seconds=round(seconds, 3),
        peak_memory_bytes=peak,
        inputs=read,
        outputs=written,
        taken_from=None,
    )


def _begins(begun: Path, ingredients: Ingredients) -> bool:
    """Note what a stage begins with; whether it goes on from what others had begun, and were stopped in.

    A checkpoint is taken up by newer code and packages, too; what comes of that is nobody else's result. Once several
    have had a part in it the note says so, whoever comes next.
    """
    mine = hashlib.sha256(json.dumps(dataclasses.asdict(ingredients), sort_keys=True).encode()).hexdigest()
    patchwork = begun.is_file() and begun.read_text(encoding="utf-8") != mine
    with artefacts.atomic_path(begun) as temporary:
        temporary.write_text(SEVERAL if patchwork else mine, encoding="utf-8")
    return patchwork


def _keep(running: Path, call: StageCall) -> None:
    """Write the executed notebook. Where the project lies on this machine is nobody's business, and would differ."""
    executed = nbformat.read(running, as_version=4)
    executed.metadata.papermill.update(
        input_path=recorded_name(call.notebook), output_path=recorded_name(call.executed)
    )
    with artefacts.atomic_path(call.executed) as temporary:
        nbformat.write(executed, temporary)


def read_parameters(notebook: NotebookNode, name: str) -> dict[str, Any]:
    """Names and default values in the cell tagged `parameters`. Raises `UserError` if they are not plain literals."""
    cells = [c for c in _code_cells(notebook) if "parameters" in c.metadata.get("tags", [])]
    if len(cells) != 1:
        raise UserError(f"{name}: {len(cells)} cells are tagged 'parameters'; tag exactly one")
    defaults: dict[str, Any] = {}
    try:
        for statement in ast.parse(cells[0].source).body:
            if not isinstance(statement, ast.Assign) or len(statement.targets) != 1:
                raise ValueError
            (target,) = statement.targets
            if not isinstance(target, ast.Name):
                raise ValueError
            defaults[target.id] = ast.literal_eval(statement.value)
    except (ValueError, SyntaxError):
        raise UserError(f"{name}: the cell tagged 'parameters' may hold only lines such as seed = 1") from None
    return defaults


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


def prepare(notebook: Path, running: Path, given: Mapping[str, Any]) -> dict[str, Any]:
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


def _kernel_of_ours(sockets: str, command: Sequence[str], environment: Mapping[str, str]) -> type[AsyncKernelManager]:
    """Starts kernels whose sockets lie in a folder, not on TCP ports: no other user of the machine can reach them."""

    class Kernel(AsyncKernelManager):
        """This very interpreter, whatever kernels the user has installed, and ending with this process."""

        def __init__(self, **options: Any) -> None:
            super().__init__(transport="ipc", connection_file=f"{sockets}/{CONNECTION}", **options)

        def format_kernel_cmd(self, extra_arguments: list[str] | None = None) -> list[str]:
            return [*command, "-f", self.connection_file, *(extra_arguments or [])]

        async def _async_launch_kernel(self, kernel_cmd: list[str], **options: Any) -> None:
            options["env"] = {**(options.get("env") or {}), **environment}
            await super()._async_launch_kernel(kernel_cmd, **options)

    return Kernel


def _kernel_command(call: StageCall) -> list[str]:
    """A kernel of its own, or, for a stage that imports torch, one that forks where there is a process to fork from."""
    warm, torch = os.environ.get(WARM), (paths.PACKAGE / "models", paths.PACKAGE / "corpus" / "tokenization.py")
    if warm and any(module.is_relative_to(place) for module in call.modules for place in torch):
        return [sys.executable, "-m", WARM_MODULE, warm]
    return [sys.executable, "-c", KERNEL]


def _execute(call: StageCall, running: Path, failed: Path) -> int:
    """Run the notebook at `running`; returns its peak memory in bytes."""
    threads = str(call.threads)
    environment = project_environment(**KERNEL_ENVIRONMENT, ROBBERTJE_THREADS=threads, OMP_NUM_THREADS=threads)
    environment[heartbeat.FILE] = str(paths.heartbeat(running.parent, call.stage).absolute())
    killed = False
    with (
        tempfile.TemporaryDirectory(prefix="robbertje-") as sockets,
        PeakMemory(pid_file(Path(sockets, CONNECTION))) as memory,
    ):
        try:
            papermill.execute_notebook(
                _unformatted(running), _unformatted(running), kernel_name="python3", progress_bar=False,
                cwd=str(call.notebook.parent),
                kernel_manager_class=_kernel_of_ours(sockets, _kernel_command(call), environment),
            )  # fmt: skip
        except PapermillExecutionError:
            pass  # told from the outputs below
        except DeadKernelError:
            killed = True
        except RuntimeError as error:  # so says nbclient when the kernel does not even start
            raise NotebookError(
                f"{call.stage}: its Python process did not start ({error}); memory may have run out"
            ) from None
    problem = _problem(nbformat.read(running, 4), killed)
    if problem:
        running.replace(failed)
        if isinstance(problem, UserError):
            raise problem
        raise NotebookError(f"{call.stage}, {problem} (see {failed})")
    return memory.peak_bytes


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


def _profile(parameters: Mapping[str, Any]) -> Profile | None:
    """Which experiment this is, as the profile stands when the notebook begins; None for a notebook without one."""
    if not {"profile", "budget"} <= set(parameters):
        return None
    return load_profile(parameters["profile"], parameters["budget"])


def _hashes(files: Iterable[Path], what: str) -> dict[str, str]:
    names = paths.recorded_names(files)
    for file, name in names.items():
        if not file.exists():
            raise UserError(f"{what} {name} is missing; `make reproduce` makes it")
    return {name: sha256(file) for file, name in names.items()}


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
    call = StageCall.parse(sys.argv[1:] if arguments is None else arguments, Path.cwd())
    die_with_parent(os.getppid())
    reason = paths.failed_reason(call.run, call.stage)
    reason.unlink(missing_ok=True)
    try:
        with own_gpu(call.run / "gpus") if call.gpus else contextlib.nullcontext():
            run_notebook(
                call.notebook, call.executed, parse_parameters(call.parameters, call.notebook), record=call.record,
                inputs=call.inputs, outputs=call.outputs, modules=call.modules, settings=call.settings,
                threads=call.threads,
            )  # fmt: skip
    except (UserError, NotebookError) as error:
        return _report(error, reason)
    except OSError as error:  # the executed notebook or the record could not be written
        if (why := artefacts.no_room(error)) is None:
            raise
        return _report(NotebookError(f"{call.stage}: cannot write ({why}); {artefacts.MAKE_ROOM}"), reason)
    return 0


def _report(error: Exception, reason: Path) -> int:
    print(f"error: {error}", file=sys.stderr)
    with contextlib.suppress(OSError):  # a full disk does not take this either
        reason.write_text(f"{error}\n", encoding="utf-8")
    return 2 if isinstance(error, UserError) else 1


def parse_parameters(given: Sequence[str], notebook: Path) -> dict[str, Any]:
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
