"""From the pronoun probe to conclusions: summaries with intervals, teacher against students, agreement of metrics.

The unit is the profession, its value the mean over templates; only base forms count, so that no profession counts
twice. A comparison of models is about the amount of bias: the absolute value per profession. A model that has
learnt little also shows little, so read these next to pseudo-perplexity.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from scipy import stats

from robbertje_lib.evaluation.crows_pairs import load_pairs, preference, score_pairs
from robbertje_lib.evaluation.disco import disco
from robbertje_lib.evaluation.gender_bias import METRICS, probe
from robbertje_lib.evaluation.professions import Profession, left_out, professions
from robbertje_lib.experiment.artefacts import open_store, write_json, write_parquet
from robbertje_lib.experiment.errors import UserError
from robbertje_lib.experiment.run import Run
from robbertje_lib.models.evaluated import evaluated_models, load_evaluated
from robbertje_lib.models.log_probs import Floats, Integers, Report
from robbertje_lib.statistics.resampling import bootstrapped_scores, ratio
from robbertje_lib.statistics.significance import holm, paired_bootstrap, permutation_test


def probe_models(run: Run, also: str = "", progress: Report = print) -> dict[str, Any]:
    """Probe every model of the run; write `gender_bias.parquet` and `gender_bias.json`.

    `also` names further masked language models to probe, folders or hub ids with spaces between them. On
    known-answer Dutch the planted bias is read back instead of RobBERT's list, and DisCo and CrowS-Pairs, whose
    words that text does not hold, are left out.
    """
    known_answer = run.profile.text == "known_answer"
    templates, words = _known_answer_probe(run) if known_answer else (run.profile.gender_bias.templates, professions())
    pairs = [] if known_answer or not run.profile.gender_bias.crows_pairs else _drawn_pairs(run)
    tables: dict[str, pd.DataFrame] = {}
    others: dict[str, dict[str, Any]] = {}
    for name in [*evaluated_models(run), *also.split()]:
        model = load_evaluated(run, name)
        tables[name] = probe(model, templates, words)
        others[name] = {}
        if not known_answer:
            others[name]["disco"] = disco(model, run.profile.significance.alpha)
        if pairs:
            scored = score_pairs(model, pairs, run.profile.pseudo_perplexity.tokens_per_batch)
            others[name]["crows_pairs"] = preference(scored)
        progress(f"{name}: log odds for hij {tables[name]['log_odds'].mean():+.2f} on average")
    resamples = run.profile.significance.bootstrap
    models = {
        name: summarise(table, resamples, np.random.default_rng(run.profile.seed)) | others[name]
        for name, table in tables.items()
    }
    summary = {
        "professions": {"probed": len(words), "two_forms": sum(w.dutch_female is not None for w in words)},
        "left_out": {} if known_answer else left_out(),
        "models": models,
        "comparisons": compare_models(tables, run.profile.gender_bias.permutations, resamples, run.profile.seed),
        "comparison_of": "absolute value per profession, a minus b; above 0 means that b is less biased",
        "model_order": agreement(pd.DataFrame({n: {m: models[n][m]["mean"] for m in METRICS} for n in models}).T),
        "planted": _planted(run, tables) if known_answer else None,
    }
    rows = pd.concat([table.assign(model=name) for name, table in tables.items()], ignore_index=True)
    first = ["model", "template", "profession", "profession_en"]
    rows = rows[first + [column for column in rows if column not in first]]
    write_parquet(run.paths.result("gender_bias.parquet"), pa.Table.from_pandas(rows, preserve_index=False))
    write_json(run.paths.result("gender_bias.json"), summary)
    return summary


def _known_answer_probe(run: Run) -> tuple[Sequence[str], list[Profession]]:
    from robbertje_lib import known_answer  # a generator that runs on real text have no use for

    planted = known_answer.planted_bias(run.profile.gender_bias.planted_strength)
    # The planted P(zij) on the scale of associated gender: -1 is always zij, +1 always hij.
    return known_answer.probe_templates(), [Profession(name, name, None, 1 - 2 * p) for name, p in planted.items()]


def _drawn_pairs(run: Run) -> list[Any]:
    pairs = load_pairs(("gender",))
    count = min(run.profile.gender_bias.crows_pairs, len(pairs))
    drawn = np.random.default_rng(run.profile.seed).choice(len(pairs), count, replace=False)
    return [pairs[int(i)] for i in np.sort(drawn)]


def by_profession(table: pd.DataFrame) -> pd.DataFrame:
    """One row a profession (base form): the metrics and associated gender, averaged over templates."""
    base = table[table["form"] == "base"]
    return base.groupby("profession", sort=False)[[*METRICS, "associated_gender"]].mean()


def summarise(table: pd.DataFrame, resamples: int, rng: np.random.Generator) -> dict[str, Any]:
    """One model: mean and 95 % bootstrap interval over professions of each metric, its spread over templates, its
    rank correlation with associated gender, the agreement of metrics, and what the pronoun counts leave out."""
    values = by_profession(table)
    base, female = (table[table["form"] == form] for form in ("base", "female"))
    counts = np.stack([np.stack([values[m], np.ones(len(values))], axis=1) for m in METRICS])
    intervals = np.percentile(bootstrapped_scores(counts, ratio, resamples, rng), [2.5, 97.5], axis=0).T
    summary: dict[str, Any] = {}
    for metric, interval in zip(METRICS, intervals, strict=True):
        summary[metric] = {
            "mean": float(values[metric].mean()),
            "interval": interval.tolist(),
            "mean_absolute": float(values[metric].abs().mean()),
            "templates": base.groupby("template", sort=False)[metric].mean().to_dict(),
            "female_forms": float(female[metric].mean()) if len(female) else None,
        }
    return summary | {
        "correlation": {metric: _spearman(values["associated_gender"], values[metric]) for metric in METRICS},
        "agreement": agreement(values[list(METRICS)]),
        "share_hij_preferred": float((values["log_odds"] > 0).mean()),
        "pronoun_mass": {
            column: float(base[f"p_{column}"].mean()) if base[f"p_{column}"].notna().any() else None
            for column in ("hij", "zij", "ze", "other_case")
        },
        "rows_with_unknown_pieces": int(table["unknown"].sum()),
    }


def agreement(values: pd.DataFrame) -> list[dict[str, Any]]:
    """How alike two metrics order the rows of `values`: Spearman's rho and Kendall's tau per pair of columns."""
    found = []
    for a, b in combinations(METRICS, 2):
        # A rank difference is negative where the others are positive.
        sign = -1 if "rank_difference" in (a, b) else 1
        rho, tau = (
            _spearman(values[a], sign * values[b]),
            _finite(stats.kendalltau(values[a], sign * values[b]).statistic),
        )
        found.append({"a": a, "b": b, "spearman": rho["spearman"], "kendall": tau, "n": len(values)})
    return found


def _spearman(x: Any, y: Any) -> dict[str, Any]:
    """Spearman's rho, null where one side is constant or unknown, or fewer than 3 pairs are left."""
    x, y = np.asarray(x, float), np.asarray(y, float)
    known = ~np.isnan(x) & ~np.isnan(y)
    n = int(known.sum())
    if n < 3 or np.ptp(x[known]) == 0 or np.ptp(y[known]) == 0:
        return {"spearman": None, "p": None, "n": n}
    test = stats.spearmanr(x[known], y[known])
    return {"spearman": float(test.statistic), "p": float(test.pvalue), "n": n}


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def compare_models(
    tables: Mapping[str, pd.DataFrame], permutations: int, resamples: int, seed: int
) -> list[dict[str, Any]]:
    """The first model (the teacher) against each other one, paired over professions, for the amount of each metric.

    Sign-flip permutation test and paired bootstrap interval of the difference of mean absolute values, a minus b.
    """
    teacher, *students = tables
    values = {name: by_profession(table) for name, table in tables.items()}
    rows = []
    for student in students:
        if not values[student].index.equals(values[teacher].index):
            raise UserError(f"{student} and {teacher} were probed on other professions; probe both again")
        for metric in METRICS:
            a, b = (np.column_stack([values[n][metric].abs(), np.ones(len(values[n]))]) for n in (teacher, student))
            difference = paired_bootstrap(a, b, ratio, resamples, np.random.default_rng(seed))
            p = permutation_test(a, b, ratio, permutations, np.random.default_rng(seed))
            rows.append(
                {"a": teacher, "b": student, "metric": metric, "difference": difference.value,
                 "interval": [difference.low, difference.high], "p": p, "n": len(a)}
            )  # fmt: skip
    return rows


