"""Windows hold every token of a line once, where it has context."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from robbertje_lib.evaluation.lines import most_central, window_starts


@settings(max_examples=200, deadline=None)
@given(tokens=st.integers(1, 400), room=st.integers(1, 60))
def test_windows_cover_every_token_with_context(tokens: int, room: int) -> None:
    starts = window_starts(tokens, room)
    owner = most_central(tokens, starts, room)
    offset = np.arange(tokens) - starts[owner]
    assert ((offset >= 0) & (offset < room)).all()
    if tokens > room:
        assert starts[-1] + room == tokens
        inner = (np.arange(tokens) >= room // 2) & (np.arange(tokens) < tokens - room // 2)
        # At least a quarter of a window on either side, except near the ends of the line.
        assert (np.minimum(offset, room - 1 - offset)[inner] >= room // 4 - 1).all()
