"""Tables of `90_claims_and_figures`: verdicts, instruments, and what the paper's own numbers can carry."""

from collections.abc import Sequence

import pandas as pd

from robbertje_lib.conclusions.published import TITLES, paper_comparisons, published_tables
from robbertje_lib.conclusions.time_to_quality import RecipeComparison
from robbertje_lib.experiment.results.claims import ClaimsResult
from robbertje_lib.show.figure_style import label
from robbertje_lib.show.tables.efficiency import FORMS
from robbertje_lib.show.tables.formatting import MISSING, bounds, number, p_value, smallest


def claims_table(result: ClaimsResult) -> pd.DataFrame:
    """A row a claim and setting: verdict, whether another setting has another, our number, why, and about what."""
    frame = pd.DataFrame([row.model_dump() for row in result.claims])
    frame["verdict"] = frame["verdict"].str.replace("_", " ")
    frame["across settings"] = frame["changes"].map({True: "CHANGES", False: ""})
    frame["this run"] = [number(row) for row in result.claims]
    frame["smallest of interest"] = [smallest(row) for row in result.claims]
    told = ["verdict", "across settings", "this run", "smallest of interest", "reason", "scope"]
    return frame[["claim", "setting", *told]].rename(columns={"reason": "why", "scope": "about"})


def setting_table(result: ClaimsResult) -> pd.DataFrame:
    """Verdict of every claim in every setting, and where the conclusion changes.

    A dash where a setting lacks the students, or compares those of a setting to its left.
    """
    frame = claims_table(result).assign(setting=lambda rows: rows["setting"].str.replace("_", " "))
    claims, settings = frame["claim"].unique(), frame["setting"].unique()
    table = frame.set_index(["claim", "setting"])["verdict"].unstack(fill_value=MISSING).loc[claims, settings]
    return table.rename_axis(columns=None).assign(conclusion=frame.groupby("claim")["across settings"].max())


def published_claims_table(result: ClaimsResult) -> pd.DataFrame:
    """A row a claim: how it is tested, the verdict of the paper's own table, and what else is published."""
    rows = [
        {
            "claim": row.claim,
            "test": row.test,
            "source": row.source,
            "paper's table": (row.published_verdict or MISSING).replace("_", " "),
            "published": row.published,
        }
        for row in {row.id: row for row in result.claims}.values()
    ]
    return pd.DataFrame(rows)


def instruments_table(result: ClaimsResult) -> pd.DataFrame:
    """Instrument, planted truth, what was read, and whether it passed."""
    frame = pd.DataFrame([check.model_dump() for check in result.instruments])
    frame["passed"] = frame["passed"].map({True: "pass", False: "FAIL"})
    return frame.rename(columns={"planted": "planted truth", "passed": "result"})


def form_losses_table(result: ClaimsResult) -> pd.DataFrame:
    """What each ONNX form of a model loses against torch, in nats a masked token, with its 95 % interval over lines."""
    rows = [
        {
            "model": label(row.model),
            "form": FORMS[row.form],
            "loss": f"{row.difference:+.4f}{bounds(row.interval, '+.4f')}",
        }
        for row in result.form_losses
    ]
    return pd.DataFrame(rows, columns=["model", "form", "loss"]).set_index(["model", "form"])


def recipe_table(comparisons: Sequence[RecipeComparison]) -> pd.DataFrame:
    """What `compare_recipes` gave, a row a pair; seconds are of training alone, means over replicates.

    Empty where no recipes are paired.
    """
    rows = [
        {
            "published": row.published,
            "other": row.other,
            "pseudo_perplexity": row.target,
            "seconds": row.published_seconds,
            "reached_by": f"{sum(point is not None for point in row.reached)} of {len(row.reached)}",
            "reached_seconds": row.seconds,
            "share": row.share,
        }
        for row in comparisons
    ]
    return pd.DataFrame(rows).round(3)


def paper_table() -> pd.DataFrame:
    """Every pair of the paper's main table with what its test sizes allow."""
    return pd.DataFrame(
        [
            {
                "task": TITLES[row.task],
                "pair": f"{label(row.a)} − {label(row.b)}",
                "points": f"{100 * row.difference:+.1f}",
                "p": p_value(row.p),
                "Holm": p_value(row.adjusted_p),
                "n": row.n or "unknown",
            }
            for row in paper_comparisons()
        ]
    )


def confound_table() -> pd.DataFrame:
    """What else differs between the paper's models, and what it could explain."""
    rows = [(row.what, row.explains, row.certainty) for row in published_tables().confounds]
    return pd.DataFrame(rows, columns=["what differs", "could explain", "certainty"])
