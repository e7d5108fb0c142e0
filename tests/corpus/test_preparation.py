"""The corpus: merging, selections, the held-out part, and stores that are the same twice."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from datasets import load_from_disk
from hypothesis import given, settings
from hypothesis import strategies as st

from robbertje_lib.corpus import preparation
from robbertje_lib.corpus.preparation import Line, SplitDocument
from robbertje_lib.experiment.artefacts import read_json, sha256
from robbertje_lib.experiment.errors import UserError
from robbertje_lib.experiment.profile import Corpus, Tokenizer, load_profile
from robbertje_lib.experiment.run import Run, open_run

WORDS = re.findall(r"\w+", "huis boom fiets regen school straat water brood tafel winter zomer vader moeder hond kat")


def documents(*sizes: int) -> list[SplitDocument]:
    return [SplitDocument(f"d{i}", "x", tuple(f"zin {j} van {i}." for j in range(n))) for i, n in enumerate(sizes)]


some_documents = st.lists(st.integers(1, 30), min_size=1, max_size=8).map(lambda sizes: documents(*sizes))


def own_run(tmp_path: Path, text: str, **changes: object) -> Run:
    """A run of `smoke` on a text of one's own."""
    (tmp_path / "tekst.txt").write_text(text, encoding="utf-8")
    settings = {"sources": [str(tmp_path / "tekst.txt")], "arm_megabytes": 0.02, **changes}
    run = open_run("smoke")
    profile = run.profile.model_copy(
        update={"corpus": Corpus.model_validate(settings), "tokenizer": Tokenizer(vocabulary=400, maximum_length=32)}
    )
    return replace(run, profile=profile)


def own_text(count: int, seed: int = 1) -> str:
    rng = np.random.default_rng(seed)
    sentence = lambda: f"De {rng.choice(WORDS)} van nummer {rng.integers(10**9)} is een {rng.choice(WORDS)}."  # noqa: E731
    return "\n\n".join(" ".join(sentence() for _ in range(8)) for _ in range(count))


@given(some_documents, st.floats(0, 1), st.integers(0, 2**32))
@settings(max_examples=80, deadline=None)
def test_merging_keeps_every_line_in_order_within_its_document(
    parts: list[SplitDocument], probability: float, seed: int
) -> None:
    merged = list(preparation.merge_lines(parts, probability, seed))
    for part in parts:
        assert " ".join(line.text for line in merged if line.document == part.id) == " ".join(part.lines)
    assert merged == list(preparation.merge_lines(parts, probability, seed))


def test_merging_never_and_always() -> None:
    parts = documents(3, 1, 5)
    assert list(preparation.merge_lines(parts, 0, 1)) == list(preparation.document_lines(parts))
    assert [line.document for line in preparation.merge_lines(parts, 1, 1)] == ["d0", "d1", "d2"]


@pytest.mark.parametrize("probability", [0.2, 0.5, 0.8])
def test_run_lengths_are_geometric(probability: float) -> None:
    (part,) = documents(20_000)
    runs = np.array([line.text.count("zin") for line in preparation.merge_lines([part], probability, 3)])
    expected = 1 / (1 - probability)
    # Standard error of the mean of a geometric distribution.
    assert abs(runs.mean() - expected) < 4 * np.sqrt(probability) / (1 - probability) / np.sqrt(len(runs))
    assert (runs == 1).mean() == pytest.approx(1 - probability, abs=0.03)


@given(some_documents, st.integers(1, 600), st.integers(0, 100))
@settings(max_examples=60, deadline=None)
def test_arms_and_selections(parts: list[SplitDocument], size: int, seed: int) -> None:
    chosen = Corpus(sources=["novels"], arm_megabytes=size / 1e6, selections=["head", "same_lines"])
    arms = preparation.make_arms(parts, chosen, seed)
    every = list(preparation.document_lines(parts))
    for (selection, _), lines in arms.items():
        assert lines
        total = sum(len(line.text.encode()) + 1 for line in lines)
        assert total <= size or len(lines) == 1 or selection == "same_lines"
    for arm in ("non_shuffled", "shuffled"):
        assert set(arms["head", arm]) <= set(every)
    assert arms["head", "non_shuffled"] == every[: len(arms["head", "non_shuffled"])]
    base = arms["same_lines", "non_shuffled"]
    assert sorted(arms["same_lines", "shuffled"]) == sorted(base)
    assert " ".join(line.text for line in arms["same_lines", "merged"]) == " ".join(line.text for line in base)
    assert arms == preparation.make_arms(parts, chosen, seed)


def test_the_head_counts_bytes_not_characters() -> None:
    lines = [Line("één", "d"), Line("twee", "d")]  # 6 and 5 bytes with their newlines
    assert preparation.head(lines, 11) == lines
    assert preparation.head(lines, 10) == lines[:1]
    assert preparation.head(lines, 1) == lines[:1]


