"""Entity F1 against seqeval on valid IOB2, and against the shared task's scoring rules on anything."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from seqeval.metrics import f1_score
from seqeval.scheme import IOB2

from robbertje_lib.statistics.resampling import f1
from robbertje_lib.tasks.metrics import entities, entity_counts
from robbertje_lib.tasks.ner import LABELS

any_labels = st.lists(st.sampled_from(LABELS), min_size=1, max_size=12)


def valid(labels: list[str]) -> list[str]:
    """The labels with every forbidden `I-` turned into a `B-`."""
    fixed: list[str] = []
    for label in labels:
        begins = label.startswith("I-") and (not fixed or fixed[-1][2:] != label[2:])
        fixed.append(f"B-{label[2:]}" if begins else label)
    return fixed


def paired(labels: st.SearchStrategy[list[str]]) -> st.SearchStrategy[list[tuple[list[str], list[str]]]]:
    """Sentences with gold and predicted labels of one length."""
    both = st.tuples(labels, labels).map(lambda pair: tuple(side[: min(map(len, pair))] for side in pair))
    return st.lists(both, min_size=1, max_size=5)


def conlleval(gold: list[list[str]], predicted: list[list[str]]) -> tuple[int, int, int]:
    """Found, made up, missed by the rules of conlleval.pl: chunk ends and starts seen from word to word."""

    def ends(before: str, after: str) -> bool:
        (tag, kind), (next_tag, next_kind) = split(before), split(after)
        return tag in {"B", "I"} and (next_tag in {"B", "O"} or kind != next_kind)

    def starts(before: str, after: str) -> bool:
        (tag, kind), (next_tag, next_kind) = split(before), split(after)
        return next_tag == "B" or (next_tag == "I" and (tag == "O" or kind != next_kind))

    def split(label: str) -> tuple[str, str]:
        return ("O", "") if label == "O" else (label[0], label[2:])

    right = found_gold = found_guess = 0
    for sentence, guess in zip(gold, predicted, strict=True):
        open_together = False
        steps = zip(["O", *sentence], ["O", *guess], [*sentence, "O"], [*guess, "O"], strict=True)
        for before, guess_before, after, guess_after in steps:
            if open_together:
                both_end = ends(before, after) and ends(guess_before, guess_after)
                if both_end:
                    right += 1
                if (
                    both_end
                    or ends(before, after) != ends(guess_before, guess_after)
                    or split(after)[1] != split(guess_after)[1]
                ):
                    open_together = False
            start, guess_start = starts(before, after), starts(guess_before, guess_after)
            if start and guess_start and split(after)[1] == split(guess_after)[1]:
                open_together = True
            found_gold += start
            found_guess += guess_start
    return right, found_guess - right, found_gold - right


@given(paired(any_labels))
def test_counts_follow_conlleval_on_any_labels(pairs: list[tuple[list[str], list[str]]]) -> None:
    gold, predicted = [a for a, _ in pairs], [b for _, b in pairs]
    assert tuple(entity_counts(gold, predicted).sum(axis=0)) == conlleval(gold, predicted)


@given(paired(any_labels.map(valid)))
def test_f1_equals_strict_seqeval_on_valid_labels(pairs: list[tuple[list[str], list[str]]]) -> None:
    gold, predicted = [a for a, _ in pairs], [b for _, b in pairs]
    theirs = f1_score(gold, predicted, mode="strict", scheme=IOB2, zero_division=0)
    assert f1(entity_counts(gold, predicted).sum(axis=0).astype(float)) == pytest.approx(theirs)


def test_a_stray_inside_label_begins_an_entity() -> None:
    """Where strict seqeval sees nothing and conlleval an entity."""
    assert entities(["O", "I-PER", "I-PER", "I-LOC"]) == [("PER", 1, 2), ("LOC", 3, 3)]
    assert entities(["B-PER", "B-PER", "I-PER", "O"]) == [("PER", 0, 0), ("PER", 1, 2)]


def test_counts_are_per_sentence() -> None:
    gold = [["B-LOC", "O"], ["B-PER", "I-PER", "O"], ["O"]]
    predicted = [["B-LOC", "O"], ["B-PER", "O", "B-LOC"], ["O"]]
    np.testing.assert_array_equal(entity_counts(gold, predicted), [[1, 0, 0], [0, 2, 1], [0, 0, 0]])


def test_sentences_of_different_length_are_refused() -> None:
    with pytest.raises(ValueError, match="sentence 0: 2 gold labels and 1 predicted"):
        entity_counts([["O", "O"]], [["O"]])
