"""What the probes for gender bias come to: summaries with intervals, stereotypes, agreement of metrics.

A row is a profession, its value the mean over templates; only base forms count, so that no profession counts twice.
`stereotypes` compares teacher and students.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import combinations

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from robbertje_lib.conclusions.stereotypes import MEASURES, compare_stereotypes
from robbertje_lib.experiment.errors import UserError
from robbertje_lib.experiment.results.gender_bias import (
    Correlation,
    CrowsPairsScores,
    CrowsPairsSummary,
    DiscoFills,
    DiscoSummary,
    GenderBiasResult,
    MetricAgreement,
    MetricSummary,
    ModelBias,
    OccupationRead,
    PlantedBias,
    ProbeResult,
    PronounProbe,
    ReadBack,
)
from robbertje_lib.experiment.run import Run
from robbertje_lib.statistics.resampling import bootstrapped_scores, percentile_interval, ratio
from robbertje_lib.statistics.significance import holm

METRICS = ("rank_difference", "log_odds", "lpbs")


def conclude_bias(run: Run) -> GenderBiasResult:
    """Summarise and compare what `60_gender_bias` stored; write `gender_bias.json`. Raises `UserError`."""
    probe = ProbeResult.read(run)
    tables, fills, pairs = (_by_model(kind.read(run)) for kind in (PronounProbe, DiscoFills, CrowsPairsScores))
    if unread := [name for name in run.profile.models if name not in tables]:
        raise UserError(f"{unread[0]} was not probed; run notebook 60_gender_bias again")
    significance, seed = run.profile.significance, run.profile.seed
    models = {
        name: summarise(
            table,
            significance.bootstrap,
            np.random.default_rng(seed),
            gendered_completions(fills[name], significance.alpha) if name in fills else None,
            stereotype_preference(pairs[name]) if name in pairs else None,
        )
        for name, table in tables.items()
    }
    values = {name: by_profession(table) for name, table in tables.items()}
    # Models beside the profile's are there once.
    groups = run.profile.groups | {name: [name] for name in tables if name not in run.profile.models}
    stereotypes, compared = compare_stereotypes(
        {group: [values[name] for name in names] for group, names in groups.items()},
        significance.bootstrap,
        np.random.default_rng(seed),
        1 - significance.alpha,
    )
    amounts = pd.DataFrame([{"group": s.group, "measure": s.measure, "value": abs(s.value)} for s in stereotypes])
    planted = None
    if probe.planted_strength is not None:
        planted = read_back(tables, probe.planted_strength, probe.documents or {}, significance.alpha)
    result = GenderBiasResult(
        models=models,
        stereotypes=stereotypes,
        comparisons=compared,
        model_order=metric_agreement(amounts.pivot(index="group", columns="measure", values="value"), MEASURES),
        planted=planted,
    )
    result.write(run)
    return result


def _by_model(rows: pa.Table) -> dict[str, pd.DataFrame]:
    return {str(name): part for name, part in rows.to_pandas().groupby("model", sort=False)}


def by_profession(table: pd.DataFrame) -> pd.DataFrame:
    """One row a profession (base form): the metrics and associated gender, averaged over templates."""
    base = table[table["form"] == "base"]
    return base.groupby("profession", sort=False)[[*METRICS, "associated_gender"]].mean()


def summarise(
    table: pd.DataFrame,
    resamples: int,
    rng: np.random.Generator,
    disco: DiscoSummary | None = None,
    crows_pairs: CrowsPairsSummary | None = None,
) -> ModelBias:
    """One model: mean and 95 % bootstrap interval over professions of each metric, its spread over templates, its
    rank correlation with associated gender, the agreement of metrics, and what the pronoun counts leave out."""
    values = by_profession(table)
    base, female = (table[table["form"] == form] for form in ("base", "female"))
    counts = np.stack([np.stack([values[m], np.ones(len(values))], axis=1) for m in METRICS])
    drawn = bootstrapped_scores(counts, ratio, resamples, rng)
    return ModelBias(
        metrics={
            metric: MetricSummary(
                mean=float(values[metric].mean()),
                interval=percentile_interval(drawn[:, number]),
                mean_absolute=float(values[metric].abs().mean()),
                templates=base.groupby("template", sort=False)[metric].mean().to_dict(),
                female_forms=float(female[metric].mean()) if len(female) else None,
            )
            for number, metric in enumerate(METRICS)
        },
        correlation={metric: rank_correlation(values["associated_gender"], values[metric]) for metric in METRICS},
        agreement=metric_agreement(values),
        share_hij_preferred=float((values["log_odds"] > 0).mean()),
        pronoun_mass={
            pronoun: float(base[f"p_{pronoun}"].mean()) if base[f"p_{pronoun}"].notna().any() else None
            for pronoun in ("hij", "zij", "ze", "other_case")
        },
        rows_with_unknown_pieces=int(table["unknown"].sum()),
        disco=disco,
        crows_pairs=crows_pairs,
    )


def metric_agreement(values: pd.DataFrame, metrics: Iterable[str] = METRICS) -> list[MetricAgreement]:
    """How alike two metrics order the rows of `values`: Spearman's rho and Kendall's tau per pair of its columns."""
    pairs = []
    for a, b in combinations([metric for metric in metrics if metric in values], 2):
        # A rank difference is negative where the others are positive.
        sign = -1 if "rank_difference" in (a, b) else 1
        rho = rank_correlation(values[a], sign * values[b]).spearman
        tau = float(stats.kendalltau(values[a], sign * values[b]).statistic)
        pairs.append(MetricAgreement(a=a, b=b, spearman=rho, kendall=tau if np.isfinite(tau) else None, n=len(values)))
    return pairs


def rank_correlation(x: ArrayLike, y: ArrayLike) -> Correlation:
    """Spearman's rho of the pairs that are known (not NaN)."""
    x, y = np.asarray(x, float), np.asarray(y, float)
    known = ~np.isnan(x) & ~np.isnan(y)
    n = int(known.sum())
    if n < 3 or np.ptp(x[known]) == 0 or np.ptp(y[known]) == 0:
        return Correlation(spearman=None, p=None, n=n)
    test = stats.spearmanr(x[known], y[known])
    return Correlation(spearman=float(test.statistic), p=float(test.pvalue), n=n)


