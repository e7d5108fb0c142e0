"""Sets the project up on Google Colab, whose Python holds torch and numpy already: adds what is missing, no more.

It is imported before anything is installed, so it needs nothing but the standard library and `packaging`.
"""

import importlib.metadata
import os
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from robbertje_lib.experiment import paths
from robbertje_lib.experiment.errors import UserError

# Built for one another and for the machine's GPU driver: replacing one under a running session breaks it.
KEPT = ("numpy", "torch", "torchaudio", "torchvision", "triton")
DRIVE = Path("/content/drive")
RESULTS = DRIVE / "MyDrive" / "robbertje"


@dataclass(frozen=True)
class Lacking:
    """A requirement that this Python does not meet, and the version it has of it, if any."""

    requirement: str
    installed: str | None


def set_up(drive: bool = False) -> None:
    """Install what is missing and say so; with `drive`, keep results on the user's Google Drive.

    Raises `UserError` if torch or numpy is missing or outside the project's range, if pip fails, and after an
    upgrade of a package that this session has in use already.
    """
    if drive:
        _mount()
    before = installed_versions()
    missing = lacking(before)
    for entry in missing:
        told = f"found {entry.installed}" if entry.installed else "not found"
        print(f"installing {entry.requirement} ({told})")
    if missing:
        _install([entry.requirement for entry in missing], constraints(before))
    after = installed_versions()
    told = ", ".join(f"{name} {after[name]}" for name in KEPT if name in after)
    print(f"{len(missing)} of {len(requirements())} packages were missing; kept as they were: {told}")
    stale = sorted(loaded_distributions() & {name for name, version in before.items() if after.get(name) != version})
    if stale:
        raise UserError(
            f"{', '.join(stale)} changed under this session: Runtime > Restart session, then run this again"
        )


def installed_versions() -> dict[str, str]:
    """Canonical name -> version of every installed distribution."""
    importlib.invalidate_caches()
    distributions = importlib.metadata.distributions()
    return {canonicalize_name(d.metadata["Name"]): d.version for d in distributions if d.metadata["Name"]}


def requirements() -> list[Requirement]:
    """What the project needs to run, from pyproject.toml."""
    project = tomllib.loads((paths.PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return [Requirement(text) for text in project["dependencies"]]


def lacking(installed: Mapping[str, str]) -> list[Lacking]:
    """The project's requirements that `installed` (canonical name -> version) does not meet.

    Raises `UserError` if one of `KEPT` is among them, since those are never installed or replaced.
    """
    missing = []
    for requirement in requirements():
        name = canonicalize_name(requirement.name)
        version = installed.get(name)
        if version is not None and requirement.specifier.contains(version, prereleases=True):
            continue
        if name in KEPT:
            has = f"{name} {version}" if version else f"no {name}"
            raise UserError(
                f"this Python has {has}, the project needs {requirement}, and this is not touched here; choose a newer "
                "runtime version, or `make reproduce` on a machine of your own"
            )
        missing.append(Lacking(str(requirement), version))
    return missing


def constraints(installed: Mapping[str, str]) -> list[str]:
    """Lines of a pip constraints file that hold everything of `KEPT` at its present version."""
    return [f"{name}=={installed[name]}" for name in KEPT if name in installed]


def loaded_distributions() -> set[str]:
    """Canonical names of the distributions of which this session has imported something."""
    owners = importlib.metadata.packages_distributions()
    return {canonicalize_name(owner) for module in list(sys.modules) for owner in owners.get(module, ())}


def _install(missing: Sequence[str], held: Sequence[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "constraints.txt"
        file.write_text("\n".join(held) + "\n", encoding="utf-8")
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--constraint", str(file), *missing]
        done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        raise UserError(f"pip could not install what is missing: {' '.join(said) or done.stderr[-300:]}")


def _mount() -> None:
    from google.colab import drive  # only Colab has it

    drive.mount(str(DRIVE))
    RESULTS.mkdir(parents=True, exist_ok=True)
    os.environ["ROBBERTJE_OUTPUT"] = str(RESULTS)
    print("results are kept on your Drive, in My Drive/robbertje")
