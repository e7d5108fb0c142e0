"""Tables of `70_significance`: scores, gates, spreads, comparisons, and how far the tests can be trusted.

Where a task has several training sizes, they show the largest.
"""

from collections.abc import Iterable

import pandas as pd

from robbertje_lib.conclusions.published import TITLES
from robbertje_lib.experiment.results.base import Interval
from robbertje_lib.experiment.results.finetuning import TEST
from robbertje_lib.experiment.results.pseudo_perplexity import PSEUDO_PERPLEXITY
from robbertje_lib.experiment.results.significance import Mismatch, SignificanceResult
from robbertje_lib.show.figure_style import label
from robbertje_lib.show.tables.formatting import MISSING, bounds, p_value


def model_scores_table(result: SignificanceResult) -> pd.DataFrame:
    """Group by task, and by further test set: mean score in %, with its interval over all that is random.

    Groups are models, random weights, baselines, and what models answer without fine-tuning.
    """
    table: dict[str, dict[str, str]] = {}
    for row in result.scores:
        if row.train in {result.largest[row.task], 0}:
            title = TITLES.get(row.task, row.task) + (f", {row.test_set}" if row.test_set != TEST else "")
            told = f"{100 * row.score:.1f}{bounds(row.interval, '.1f', 100)}"
            table.setdefault(title, {})[label(row.group)] = told
    return pd.DataFrame(table).fillna("").rename_axis("model")


def carry_over_table(result: SignificanceResult) -> pd.DataFrame:
    """Task by group: is it above random weights in its shape, and above the best baseline, each with its interval?

    Differences are in points; for pseudo-perplexity in nats per token below the unigram model.
    """
    over: dict[tuple[str, str], list[int]] = {}
    for gate in result.gates:
        if gate.carried_over:
            over.setdefault((gate.task, gate.group), []).append(gate.train)
    rows = []
    for gate in result.gates:
        if gate.train != result.largest[gate.task]:
            continue
        sizes = sorted(over.get((gate.task, gate.group), []))
        rows.append(
            {
                "task": TITLES.get(gate.task, gate.task),
                "model": label(gate.group),
                "above random weights": _difference(gate.task, gate.above_control, gate.above_control_interval),
                "carried over?": "yes" if gate.carried_over else "no",
                "with examples": ", ".join(f"{size:,}" for size in sizes if size) or MISSING,
                "baseline": label(gate.baseline),
                "above it": _difference(gate.task, gate.above_baseline, gate.above_baseline_interval),
                "of use?": "yes" if gate.useful else "no",
            }
        )
    return pd.DataFrame(rows)


def _difference(task: str, value: float | None, interval: Interval | None) -> str:
    """A difference with its interval."""
    if value is None:
        return MISSING
    scale, form = _unit(task)
    return f"{scale * value:+{form}}{bounds(interval, f'+{form}', scale)}"


def _unit(task: str) -> tuple[int, str]:
    """What to multiply by, and how to write it: points, or nats per token for pseudo-perplexity."""
    return (1, ".3f") if task == PSEUDO_PERPLEXITY else (100, ".1f")


def spread_table(result: SignificanceResult) -> pd.DataFrame:
    """What two runs differ by when nothing differs: standard deviations between distillations, and between seeds.

    In points; for pseudo-perplexity in nats per token.
    """
    table: dict[str, dict[str, str]] = {}
    for row in result.spreads:
        if row.train == result.largest[row.task]:
            scale, form = _unit(row.task)
            told = [MISSING if sd is None else f"{scale * sd:{form}}" for sd in (row.of_replicates, row.of_seeds)]
            table.setdefault(TITLES.get(row.task, row.task), {})[label(row.group)] = " / ".join(told)
    return pd.DataFrame(table).rename_axis("distillations / seeds")


def scores_by_length_table(result: SignificanceResult, task: str) -> pd.DataFrame:
    """One task's score with its 95 % interval, by group and by length of the test example in tokens."""
    scores = result.by_length[task]
    rows = {
        label(group): [f"{v.score:.3f}{bounds(v.interval, '.3f')}" for v in values]
        for group, values in scores.groups.items()
    }
    columns = [f"{b.low} to {b.high} (n = {b.n})" for b in scores.bins]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis(TITLES.get(task, task))


def mismatch_table(result: SignificanceResult) -> pd.DataFrame:
    """Scores that differ between what fine-tuning reported and what its predictions give; empty if all is well."""
    return pd.DataFrame([row.model_dump() for row in result.mismatches], columns=list(Mismatch.model_fields))


def comparison_table(result: SignificanceResult, family: str) -> pd.DataFrame:
    """Every comparison of a family: difference, interval, p, Holm's p, p of single runs, detectable difference.

    Scores are in points; pseudo-perplexity in nats per token.
    """
    table = []
    for row in result.comparisons:
        if row.family != family or row.train != result.largest[row.task]:
            continue
        scale, form = _unit(row.task)
        table.append(
            {
                "task": TITLES.get(row.task, row.task),
                "pair": f"{label(row.a)} − {label(row.b)}",
                "replicates": _both(row.replicates),
                "runs": _both(row.runs),
                "difference": _difference(row.task, row.difference, row.interval),
                "p": p_value(row.p),
                "Holm": p_value(row.adjusted_p),
                "test over": row.test,
                f"{row.test_per_run}, each run": ", ".join(map(p_value, row.p_per_run)),
                "detectable": f"{scale * row.detectable_difference:{form}}",
                "effect (h)": "" if row.effect_size is None else f"{row.effect_size:+.2f}",
            }
        )
    return pd.DataFrame(table).fillna("")


def _both(counts: Iterable[int]) -> str:
    return " and ".join(map(str, counts))


def calibration_table(result: SignificanceResult) -> pd.DataFrame:
    """Rejection rate of every test by true difference; the first column is the type-I error."""
    frame = pd.DataFrame(result.calibration.rates)
    index = ["data", "test", "offered", "replicates", "spread_ratio"]
    for name, kind in {"replicates": "Int64", "spread_ratio": "Float64"}.items():
        frame[name] = frame[name].astype(kind).astype(object).where(frame[name].notna(), MISSING)
    wide = frame.pivot(index=index, columns="difference", values="rejected")
    wide.columns = pd.Index([f"{100 * float(d):g}" for d in wide.columns], name="difference, points")
    return wide.map(lambda rate: MISSING if pd.isna(rate) else f"{rate:.3f}")


def coverage_table(result: SignificanceResult) -> pd.DataFrame:
    """How often a nominal 95 % interval holds the truth where examples come in clusters."""
    frame = pd.DataFrame(result.calibration.coverage).drop(columns="simulations")
    frame["covered"] = frame["covered"].map("{:.3f}".format)
    frame["interval"] = [f"{low:.3f} to {high:.3f}" for low, high in frame["interval"]]
    return frame.rename(columns={"per_cluster": "examples in each"})
