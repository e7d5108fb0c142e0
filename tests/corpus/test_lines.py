"""Lines: joining keeps them all, the head counts bytes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robbertje_lib.corpus.lines import Line, SplitDocument, document_lines, group_lines, head, join_lines
from tests.support.own_text import documents

some_documents = st.lists(st.integers(1, 30), min_size=1, max_size=8).map(lambda sizes: documents(*sizes))


def joined(parts: list[SplitDocument], probability: float, seed: int) -> list[Line]:
    return list(join_lines(parts, probability, np.random.default_rng(seed)))


@given(some_documents, st.floats(0, 1), st.integers(0, 2**32))
@settings(max_examples=80, deadline=None)
def test_joining_keeps_every_line_in_order_within_its_document(
    parts: list[SplitDocument], probability: float, seed: int
) -> None:
    lines = joined(parts, probability, seed)
    for part in parts:
        assert " ".join(line.text for line in lines if line.document == part.id) == " ".join(part.lines)
    assert lines == joined(parts, probability, seed)


def test_joining_never_and_always() -> None:
    parts = documents(3, 1, 5)
    assert joined(parts, 0, 1) == list(document_lines(parts))
    assert [line.document for line in joined(parts, 1, 1)] == ["d0", "d1", "d2"]


@pytest.mark.parametrize("probability", [0.2, 0.5, 0.8])
def test_run_lengths_are_geometric(probability: float) -> None:
    runs = np.array([line.text.count("zin") for line in joined(documents(20_000), probability, 3)])
    expected = 1 / (1 - probability)
    # Standard error of the mean of a geometric distribution.
    assert abs(runs.mean() - expected) < 4 * np.sqrt(probability) / (1 - probability) / np.sqrt(len(runs))
    assert (runs == 1).mean() == pytest.approx(1 - probability, abs=0.03)


def test_the_head_counts_bytes_not_characters() -> None:
    lines = [Line("één", "d"), Line("twee", "d")]  # 6 and 5 bytes with their newlines
    assert head(lines, 11) == lines
    assert head(lines, 10) == lines[:1]
    assert head(lines, 1) == lines[:1]


@given(some_documents)
@settings(max_examples=30, deadline=None)
def test_grouping_undoes_what_takes_lines_from_documents(parts: list[SplitDocument]) -> None:
    assert [(part.id, part.lines) for part in group_lines(document_lines(parts))] == [(p.id, p.lines) for p in parts]
