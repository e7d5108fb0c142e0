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
    """Test score of each model: mean, lowest and highest over seeds, with validation score and training seconds."""
    frame = pd.DataFrame(
        {"model": r.model, "test": r.metrics[scores.metric], "validation": r.validation, "seconds": r.seconds}
        for r in scores.runs
    )
    table = frame.groupby("model", sort=False).agg(
        test=("test", "mean"),
        lowest=("test", "min"),
        highest=("test", "max"),
        validation=("validation", "mean"),
        seconds=("seconds", "median"),
    )
    table.loc["majority baseline", "test"] = scores.majority_baseline
    if scores.lexicon_baseline is not None:
        table.loc["lexicon baseline", "test"] = scores.lexicon_baseline
    return table.round({"test": 4, "lowest": 4, "highest": 4, "validation": 4, "seconds": 1})


def class_table(scores: TaskScores) -> pd.DataFrame:
    """Every further metric of each model, averaged over seeds: per class, and the pre-trained model's own."""
    further = pd.DataFrame({"model": r.model, **r.metrics} for r in scores.runs).drop(columns=scores.metric)
    table = further.groupby("model", sort=False).mean()
    return table.join(pd.DataFrame(scores.extra_metrics).T).round(4)


def cut_table(scores: TaskScores) -> pd.DataFrame:
    """What did not fit each model, per split."""
    rows = {(model, split): counts for model, splits in scores.truncated.items() for split, counts in splits.items()}
    return pd.DataFrame(rows).T.rename_axis(["model", "split"])
