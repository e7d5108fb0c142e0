"""Results as tables, for notebooks and the report: numbers written out as people read them."""

import itertools
import re
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from IPython import get_ipython

from robbertje_lib.conclusions.published import TITLES, paper_comparisons
from robbertje_lib.experiment.words import duration
from robbertje_lib.show.figure_style import label

Result = Mapping[str, Any]
LOSSES = ("loss", "kl", "mlm", "cosine")
LEFT = "text-align: left"
SHORT = 24  # characters of a text that is kept on one line


def format_in_notebook() -> None:
    """Let the notebook show tables as `as_html` does. Elsewhere than in a notebook it does nothing."""
    shell = get_ipython()
    if shell is not None:
        formatter = shell.display_formatter.formatters["text/html"]
        formatter.for_type(pd.DataFrame, as_html)
        formatter.for_type(pd.Series, lambda series: as_html(series.to_frame()))


def as_html(frame: pd.DataFrame) -> str:
    """A table as people read it: whole, text to the left, a dash for what is missing, no row numbers.

    An empty table is the word "none". Everything that comes from data is escaped.
    """
    if frame.empty:
        return "<p><em>none</em></p>"
    numbered = isinstance(frame.index, pd.RangeIndex) and frame.index.name is None
    with pd.option_context("display.max_colwidth", None):
        html = frame.to_html(na_rep="–", index=not numbered, border=0, justify="left")
    head, body = html.split("</thead>")
    styles = [_style(frame.iloc[:, place]) for place in range(frame.shape[1])]
    rows = head.split("</tr>")
    levels = frame.columns.nlevels
    if levels == 1:
        names = rows[0].count("<th>") - len(styles)  # those of the index come before
        aligned = itertools.chain([LEFT] * names, (style.partition(";")[0] for style in styles))
        rows[0] = re.sub("<th>", lambda _: f'<th style="{next(aligned)}">', rows[0])
    elif all(style.startswith(LEFT) for style in styles):
        rows[:levels] = map(_to_the_left, rows[:levels])
    head = "</tr>".join([*rows[:levels], *map(_to_the_left, rows[levels:])])
    cells = itertools.cycle(styles)
    body = re.sub("<td>", lambda _: f'<td style="{next(cells)}">', body)
    return f"{head}</thead>{_to_the_left(body)}"


def _to_the_left(html: str) -> str:
    return re.sub(r"<th\b", f'<th style="{LEFT}"', html)


def _style(column: pd.Series) -> str:
    """How a column is set: numbers to the right, text to the left, and short text on one line."""
    if pd.api.types.is_numeric_dtype(column):
        return "text-align: right"
    longest = column.astype(str).str.len().max()
    return LEFT + ("; white-space: nowrap" if longest <= SHORT else "")


def values_table(values: Result, name: str) -> pd.DataFrame:
    """Names and values of any kind, one a row, in a column `name`: whole numbers with separators, floats as short."""
    return pd.DataFrame({name: [_written(value) for value in values.values()]}, index=pd.Index(list(values)))


