"""A run: a profile and the place of its files. Every notebook opens with `open_run`."""

from dataclasses import dataclass

from robbertje_lib.experiment import paths
from robbertje_lib.experiment.profile import Profile, load_profile


@dataclass(frozen=True)
class Run:
    profile: Profile
    paths: paths.RunPaths


def open_run(profile: str, budget: float | None = None) -> Run:
    """Load a profile and locate the files of its run.

    profile: a name, a YAML file, or the frozen profile of a run (`papermill_runs/demo/profile.yaml`). budget: 1 if none
    is given; a frozen profile has its own. Raises `UserError` for a bad profile, and for another budget than that.
    """
    loaded = load_profile(profile, budget)
    return Run(loaded, paths.RunPaths(loaded.run_name, paths.output_root()))
