"""The one rule of agreement with the paper."""

import pytest

from robbertje_lib.conclusions.published import agreement


@pytest.mark.parametrize(
    ("ours", "theirs", "outcome"),
    [
        ((-3.0, -1.0), (-5.0, -2.0), "same direction"),
        ((1.0, 3.0), (0.1, 0.2), "same direction"),
        ((-3.0, -1.0), (1.0, 2.0), "opposite direction"),
        ((-3.0, 1.0), (1.0, 2.0), "undecided"),
        ((1.0, 3.0), (-1.0, 2.0), "undecided"),
        ((0.0, 3.0), (1.0, 2.0), "undecided"),
        ((-3.0, -1.0), None, "undecided"),
    ],
)
def test_agreement_is_one_of_signs(ours: tuple, theirs: tuple | None, outcome: str) -> None:
    assert agreement(ours, theirs) == outcome