def _written(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return (", ".join(map(_written, value)) or "none") if isinstance(value, (list, tuple)) else str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"


def training_table(result: Result, name: str) -> pd.DataFrame:
    """Size, length, speed and memory of a training run; from what `teacher.json` or a student's file holds."""
    return values_table(
        {
            "parameters": result["parameters"],
            "updates": result["updates"],
            "real tokens seen": result["tokens"],
            "time": duration(result["wall_seconds"]),
            "real tokens a second": round(result["tokens_per_second"]),
            "positions that are no padding": f"{result['real_token_share']:.1%}",
            "memory at its highest": f"{result['peak_rss_bytes'] / 1e9:.2f} GB",
        },
        name,
    )


def curve_table(points: Sequence[Result], every: int = 1) -> pd.DataFrame:
    """Every n-th point of a training curve by update, and the last one."""
    chosen = {id(point): point for point in [*points[::every], *points[-1:]]}
    frame = pd.DataFrame(list(chosen.values())).set_index("update")
    return frame.round({"seconds": 1, "training_seconds": 1, "pseudo_perplexity": 2} | dict.fromkeys(LOSSES, 3))


def number(claim: Result) -> str:
    """A claim's headline with its interval and unit, such as `+1.2 points [0.3, 2.1]`; a dash where there is none."""
    if claim["ours"] is None:
        return "–"
    sign = "" if claim["unit"] == "x" else "+"
    unit = {"x": "×", "points": " points"}.get(claim["unit"], f" {claim['unit']}".rstrip())
    digits = {"points": 1, "nats/token": 3}.get(claim["unit"], 2)
    told = f"{claim['ours']:{sign}.{digits}f}{unit}"
    if claim["interval"]:
        low, high = (f"{bound:{sign}.{digits}f}" for bound in claim["interval"])
        told += f" [{low}, {high}]"
    return told.replace("-", "−")


def p_value(value: float | None) -> str:
    """A p value to three places; a dash where there is none."""
    return "–" if value is None else "< 0.001" if value < 0.001 else f"{value:.3f}"


def score_table(significance: Result) -> pd.DataFrame:
    """Model by task: mean score over seeds in %, with its interval over seeds and examples."""
    frame = pd.DataFrame(significance["scores"])
    frame["told"] = [
        f"{100 * row.score:.1f} [{100 * row.interval[0]:.1f}, {100 * row.interval[1]:.1f}]"
        for row in frame.itertuples()
    ]
    wide = frame.pivot(index="model", columns="task", values="told")
    return _named(wide.loc[list(frame["model"].unique()), list(frame["task"].unique())])


def _named(frame: pd.DataFrame) -> pd.DataFrame:
    frame.index = pd.Index([label(name) for name in frame.index], name="model")
    frame.columns = pd.Index([TITLES.get(name, name) for name in frame.columns])
    return frame


def mismatch_table(significance: Result) -> pd.DataFrame:
    """Scores that differ between what fine-tuning reported and what its predictions give; empty if all is well."""
    return pd.DataFrame(significance["mismatches"], columns=["task", "model", "seed", "reported", "recomputed"])


def comparison_table(significance: Result, family: str) -> pd.DataFrame:
    """Every comparison of a family: difference, interval, p, Holm's p, p of each seed alone, detectable difference.

    Scores are in points; pseudo-perplexity in nats per token.
    """
    rows = [row for row in significance["comparisons"] if row["family"] == family]
    table = []
    for row in rows:
        scale, digits = (1, 3) if row["metric"] == "nats_per_token" else (100, 1)
        value, low, high = (scale * v for v in (row["difference"], *row["interval"]))
        table.append(
            {
                "task": TITLES.get(row["task"], row["task"]),
                "pair": f"{label(row['a'])} − {label(row['b'])}",
                "difference": f"{value:+.{digits}f} [{low:+.{digits}f}, {high:+.{digits}f}]",
                "p": p_value(row["p"]),
                "Holm": p_value(row["adjusted_p"]),
                f"{row['test_per_seed']}, each seed": ", ".join(map(p_value, row["p_per_seed"])),
                "detectable": f"{scale * row['detectable_difference']:.{digits}f}",
                "effect (h)": "" if row["effect_size"] is None else f"{row['effect_size']:+.2f}",
            }
        )
    return pd.DataFrame(table).fillna("")


def calibration_table(study: Result) -> pd.DataFrame:
    """Rejection rate of every test by true difference; the first column is the type-I error."""
    frame = pd.DataFrame(study["rates"])
    wide = frame.pivot(index=["data", "test", "offered"], columns="difference", values="rejected")
    wide.columns = pd.Index([f"{100 * float(d):g}" for d in wide.columns], name="difference, points")
    return wide.map("{:.3f}".format)


def claims_table(result: Result) -> pd.DataFrame:
    """A row a claim and setting: verdict, whether another setting has another, our number, why, what is published."""
    return pd.DataFrame(
        [
            {
                "claim": row["claim"],
                "setting": row["setting"],
                "verdict": row["verdict"].replace("_", " "),
                "across settings": "CHANGES" if row["changes"] else "",
                "this run": number(row),
                "why": row["reason"],
                "published": row["published"],
            }
            for row in result["claims"]
        ]
    )


def setting_table(result: Result) -> pd.DataFrame:
    """Verdict of every claim in every setting, and where the conclusion changes; a dash where it cannot be tested."""
    frame = pd.DataFrame(result["claims"])
    frame["verdict"] = frame["verdict"].str.replace("_", " ")
    wide = frame.pivot(index="claim", columns="setting", values="verdict").fillna("–")
    wide = wide.loc[frame["claim"].unique(), frame["setting"].unique()]
    changes = frame.groupby("claim")["changes"].any()
    wide["conclusion"] = ["CHANGES" if changes[claim] else "" for claim in wide.index]
    return wide.rename(columns=lambda name: str(name).replace("_", " ")).rename_axis(columns=None)


def instruments_table(result: Result) -> pd.DataFrame:
    """Instrument, planted truth, what was read, and whether it passed."""
    frame = pd.DataFrame(result["instruments"])
    frame["pass"] = frame["pass"].map({True: "pass", False: "FAIL"})
    return frame.rename(columns={"planted": "planted truth", "pass": "result"})


def paper_table() -> pd.DataFrame:
    """Every pair of the paper's main table with what its test sizes allow."""
    return pd.DataFrame(
        [
            {
                "task": TITLES[row["task"]],
                "pair": f"{label(row['a'])} − {label(row['b'])}",
                "points": f"{100 * row['difference']:+.1f}",
                "p": p_value(row["p"]),
                "Holm": p_value(row.get("adjusted_p")),
                "n": row["n"] or "unknown",
            }
            for row in paper_comparisons()
        ]
    )


def confound_table(result: Result) -> pd.DataFrame:
    """What else differs between the paper's models, and what it could explain."""
    frame = pd.DataFrame(result["published"]["confounds"])[["what", "explains", "certainty"]]
    return frame.rename(columns={"what": "what differs", "explains": "could explain"})
