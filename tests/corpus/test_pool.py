"""The pool: documents are read until there are enough, and held out whole."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robbertje_lib.corpus.lines import SplitDocument
from robbertje_lib.corpus.pool import POOL, Pool, read_pool, split_pool
from robbertje_lib.experiment.errors import UserError
from robbertje_lib.experiment.run import open_run
from tests.support.own_text import documents

some_documents = st.lists(st.integers(1, 30), min_size=3, max_size=8).map(lambda sizes: documents(*sizes))


@given(some_documents, st.floats(0.05, 0.5), st.integers(0, 100))
@settings(max_examples=60, deadline=None)
def test_held_out_documents_are_whole_and_apart(parts: list[SplitDocument], fraction: float, seed: int) -> None:
    try:
        split = split_pool(Pool(parts), fraction, seed)
    except UserError:
        return  # one document holds so much that nothing would be left
    assert sorted(d.id for d in split.training + split.held_out) == sorted(d.id for d in parts)
    total = sum(d.bytes for d in parts)
    assert sum(d.bytes for d in split.held_out) >= fraction * total
    assert sum(d.bytes for d in split.held_out[:-1]) < fraction * total
    assert split == split_pool(Pool(parts), fraction, seed)


def test_one_document_cannot_be_split() -> None:
    with pytest.raises(UserError, match="too few to hold some out"):
        split_pool(Pool(documents(4)), 0.1, 1)


def test_known_answer_sentences_are_kept_as_they_are() -> None:
    run = open_run("smoke")
    pool = read_pool(run)
    assert not pool.dropped
    lines = [text for document in pool.documents for text in document.lines]
    assert all(text == " ".join(text.split()) for text in lines)
    wanted = POOL * run.profile.corpus.arm_megabytes * 1e6 / (1 - run.profile.corpus.held_out_fraction)
    assert wanted <= sum(d.bytes for d in pool.documents) < 1.1 * wanted
    (read,) = pool.read.values()
    assert (read.files_read, read.files, read.documents, read.lines) == (0, 0, len(pool.documents), len(lines))
    assert read.bytes == sum(d.bytes for d in pool.documents)
