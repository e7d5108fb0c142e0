"""The corpus, whole: stores that are the same twice, and a teacher's text that no arm can change."""

from dataclasses import replace
from pathlib import Path

import pytest
from datasets import load_from_disk

from robbertje_lib.corpus import arms
from robbertje_lib.corpus.pool import read_pool, split_pool
from robbertje_lib.experiment.artefacts import sha256
from robbertje_lib.experiment.errors import UserError
from robbertje_lib.experiment.profile import HubTeacher, load_profile
from robbertje_lib.experiment.results.corpus import ArmResult, DocumentsResult
from robbertje_lib.experiment.run import Run, open_run
from robbertje_lib.show.tables.corpus import length_table
from tests.support.build_corpus import build_corpus
from tests.support.own_text import ARMS, own_run, own_text


def elsewhere(run: Run, place: Path, monkeypatch: pytest.MonkeyPatch, **changes: object) -> Run:
    """The same run with other settings of the corpus, below `place`."""
    monkeypatch.setenv("ROBBERTJE_OUTPUT", str(place))
    corpus = run.profile.corpus.model_copy(update=changes)
    return Run(run.profile.model_copy(update={"corpus": corpus}), open_run("smoke").paths)


@pytest.mark.parametrize("text", ["", " \n\n \n"])
def test_an_empty_corpus_is_an_error(tmp_path: Path, text: str) -> None:
    run = own_run(tmp_path, text)
    with pytest.raises(UserError, match="the corpus is empty"):
        build_corpus(run)
    assert not run.paths.run.exists()


def test_a_corpus_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, others = own_text(300).split("\n\n", 1)
    run = own_run(tmp_path, f"{first}\n\n{first}\n\n{others}", selections=["head", "same_lines"])
    documents, results = build_corpus(run)
    assert documents == DocumentsResult.read(run)
    assert documents.dropped == {"own text: said before (sentences)": 8}
    assert [result.arm for result in results] == ARMS

    held_out = load_from_disk(str(run.paths.held_out))
    assert held_out.column_names == ["text", "document_id", "input_ids", "n_tokens", "source", "file", "line"]
    assert str(held_out.features["input_ids"].feature.dtype) == str(held_out.features["n_tokens"].dtype) == "int32"
    assert documents.held_out.tokens == sum(held_out["n_tokens"])
    assert documents.held_out.lines == len(set(held_out["line"])) == max(held_out["line"]) + 1
    for result in results:
        assert result == ArmResult.read(run, arm=result.arm)
        assert set(result.selections) == {"head", "same_lines"}
        assert result.selections["head"].bytes <= result.asked_bytes == 20_000
        assert result.merge_probability == (0.5 if result.arm == "merged" else None)
        assert len(result.sample_lines) == run.profile.corpus.sample_lines
        for selection, figures in result.selections.items():
            store = load_from_disk(str(run.paths.corpus(selection, result.arm)))
            assert not set(store["document_id"]) & set(held_out["document_id"])
            assert [len(ids) for ids in store["input_ids"]] == list(store["n_tokens"])
            assert max(store["n_tokens"]) <= 32
            assert figures.tokens == sum(store["n_tokens"])
            assert sum(figures.length_histogram.counts) == len(store) == figures.sequences

    # The same again, elsewhere, byte for byte.
    again = elsewhere(run, tmp_path / "again", monkeypatch)
    build_corpus(again)
    for part in ("corpus", "results", "models"):
        assert sha256(again.paths.run / part) == sha256(run.paths.run / part), part


def test_the_teacher_reads_every_training_document_once_in_joined_lines(tmp_path: Path) -> None:
    run = own_run(tmp_path, own_text(300))
    documents, _ = build_corpus(run)
    split = split_pool(read_pool(run), run.profile.corpus.held_out_fraction, run.profile.seed)
    assert documents.teacher is not None
    assert documents.teacher.documents == len(split.training)
    assert documents.teacher.bytes == sum(d.bytes for d in split.training)  # a space for every newline
    whole = sum(len(d.lines) for d in split.training)
    assert 0.5 < documents.teacher.lines / whole < 0.63  # eight sentences a document, joined at 0.5: 4.5 lines


@pytest.mark.parametrize(
    "changes", [{"merge_probability": 0.1}, {"arms": ["merged"]}, {"arms": ["shuffled", "merged"]}]
)
def test_no_setting_of_the_arms_changes_the_text_of_the_teacher(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, object]
) -> None:
    run = own_run(tmp_path, own_text(100))
    build_corpus(run)
    other = elsewhere(run, tmp_path / "other", monkeypatch, **changes)
    build_corpus(other)
    for same in ("teacher_text", "held_out", "tokenizer"):
        assert sha256(getattr(other.paths, same)) == sha256(getattr(run.paths, same)), same
    for arm in other.profile.corpus.arms:
        equal = sha256(other.paths.corpus("head", arm)) == sha256(run.paths.corpus("head", arm))
        assert equal == (arm != "merged" or "merge_probability" not in changes), arm
    assert {path.name for path in (other.paths.run / "corpus" / "head").iterdir()} == set(other.profile.corpus.arms)
    digests = [r.profile.digest("seed", "tokenizer", "teacher") for r in (run, other)]  # as in the rule teacher
    assert digests[0] == digests[1]


def test_a_released_teacher_gets_no_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = own_run(tmp_path, own_text(40))
    build_corpus(run)
    run.paths.tokenizer.rename(tmp_path / "released")
    teacher = HubTeacher(hub=str(tmp_path / "released"))
    other = elsewhere(run, tmp_path / "other", monkeypatch)
    documents, _ = build_corpus(replace(other, profile=other.profile.model_copy(update={"teacher": teacher})))
    assert documents.teacher is None
    assert not other.paths.teacher_text.exists()


def test_a_corpus_smaller_than_asked_is_taken_whole(tmp_path: Path) -> None:
    run = own_run(tmp_path, own_text(20), arm_megabytes=5.0)
    pool = read_pool(run)
    split = split_pool(pool, 0.1, 1)
    made = arms.make_arms(split.training, run.profile.corpus, 1)
    assert len(made["head", "shuffled"]) == sum(len(d.lines) for d in split.training)
    assert len(pool.documents) == 20


def test_real_text(mirror: Path) -> None:
    """A small `mini`: both sources, Dutch sentences, no held-out line or book in the training text."""
    run = open_run("mini", 0.02)
    assert load_profile("mini").corpus.sources == ["novels", "manifestos"]
    documents, results = build_corpus(run)
    assert all(source.files_read and source.bytes for source in documents.sources.values())
    held_out = load_from_disk(str(run.paths.held_out))
    books = set(held_out["file"])
    assert len(books) >= 3 and {document.rpartition("#")[0] for document in held_out["document_id"]} == books
    training: set[str] = set()
    for result in results:
        assert 0.99 * result.asked_bytes < result.selections["head"].bytes <= result.asked_bytes
        assert all(len(line) > 10 for line in result.sample_lines)
        if result.arm != "merged":
            store = load_from_disk(str(run.paths.corpus("head", result.arm)))
            assert not books & {document.rpartition("#")[0] for document in store["document_id"]}
            training |= set(store["text"])
    assert not training & set(held_out["text"])
    lengths = length_table(results)["head"]
    assert lengths.loc["0 to 15", "merged"] < lengths.loc["0 to 15", "non_shuffled"]
