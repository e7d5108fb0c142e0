"""Scores from stored predictions: per-example counts first, so that statistics can resample them.

Every metric here is a function of summed per-example counts: accuracy of (right, all) words or examples, F1
of (found, made up, missed) entities. A resampled score is the same function of a resampled sum.

An entity counts as found when its type, its first word and its last word are all right (CoNLL-2002). A label sequence
that IOB2 forbids (`I-PER` after `O`, or after an entity of another type) is read as the shared task's scorer
`conlleval` reads it: such a label begins an entity.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from robbertje_lib.statistics.resampling import Metric, f1, ratio

Entity = tuple[str, int, int]
METRICS: dict[str, Metric] = {"accuracy": ratio, "f1": f1}


def example_counts(metric: str, gold: Sequence[Any], predicted: Sequence[Any]) -> np.ndarray:
    """Per-example counts of `metric`.

    `gold` and `predicted` hold one label an example, or a list of labels a sentence. Returns int64 of shape
    (n_examples, 2) for accuracy: right and all; (n_examples, 3) for F1: see `entity_counts`.
    """
    if metric == "f1":
        return entity_counts(gold, predicted)
    pairs = zip(map(_labels, gold), map(_labels, predicted), strict=True)
    rows = [(sum(a == b for a, b in zip(right, given, strict=True)), len(right)) for right, given in pairs]
    return np.array(rows, dtype=np.int64).reshape(-1, 2)


def task_score(metric: str, gold: Sequence[Any], predicted: Sequence[Any]) -> float:
    """The metric over all examples, 0 to 1."""
    return float(METRICS[metric](example_counts(metric, gold, predicted).sum(axis=0, dtype=np.float64)))


def scores_per_class(labels: Sequence[str], gold: Sequence[str], predicted: Sequence[str]) -> dict[str, float]:
    """Precision, recall and F1 of every class, as `recall_<label>` and so on; 0 where nothing can be divided."""
    right = Counter(a for a, b in zip(gold, predicted, strict=True) if a == b)
    counts = right, Counter(predicted), Counter(gold)
    scores = {}
    for label in labels:
        hits, offered, wanted = (count[label] for count in counts)
        scores[f"precision_{label}"] = hits / offered if offered else 0.0
        scores[f"recall_{label}"] = hits / wanted if wanted else 0.0
        scores[f"f1_{label}"] = 2 * hits / (offered + wanted) if offered + wanted else 0.0
    return scores


def further_scores(
    metric: str, labels: Sequence[str], gold: Sequence[Any], predicted: Sequence[Any]
) -> dict[str, float]:
    """What stands behind the metric: precision and recall of entities, or the scores of every class."""
    if metric == "f1":
        hits, made_up, missed = example_counts(metric, gold, predicted).sum(axis=0).tolist()
        return {"precision": hits / max(hits + made_up, 1), "recall": hits / max(hits + missed, 1)}
    return scores_per_class(labels, _all_labels(gold), _all_labels(predicted))


def _labels(row: str | Sequence[str]) -> Sequence[str]:
    return [row] if isinstance(row, str) else row


def _all_labels(rows: Sequence[str | Sequence[str]]) -> list[str]:
    return [label for row in rows for label in _labels(row)]


def entities(labels: Sequence[str]) -> list[Entity]:
    """The entities of one sentence: (type, first word, last word), in order."""
    spans: list[Entity] = []
    kind, first = "", 0
    for position, label in enumerate([*labels, "O"]):
        prefix, _, this = label.partition("-")
        if kind and not (prefix == "I" and this == kind):
            spans.append((kind, first, position - 1))
            kind = ""
        if prefix in {"B", "I"} and not kind:
            kind, first = this, position
    return spans


def entity_counts(gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]) -> np.ndarray:
    """Per sentence: entities found, entities made up, entities missed.

    Returns (n_sentences, 3) int64: true positives, false positives, false negatives. Raises `ValueError`
    when a sentence has more predicted labels than gold ones, or fewer.
    """
    counts = np.zeros((len(gold), 3), dtype=np.int64)
    for row, (right, given) in enumerate(zip(gold, predicted, strict=True)):
        if len(right) != len(given):
            raise ValueError(f"sentence {row}: {len(right)} gold labels and {len(given)} predicted ones")
        wanted, offered = set(entities(right)), set(entities(given))
        hits = len(wanted & offered)
        counts[row] = hits, len(offered) - hits, len(wanted) - hits
    return counts
