"""Tables of `50_finetuning`: a task's examples and scores."""

import numpy as np
import pandas as pd

from robbertje_lib.experiment.results.finetuning import TaskScores
from robbertje_lib.tasks import TaskData

SHOWN = 200  # characters of a text


def split_table(data: TaskData) -> pd.DataFrame:
    """Examples per split, those the profile's sizes left aside, and examples (or words) per label."""
    counts = {"examples": data.counts.examples, "not sampled": data.counts.not_sampled}
    return pd.DataFrame(counts).join(pd.DataFrame(data.counts.labels).T).rename_axis("split")


def dropped_table(data: TaskData) -> pd.DataFrame:
    """What the reader left out, by reason."""
    return pd.DataFrame({"left out": pd.Series(data.counts.dropped, dtype=int)})


def examples_table(data: TaskData, rows: int = 5) -> pd.DataFrame:
    """Some training examples, long texts cut for the table; the words of a sentence with their labels."""
    drawn = np.random.default_rng(0).choice(len(data.train), min(rows, len(data.train)), replace=False)
    frame = data.train.select(sorted(drawn)).to_pandas().set_index("example_id")
    if data.kind == "token_classification":
        pairs = zip(frame["tokens"], frame["labels"], strict=True)
        frame["words"] = [" ".join(f"{t}/{label}" for t, label in zip(*pair, strict=True)) for pair in pairs]
        return frame[["words"]]
    for name in frame.columns.intersection(["text", "text_pair"]):
        frame[name] = frame[name].where(frame[name].str.len() <= SHOWN, frame[name].str.slice(0, SHOWN) + " …")
    return frame


def seed_score_table(scores: TaskScores) -> pd.DataFrame:
    """Scores on the largest training split of every model, control (`random_`) and baseline, in this order.

    `test`: mean over seeds, with the `lowest` and `highest`; then the validation score, the median of the training
    seconds, and the mean score on each further test set.
    """
    runs = [run for run in scores.runs if run.train == scores.largest]
    rows = [(r.model, r.metrics[scores.metric], r.validation, r.seconds, r.further) for r in runs]
    rows += [(b.name, b.score, b.validation, np.nan, b.further) for b in scores.baselines if b.train == scores.largest]
    frame = pd.DataFrame(rows, columns=["model", "test", "validation", "seconds", "further"])
    table = frame.groupby("model", sort=False).agg(
        test=("test", "mean"),
        lowest=("test", "min"),
        highest=("test", "max"),
        validation=("validation", "mean"),
        seconds=("seconds", "median"),
    )
    further = pd.DataFrame(frame["further"].tolist()).groupby(frame["model"], sort=False).mean()
    return table.join(further).round(4).round({"seconds": 1})


def size_table(scores: TaskScores) -> pd.DataFrame:
    """Mean test score of every model, control and baseline (rows) at every size of the training split (columns)."""
    rows = [(run.model, run.train, run.metrics[scores.metric]) for run in scores.runs]
    rows += [(baseline.name, baseline.train, baseline.score) for baseline in scores.baselines]
    frame = pd.DataFrame(rows, columns=["model", "training examples", "test"])
    table = frame.groupby(["model", "training examples"], sort=False)["test"].mean().unstack()
    return table.loc[frame["model"].unique(), scores.sizes].round(4)


def restart_table(scores: TaskScores) -> pd.DataFrame:
    """Models and controls with runs that stayed at chance, by size: runs, restarts, and runs that none of them helped.

    Empty where every run left chance at once.
    """
    rows = [(run.model, run.train, run.restarts, run.at_chance) for run in scores.runs]
    frame = pd.DataFrame(rows, columns=["model", "training examples", "restarts", "at chance"])
    table = frame.groupby(["model", "training examples"], sort=False).agg(
        **{"runs": ("restarts", "size"), "restarts": ("restarts", "sum"), "still at chance": ("at chance", "sum")}
    )
    return table[(table["restarts"] > 0) | (table["still at chance"] > 0)]


def baseline_table(scores: TaskScores) -> pd.DataFrame:
    """What every baseline chose on the validation split at every size, and its scores."""
    rows = {
        (baseline.name, baseline.train): {
            "chosen": ", ".join(f"{name} {value}" for name, value in baseline.settings.items()),
            "validation": baseline.validation,
            "test": baseline.score,
        }
        for baseline in sorted(scores.baselines, key=lambda baseline: baseline.name)
    }
    return pd.DataFrame(rows).T.rename_axis(["baseline", "training examples"]).infer_objects().round(4)


def class_table(scores: TaskScores) -> pd.DataFrame:
    """Every further metric of each model on the largest training split, averaged over seeds.

    They are those per class, and the pre-trained model's own.
    """
    runs = [run for run in scores.runs if run.train == scores.largest]
    further = pd.DataFrame({"model": r.model, **r.metrics} for r in runs).drop(columns=scores.metric)
    table = further.groupby("model", sort=False).mean()
    return table.join(pd.DataFrame(scores.extra_metrics).T).round(4)


def cut_table(scores: TaskScores) -> pd.DataFrame:
    """What did not fit each model, per split."""
    rows = {(model, split): counts for model, splits in scores.truncated.items() for split, counts in splits.items()}
    return pd.DataFrame(rows).T.rename_axis(["model", "split"])
