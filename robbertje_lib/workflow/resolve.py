"""From what the user asks for to the one profile of a run: read, changed, validated, scaled, checked, and frozen once.

`make reproduce` freezes it as `papermill_runs/<run>/profile.yaml`. The stages and their notebooks read that file and no
other: whatever happens to the user's own file meanwhile does not reach a run that is going on.
"""

from robbertje_lib.corpus.arms import check_arms
from robbertje_lib.experiment import paths
from robbertje_lib.experiment.profile import load_profile
from robbertje_lib.experiment.run import Run
from robbertje_lib.show import figures
from robbertje_lib.tasks import check_tasks
from robbertje_lib.workflow.overrides import override


def resolve(profile: str, budget: float | None = None, assignments: str = "") -> Run:
    """The run that PROFILE, BUDGET and SET mean; nothing is written.

    profile: a name in `profiles/`, a YAML file, or the frozen profile of a run. Raises `UserError` for a bad profile or
    setting, and for an arm, a task or a figure that is not right.
    """
    resolved = (
        override(profile, assignments, 1.0 if budget is None else budget)
        if assignments.strip()
        else load_profile(profile, budget)
    )
    check_arms(resolved)  # what the schema cannot know: whether there is a module for each thing that is named
    check_tasks(resolved.finetuning.tasks)
    figures.all_figures()
    return Run(resolved, paths.RunPaths(resolved.run_name, paths.output_root()))
