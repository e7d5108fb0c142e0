"""How long the stages of a run will take: from what they took before, or from this machine's measured speed.

Where the same kind of work was done on this machine in any run, its record is scaled by how much more there is to do.
Else the profile's amounts are multiplied by what a unit of each takes here (`machine_speed`), measured in a few seconds
the first time. Where neither is possible a stage has no estimate, and says why.
"""

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from robbertje_lib.experiment.errors import UserError
from robbertje_lib.experiment.profile import Profile
from robbertje_lib.experiment.provenance import hardware, read_records
from robbertje_lib.experiment.results.record import Hardware, RunRecord
from robbertje_lib.experiment.run import Run
from robbertje_lib.experiment.words import about, duration
from robbertje_lib.workflow.amounts import Amounts, Part, UnknownWork
from robbertje_lib.workflow.machine_speed import MachineSpeed, machine_speed

START = 5.0  # seconds of a record that are no work: a kernel's start and its imports
ALIKE = 1.02  # amounts that differ by less are the same


@dataclass(frozen=True)
class Estimate:
    """How long a stage will take, and where that is known from. `seconds`: None where it is not known."""

    seconds: float | None
    words: str  # `took 3 min 5 s last time`, `about 4 min, estimated`, `no estimate: why`


@dataclass(frozen=True)
class _Past:
    """A stage that ran on this machine."""

    run_name: str
    record: RunRecord
    parts: list[Part]

    @property
    def work(self) -> float:
        return sum(part.seconds for part in self.parts)


def estimates(
    run: Run, stages: Sequence[str], cores: int, measure: Callable[[Run, int], MachineSpeed | None] = machine_speed
) -> dict[str, Estimate]:
    """An estimate for each stage. The machine is measured only where a stage has no record that it can be told from."""
    amounts, found = Amounts(run.profile), dict[str, Estimate]()
    past = _past(run.paths.run.parent) if stages else []
    for stage in stages:
        try:
            if (told := _from_records(run, stage, amounts.of(stage), past)) is not None:
                found[stage] = told
            elif reason := amounts.unsettled(stage):
                found[stage] = Estimate(None, f"no estimate: {reason}")
        except UnknownWork as error:
            found[stage] = Estimate(None, f"no estimate: {error}")
    unknown = [stage for stage in stages if stage not in found]
    if unknown:
        asks = any(part.kind != "other" for stage in unknown for part in amounts.of(stage))
        speed = measure(run, cores) if asks else None
        slowness = _slowness(amounts, speed)
        found |= {stage: _from_speed(amounts.of(stage), speed, slowness) for stage in unknown}
    return {stage: found[stage] for stage in stages}


def _from_speed(parts: Sequence[Part], speed: MachineSpeed | None, slowness: float | None) -> Estimate:
    speed, seconds, how = speed or MachineSpeed(start=START, seconds={}), 0.0, "estimated"
    for part in parts:
        time = speed.of(part)
        if time is None and slowness is None:
            return Estimate(None, "no estimate: this machine was not measured")
        if time is None:
            time, how = part.seconds * (slowness or 1.0), "roughly estimated"
        seconds += time
    seconds += speed.start
    return Estimate(seconds, f"{about(seconds)}, {how}")


def _slowness(amounts: Amounts, speed: MachineSpeed | None) -> float | None:
    """How many times slower than the machine of `amounts` this one is, by what was measured; None where nothing was."""
    every = [part for stage in amounts.profile.stages for part in amounts.of(stage) if part.kind != "other"]
    times = [(part, speed.of(part)) for part in every] if speed else []
    ratios = [seconds / part.seconds for part, seconds in times if seconds is not None and part.seconds]
    return statistics.median(ratios) if ratios else None


def _from_records(run: Run, stage: str, parts: Sequence[Part], past: Sequence[_Past]) -> Estimate | None:
    """The nearest work of the same kind: this run's own, else the most alike in size, and of several the latest."""
    units, work = {(part.kind, part.unit) for part in parts}, sum(part.seconds for part in parts)
    alike = [
        one
        for one in past
        if one.record.stage.partition("-")[0] == stage.partition("-")[0]
        and {(part.kind, part.unit) for part in one.parts} == units
    ]
    if not alike:
        return None

    def nearness(one: _Past) -> tuple[bool, bool, float, str]:
        own = one.run_name == run.paths.run_name
        same = one.record.stage == stage
        return own and same, same, -round(abs(math.log(work / one.work)), 1), one.record.started

    nearest = max(alike, key=nearness)
    times = work / nearest.work
    own = nearest.run_name == run.paths.run_name
    of = "" if nearest.record.stage == stage else f" by {nearest.record.stage}"
    if 1 / ALIKE <= times <= ALIKE:
        where = "last time" if own and not of else f"in {nearest.run_name}{of}"
        return Estimate(nearest.record.seconds, f"took {duration(nearest.record.seconds)} {where}")
    seconds = min(nearest.record.seconds, START) + max(nearest.record.seconds - START, 0) * times
    whose = "last time's" if own and not of else f"{nearest.run_name}'s{of}"
    return Estimate(seconds, f"{about(seconds)}: {_times(times)} the work of {whose}")


def _times(ratio: float) -> str:
    if ratio >= 9.5:
        return f"{ratio:,.0f} times"
    return f"{ratio:.1f} times" if ratio >= 1 else f"{ratio:.2g} of"


def _past(runs: Path) -> list[_Past]:
    """What ran on this machine, of every run below the output root, but what was taken over."""
    machine, past = _machine(hardware()), list[_Past]()
    profiles: dict[str | None, Amounts | None] = {}
    for folder in sorted(runs.glob("*/records")):
        try:
            records = read_records(folder.parent)
        except UserError:
            continue  # an estimate is not worth an error; `verify` tells of damaged records
        for record in records.values():
            if record.profile is None or record.taken_from or _machine(record.hardware) != machine:
                continue
            if record.profile_digest not in profiles:
                profiles[record.profile_digest] = _amounts(record)
            if parts := _parts(profiles[record.profile_digest], record.stage):
                past.append(_Past(folder.parent.name, record, parts))
    return past


def _amounts(record: RunRecord) -> Amounts | None:
    """None where the profile of a record is of another time, and can no longer be read."""
    try:
        return Amounts(Profile.model_validate(record.profile))
    except ValueError:
        return None


def _parts(amounts: Amounts | None, stage: str) -> list[Part]:
    """The work of a stage that ran; none where it cannot be told."""
    try:
        return amounts.of(stage) if amounts else []
    except (KeyError, UnknownWork):
        return []


def _machine(machine: Hardware) -> tuple[str, int, list[str]]:
    return machine.processor, machine.cores, machine.gpus
