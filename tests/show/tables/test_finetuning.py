"""The tables of fine-tuning show what the scores hold."""

from datasets import Dataset

from robbertje_lib.experiment.results.finetuning import FinetuningRun, HyperParameters, SplitCounts, TaskScores
from robbertje_lib.show.tables import finetuning
from robbertje_lib.tasks import TaskData, get_task

HYPER = HyperParameters(
    learning_rate=1e-3, weight_decay=0.0, accumulation=1, epochs=1.0, batch_size=8, evaluations=1, early_stopping=0
)
COUNTS = SplitCounts(
    examples={"train": 3, "validation": 1, "test": 1},
    not_sampled={"train": 7, "validation": 0, "test": 0},
    dropped={"duplicate": 2},
    labels={split: {"O": 2, "B-LOC": 1} for split in ("train", "validation", "test")},
)


def scores(lexicon: float | None = 0.4) -> TaskScores:
    def done(model: str, seed: int, f1: float) -> FinetuningRun:
        metrics = {"f1": f1, "precision": f1 / 2}
        return FinetuningRun(
            model=model, seed=seed, metrics=metrics, validation=0.5, hyper_parameters=HYPER, updates=3, seconds=seed
        )

    return TaskScores(
        task="ner",
        kind="token_classification",
        metric="f1",
        labels=["O", "B-LOC"],
        counts=COUNTS,
        majority_baseline=0.0,
        lexicon_baseline=lexicon,
        truncated={"teacher": {"test": {"windows": 5}}},
        extra_metrics={"teacher": {"zero_shot_n": 4}},
        precision="fp32",
        runs=[done("teacher", 1, 0.6), done("teacher", 2, 0.8), done("merged", 1, 0.5)],
    )


def test_scores_stand_over_seeds_and_above_their_baselines() -> None:
    table = finetuning.seed_score_table(scores())
    assert table.index.tolist() == ["teacher", "merged", "majority baseline", "lexicon baseline"]
    assert table.loc["teacher", ["test", "lowest", "highest", "seconds"]].tolist() == [0.7, 0.6, 0.8, 1.5]
    assert table.loc["lexicon baseline", "test"] == 0.4
    assert "lexicon baseline" not in finetuning.seed_score_table(scores(None)).index


def test_further_metrics_and_what_was_cut() -> None:
    classes = finetuning.class_table(scores())
    assert classes.loc["teacher"].to_dict() == {"precision": 0.35, "zero_shot_n": 4}
    assert finetuning.cut_table(scores()).loc[("teacher", "test"), "windows"] == 5


def test_examples_are_counted_and_shown() -> None:
    rows = [{"example_id": str(i), "tokens": ["in", "Gent"], "labels": ["O", "B-LOC"]} for i in range(3)]
    words = Dataset.from_list(rows)
    data = TaskData(get_task("ner"), "token_classification", ("O", "B-LOC"), words, words, words, COUNTS)
    assert finetuning.split_table(data).loc["train"].tolist() == [3, 7, 2, 1]
    assert finetuning.dropped_table(data).loc["duplicate", "left out"] == 2
    assert finetuning.examples_table(data, 2)["words"].tolist() == ["in/O Gent/B-LOC"] * 2
    texts = Dataset.from_list([{"example_id": "1", "text": "a" * 300, "label": "O"}])
    shown = finetuning.examples_table(
        TaskData(get_task("dbrd"), "text_classification", ("O",), texts, texts, texts, COUNTS)
    )
    assert shown.loc["1", "text"] == "a" * finetuning.SHOWN + " …" and shown.loc["1", "label"] == "O"
