"""From what the user asks for to the one profile of a run: read, changed, validated, scaled, checked, and frozen once.

`make reproduce` freezes it as `papermill_runs/<run>/profile.yaml`. The stages and their notebooks read that file and no
other: whatever happens to the user's own file meanwhile does not reach a run that is going on.
"""

from robbertje_lib.experiment import paths
from robbertje_lib.experiment.profile import Profile, load_profile
from robbertje_lib.experiment.run import Run
from robbertje_lib.tasks import check_tasks
from robbertje_lib.workflow.overrides import override


def resolve(profile: str, budget: float = 1.0, assignments: str = "") -> Run:
    """The run that PROFILE, BUDGET and SET mean; nothing is written.

    profile: a name in `profiles/`, a YAML file, or the frozen profile of a run. Raises `UserError` for a bad profile or
    setting, and for a task that there is not.
    """
    resolved = override(profile, assignments, budget) if assignments.strip() else load_profile(profile, budget)
    _check_registries(resolved)
    return Run(resolved, paths.RunPaths(resolved.run_name, paths.output_root()))


def _check_registries(profile: Profile) -> None:
    """What the profile's own schema cannot know: whether there is a module for each thing that it names."""
    check_tasks(profile.finetuning.tasks)
