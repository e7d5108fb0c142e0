"""Results of another run, taken over where running the stage again could only make the same.

A stage of another run below the same output root is the same if all of its ingredients have the same digests. Files
whose dates Snakemake watches are copied: it dates them anew, and a hard link would date those of the other run with
them, and make the later stages there look outdated. The others, such as the data of a token store, are hard links.
"""

import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robbertje_lib.experiment import artefacts, paths, provenance
from robbertje_lib.experiment.artefacts import sha256
from robbertje_lib.experiment.errors import UserError
from robbertje_lib.experiment.paths import recorded_name
from robbertje_lib.experiment.profile import LAST_STAGE, Profile
from robbertje_lib.experiment.results.record import Hardware, RunRecord
from robbertje_lib.workflow.stage_call import StageCall


@dataclass(frozen=True)
class Ingredients:
    """All that a stage's results follow from. Files: name, within its run for a file of the run -> SHA-256."""

    notebook: str
    modules: dict[str, str]
    settings: list[str]
    inputs: dict[str, str]
    threads: int
    python: str
    packages: dict[str, str]
    machine: tuple[str, int, list[str]]
    precision: str | None

    @classmethod
    def of_call(cls, call: StageCall, inputs: Mapping[str, str]) -> "Ingredients":
        """Those that a stage would run with, now. inputs: recorded name -> hash."""
        modules = {recorded_name(module): sha256(module) for module in call.modules}
        inputs = _within_run(inputs, call.run.name)
        return cls(
            sha256(call.notebook), modules, list(call.settings), inputs, call.threads,
            provenance.python_version(), provenance.package_versions(), _machine(provenance.hardware()),
            provenance.asked_precision(),
        )  # fmt: skip

    @classmethod
    def of_record(cls, record: RunRecord, run: str) -> "Ingredients":
        """Those that a stage of `run` did run with."""
        inputs = _within_run(record.inputs, run)
        return cls(
            record.notebook_sha256, record.modules, record.settings, inputs, record.threads,
            record.python, record.packages, _machine(record.hardware), record.precision,
        )  # fmt: skip


def _machine(hardware: Hardware) -> tuple[str, int, list[str]]:
    return hardware.processor, hardware.cores, hardware.gpus


def _within_run(names: Mapping[str, str], run: str, new: str = "run/") -> dict[str, str]:
    """`papermill_runs/demo/results/x.json` as `run/results/x.json`, or below another folder."""
    old = f"papermill_runs/{run}/"
    return {new + name.removeprefix(old) if name.startswith(old) else name: digest for name, digest in names.items()}


def foresee(calls: Iterable[StageCall]) -> dict[str, str]:
    """Which of the stages that are about to run will be taken over: stage -> run. calls: in the order of the stages."""
    taken: dict[str, str] = {}
    made: dict[Path, str | None] = {}  # by these stages: the hash of a file that will be taken, None for any other
    for call in calls:
        # Hashing what a stage reads takes long where models are large: only where there is something to compare with.
        inputs = _expected(call.inputs, made) if _elsewhere(call) else None
        made |= dict.fromkeys(call.outputs)
        for run, record in _same_elsewhere(call, inputs) if inputs is not None else ():
            files = _files(call, run, record)
            if all(_is(run / name, digest) for name, digest in files.items()):
                taken[call.stage] = run.name
                made |= {call.run / name: digest for name, digest in files.items()}
                break
    return taken


def _expected(inputs: Iterable[Path], made: Mapping[Path, str | None]) -> dict[str, str] | None:
    """What a stage will read: recorded name -> hash; None if that cannot be known before it runs."""
    files: list[Path] = []
    for file in inputs:
        if made.get(file) and file.name in paths.STAND_FOR_FOLDERS:
            files += [file, *sorted(other for other in made if other.parent == file.parent and other != file)]
        else:
            files += [file] if file in made else paths.with_folders([file])
    names = paths.recorded_names(dict.fromkeys(files))
    hashes = {
        name: made[file] if file in made else sha256(file) if file.exists() else None for file, name in names.items()
    }
    known = {name: digest for name, digest in hashes.items() if digest is not None}
    return known if len(known) == len(hashes) else None


