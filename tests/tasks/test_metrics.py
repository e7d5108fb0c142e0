"""Scores from gold labels and predictions."""

import pytest

from robbertje_lib.tasks import ner
from robbertje_lib.tasks.metrics import further_scores, scores_per_class, task_score


def test_scores() -> None:
    assert task_score("accuracy", ["a", "b", "a", "a"], ["a", "a", "a", "a"]) == 0.75
    assert task_score("accuracy", [["a", "b"], ["a"]], [["a", "a"], ["a"]]) == pytest.approx(2 / 3)
    classes = scores_per_class(("a", "b", "c"), ["a", "b", "b"], ["a", "a", "b"])
    assert (classes["precision_a"], classes["recall_a"], classes["f1_b"], classes["f1_c"]) == (0.5, 1, 2 / 3, 0)


def test_further_scores() -> None:
    gold, predicted = [["B-LOC", "O", "B-PER"]], [["B-LOC", "B-PER", "O"]]
    assert further_scores("f1", ner.LABELS, gold, predicted) == {"precision": 0.5, "recall": 0.5}
    assert further_scores("accuracy", ("DET", "NOUN"), [["DET", "NOUN"]], [["DET", "DET"]])["recall_NOUN"] == 0
    assert further_scores("accuracy", ("a", "b"), ["a", "b"], ["a", "a"])["precision_a"] == 0.5
