"""A task's examples and scores as tables, for the notebook."""

from typing import Any

import numpy as np
import pandas as pd

from robbertje_lib.tasks import TaskData

SHOWN = 200  # characters of a text


def split_table(data: TaskData) -> pd.DataFrame:
    """Examples per split, those the profile's sizes left aside, and examples (or words) per label."""
    counts = {"examples": data.counts["examples"], "not sampled": data.counts["not_sampled"]}
    frame = pd.DataFrame(counts).join(pd.DataFrame(data.counts["labels"]).T)
    return frame.rename_axis("split")


def dropped_table(data: TaskData) -> pd.DataFrame:
    """What the reader left out, by reason."""
    return pd.DataFrame({"left out": pd.Series(data.counts["dropped"], dtype=int)})


def sample_table(data: TaskData, rows: int = 5) -> pd.DataFrame:
    """Some training examples, long texts cut for the table; the words of a sentence with their labels."""
    drawn = np.random.default_rng(0).choice(len(data.train), min(rows, len(data.train)), replace=False)
    frame = data.train.select(sorted(drawn)).to_pandas()
    if data.kind == "token_classification":
        pairs = zip(frame["tokens"], frame["labels"], strict=True)
        frame["words"] = [" ".join(f"{t}/{label}" for t, label in zip(*pair, strict=True)) for pair in pairs]
        return frame[["example_id", "words"]].set_index("example_id")
    frame = frame.set_index("example_id")
    texts = frame.columns.intersection(["text", "text_pair"])
    cut = {
        name: frame[name].where(frame[name].str.len() <= SHOWN, frame[name].str.slice(0, SHOWN) + " …")
        for name in texts
    }
    return frame.assign(**cut)


def score_table(scores: dict[str, Any]) -> pd.DataFrame:
    """Test score of each model: mean, lowest and highest over seeds, with validation score and training seconds."""
    metric = scores["metric"]
    frame = pd.DataFrame(
        {
            "model": r["model"],
            "test": r["metrics"][metric],
            "validation": r["validation"][metric],
            "seconds": r["seconds"],
        }
        for r in scores["runs"]
    )
    table = frame.groupby("model", sort=False).agg(
        test=("test", "mean"),
        lowest=("test", "min"),
        highest=("test", "max"),
        validation=("validation", "mean"),
        seconds=("seconds", "median"),
    )
    baselines = {name: scores[name] for name in ("majority_baseline", "lexicon_baseline") if name in scores}
    for name, value in baselines.items():
        table.loc[name.replace("_", " "), "test"] = value
    return table.round({"test": 4, "lowest": 4, "highest": 4, "validation": 4, "seconds": 1})


def class_table(scores: dict[str, Any]) -> pd.DataFrame:
    """Every further metric of each model, averaged over seeds: per class, and the pre-trained model's own."""
    further = [
        {"model": r["model"], **{k: v for k, v in r["metrics"].items() if k != scores["metric"]}}
        for r in scores["runs"]
    ]
    table = pd.DataFrame(further).groupby("model", sort=False).mean()
    return table.join(pd.DataFrame(scores["extra_metrics"]).T).round(4)


def cut_table(scores: dict[str, Any]) -> pd.DataFrame:
    """What did not fit each model, per split."""
    rows = {(model, split): counts for model, splits in scores["truncated"].items() for split, counts in splits.items()}
    return pd.DataFrame(rows).T.rename_axis(["model", "split"])


def length_table(scores: dict[str, Any]) -> pd.DataFrame:
    """Score and 95 % interval by length of the test example, in tokens."""
    columns = [f"{b['low']} to {b['high']} (n = {b['n']})" for b in scores["by_length"]["bins"]]
    shown = {
        model: [f"{v['score']:.3f} [{v['interval'][0]:.3f}, {v['interval'][1]:.3f}]" for v in values]
        for model, values in scores["by_length"]["models"].items()
    }
    return pd.DataFrame.from_dict(shown, orient="index", columns=columns).rename_axis("model")
