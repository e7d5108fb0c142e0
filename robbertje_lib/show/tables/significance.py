"""Tables of `70_significance`: scores, comparisons, and how far the tests can be trusted."""

import pandas as pd

from robbertje_lib.conclusions.published import TITLES
from robbertje_lib.experiment.results.significance import Mismatch, SignificanceResult
from robbertje_lib.show.figure_style import label
from robbertje_lib.show.tables.formatting import bounds, p_value


def model_scores_table(result: SignificanceResult) -> pd.DataFrame:
    """Model by task: mean score over seeds in %, with its interval over seeds and examples."""
    table: dict[str, dict[str, str]] = {}
    for row in result.scores:
        told = f"{100 * row.score:.1f}{bounds(row.interval, '.1f', 100)}"
        table.setdefault(TITLES.get(row.task, row.task), {})[label(row.model)] = told
    return pd.DataFrame(table).rename_axis("model")


def scores_by_length_table(result: SignificanceResult, task: str) -> pd.DataFrame:
    """One task's score with its 95 % interval, by model and by length of the test example in tokens."""
    scores = result.by_length[task]
    rows = {
        label(model): [f"{v.score:.3f}{bounds(v.interval, '.3f')}" for v in values]
        for model, values in scores.models.items()
    }
    columns = [f"{b.low} to {b.high} (n = {b.n})" for b in scores.bins]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis(TITLES.get(task, task))


def mismatch_table(result: SignificanceResult) -> pd.DataFrame:
    """Scores that differ between what fine-tuning reported and what its predictions give; empty if all is well."""
    return pd.DataFrame([row.model_dump() for row in result.mismatches], columns=list(Mismatch.model_fields))


def comparison_table(result: SignificanceResult, family: str) -> pd.DataFrame:
    """Every comparison of a family: difference, interval, p, Holm's p, p of each seed alone, detectable difference.

    Scores are in points; pseudo-perplexity in nats per token.
    """
    table = []
    for row in result.comparisons:
        if row.family != family:
            continue
        scale, form = (1, ".3f") if row.metric == "nats_per_token" else (100, ".1f")
        table.append(
            {
                "task": TITLES.get(row.task, row.task),
                "pair": f"{label(row.a)} − {label(row.b)}",
                "difference": f"{scale * row.difference:+{form}}{bounds(row.interval, f'+{form}', scale)}",
                "p": p_value(row.p),
                "Holm": p_value(row.adjusted_p),
                f"{row.test_per_seed}, each seed": ", ".join(map(p_value, row.p_per_seed)),
                "detectable": f"{scale * row.detectable_difference:{form}}",
                "effect (h)": "" if row.effect_size is None else f"{row.effect_size:+.2f}",
            }
        )
    return pd.DataFrame(table).fillna("")


def calibration_table(result: SignificanceResult) -> pd.DataFrame:
    """Rejection rate of every test by true difference; the first column is the type-I error."""
    frame = pd.DataFrame(result.calibration.rates)
    wide = frame.pivot(index=["data", "test", "offered"], columns="difference", values="rejected")
    wide.columns = pd.Index([f"{100 * float(d):g}" for d in wide.columns], name="difference, points")
    return wide.map("{:.3f}".format)
