"""The pool: documents are read until there are enough, and files are held out whole."""

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robbertje_lib.corpus.lines import SplitDocument
from robbertje_lib.corpus.pool import POOL, Pool, read_pool, split_pool
from robbertje_lib.experiment.errors import UserError
from robbertje_lib.experiment.run import open_run
from tests.support.own_text import documents, own_run, own_text

some_documents = st.lists(st.integers(1, 30), min_size=3, max_size=8).map(lambda sizes: documents(*sizes))


@given(some_documents, st.floats(0.05, 0.5), st.integers(0, 100))
@settings(max_examples=60, deadline=None)
def test_held_out_files_are_whole_and_apart(parts: list[SplitDocument], fraction: float, seed: int) -> None:
    split = split_pool(Pool(parts), fraction, seed)
    assert sorted(d.id for d in split.training + split.held_out) == sorted(d.id for d in parts)
    held_out = {d.file for d in split.held_out}
    assert not held_out & {d.file for d in split.training}
    assert held_out and split.training
    files = Counter[str]()
    for document in parts:
        files[document.file] += document.bytes
    size, wanted = sum(d.bytes for d in split.held_out), fraction * files.total()
    if size >= 2 * wanted:
        assert [files[file] for file in held_out] == [min(files.values())]
    elif size < wanted:  # any other file would be too much
        assert all(size + files[file] >= 2 * wanted for file in files.keys() - held_out)
    assert split == split_pool(Pool(parts), fraction, seed)


def test_one_file_cannot_be_split_and_of_two_the_smaller_is_held_out() -> None:
    with pytest.raises(UserError, match="the corpus is one file, f0, so that none can be held out whole; add a file"):
        split_pool(Pool(documents(4, 4)), 0.1, 1)
    for seed in range(5):
        assert {d.file for d in split_pool(Pool(documents(9, 9, 4, 4)), 0.1, seed).held_out} == {"f1"}


def test_a_file_of_nearly_all_the_text_is_never_held_out() -> None:
    parts = documents(500, 500, *[1] * 40)  # one large file and twenty small ones
    for seed in range(10):
        assert "f0" not in {d.file for d in split_pool(Pool(parts), 0.1, seed).held_out}


def test_every_file_has_its_turn_before_one_gives_all(tmp_path: Path) -> None:
    (tmp_path / "books").mkdir()
    for number in range(30):
        (tmp_path / "books" / f"{number}.txt").write_text(own_text(40, seed=number), encoding="utf-8")
    pool = read_pool(own_run(tmp_path, "", sources=[str(tmp_path / "books")], arm_megabytes=0.03))
    files = Counter(document.file for document in pool.documents)
    assert 18 <= len(files) <= 21 and max(files.values()) < 40  # each gives a twentieth of what is wanted
    split = split_pool(pool, 0.1, 1)
    assert 2 <= len({document.file for document in split.held_out}) <= 4
    # Where all there is is wanted, every file is read to its end.
    whole = read_pool(own_run(tmp_path, "", sources=[str(tmp_path / "books")], arm_megabytes=5.0))
    assert list(Counter(document.file for document in whole.documents).values()) == [40] * 30


@pytest.mark.parametrize("cut", ["sentences", "source"])
def test_lines_are_sentences_or_what_the_source_has_as_lines(tmp_path: Path, cut: str) -> None:
    run = own_run(tmp_path, "Het  regent. Ik blijf thuis.\nHet regent.\nHet regent. Ik blijf thuis.\n\nNee.", lines=cut)
    pool = read_pool(run)
    lines = [document.lines for document in pool.documents]
    if cut == "source":
        assert lines == [("Het regent. Ik blijf thuis.", "Het regent."), ("Nee.",)]
    else:
        assert lines == [("Het regent.", "Ik blijf thuis."), ("Nee.",)]
    assert [document.id == document.file for document in pool.documents] == [True, True]  # one file, named by itself


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
