"""Results as tables, for notebooks and the report: numbers written out as people read them."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from robbertje_lib.figure_style import label
from robbertje_lib.published import TITLES, paper_comparisons

Result = Mapping[str, Any]


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
