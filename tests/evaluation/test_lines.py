"""Windows hold every token of a line once, where it has context."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robbertje_lib.evaluation.lines import held_out_lines, most_central, window_starts
from robbertje_lib.experiment.artefacts import open_store
from tests.support.tiny_run import text_lines, tiny_run


def test_drawn_lines_are_whole_and_have_their_documents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROBBERTJE_OUTPUT", str(tmp_path))
    run = tiny_run(tmp_path)
    stored, written = open_store(run.paths.held_out), text_lines(60, seed=2)
    assert len(stored) > 60  # a line longer than the model takes has several rows
    lines = held_out_lines(run, 1000)
    assert [line.text for line in lines] == written
    assert [line.document for line in lines] == [f"document-{n // 10}" for n in range(60)]
    assert lines != held_out_lines(run, 20) == sorted(held_out_lines(run, 20), key=lines.index)


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