def take_over(
    call: StageCall, parameters: dict[str, Any], inputs: dict[str, str], profile: Profile | None
) -> RunRecord | None:
    """Bring a stage's files from another run; the record of that, not written yet, or None if no run has the same.

    parameters: as the notebook would see them. inputs: recorded name -> hash. What the other run has on disk must still
    be what its record says, or it is passed over.
    """
    for run, record in _same_elsewhere(call, inputs):
        call.record.unlink(missing_ok=True)
        with suppress(_OtherContent, OSError):
            _bring(run, call, _files(call, run, record))
            _readdress(call.executed, run.name, call.run.name)
            outputs = _within_run(record.outputs, run.name, f"{recorded_name(call.run)}/")
            changed = {
                "parameters": parameters,
                "profile": profile.model_dump(mode="json") if profile else None,
                "profile_digest": profile.digest() if profile else None,
                "inputs": inputs,
                "outputs": outputs,
                "executed_sha256": sha256(call.executed),
                "taken_from": run.name,
            }
            return record.model_copy(update=changed)
    return None


def _files(call: StageCall, run: Path, record: RunRecord) -> dict[str, str]:
    """What a stage of `run` has left: name within the run -> hash."""
    return {**_within_run(record.outputs, run.name, ""), call.executed.name: record.executed_sha256}


def _is(file: Path, digest: str) -> bool:
    try:
        return sha256(file) == digest
    except OSError:  # gone, or not ours to read
        return False


class _OtherContent(Exception):
    """A file is not what its record says."""


def _same_elsewhere(call: StageCall, inputs: Mapping[str, str]) -> Iterator[tuple[Path, RunRecord]]:
    """Runs that have made the same, and their records; first those that made it themselves, the latest first."""
    candidates = _elsewhere(call)
    mine = Ingredients.of_call(call, inputs) if candidates else None
    for run, record in sorted(candidates, key=lambda pair: (pair[1].taken_from is None, pair[1].started), reverse=True):
        if Ingredients.of_record(record, run.name) == mine and _has_all(call, run, record):
            yield run, record


def _elsewhere(call: StageCall) -> list[tuple[Path, RunRecord]]:
    """Other runs that have done the stage, and their records, but for those that finished what other code had begun."""
    if call.stage == LAST_STAGE or not call.settings:  # its figures name the run; a call by hand says nothing
        return []
    candidates = []
    for path in call.run.parent.glob(f"[!.]*/records/{call.stage}.json"):
        with suppress(UserError):  # damaged, or written before records had these fields
            candidates.append((path.parent.parent, RunRecord.load(path)))
    return [(run, record) for run, record in candidates if run != call.run and not record.patchwork]


def _has_all(call: StageCall, run: Path, record: RunRecord) -> bool:
    """Whether another run's stage has left what this one is to leave, and nothing outside its run."""
    names = _files(call, run, record)
    inside = all((call.run / name).resolve().is_relative_to(call.run.resolve()) for name in names)
    return inside and set(call.outputs) <= {call.run / name for name in names}


def _bring(run: Path, call: StageCall, files: Mapping[str, str]) -> None:
    """Files of `run` (name in it -> hash) to the same places of the call's run, folders whole; all of them, or none.

    Raises `_OtherContent` for a file that is not what it was, or `OSError` where it cannot be read.
    """
    folders = {Path(name).parent for name in files if Path(name).name in paths.STAND_FOR_FOLDERS}
    with ExitStack() as stack:
        places = {
            unit: stack.enter_context(artefacts.atomic_path(call.run / unit))
            for unit in {_unit(Path(name), folders) for name in files}
        }
        for name, digest in files.items():
            unit = _unit(Path(name), folders)
            target = places[unit] / Path(name).relative_to(unit)
            target.parent.mkdir(parents=True, exist_ok=True)
            _copy(run / name, target, link=call.run / name not in (*call.outputs, call.executed))
            if sha256(target) != digest:
                raise _OtherContent


def _readdress(executed: Path, old: str, new: str) -> None:
    """Let a notebook name the profile of its own run: who runs it by hand must not write into the other one."""
    theirs, own = (f"papermill_runs/{run}/{paths.FROZEN_PROFILE}" for run in (old, new))
    with artefacts.atomic_path(executed) as temporary:
        temporary.write_text(executed.read_text(encoding="utf-8").replace(theirs, own), encoding="utf-8")


def _unit(name: Path, folders: Iterable[Path]) -> Path:
    """What appears at once, by a rename: a folder for which one of its files stands, or else a file."""
    return name.parent if name.parent in folders else name


def _copy(source: Path, target: Path, link: bool) -> None:
    if link:
        with suppress(OSError):  # on another device, or where there are no links
            os.link(source, target)
            return
    shutil.copyfile(source, target)
