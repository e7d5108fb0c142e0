"""A closer look at one case: one profession, one held-out line, one test example, in every model.

Each function takes a choice and returns a table, from stored results alone; `explore` puts menus around it where
somebody can use them, and shows the first choice where nobody can.
"""

import importlib.util
import os
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from robbertje_lib.evaluation.lines import held_out_lines
from robbertje_lib.experiment.errors import UserError, did_you_mean
from robbertje_lib.experiment.results.finetuning import TEST, Predictions
from robbertje_lib.experiment.results.gender_bias import PronounProbe
from robbertje_lib.experiment.results.pseudo_perplexity import UNIGRAM, TokenLogProbs
from robbertje_lib.experiment.run import Run
from robbertje_lib.models.evaluated import load_evaluated
from robbertje_lib.show.tables.gender_bias import PRONOUNS
from robbertje_lib.tasks import MASK, TaskData

LISTED = 100  # choices in a menu: more than anyone scrolls through
SHOWN, HEADING = 70, 400  # characters of a text in a menu, and above a table
# Set by the servers and editors that show notebooks to somebody: JupyterLab and Notebook, Colab, VS Code.
FRONTENDS = ("JPY_SESSION_NAME", "COLAB_RELEASE_TAG", "VSCODE_PID")
STAGE = "ROBBERTJE_THREADS"  # set where a stage runs by itself, even if a notebook that somebody looks at started it


def explore(show: Callable[..., pd.DataFrame], *fixed: Any, **choices: Mapping[str, Any]) -> Any:
    """`show(*fixed, ...)` with a menu for each further argument; without a frontend, its table for the first choices.

    choices: argument -> what the menu says -> the value to pass. Raises `UserError` if there is nothing to choose.
    """
    for name, options in choices.items():
        if not options:
            raise UserError(f"there is no {name} to choose; run the stage that makes the results")
    if not has_frontend():
        return show(*fixed, **{name: next(iter(options.values())) for name, options in choices.items()})
    import ipywidgets  # part of the extra `lab`: nothing that runs by itself needs it

    wide = ipywidgets.Layout(width="90%")
    menus = {
        name: ipywidgets.Dropdown(options=list(options.items()), description=name, layout=wide)
        for name, options in choices.items()
    }
    return ipywidgets.interactive(lambda **chosen: show(*fixed, **chosen), **menus)


def has_frontend() -> bool:
    """Whether somebody is looking who could use a menu."""
    watched = STAGE not in os.environ and any(name in os.environ for name in FRONTENDS)
    return watched and importlib.util.find_spec("ipywidgets") is not None


def professions(run: Run) -> dict[str, str]:
    """The professions that were probed, those first on which the models' mean log odds lie farthest apart."""
    return {str(profession): str(profession) for profession in _farthest_apart(_bias(run), "profession", "log_odds")}


def _farthest_apart(table: pd.DataFrame, case: str, value: str) -> pd.Index:
    """The cases, first those on which the models' mean values differ most."""
    mean = table.groupby([case, "model"], observed=True)[value].mean().unstack()
    return (mean.max(axis=1) - mean.min(axis=1)).sort_values(ascending=False, kind="stable").index


def pronouns(run: Run, profession: str) -> pd.DataFrame:
    """What every model expects at the mask for one profession: a row per template and model, base form.

    Columns: P(hij), P(zij), P(ze) where the vocabulary has it, the share of zij in hij and zij, `log_odds` and
    `lpbs` (natural log, positive for hij), `rank_difference`. Raises `UserError` for an unknown profession.
    """
    table = _bias(run)
    rows = table[table["profession"] == profession].copy()
    if rows.empty:
        raise UserError(f"'{profession}' was not probed; {did_you_mean(profession, table['profession'].unique())}")
    rows["share of zij"] = rows["p_zij"] / (rows["p_hij"] + rows["p_zij"])
    rows["sentence"] = rows["template"].str.replace("<T>", profession, regex=False)
    columns = [*PRONOUNS, "share of zij", "log_odds", "lpbs", "rank_difference"]
    shown = rows.set_index(["sentence", "model"])[columns].rename(columns=PRONOUNS)
    return shown.sort_index(level="sentence", sort_remaining=False, kind="stable").dropna(axis=1, how="all").round(3)


def _bias(run: Run) -> pd.DataFrame:
    table = PronounProbe.read(run).to_pandas()
    return table[table["form"] == "base"].astype({"model": str, "profession": str})


def line_choices(run: Run) -> dict[str, int]:
    """Held-out lines by number, those first on which the models differ most.

    The distance is that between the best and the worst model in the mean log-probability of a token, the unigram model
    left out. The menu shows how each line begins; the hundred lines that tell most are listed.
    """
    table = TokenLogProbs.read(run).to_pandas()
    ordered = _farthest_apart(table[table["model"] != UNIGRAM], "line", "log_prob")[:LISTED]
    lines = held_out_lines(run, run.profile.pseudo_perplexity.lines)
    return {f"{number}: {_short(lines[number].text, SHOWN)}": int(number) for number in ordered}


