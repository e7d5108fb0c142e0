"""The tables of fine-tuning show what the scores hold."""

from datasets import Dataset

from robbertje_lib.experiment.results.finetuning import (
    BaselineScore,
    FinetuningRun,
    HyperParameters,
    SplitCounts,
    TaskScores,
)
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


def scores() -> TaskScores:
    def done(model: str, seed: int, f1: float, train: int = 3, restarts: int = 0) -> FinetuningRun:
        metrics = {"f1": f1, "precision": f1 / 2}
        further = {"elsewhere": f1 / 4} if train == 3 else {}
        return FinetuningRun(
            model=model, seed=seed, train=train, metrics=metrics, validation=0.5, hyper_parameters=HYPER,
            further=further, updates=3, seconds=seed, restarts=restarts, at_chance=restarts == 3,
        )  # fmt: skip

    baselines = [
        BaselineScore(
            name=name, train=train, validation=score + 0.1, score=score, settings=settings,
            further={"elsewhere": 0.1} if train == 3 else {},
        )
        for train in (2, 3)
        for name, score, settings in (("majority", 0.0, {}), ("word_list", train / 10, {"least_count": 2}))
    ]  # fmt: skip
    return TaskScores(
        task="ner",
        kind="token_classification",
        metric="f1",
        labels=["O", "B-LOC"],
        counts=COUNTS,
        sizes=[2, 3],
        further_tests={"elsewhere": 1},
        baselines=baselines,
        truncated={"teacher": {"test": {"windows": 5}}},
        extra_metrics={"teacher": {"zero_shot_n": 4}},
        precision="fp32",
        runs=[
            done("teacher", 1, 0.4, 2), done("teacher", 1, 0.6), done("teacher", 2, 0.8),
            done("merged", 1, 0.3, 2), done("merged", 1, 0.5),
            done("random_teacher", 1, 0.1, 2, restarts=3), done("random_teacher", 1, 0.2, restarts=1),
        ],
    )  # fmt: skip


def test_scores_stand_over_seeds_and_above_controls_and_baselines() -> None:
    table = finetuning.seed_score_table(scores())
    assert table.index.tolist() == ["teacher", "merged", "random_teacher", "majority", "word_list"]
    assert table.loc["teacher", ["test", "lowest", "highest", "seconds", "elsewhere"]].tolist() == [
        0.7,
        0.6,
        0.8,
        1.5,
        0.175,
    ]
    assert table.loc["word_list", ["test", "validation", "elsewhere"]].tolist() == [0.3, 0.4, 0.1]


def test_runs_that_stayed_at_chance_are_counted_and_no_others_are_shown() -> None:
    table = finetuning.restart_table(scores())
    assert table.to_dict("index") == {
        ("random_teacher", 2): {"runs": 1, "restarts": 3, "still at chance": 1},
        ("random_teacher", 3): {"runs": 1, "restarts": 1, "still at chance": 0},
    }


def test_every_size_has_its_scores_and_baselines_what_they_chose() -> None:
    sizes = finetuning.size_table(scores())
    assert sizes.index.tolist() == ["teacher", "merged", "random_teacher", "majority", "word_list"]
    assert sizes.columns.tolist() == [2, 3]
    assert sizes.loc["teacher"].tolist() == [0.4, 0.7] and sizes.loc["word_list"].tolist() == [0.2, 0.3]
    chosen = finetuning.baseline_table(scores())
    assert chosen.index.tolist() == [("majority", 2), ("majority", 3), ("word_list", 2), ("word_list", 3)]
    assert chosen.loc[("word_list", 3)].tolist() == ["least_count 2", 0.4, 0.3]


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
