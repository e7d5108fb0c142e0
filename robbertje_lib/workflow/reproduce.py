"""`make reproduce` and `make plan`: says what will run and why, runs it through Snakemake, shows how far it is."""

import contextlib
import fcntl
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from robbertje_lib.experiment import artefacts, paths
from robbertje_lib.experiment.errors import UserError, did_you_mean
from robbertje_lib.experiment.profile import Profile, TeacherTraining, freeze_profile
from robbertje_lib.experiment.results.record import RunRecord
from robbertje_lib.experiment.run import Run
from robbertje_lib.experiment.words import gigabytes, short
from robbertje_lib.workflow.engine import Event, Snakemake
from robbertje_lib.workflow.estimates import estimates
from robbertje_lib.workflow.progress import Planned, StageProgress, announce, conclude
from robbertje_lib.workflow.take_over import foresee

FIRST_STAGE, FIRST_FIGURE = "10_corpus", "sequence_lengths"
FULL = 1_000_000  # bytes; with fewer free a disk is full


def plan(run: Run, cores: int, until: str = "") -> int:
    """Print what `reproduce` would run. Returns the exit status. Raises `UserError` for a stage that there is not.

    The profile is frozen elsewhere, so that a run that is going on keeps its own.
    """
    wanted = aims(run, until)
    _make_folders(run)
    with tempfile.TemporaryDirectory(prefix="robbertje-") as folder:
        profile = paths.RunPaths(run.paths.run_name, Path(folder)).profile
        freeze_profile(run.profile, profile)
        _announce(run, planned_stages(Snakemake(run, profile, cores, wanted)), cores)
    return 0


def reproduce(run: Run, cores: int, until: str = "") -> int:
    """Run every stage that is not up to date, and say how far it is. Returns the exit status.

    until: a stage, or a notebook or a student that stands for all of its stages; with it only these run, and what they
    need.
    Raises `UserError` for a stage that there is not, an output folder that cannot be written, too little disk space, or
    a second run of the same profile.
    """
    began = time.monotonic()
    wanted = aims(run, until)
    _make_folders(run)
    with alone(run):
        _sweep(run)
        _settle_dates(run)
        freeze_profile(run.profile, run.paths.profile)
        snakemake = Snakemake(run, run.paths.profile, cores, wanted)
        planned = planned_stages(snakemake)
        progress = _announce(run, planned, cores)
        if planned:
            _check_disk(run.profile, run.paths.root)
            progress.began = began
            if not _execute(snakemake, progress):
                return 1
        conclude(run, time.monotonic() - began, wanted)
    return 0


def aims(run: Run, until: str) -> list[str]:
    """The stages that `until` names, or all of them. Raises `UserError` if there is no such stage.

    `30_distillation-merged` names a student with its replicates, `30_distillation-merged.2` one of these.
    """
    stages = run.profile.stages
    if not until:
        return stages
    if meant := [stage for stage in stages if until in {stage, stage.partition("-")[0], stage.partition(".")[0]}]:
        return meant
    notebooks = {stage.partition("-")[0] for stage in stages}
    raise UserError(f"UNTIL {until}: no such stage: {did_you_mean(until, notebooks | set(stages))}")


def planned_stages(snakemake: Snakemake) -> list[Planned]:
    """What would run, or be taken over from another run. Raises `UserError` if Snakemake cannot tell."""
    jobs = snakemake.jobs()
    taken = foresee([job.call for job in jobs])
    cores = snakemake.cores
    return [Planned(job.stage, job.reason, taken.get(job.stage), min(1.0, job.call.threads / cores)) for job in jobs]


def _make_folders(run: Run) -> None:
    try:
        for folder in (run.paths.run, run.paths.figures):
            folder.mkdir(parents=True, exist_ok=True)
            probe = folder / ".writable"
            probe.touch()
            probe.unlink()
    except OSError as error:
        raise UserError(
            f"cannot write below {run.paths.root}: {error.strerror}; set ROBBERTJE_OUTPUT to another folder"
        ) from None


@contextlib.contextmanager
def alone(run: Run) -> Iterator[None]:
    """Hold the run's lock, which the operating system takes back whenever this process ends."""
    with (run.paths.run / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"{run.paths.run_name} is already being run; wait for it, or stop it first") from None
        yield