def line_log_probs(run: Run, line: int) -> pd.DataFrame:
    """Log-probability (natural) of every token of one line, masked alone: a row a token, a column a model.

    The last row is the sum, the line's pseudo-log-likelihood. A model that cuts the line into other tokens has no value
    but that one. Raises `UserError` for a line that was not scored.
    """
    table = TokenLogProbs.read(run)
    rows = table.filter(pc.equal(table["line"], line)).to_pandas().astype({"model": str})
    if rows.empty:
        raise UserError(f"line {line} was not scored; choose one of explorers.line_choices(run)")
    models = list(dict.fromkeys(rows["model"]))
    first = rows[rows["model"] == models[0]]
    tokenizer = load_evaluated(run, models[0]).tokenizer
    tokens = [tokenizer.decode([int(token)]).strip() or "␣" for token in first["token_id"]]
    columns: dict[str, list[float]] = {}
    for model in models:
        own = rows[rows["model"] == model]
        alike = np.array_equal(own["token_id"], first["token_id"])
        columns[model] = [*(own["log_prob"] if alike else [np.nan] * len(first)), own["log_prob"].sum()]
    places = [*(first["position"] + 1), ""]
    index = pd.MultiIndex.from_arrays([places, [*tokens, "sum"]], names=["place", "token"])
    return pd.DataFrame(columns, index=index).round(2) + 0.0  # no minus before what has been rounded to nothing


def examples(run: Run, task: str, data: TaskData) -> dict[str, str]:
    """Test examples by id, those first on which the runs of the models agree least; the menu shows how each begins.

    The order is by the share of runs that get the example, all of it, right: from one half outwards.
    """
    table = _answers(run, task).to_pandas()
    models = set(run.profile.models) & set(table["model"]) or set(table["model"])
    table = table[table["model"].isin(models)]
    right = [np.array_equal(gold, said) for gold, said in zip(table["gold"], table["prediction"], strict=True)]
    share = table.assign(right=right).groupby("example_id", sort=False)["right"].mean()
    ordered = (share - 0.5).abs().sort_values(kind="stable").index[:LISTED]
    texts = {row["example_id"]: _text(row) for row in data.test}
    if not set(ordered) <= set(texts):
        raise UserError(
            f"the predictions for {task} are on other test examples than the profile's; run 50_finetuning again"
        )
    return {f"{example}: {_short(texts[example], SHOWN)}": str(example) for example in ordered}


def example_answers(run: Run, task: str, example: str) -> pd.DataFrame:
    """What every run of a model, control or baseline on the largest training split answered to one test example.

    A row a model and a column a run (its seeds in their order), the gold label in the first row; a model's own answer
    without fine-tuning stands in the row `zero_shot/` and its name. For token tasks a row a word instead, and a column
    a model: its seeds' label, or all their labels with how many seeds gave each. Raises `UserError` for an example
    that is not in the task's test split.
    """
    table = _answers(run, task)
    rows = table.filter(pc.equal(table["example_id"], example)).to_pandas()
    if rows.empty:
        raise UserError(f"{task} has no test example '{example}'; choose one of explorers.examples(run, task, data)")
    models = list(dict.fromkeys(rows["model"]))
    gold = rows["gold"].iloc[0]
    if isinstance(gold, str):
        # Replicates have seeds of their own: a column a seed would be almost empty.
        rows["run"] = "run " + (rows.groupby("model").cumcount() + 1).astype(str)
        rows["prediction"] = rows["prediction"].fillna("not asked")
        wide = (
            rows.pivot(index="model", columns="run", values="prediction").loc[models, rows["run"].unique()].fillna("")
        )
        wide.columns.name = None
        return pd.concat([pd.DataFrame(gold, index=["gold"], columns=wide.columns), wide]).rename_axis("model")
    said = {model: np.stack(rows.loc[rows["model"] == model, "prediction"].tolist()) for model in models}
    votes = {model: [_vote(labels) for labels in seeds.T] for model, seeds in said.items()}
    return pd.DataFrame({"gold": list(gold), **votes}, index=pd.RangeIndex(1, len(gold) + 1, name="word"))


def _answers(run: Run, task: str) -> pa.Table:
    """The answers to the test split of what has learnt from the largest training split, or from none."""
    table = Predictions.read(run, task=task)
    sizes = pa.array([0, pc.max(table["train"]).as_py()], pa.int32())
    return table.filter(pc.and_(pc.equal(table["test_set"], TEST), pc.is_in(table["train"], sizes)))


def example_predictions(run: Run, task: str, data: TaskData, example: str) -> pd.DataFrame:
    """`predictions` with the words of a token task, or the text of any other, written beside them."""
    table = example_answers(run, task, example)
    row = next(row for row in data.test if row["example_id"] == example)
    if data.kind == "token_classification":
        return table.set_axis(pd.Index(row["tokens"], name="word"))
    table.columns = pd.MultiIndex.from_product([[_short(_text(row), HEADING)], table.columns])
    return table


def _vote(labels: np.ndarray) -> str:
    counted = Counter(labels.tolist()).most_common()
    return counted[0][0] if len(counted) == 1 else ", ".join(f"{label} ×{count}" for label, count in counted)


def _text(row: Mapping[str, Any]) -> str:
    if "tokens" in row:
        return " ".join(row["tokens"])
    return " / ".join(row[column] for column in ("text", "text_pair") if row.get(column)).replace(MASK, "____")


def _short(text: str, characters: int) -> str:
    return text if len(text) <= characters else f"{text[:characters]}… ({len(text) - characters:,} more)"
