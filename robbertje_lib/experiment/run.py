"""A run: a profile and the place of its files. Every notebook opens with `open_run`."""

from dataclasses import dataclass

from robbertje_lib.experiment import paths
from robbertje_lib.experiment.profile import Profile, load_profile


@dataclass(frozen=True)
class Run:
    profile: Profile
    paths: paths.RunPaths


def open_run(profile: str, budget: float = 1.0) -> Run:
    """Load `profile` at `budget` and locate its files. Raises `UserError` for a bad profile."""
    loaded = load_profile(profile, budget)
    return Run(loaded, paths.RunPaths(loaded.run_name, paths.output_root()))