def gendered_completions(fills: pd.DataFrame, alpha: float) -> DiscoSummary:
    """DisCo (Webster et al. 2020, section 2) of one model's rows of `DiscoFills`."""
    words = dict(zip(fills["token_id"], fills["word"], strict=True))
    dependent = {}
    for template, rows in fills.groupby("template", sort=False):
        zij, hij = (rows[rows["gender"] == gender] for gender in ("zij", "hij"))
        counts = [(Counter(part["token_id"].tolist()), part["person"].nunique()) for part in (zij, hij)]
        dependent[str(template)] = [words[token] for token in gendered_fills(*counts[0], *counts[1], alpha)]
    return DiscoSummary(score=float(np.mean([len(tied) for tied in dependent.values()])), templates=dependent)


def gendered_fills(zij: Counter[int], n_zij: int, hij: Counter[int], n_hij: int, alpha: float = 0.05) -> list[int]:
    """Fills whose use differs between genders by a chi-square test after Bonferroni, by token id.

    `zij` and `hij` count for how many of the `n_zij` and `n_hij` persons a token is among the likeliest fills.
    """
    fills = sorted(set(zij) | set(hij))
    tied = []
    for fill in fills:
        table = [[zij[fill], n_zij - zij[fill]], [hij[fill], n_hij - hij[fill]]]
        # A fill that everyone gets has an empty column: there is nothing to test.
        if table[0][1] + table[1][1] and stats.chi2_contingency(table).pvalue <= alpha / len(fills):
            tied.append(fill)
    return tied


def stereotype_preference(pairs: pd.DataFrame) -> CrowsPairsSummary:
    """CrowS-Pairs of one model's rows of `CrowsPairsScores`."""
    scored = pairs[~pairs["skipped"]]
    ties = int((scored["more"] == scored["less"]).sum())
    wins, n = int((scored["more"] > scored["less"]).sum()), len(scored) - ties
    counts = {"pairs": n, "ties": ties, "skipped": int(pairs["skipped"].sum())}
    if n == 0:
        return CrowsPairsSummary(share=None, interval=None, p=None, **counts)
    test = stats.binomtest(wins, n)
    interval = test.proportion_ci(method="wilson")
    bounds = float(interval.low), float(interval.high)
    return CrowsPairsSummary(share=wins / n, interval=bounds, p=float(test.pvalue), **counts)


def read_back(
    tables: Mapping[str, pd.DataFrame], strength: float, documents: Mapping[str, int], alpha: float
) -> PlantedBias:
    """Planted against read P(zij) = p_zij / (p_hij + p_zij) per model and occupation.

    `strength`: of the planted bias; `documents`: in how many training documents each occupation is mentioned; `alpha`:
    at which an occupation counts as leaning.
    """
    models, occupations = {}, []
    for name, table in tables.items():
        read = (table["p_zij"] / (table["p_hij"] + table["p_zij"])).groupby(table["profession"], sort=False).mean()
        planted = (1 - table.groupby("profession", sort=False)["associated_gender"].first()) / 2
        error = (read - planted).abs()
        log_odds = table.pivot(index="profession", columns="template", values="log_odds").loc[read.index]
        p_values = lean(log_odds.to_numpy(), np.array([documents.get(o, 0) for o in read.index]))
        adjusted = holm(p_values)
        models[name] = ReadBack(
            slope=None if np.ptp(planted) == 0 else float(np.polyfit(planted, read, 1)[0]),
            spearman=rank_correlation(planted, read).spearman,
            calibration_error=float(error.mean()),
            largest_error=float(error.max()),
            leaning_occupations=int((adjusted <= alpha).sum()),
        )
        for o, p, q in zip(read.index, p_values.tolist(), adjusted.tolist(), strict=True):
            row = OccupationRead(
                model=name, occupation=o, planted=float(planted[o]), read=float(read[o]), p=p, adjusted_p=q
            )
            occupations.append(row)
    return PlantedBias(strength=strength, models=models, occupations=occupations)


def lean(log_odds: NDArray[np.floating], documents: NDArray[np.integer]) -> NDArray[np.floating]:
    """Two-sided p per occupation that its mean log odds, (occupations, templates), are 0 but for chance.

    A faithful model repeats what its text happened to show: of n persons, one a document, about half are zij, and
    the log odds of the two counts have variance 4 / n. The variance of the mean over templates is added.
    Occupations the text never mentions get 1.
    """
    templates = log_odds.shape[1]
    wording = log_odds.var(axis=1, ddof=1) / templates if templates > 1 else 0.0
    error = np.sqrt(4 / np.maximum(documents, 1) + wording)
    return np.where(documents > 0, 2 * stats.norm.sf(np.abs(log_odds.mean(axis=1)) / error), 1.0)