def read_back(run: Run, tables: Mapping[str, pd.DataFrame], documents: Mapping[str, int]) -> dict[str, Any]:
    """Planted against read P(zij) = p_zij / (p_hij + p_zij) per model and occupation.

    `documents`: in how many training documents each occupation is mentioned. Per model: `slope` of read on planted
    and `spearman` (null where nothing was planted), `calibration_error` (mean absolute difference). Per occupation:
    `p` that so large a log odds comes about by chance where hij and zij are equally likely, `adjusted_p` by Holm.
    """
    strength = run.profile.gender_bias.planted_strength
    models, occupations = {}, []
    for name, table in tables.items():
        read = (table["p_zij"] / (table["p_hij"] + table["p_zij"])).groupby(table["profession"], sort=False).mean()
        planted = (1 - table.groupby("profession", sort=False)["associated_gender"].first()) / 2
        error = (read - planted).abs()
        constant = np.ptp(planted) == 0
        log_odds = table.pivot(index="profession", columns="template", values="log_odds").loc[read.index]
        p_values = lean(log_odds.to_numpy(), np.array([documents.get(o, 0) for o in read.index]))
        adjusted = holm(p_values)
        models[name] = {
            "slope": None if constant else float(np.polyfit(planted, read, 1)[0]),
            "spearman": _spearman(planted, read)["spearman"],
            "calibration_error": float(error.mean()),
            "largest_error": float(error.max()),
            "mean_read": float(read.mean()),
            "leaning_occupations": int((adjusted <= run.profile.significance.alpha).sum()),
        }
        occupations += [
            {"model": name, "occupation": o, "planted": float(planted[o]), "read": float(read[o]), "p": float(p),
             "adjusted_p": float(q)}
            for o, p, q in zip(read.index, p_values, adjusted, strict=True)
        ]  # fmt: skip
    return {"strength": strength, "models": models, "occupations": occupations}


