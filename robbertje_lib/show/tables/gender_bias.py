"""Tables of the probes for gender bias: what `60_gender_bias` read, and what `70_significance` makes of it."""

import pandas as pd

from robbertje_lib.experiment.results.base import Interval
from robbertje_lib.experiment.results.gender_bias import GenderBiasResult, PronounProbe
from robbertje_lib.experiment.run import Run

PRONOUNS = {"p_hij": "P(hij)", "p_zij": "P(zij)", "p_ze": "P(ze)"}


def probe_table(run: Run) -> pd.DataFrame:
    """What was read of each model: sentences, means over the base forms, and sentences with unknown pieces."""
    rows = PronounProbe.read(run).to_pandas()
    by_model = rows.groupby("model", sort=False)
    read = [*PRONOUNS, "rank_difference", "log_odds", "lpbs"]
    means = rows[rows["form"] == "base"].groupby("model", sort=False)[read].mean().rename(columns=PRONOUNS)
    means.insert(0, "sentences", by_model.size())
    return means.assign(**{"with unknown pieces": by_model["unknown"].sum()}).round(4)


def bias_table(result: GenderBiasResult) -> pd.DataFrame:
    """One row a model: mean of each metric with its interval, and its rank correlation with associated gender."""
    rows = {}
    for name, bias in result.models.items():
        row: dict[str, float | str | None] = {"professions preferring hij": bias.share_hij_preferred}
        for metric, summary in bias.metrics.items():
            row[metric] = _with_interval(summary.mean, summary.interval, ".2f")
            row[f"{metric} ~ gender"] = bias.correlation[metric].spearman
        if bias.disco is not None:
            row["DisCo"] = bias.disco.score
        pairs = bias.crows_pairs
        if pairs is not None and pairs.share is not None and pairs.interval is not None:
            row["CrowS-Pairs"] = _with_interval(pairs.share, pairs.interval, ".0%")
        rows[name] = row
    return pd.DataFrame.from_dict(rows, orient="index").round(2)


def _with_interval(value: float, interval: Interval, form: str) -> str:
    low, high = interval
    return f"{value:{form}} ({low:{form}} to {high:{form}})"


def template_table(result: GenderBiasResult, metric: str = "lpbs") -> pd.DataFrame:
    """Mean of `metric` per model and template: how much the wording alone changes it."""
    return pd.DataFrame({name: bias.metrics[metric].templates for name, bias in result.models.items()}).T.round(2)


def bias_comparison_table(result: GenderBiasResult) -> pd.DataFrame:
    """One row per student and metric: teacher minus student in the amount of bias, with interval and p."""
    rows = [
        {"student": r.b, "metric": r.metric, "difference": r.difference, "95 % low": r.interval[0],
         "95 % high": r.interval[1], "p": r.p, "professions": r.n}
        for r in result.comparisons
    ]  # fmt: skip
    return pd.DataFrame(rows).round(4)


def metric_agreement_table(result: GenderBiasResult) -> pd.DataFrame:
    """Spearman and Kendall between metrics, over the professions of each model and over models."""
    parts = {f"professions, {name}": bias.agreement for name, bias in result.models.items()}
    parts["models"] = result.model_order
    return pd.DataFrame({"over": over, **row.model_dump()} for over, rows in parts.items() for row in rows).round(2)


def planted_table(result: GenderBiasResult) -> pd.DataFrame:
    """One row a model: how well the planted bias is read back; empty for real text, where nothing was planted."""
    models = result.planted.models if result.planted else {}
    return pd.DataFrame.from_dict({name: read.model_dump() for name, read in models.items()}, orient="index").round(3)
