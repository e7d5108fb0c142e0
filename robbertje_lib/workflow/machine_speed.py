"""How fast this machine trains, asks and fine-tunes the models of a profile: measured once, in a few seconds.

`speed_measurement` does it, in a process of its own: `make plan` imports no torch.
"""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar, Self

from pydantic import BaseModel, ConfigDict

from robbertje_lib.experiment import provenance
from robbertje_lib.experiment.artefacts import atomic_path
from robbertje_lib.experiment.profile import Profile
from robbertje_lib.experiment.run import Run
from robbertje_lib.workflow.amounts import Part
from robbertje_lib.workflow.processes import project_environment

MEASUREMENT = "robbertje_lib.workflow.speed_measurement"
TIMEOUT = 30.0  # seconds, imports included; a machine that needs them is busy or slow


class MachineSpeed(BaseModel):
    """Seconds a unit of each kind of work, by `kind what` as in `amounts.Part`, and a stage's start."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    where: ClassVar[str] = "papermill_runs/.speed"

    start: float  # seconds from the start of a stage to its first work
    seconds: dict[str, float]

    def with_pace(self, unit: str, seconds: float) -> Self:
        """The same with one more unit measured."""
        return self.model_copy(update={"seconds": {**self.seconds, unit: seconds}})

    def of(self, part: Part) -> float | None:
        """Seconds of a part of a stage; None where a unit of it was not measured, such as training a large model."""
        if part.kind == "other":
            return part.seconds
        unit = self.seconds.get(f"{part.kind} {part.what}")
        return None if unit is None else part.amount * unit


def machine_speed(run: Run, cores: int, say: Callable[[str], None] = print) -> MachineSpeed | None:
    """The speed of this machine with the models of a profile, from the last time that it was measured, or measured now.

    Kept below the output root, for this machine, its packages and the profile, unless other work was in the way. None
    where it could not be measured, of which the reason has been said, or must not be: `ROBBERTJE_MEASURE=0`.
    """
    if os.environ.get("ROBBERTJE_MEASURE") == "0":
        return None
    file = run.paths.root / MachineSpeed.where / f"{_digest(run.profile, cores)}.json"
    if known := _read(file):
        return known
    say("Measuring this machine for a few seconds ...")
    with tempfile.TemporaryDirectory(prefix="robbertje-") as folder:
        settings, measured = Path(folder) / "settings.json", Path(folder) / "speed.json"
        settings.write_text(run.profile.model_dump_json(), encoding="utf-8")
        command = [sys.executable, "-m", MEASUREMENT, str(settings), str(measured), str(cores)]
        environment = project_environment(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
        try:
            subprocess.run(command, env=environment, check=True, capture_output=True, timeout=TIMEOUT)
        except subprocess.TimeoutExpired:
            # What was measured until then serves this time; the next time all is measured anew.
            say(f"The machine is busy or slow: not all was measured within {TIMEOUT:.0f} s.")
            return _read(measured)
        except (subprocess.SubprocessError, OSError) as error:
            told = (getattr(error, "stderr", None) or b"").decode(errors="replace").strip().splitlines()
            say(f"This machine was not measured ({told[-1] if told else error}).")
            return None
        speed = _read(measured)
    if speed is None:
        return None
    if os.getloadavg()[0] > (os.cpu_count() or 1) + 1:
        say("Other work keeps this machine busy: these estimates are of now, and it is measured again next time.")
        return speed
    with atomic_path(file) as temporary:
        temporary.write_text(speed.model_dump_json(indent=1) + "\n", encoding="utf-8")
    return speed


def _read(file: Path) -> MachineSpeed | None:
    try:
        return MachineSpeed.model_validate_json(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _digest(profile: Profile, cores: int) -> str:
    machine = provenance.hardware()
    told = [
        profile.digest("tokenizer", "teacher", "shapes", "recipes", "students"),
        profile.text,
        cores,
        [machine.processor, machine.cores, machine.gpus],
        [provenance.package_versions().get(name) for name in ("torch", "transformers")],
        provenance.asked_precision(),
        os.environ.get("ATEN_CPU_CAPABILITY"),
    ]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]
