"""Tables of the probes for gender bias: what `60_gender_bias` read, and what `70_significance` makes of it."""

import pandas as pd

from robbertje_lib.experiment.results.base import Interval
from robbertje_lib.experiment.results.gender_bias import GenderBiasResult, PronounProbe
from robbertje_lib.experiment.run import Run
from robbertje_lib.show.figure_style import label
from robbertje_lib.show.tables.formatting import p_value

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
    """One row a model, replicates apart: its level (preference for *hij*) beside its measures of stereotype."""
    # Both stand in the order of the models, replicates of a student together.
    measures: dict[str, list[float]] = {}
    for row in result.stereotypes:
        measures.setdefault(row.measure, []).extend(row.replicates)
    rows = {}
    for place, (name, bias) in enumerate(result.models.items()):
        log_odds, pairs = bias.metrics["log_odds"], bias.crows_pairs
        cells: dict[str, float | str | None] = {
            "level: log odds": _with_interval(log_odds.mean, log_odds.interval, ".2f"),
            "professions preferring hij": bias.share_hij_preferred,
            **{measure: values[place] for measure, values in measures.items()},
            "log odds ~ gender": bias.correlation["log_odds"].spearman,
        }
        if bias.disco is not None:
            cells["DisCo"] = bias.disco.score
        if pairs is not None and pairs.share is not None and pairs.interval is not None:
            cells["CrowS-Pairs"] = _with_interval(pairs.share, pairs.interval, ".0%")
        rows[name] = cells
    return pd.DataFrame.from_dict(rows, orient="index").round(2)


def stereotype_table(result: GenderBiasResult) -> pd.DataFrame:
    """One row per measure and teacher or student: mean over replicates with its interval, and p of no stereotype."""
    rows = [
        {"measure": r.measure, "of": label(r.group), "value": _with_interval(r.value, r.interval, ".2f"),
         "p": p_value(r.p), "replicates": len(r.replicates), "professions": r.professions}
        for r in result.stereotypes
    ]  # fmt: skip
    return pd.DataFrame(rows)


def _with_interval(value: float, interval: Interval, form: str) -> str:
    low, high = interval
    return f"{value:{form}} ({low:{form}} to {high:{form}})"


def template_table(result: GenderBiasResult, metric: str = "lpbs") -> pd.DataFrame:
    """Mean of `metric` per model and template: how much the wording alone changes it."""
    return pd.DataFrame({name: bias.metrics[metric].templates for name, bias in result.models.items()}).T.round(2)


def bias_comparison_table(result: GenderBiasResult) -> pd.DataFrame:
    """One row per measure and student: teacher minus student in the amount of stereotype, with interval and p."""
    rows = [
        {"measure": r.measure, "student": label(r.student), "teacher": round(r.teacher_value, 2),
         "its own": round(r.student_value, 2), "less by": _with_interval(r.difference, r.interval, "+.2f"),
         "p": p_value(r.p), "replicates": r.replicates, "professions": r.professions}
        for r in result.comparisons
    ]  # fmt: skip
    return pd.DataFrame(rows)


def metric_agreement_table(result: GenderBiasResult) -> pd.DataFrame:
    """Spearman and Kendall between metrics over the professions of a model, and between measures over the groups."""
    parts = {f"professions, {name}": bias.agreement for name, bias in result.models.items()}
    parts["teacher and students"] = result.model_order
    return pd.DataFrame({"over": over, **row.model_dump()} for over, rows in parts.items() for row in rows).round(2)


def planted_table(result: GenderBiasResult) -> pd.DataFrame:
    """One row a model: how well the planted bias is read back; empty for real text, where nothing was planted."""
    models = result.planted.models if result.planted else {}
    return pd.DataFrame.from_dict({name: read.model_dump() for name, read in models.items()}, orient="index").round(3)
