"""What counts as having left chance: few that learnt fail, and none that gives one label throughout passes."""

import numpy as np
import pytest

from robbertje_lib.evaluation.chance import LEVEL, above_chance
from robbertje_lib.tasks.encoding import IGNORED


@pytest.mark.parametrize("share", [0.5, 0.8])
def test_one_label_throughout_is_chance_and_what_beats_it_is_not(share: float) -> None:
    labels = (np.arange(100) < 100 * share).astype(int)
    for label in (0, 1):
        assert not above_chance(np.full(100, label), labels)
    assert above_chance(labels, labels)
    assert not above_chance(1 - labels, labels)
    rare = int(share <= 0.5)
    five, four = (np.where((labels == rare).cumsum() <= right, labels, 1 - rare) for right in (5, 4))
    assert above_chance(five, labels) and not above_chance(four, labels)  # 1 in 32, 1 in 16


def test_guesses_pass_as_rarely_as_the_level_says() -> None:
    rng = np.random.default_rng(3)
    passed = [above_chance(rng.integers(0, 2, 100), rng.permutation(np.arange(100) % 2)) for _ in range(2000)]
    assert 0 < np.mean(passed) <= LEVEL
    weak = [
        above_chance(np.where(rng.random(900) < 0.6, labels := np.arange(900) % 2, 1 - labels), np.arange(900) % 2)
        for _ in range(50)
    ]
    assert all(weak)


def test_pieces_that_do_not_count_and_words_outside_entities_are_left_out() -> None:
    labels = np.array([[IGNORED, 0, 1, IGNORED], [IGNORED, 0, 0, 2]] * 5)
    nothing, found = np.zeros_like(labels), np.where(labels == IGNORED, 1, labels)
    made_up = np.where(labels == 0, 1, labels)
    assert not above_chance(nothing, labels, outside=0)
    assert above_chance(found, labels, outside=0) and above_chance(made_up, labels, outside=0)
    assert not above_chance(np.where(labels == IGNORED, 1, 0), labels)
    assert not above_chance(np.where(labels == 0, 1, labels), labels)  # as many words right as wrong, but for `outside`
    assert not above_chance(labels, np.full_like(labels, IGNORED))
