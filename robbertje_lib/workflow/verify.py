"""Are the results on disk those that the run records tell of? `python -m robbertje_lib verify PROFILE`.

Nothing is run and nothing is changed: files are hashed and compared with what was recorded when they were made.
"""

import fcntl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import nbformat

from robbertje_lib.experiment import paths
from robbertje_lib.experiment.artefacts import sha256
from robbertje_lib.experiment.errors import UserError
from robbertje_lib.experiment.profile import LAST_STAGE, load_profile
from robbertje_lib.experiment.provenance import producers, read_records
from robbertje_lib.experiment.results.record import RunRecord
from robbertje_lib.experiment.run import Run


@dataclass
class Verification:
    """What was looked at, and a line for each thing that is not as recorded."""

    files: int = 0
    stages: int = 0
    findings: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        if not self.findings:
            return f"{self.files} files of {self.stages} stages: as recorded"
        counted = "1 finding" if len(self.findings) == 1 else f"{len(self.findings)} findings"
        return "\n".join([*self.findings, f"{counted} in {self.files} files of {self.stages} stages"])


def verify(run: Run) -> Verification:
    """Compare every recorded file of a run with its record, and the records with each other and with the project.

    Found are stages without a record, files that are missing or were edited, stages made from another state of a file
    than there is now, notebooks and profiles changed since, and what an interrupted run left behind. Raises `UserError`
    if there are no records, one is damaged, or the run is under way.
    """
    _refuse_while_running(run)
    records = read_records(run.paths.run)
    if not records:
        raise UserError(f"{run.paths.run_name} has not been run below {run.paths.root}; `make reproduce` runs it")
    verification = Verification(stages=len(records))
    verification.findings += [
        f"{stage}: has not run to its end; `make reproduce` runs it"
        for stage in run.profile.stages
        if stage not in records
    ]
    verification.findings += [
        f"records/{stage}.json: the profile has no such stage (any more)"
        for stage in records
        if stage not in run.profile.stages
    ]
    made_by = producers(records)
    hashes = {name: _hash(name, run.paths.root) for name in _names(records)}
    verification.files = len(hashes)
    verification.findings += _files(records, made_by, hashes)
    verification.findings += _stale(records, made_by)
    verification.findings += _notebooks(run, records)
    verification.findings += _profile(run, records)
    verification.findings += _frozen(run, records)
    verification.findings += _leftovers(run)
    return verification


def _refuse_while_running(run: Run) -> None:
    lock = run.paths.run / ".lock"
    if lock.is_file():
        with lock.open() as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UserError(f"{run.paths.run_name} is being run; wait for it, then verify") from None


def _names(records: Mapping[str, RunRecord]) -> list[str]:
    """Every recorded file, once, in the order in which stages read and wrote them."""
    return list(dict.fromkeys(name for r in records.values() for name in (*r.inputs, *r.outputs)))


def _hash(name: str, root: Path) -> str | None:
    """SHA-256 of a recorded file as it is now; None where it is gone."""
    path = _locate(name, root)
    return sha256(path) if path else None


def _locate(name: str, root: Path) -> Path | None:
    """Records name files from the output root, or from the project."""
    return next((path for path in (root / name, paths.PROJECT / name) if path.exists()), None)


def _files(
    records: Mapping[str, RunRecord], made_by: Mapping[str, str], hashes: Mapping[str, str | None]
) -> Iterator[str]:
    for name, digest in hashes.items():
        readers = [stage for stage, record in records.items() if name in record.inputs]
        stage = made_by.get(name) or readers[0]
        did = "wrote" if name in made_by else "read"
        recorded = (records[stage].outputs if name in made_by else records[stage].inputs)[name]
        if digest is None:
            yield f"{name}: missing; {stage} {did} it"
        elif digest != recorded:
            yield f"{name}: edited since {stage} {did} it"


def _stale(records: Mapping[str, RunRecord], made_by: Mapping[str, str]) -> Iterator[str]:
    """Stages made from another state of a file than its own stage has written since."""
    for stage, record in records.items():
        for name, digest in record.inputs.items():
            source = made_by.get(name)
            if source and records[source].outputs[name] != digest:
                yield f"{stage}: stale, as {source} has since written another {name}"


def _notebooks(run: Run, records: Mapping[str, RunRecord]) -> Iterator[str]:
    for stage, record in records.items():
        executed, source = run.paths.notebook(stage), _locate(record.notebook, run.paths.root)
        try:
            if source is None:
                yield f"{stage}: its notebook {record.notebook} is gone"
            elif not executed.is_file():
                yield f"{executed.name}: missing; {stage} wrote it"
            elif _code(executed) != _code(source):
                yield f"{stage}: stale or edited, as {executed.name} does not hold the code of {record.notebook}"
        except (ValueError, nbformat.ValidationError):
            yield f"{executed.name}: damaged, or {record.notebook} is"


def _code(notebook: Path) -> list[str]:
    """The code of a notebook without the cell of parameters that papermill puts in. Raises `ValueError` for another."""
    cells = nbformat.read(notebook, as_version=4).cells
    return [
        cell.source for cell in cells
        if cell.cell_type == "code" and "injected-parameters" not in cell.metadata.get("tags", [])
    ]  # fmt: skip


def _profile(run: Run, records: Mapping[str, RunRecord]) -> Iterator[str]:
    # A stage is not run again for a section that it does not read, so that its record may hold an older digest. The
    # last stage reads the whole profile, and ran after `make reproduce` had found all others up to date.
    if LAST_STAGE in records:
        if records[LAST_STAGE].profile_digest != run.profile.digest():
            yield f"{run.profile.name}: the profile has changed since; `make plan` says what this concerns"
        return
    for stage, record in records.items():
        if record.profile_digest != run.profile.digest():
            yield f"{stage}: made with another state of the profile; `make plan` says whether this concerns it"


def _frozen(run: Run, records: Mapping[str, RunRecord]) -> Iterator[str]:
    """The profile in the run's folder is that which the last stage read."""
    name = paths.recorded_name(run.paths.profile)
    if not run.paths.profile.is_file():
        yield f"{name}: missing; `make reproduce` writes it"
    elif LAST_STAGE in records:
        try:
            same = load_profile(str(run.paths.profile)).digest() == records[LAST_STAGE].profile_digest
        except UserError:
            same = False
        if not same:
            yield f"{name}: not the profile that the stages read; edited, or a later run has not got to its end"


def _leftovers(run: Run) -> Iterator[str]:
    for folder in (run.paths.run, run.paths.figures):
        for pattern, what in (
            (".*.tmp", "half-written by a run that was killed; the next `make reproduce` removes it"),
            (".*.running.ipynb", "of a stage that was killed; the next `make reproduce` removes it"),
            ("*.failed.*", "of a stage that failed; it goes when the stage succeeds"),
        ):
            for path in sorted(folder.rglob(pattern)):
                yield f"{path.relative_to(run.paths.root).as_posix()}: left {what}"
