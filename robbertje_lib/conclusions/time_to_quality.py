"""How much sooner does one recipe reach what the published recipe ends with?

Two students of the same arm, selection and shape differ in their recipe alone. Both are watched on the same held-out
lines (`training.HeldOut`); the clock stands still while they are evaluated.
"""

from typing import Any

import pandas as pd

from robbertje_lib.experiment.artefacts import read_json
from robbertje_lib.experiment.run import Run

PUBLISHED = "as_published"


def pairs(run: Run) -> list[tuple[str, str]]:
    """(student of the published recipe, student of another recipe), alike in all else."""
    students = run.profile.students
    return [
        (published, other)
        for published, a in students.items()
        for other, b in students.items()
        if a.recipe == PUBLISHED != b.recipe and (a.arm, a.selection, a.shape) == (b.arm, b.selection, b.shape)
    ]


def compare_recipes(run: Run) -> list[dict[str, Any]]:
    """One row a pair whose results exist: the published student's end, and when the other one is there.

    `seconds` are those of training. `reached_seconds` belongs to the other student's first held-out point at or below
    the published student's last pseudo-perplexity, so it is an upper bound; None if there is no such point.
    """
    rows = []
    for published, other in pairs(run):
        files = [run.paths.result("distillation", f"{name}.json") for name in (published, other)]
        if not all(file.is_file() for file in files):
            continue
        curves = [read_json(file)["held_out_curve"] for file in files]
        end = curves[0][-1]
        reached = next((p for p in curves[1] if p["pseudo_perplexity"] <= end["pseudo_perplexity"]), None)
        seconds = None if reached is None else reached["training_seconds"]
        rows.append(
            {
                "published": published,
                "other": other,
                "pseudo_perplexity": end["pseudo_perplexity"],
                "seconds": end["training_seconds"],
                "tokens": end["tokens"],
                "reached_seconds": seconds,
                "reached_tokens": None if reached is None else reached["tokens"],
                "share": None if seconds is None else seconds / end["training_seconds"],
                "other_ends_with": curves[1][-1]["pseudo_perplexity"],
                "curves": dict(zip((published, other), curves, strict=True)),
            }
        )
    return rows


def recipe_table(run: Run) -> pd.DataFrame:
    """What `compare_recipes` found, a row a pair; empty where the profile pairs no recipes."""
    return pd.DataFrame([{k: v for k, v in row.items() if k != "curves"} for row in compare_recipes(run)]).round(3)
