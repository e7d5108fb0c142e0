"""Named entities in IOB2 labels, and how many of them a system found, under the CoNLL-2002 definition.

An entity counts as found when its type, its first word and its last word are all right. A label sequence
that IOB2 forbids (`I-PER` after `O`, or after an entity of another type) is read as the shared task's
scorer `conlleval` reads it: such a label begins an entity.
"""

from collections.abc import Sequence

import numpy as np

Entity = tuple[str, int, int]


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
