"""Where this companion differs from the paper, by how much, and why: `DIVERGENCES.md` and its tables.

The reasons are written by hand, in `data/divergences.yaml`; sizes and distances come from the results of a run, and
what stands around the tables from `data/divergences.md.j2` and `data/verdicts.md`.
`python -m robbertje_lib.show.divergences PROFILE [--budget B]` writes the file anew.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
import yaml

from robbertje_lib.conclusions import published
from robbertje_lib.conclusions.distances import distances_to_teacher
from robbertje_lib.experiment import paths
from robbertje_lib.experiment.artefacts import atomic_path
from robbertje_lib.experiment.errors import UserError
from robbertje_lib.experiment.profile import LAST_STAGE, TeacherTraining
from robbertje_lib.experiment.provenance import commit
from robbertje_lib.experiment.results.base import Interval
from robbertje_lib.experiment.results.claims import ClaimsResult
from robbertje_lib.experiment.results.corpus import ArmResult
from robbertje_lib.experiment.results.efficiency import EfficiencyResult
from robbertje_lib.experiment.results.finetuning import TEST, TaskScores
from robbertje_lib.experiment.results.pseudo_perplexity import PSEUDO_PERPLEXITY, PseudoPerplexityResult
from robbertje_lib.experiment.results.record import RunRecord
from robbertje_lib.experiment.results.significance import SignificanceResult
from robbertje_lib.experiment.results.training import DistillationResult
from robbertje_lib.experiment.run import Run, open_run
from robbertje_lib.show.figure_style import label, stamp
from robbertje_lib.show.tables.claims import claims_table, setting_table
from robbertje_lib.show.tables.formatting import MISSING, bounds
from robbertje_lib.show.tables.significance import carry_over_table

FILE = paths.PROJECT / "DIVERGENCES.md"


def choices() -> list[dict[str, Any]]:
    """The hand-written rows: what the paper did, how surely we know, what we do, why, and the claims it touches."""
    rows = yaml.safe_load((paths.DATA / "divergences.yaml").read_text(encoding="utf-8"))
    return list(rows)


def choices_table() -> pd.DataFrame:
    """What we do differently, and why."""
    frame = pd.DataFrame(choices())
    frame["claims"] = [", ".join(claims) for claims in frame["claims"]]
    columns = {"what": "", "certainty": "known", "ours": "this companion", "claims": "could touch"}
    return frame[["what", "paper", "certainty", "ours", "why", "claims"]].rename(columns=columns).set_index("")


def sizes_table(run: Run) -> pd.DataFrame:
    """Sizes of a run beside the paper's, with the ratio of ours to theirs, as far as the run has results for them.

    Raises `UserError` if `pseudo_perplexity.json` is missing.
    """
    rows: list[dict[str, str]] = []
    for name, ours, cell in _sizes(run):
        assert isinstance(cell.value, int)
        ratio = f"{ours / cell.value:.2g}" if ours < cell.value else f"{ours / cell.value:.3g}"
        rows.append(
            {"": name, "paper": f"{cell.value:,}", "known": cell.certainty, "this run": f"{ours:,}", "ratio": ratio}
        )
    return pd.DataFrame(rows).set_index("")


def _sizes(run: Run) -> Iterator[tuple[str, int, published.Published]]:
    """Name, our size and the paper's cell."""
    profile, paper = run.profile, published.published_size
    arm, selection = "non_shuffled", profile.corpus.selections[0]
    if profile.trained and ArmResult.exists(run, arm=arm):
        yield "text per arm, bytes", ArmResult.read(run, arm=arm).selections[selection].bytes, paper("arm", "bytes")
    trained = next((name for name in profile.trained if DistillationResult.exists(run, student=name)), None)
    if trained:
        tokens = DistillationResult.read(run, student=trained).tokens
        yield f"tokens that {label(trained)} was trained on", tokens, paper("student", "tokens")
    if isinstance(profile.teacher, TeacherTraining):
        yield "vocabulary asked for, tokens", profile.tokenizer.vocabulary, paper("vocabulary", "tokens")
    if EfficiencyResult.exists(run):
        models = EfficiencyResult.read(run).models
        for name in (name for name in ("teacher", "non_shuffled", "bort") if name in models):
            yield f"parameters of {label(name)}", models[name].parameters, paper(name, "parameters")
    yield "held-out lines scored", PseudoPerplexityResult.read(run).lines, paper("held-out", "lines")
    if profile.trained:
        yield (
            "distillations per student",
            min(len(profile.replicates_of(s)) for s in profile.students),
            paper("student", "runs"),
        )
    runs = min(len(models) * len(profile.finetuning_seeds(models[0])) for models in profile.groups.values())
    yield "fine-tuning runs per score", runs, paper("fine-tuning", "seeds")
    for task in ("dbrd", "sick_nl"):
        if TaskScores.exists(run, task=task):
            test = TaskScores.read(run, task=task).counts.examples["test"]
            yield f"test examples of {published.TITLES[task]}", test, paper(task, "test")


