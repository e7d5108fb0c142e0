"""What exists of a run on this machine: every stage with its state, its time and the file to look at.

It reads the run records and nothing else of a run, so that it answers at once, whether there are results or not.
"""

import datetime
import shlex
from pathlib import Path

import pandas as pd

from robbertje_lib.experiment import paths
from robbertje_lib.experiment.profile import LAST_STAGE
from robbertje_lib.experiment.provenance import read_records
from robbertje_lib.experiment.results.record import RunRecord
from robbertje_lib.experiment.run import Run
from robbertje_lib.experiment.words import duration
from robbertje_lib.show.figure_style import SavedFigure
from robbertje_lib.show.figures import NotDrawn, get_figure

DONE, FAILED, UNDER_WAY, NOT_RUN = "done", "failed", "under way", "not run"


def stage_table(run: Run) -> pd.DataFrame:
    """One row a stage of the profile, in reading order.

    Columns: `state` (done, failed, under way, not run), `finished` (local time), `took`, `memory` (at its highest),
    and `look at`, a path below the output folder. A stage is done when it has a run record; whether it is still up
    to date is for `make plan` to say. Raises `UserError` for a record that is damaged.
    """
    rows = [{"stage": stage, "state": _state(run, stage)} | _told(run, stage) for stage in run.profile.stages]
    return pd.DataFrame(rows).set_index("stage")


def _told(run: Run, stage: str) -> dict[str, str]:
    told = dict.fromkeys(("finished", "took", "memory", "look at"), "")
    if _state(run, stage) == FAILED:
        return told | {"look at": _shown(run, paths.failed_notebook(run.paths.run, stage))}
    if not RunRecord.exists(run, stage=stage):
        return told
    record = RunRecord.read(run, stage=stage)
    ended = datetime.datetime.fromisoformat(record.started) + datetime.timedelta(seconds=record.seconds)
    look_at = run.paths.figures / "report.html" if stage == LAST_STAGE else run.paths.notebook(stage)
    return {
        "finished": f"{ended.astimezone():%Y-%m-%d %H:%M}",
        "took": duration(record.seconds),
        "memory": f"{record.peak_memory_bytes / 1e9:.1f} GB",
        "look at": _shown(run, look_at),
    }


def _state(run: Run, stage: str) -> str:
    if run.paths.record(stage).is_file():
        return DONE
    if paths.running_notebook(run.paths.run, stage).is_file():
        return UNDER_WAY
    return FAILED if paths.failed_notebook(run.paths.run, stage).is_file() else NOT_RUN


def _shown(run: Run, path: Path) -> str:
    return path.relative_to(run.paths.root).as_posix()


def run_table() -> pd.DataFrame:
    """One row a run in the output folder, of whatever profile: stages done, their seconds together, the report.

    Empty where nothing has been run. A run that is only planned has no stage done.
    """
    root = paths.output_root()
    rows = []
    for folder in sorted(path for path in (root / "papermill_runs").glob("*") if path.is_dir()):
        records = read_records(folder).values()
        report = paths.RunPaths(folder.name, root).figures / "report.html"
        rows.append(
            {
                "run": folder.name,
                "stages done": len(records),
                "stages' time": duration(sum(record.seconds for record in records)) if records else "",
                "report": report.relative_to(root).as_posix() if report.is_file() else "",
            }
        )
    return pd.DataFrame(rows, columns=["run", "stages done", "stages' time", "report"]).set_index("run")


def next_step(run: Run, profile: str, budget: float) -> str:
    """What to do next, in a sentence or two. `profile` and `budget`: as the user gave them."""
    states: dict[str, list[str]] = {}
    for stage in run.profile.stages:
        states.setdefault(_state(run, stage), []).append(stage)
    command = f"make reproduce PROFILE={shlex.quote(profile)}" + ("" if budget == 1 else f" BUDGET={budget:g}")
    if UNDER_WAY in states:
        return f"Wait: {', '.join(states[UNDER_WAY])} is under way, or was interrupted; then `{command}` goes on."
    if FAILED in states:
        return f"Look at what went wrong in {', '.join(states[FAILED])}; `{command}` then goes on from there."
    if DONE not in states:
        return f"Nothing of this run exists yet. In the project's folder: `{command}`"
    if NOT_RUN in states:
        return f"Of {sum(map(len, states.values()))} stages {len(states[DONE])} are done. For the rest: `{command}`"
    report, plan = _shown(run, run.paths.figures / "report.html"), command.replace("reproduce", "plan")
    return f"Every stage is done. Open {report}. After a change, `{plan}` says what runs again."


def saved_figure(run: Run, name: str) -> SavedFigure | NotDrawn:
    """A figure of the run as it was saved, without drawing it anew."""
    svg, png = (run.paths.figures / f"{name}.{kind}" for kind in ("svg", "png"))
    if not (svg.is_file() and png.is_file()):
        return NotDrawn(name, f"{name}.svg and {name}.png yet")
    return SavedFigure(name, get_figure(name).caption, svg, png)


def settings_table(run: Run) -> pd.DataFrame:
    """What the profile compares, a row a student: arm, selection, shape, recipe, how long and how often it trains."""
    profile, columns = run.profile, ["arm", "selection", "shape", "recipe"]
    rows = []
    for name, student in profile.students.items():
        told = {"trains for": "nothing: released", "replicates": len(profile.replicates_of(name))}
        if not student.released:
            recipe = profile.recipe_of(name)
            told["trains for"] = (
                f"{recipe.amount:,} {recipe.amount_unit}, in updates of {recipe.update_size:,} {recipe.batching}"
            )
        rows.append({**student.model_dump(include=set(columns)), **told})
    return pd.DataFrame(rows, list(profile.students))[[*columns, "trains for", "replicates"]]
