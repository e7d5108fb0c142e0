"""Every sequence is in one batch, next to others of its length."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from robbertje_lib.models.length_batches import batches_of_rows, batches_of_tokens

LENGTHS = st.lists(st.integers(1, 90), min_size=1, max_size=60)


@settings(max_examples=100, deadline=None)
@given(lengths=LENGTHS, budget=st.integers(1, 300))
def test_batches_hold_every_query_once_within_budget(lengths: list[int], budget: int) -> None:
    array = np.array(lengths)
    batches = list(batches_of_tokens(array, budget))
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(lengths)))
    assert all(len(b) == 1 or len(b) * array[b].max() <= budget for b in batches)
    assert (np.diff(array[np.concatenate(batches)]) <= 0).all()


@given(lengths=LENGTHS, rows=st.integers(1, 70))
def test_batches_of_rows_are_full_but_for_the_last(lengths: list[int], rows: int) -> None:
    batches = batches_of_rows(lengths, rows)
    assert {len(batch) for batch in batches[:-1]} <= {rows} and 1 <= len(batches[-1]) <= rows
    order = np.concatenate(batches)
    # Equal lengths stay in order.
    assert [(lengths[i], i) for i in order] == sorted((n, i) for i, n in enumerate(lengths))