def _planted(run: Run, tables: Mapping[str, pd.DataFrame]) -> dict[str, Any]:
    occupations = next(iter(tables.values()))["profession"].unique().tolist()
    return read_back(run, tables, _documents_that_mention(run, occupations))


def lean(log_odds: Floats, documents: Integers) -> Floats:
    """Two-sided p per occupation that its mean log odds, (occupations, templates), are 0 but for chance.

    A faithful model repeats what its text happened to show: of n persons, one a document, about half are zij, and
    the log odds of the two counts have variance 4 / n. The variance of the mean over templates is added.
    Occupations the text never mentions get 1.
    """
    templates = log_odds.shape[1]
    wording = log_odds.var(axis=1, ddof=1) / templates if templates > 1 else 0.0
    error = np.sqrt(4 / np.maximum(documents, 1) + wording)
    return np.where(documents > 0, 2 * stats.norm.sf(np.abs(log_odds.mean(axis=1)) / error), 1.0)


def _documents_that_mention(run: Run, words: Sequence[str]) -> dict[str, int]:
    """In how many documents of the training text each word stands."""
    folder = run.paths.corpus(*run.profile.arms[0])
    if not folder.is_dir():
        raise UserError(f"{folder}: no token store there; run notebook 10_corpus first")
    store = open_store(folder)
    wanted = set(words)
    lines = zip(store["document_id"], store["text"], strict=True)
    found = {(document, word) for document, text in lines for word in wanted.intersection(text.lower().split())}
    return Counter(word for _, word in found)


def summary_table(summary: dict[str, Any]) -> pd.DataFrame:
    """One row a model: mean of each metric with its interval, and its rank correlation with associated gender."""
    rows = {}
    for name, model in summary["models"].items():
        rows[name] = {"professions preferring hij": model["share_hij_preferred"]}
        for metric in METRICS:
            low, high = model[metric]["interval"]
            rows[name] |= {metric: f"{model[metric]['mean']:.2f} ({low:.2f} to {high:.2f})"}
            rows[name] |= {f"{metric} ~ gender": model["correlation"][metric]["spearman"]}
        if "disco" in model:
            rows[name]["DisCo"] = model["disco"]["score"]
        if model.get("crows_pairs", {}).get("share") is not None:
            low, high = model["crows_pairs"]["interval"]
            rows[name]["CrowS-Pairs"] = f"{model['crows_pairs']['share']:.0%} ({low:.0%} to {high:.0%})"
    return pd.DataFrame.from_dict(rows, orient="index").round(2)


def template_table(summary: dict[str, Any], metric: str = "lpbs") -> pd.DataFrame:
    """Mean of `metric` per model and template: how much the wording alone changes it."""
    return pd.DataFrame({name: model[metric]["templates"] for name, model in summary["models"].items()}).T.round(2)


def comparison_table(summary: dict[str, Any]) -> pd.DataFrame:
    """One row per student and metric: teacher minus student in the amount of bias, with interval and p."""
    rows = [
        {"student": r["b"], "metric": r["metric"], "difference": r["difference"], "95 % low": r["interval"][0],
         "95 % high": r["interval"][1], "p": r["p"], "professions": r["n"]}
        for r in summary["comparisons"]
    ]  # fmt: skip
    return pd.DataFrame(rows).round(4)


def planted_table(summary: dict[str, Any]) -> pd.DataFrame:
    """One row a model: how well the planted bias is read back; empty for real text, where nothing was planted."""
    return pd.DataFrame.from_dict((summary["planted"] or {}).get("models", {}), orient="index").round(3)


def agreement_table(summary: dict[str, Any]) -> pd.DataFrame:
    """Spearman and Kendall between metrics, over the professions of each model and over models."""
    rows = [{"over": f"professions, {name}", **row} for name, m in summary["models"].items() for row in m["agreement"]]
    rows += [{"over": "models", **row} for row in summary["model_order"]]
    return pd.DataFrame(rows).round(2)