def _sweep(run: Run) -> None:
    """Remove what a killed process left half-written; nothing else uses these names, and nobody else runs."""
    for folder in (run.paths.run, run.paths.figures):
        for pattern in (".*.tmp", ".*.running.ipynb", ".*.heartbeat"):
            for leftover in list(folder.rglob(pattern)):
                artefacts.remove(leftover)


def _settle_dates(run: Run) -> None:
    """Files dated in the future, as after a clock was set back, would make every stage that reads them fail."""
    folders = [run.paths.run, run.paths.figures, paths.NOTEBOOKS, paths.PACKAGE]
    own = [file for task in run.profile.finetuning.tasks.values() for file in task.own_files()]
    files = [*run.profile.corpus.own_files(), *own, *(file for folder in folders for file in folder.rglob("*"))]
    if ahead := artefacts.settle_dates(files):
        print(f"{len(ahead)} files were dated in the future, and are now dated today: {ahead[0].name} ...", flush=True)


def disk_needed(profile: Profile) -> int:
    """Bytes a run takes, roughly: token stores, models, and the checkpoints of the training that is under way."""
    trained = isinstance(profile.teacher, TeacherTraining)
    stores = len(profile.arms) + 4 * trained  # the teacher's text is that of four arms
    if isinstance(profile.teacher, TeacherTraining):
        width = profile.teacher.hidden
        weights = (profile.tokenizer.vocabulary + 12 * profile.teacher.layers * width) * width * 4
    else:
        weights = 500_000_000
    text = stores * profile.corpus.arm_megabytes * 1e6 * 3  # the lines, four bytes a token, temporary copies
    return int(text + weights * (len(profile.models) + 2 * 3))


def _check_disk(profile: Profile, root: Path) -> None:
    needed, free = disk_needed(profile), shutil.disk_usage(root).free
    if needed > free:
        raise UserError(
            f"{root}: {gigabytes(free)} free, about {gigabytes(needed)} needed; free some, or set ROBBERTJE_OUTPUT"
        )


def _announce(run: Run, planned: list[Planned], cores: int) -> StageProgress:
    """Print the plan; returns the progress that starts from it."""
    expected = estimates(run, [entry.stage for entry in planned if not entry.taken_from], cores)
    announce(run, planned, expected, cores, disk_needed(run.profile), shutil.disk_usage(run.paths.root).free)
    return StageProgress(planned, expected, run.paths.run)


def _execute(snakemake: Snakemake, progress: StageProgress) -> bool:
    """Run Snakemake to its end. Returns whether all went well; if not, the error has been printed."""
    run = snakemake.run
    try:
        with contextlib.closing(snakemake.events()) as events:
            for event in events:
                _show(run, event, progress)
    except KeyboardInterrupt:
        raise UserError("stopped; what is done is kept, and the same command goes on from here") from None
    progress.close()
    if snakemake.status:
        reason = progress.error or f"Snakemake ended with status {snakemake.status}; see {short(snakemake.log)}"
        if shutil.disk_usage(run.paths.root).free < FULL:  # too full even for the stage to say so
            reason = f"{run.paths.root}: no space left; {artefacts.MAKE_ROOM}"
        print(f"error: {reason}", file=sys.stderr)
        print(f"{len(progress.done)} stages are done and kept; the same command goes on from here.", file=sys.stderr)
        return False
    return True


def _show(run: Run, event: Event | None, progress: StageProgress) -> None:
    stage = event["stage"] if event and "stage" in event else ""
    match event and event["event"]:
        case None:
            progress.wait()
        case "job":
            progress.start(stage)
        case "finished":
            record = RunRecord.read(run, stage=stage)
            progress.finish(stage, record.seconds, record.taken_from)
            if stage == FIRST_STAGE and (first := run.paths.figures / f"{FIRST_FIGURE}.svg").is_file():
                progress.say(f"the first figure is there: {short(first)}")
        case "failed":
            said = paths.failed_reason(run.paths.run, stage)
            progress.fail(stage, said.read_text(encoding="utf-8").strip() if said.is_file() else None)