@given(some_documents.filter(lambda parts: len(parts) > 2), st.floats(0.05, 0.5), st.integers(0, 100))
@settings(max_examples=60, deadline=None)
def test_held_out_documents_are_whole_and_apart(parts: list[SplitDocument], fraction: float, seed: int) -> None:
    try:
        split = preparation.split_pool(preparation.Pool(parts), fraction, seed)
    except UserError:
        return  # one document holds so much that nothing would be left
    assert sorted(d.id for d in split.training + split.held_out) == sorted(d.id for d in parts)
    total = sum(d.bytes for d in parts)
    assert sum(d.bytes for d in split.held_out) >= fraction * total
    assert sum(d.bytes for d in split.held_out[:-1]) < fraction * total
    assert split == preparation.split_pool(preparation.Pool(parts), fraction, seed)


def test_one_document_cannot_be_split() -> None:
    with pytest.raises(UserError, match="too few to hold some out"):
        preparation.split_pool(preparation.Pool(documents(4)), 0.1, 1)


@pytest.mark.parametrize("text", ["", " \n\n \n"])
def test_an_empty_corpus_is_an_error(tmp_path: Path, text: str) -> None:
    run = own_run(tmp_path, text)
    with pytest.raises(UserError, match="the corpus is empty"):
        preparation.build_corpus(run)
    assert not run.paths.run.exists()


def test_a_corpus_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, others = own_text(300).split("\n\n", 1)
    run = own_run(tmp_path, f"{first}\n\n{first}\n\n{others}", selections=["head", "same_lines"])
    table = preparation.build_corpus(run)
    result = read_json(run.paths.result("corpus", "merged.json"))
    assert result["arm"] == "merged" and set(result["selections"]) == {"head", "same_lines"}
    assert result["dropped"] == {"own text: said before (sentences)": 8}
    assert result["selections"]["head"]["bytes"] <= result["asked_bytes"] == 20_000
    assert len(result["sample_lines"]) == run.profile.corpus.sample_lines

    held_out = load_from_disk(str(run.paths.held_out))
    assert held_out.column_names == ["text", "document_id", "input_ids", "n_tokens", "source"]
    assert str(held_out.features["input_ids"].feature.dtype) == str(held_out.features["n_tokens"].dtype) == "int32"
    assert result["held_out"]["tokens"] == sum(held_out["n_tokens"])
    for selection, arm in run.profile.arms:
        store = load_from_disk(str(run.paths.corpus(selection, arm)))
        assert not set(store["document_id"]) & set(held_out["document_id"])
        assert [len(ids) for ids in store["input_ids"]] == list(store["n_tokens"])
        assert max(store["n_tokens"]) <= 32
        figures = read_json(run.paths.result("corpus", f"{arm}.json"))["selections"][selection]
        assert figures["tokens"] == sum(store["n_tokens"]) == table.loc[(selection, arm), "tokens"]
        assert sum(figures["length_histogram"]["counts"]) == len(store)
    assert preparation.length_table(run).sum().round(1).eq(1).all()
    assert set(preparation.sample_table(run)["arm"]) == {"non_shuffled", "shuffled", "merged"}

    # The same again, elsewhere, byte for byte.
    monkeypatch.setenv("ROBBERTJE_OUTPUT", str(tmp_path / "again"))
    again = replace(run, paths=open_run("smoke").paths)
    preparation.build_corpus(again)
    for part in ("corpus", "results", "models"):
        assert sha256(again.paths.run / part) == sha256(run.paths.run / part), part


def test_a_corpus_smaller_than_asked_is_taken_whole(tmp_path: Path) -> None:
    run = own_run(tmp_path, own_text(20), arm_megabytes=5.0)
    pool = preparation.read_pool(run)
    split = preparation.split_pool(pool, 0.1, 1)
    arms = preparation.make_arms(split.training, run.profile.corpus, 1)
    assert len(arms["head", "shuffled"]) == sum(len(d.lines) for d in split.training)
    assert len(pool.documents) == 20


def test_known_answer_sentences_are_kept_as_they_are() -> None:
    run = open_run("smoke")
    pool = preparation.read_pool(run)
    assert not pool.dropped
    lines = [text for document in pool.documents for text in document.lines]
    assert all(text == " ".join(text.split()) for text in lines)
    wanted = preparation.POOL * run.profile.corpus.arm_megabytes * 1e6 / (1 - run.profile.corpus.held_out_fraction)
    assert wanted <= sum(d.bytes for d in pool.documents) < 1.1 * wanted


def test_real_text(mirror: Path) -> None:
    """A small `mini`: both sources, Dutch sentences, nothing held out that is in the training text."""
    run = open_run("mini", 0.02)
    assert load_profile("mini").corpus.sources == ["novels", "manifestos"]
    preparation.build_corpus(run)
    held_out = load_from_disk(str(run.paths.held_out))
    assert set(held_out["source"]) == {"novels", "manifestos"}
    training: set[str] = set()
    for _, arm in run.profile.arms:
        result = json.loads(run.paths.result("corpus", f"{arm}.json").read_text())
        size = result["selections"]["head"]["bytes"]
        assert 0.99 * result["asked_bytes"] < size <= result["asked_bytes"]
        assert all(len(line) > 10 for line in result["sample_lines"])
        if arm != "merged":
            training |= set(load_from_disk(str(run.paths.corpus("head", arm)))["text"])
    assert not training & set(held_out["text"])
    lengths = preparation.length_table(run)["head"]
    assert lengths.loc["0 to 15", "merged"] < lengths.loc["0 to 15", "non_shuffled"]