def cells_table(run: Run) -> pd.DataFrame:
    """Student minus teacher in each cell of the paper's table: the paper's distance, ours, and whether they agree.

    Scores are in points, pseudo-perplexity, counted as the paper does, in nats per token, where student minus teacher
    is the logarithm of the ratio. What agreement is, `agreement` says. Students that the paper does not have are left
    out. On known-answer Dutch nothing is compared. Raises `UserError` if `significance.json` or
    `pseudo_perplexity.json` is missing.
    """
    compared = distances_to_teacher(run.profile, SignificanceResult.read(run), PseudoPerplexityResult.read(run))
    rows = [
        {
            "column": published.TITLES[cell.task],
            "student": label(cell.student),
            "paper": _told(cell.task, cell.paper.value, cell.paper.interval),
            "this run": _told(cell.task, cell.value, cell.interval),
            "agreement": cell.agreement if run.profile.text == "real" else "not compared",
        }
        for cell in compared
    ]
    columns = ["column", "student", "paper", "this run", "agreement"]
    return pd.DataFrame(rows, columns=columns).set_index("column")


def _told(task: str, value: float, interval: Interval | None) -> str:
    scale, form, unit = (1, "+.2f", " nats") if task == PSEUDO_PERPLEXITY else (100, "+.1f", "")
    return f"{scale * value:{form}}{bounds(interval, form, scale)}{unit}".replace("-", "−")


def scores_table(run: Run) -> pd.DataFrame:
    """One row per task, test set and group at the largest training size: its score with interval, and of each run.

    Controls (random weights), baselines (no network) and what models answer without fine-tuning stand among them.
    """
    result = SignificanceResult.read(run)
    rows = [
        {
            "task": row.task if row.test_set == TEST else f"{row.task}, {row.test_set}",
            "group": row.group,
            "score": f"{100 * row.score:.1f}",
            "95 %": " to ".join(f"{100 * bound:.1f}" for bound in row.interval),
            "runs": ", ".join(f"{100 * score:.1f}" for model in row.runs.values() for score in model),
            "training examples": f"{row.train:,}",
            "test examples": f"{row.n:,}",
        }
        for row in result.scores
        if row.train in {result.largest[row.task], 0}
    ]
    return pd.DataFrame(rows).set_index("task")


def precision_table(run: Run) -> pd.DataFrame:
    """The arithmetic of every stage that computes with a network, and why a student was trained in it."""
    rows: dict[tuple[str, str, str], list[str]] = {}
    for model in run.profile.trained:
        if DistillationResult.exists(run, student=model):
            used = DistillationResult.read(run, student=model).precision
            rows.setdefault(("distillation", used.name, used.reason), []).append(run.profile.student_of(model))
    for model, perplexity in PseudoPerplexityResult.read(run).models.items():
        told = ("pseudo-perplexity", perplexity.precision, MISSING)
        rows.setdefault(told, []).append(run.profile.student_of(model))
    for task in run.profile.finetuning.tasks:
        rows.setdefault(("fine-tuning", TaskScores.read(run, task=task).precision, MISSING), []).append(task)
    columns = ["", "precision", "because", "of"]
    told_rows = [[*told, ", ".join(dict.fromkeys(map(label, names)))] for told, names in rows.items()]
    return pd.DataFrame(told_rows, columns=columns).set_index("")


def text(run: Run | None = None) -> str:
    """What `DIVERGENCES.md` says; without a run, the part that depends on none.

    Raises `UserError` if results of the run are missing.
    """
    tables = {"choices": choices_table()}
    meaning = (paths.DATA / "verdicts.md").read_text(encoding="utf-8").rstrip()
    if run:
        claims = ClaimsResult.read(run)
        verdicts = claims_table(claims).drop(columns="across settings").set_index("claim")
        tables |= {"sizes": sizes_table(run), "precision": precision_table(run), "cells": cells_table(run)}
        tables |= {
            "scores": scores_table(run),
            "gates": carry_over_table(SignificanceResult.read(run)).set_index("task"),
        }
        tables |= {"settings": setting_table(claims), "verdicts": verdicts}
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, trim_blocks=True)
    environment.filters["markdown"] = _markdown
    template = environment.from_string((paths.DATA / "divergences.md.j2").read_text(encoding="utf-8"))
    return template.render(run=run, origin=run and _origin(run), meaning=meaning, **tables)


def _origin(run: Run) -> str:
    """Profile, run and the commit that its claims were decided with; `+` if the code had changes."""
    done = RunRecord.exists(run, stage=LAST_STAGE)
    return stamp(run, commit(RunRecord.read(run, stage=LAST_STAGE).git) if done else "no commit")


def _markdown(frame: pd.DataFrame) -> str:
    """A table in Markdown, with its index as first column."""
    frame = frame.reset_index()
    header = [str(column) for column in frame.columns]
    lines = [header, ["---"] * len(header), *frame.astype(str).to_numpy().tolist()]
    # A cell may hold neither line breaks nor the bar between cells.
    return "\n".join("| " + " | ".join(" ".join(c.replace("|", "\\|").split()) for c in line) + " |" for line in lines)


def write_divergences(run: Run, file: Path = FILE) -> Path:
    """Write `DIVERGENCES.md` from the hand-written rows and the results of `run`; equal results give equal bytes.

    Raises `UserError` if results are missing; the file then stays as it was.
    """
    told = text(run)
    with atomic_path(file) as temporary:
        temporary.write_text(told, encoding="utf-8")
    return file


def main() -> None:
    """Write DIVERGENCES.md from the results of a run."""
    parser = argparse.ArgumentParser(prog="python -m robbertje_lib.show.divergences", description=main.__doc__)
    parser.add_argument("profile", help="a name in robbertje_lib/profiles, or the path of a YAML file")
    parser.add_argument("--budget", type=float, help="as in the run")
    arguments = parser.parse_args()
    try:
        print(write_divergences(open_run(arguments.profile, arguments.budget)))
    except UserError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
