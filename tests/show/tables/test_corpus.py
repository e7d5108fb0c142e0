"""The corpus in tables."""

from robbertje_lib.corpus.pool import Split
from robbertje_lib.experiment.profile import Corpus
from robbertje_lib.experiment.results.corpus import (
    ArmResult,
    DocumentsResult,
    LengthHistogram,
    SourceRead,
    StoreFigures,
)
from robbertje_lib.show.tables import corpus
from tests.support.own_text import documents

STORE = StoreFigures(
    documents=2, lines=3, sequences=4, tokens=30, bytes=120, mean_tokens=7.54, split_lines=1, unknown_tokens=0,
    length_histogram=LengthHistogram(edges=[0, 8, 16, 24], counts=[3, 1, 0]), sha256="0" * 64,
)  # fmt: skip
SCRIPT = "<script>document.title = 'taken'</script>"


def arm(name: str, probability: float | None = None) -> ArmResult:
    both = {"head": STORE, "same_lines": STORE}
    return ArmResult(
        arm=name, asked_bytes=200, merge_probability=probability, selections=both, sample_lines=["Het regent.", SCRIPT]
    )


ARMS = [arm("shuffled"), arm("merged", 0.3)]


def test_arms_and_the_probability_of_those_that_merge() -> None:
    settings = Corpus(sources=["novels"], arms=["shuffled", "merged"], arm_megabytes=1.0, merge_probability=0.3)
    table = corpus.arms_table(settings)
    assert table["merge probability"].fillna("–").to_dict() == {"shuffled": "–", "merged": "0.3"}
    assert table.loc["shuffled", "text"] == "the same lines in random order"


def test_sources_and_what_was_left_out() -> None:
    read = {"novels": SourceRead(files_read=2, files=40, documents=9, lines=70, bytes=1_234_567)}
    assert corpus.sources_table(read).loc["novels"].to_dict() == {
        "files_read": 2, "files": 40, "documents": 9, "lines": 70, "megabytes": 1.23,
    }  # fmt: skip
    assert list(corpus.left_out_table({"a": 1, "b": 3})["count"]) == [3, 1]
    assert corpus.left_out_table({}).empty


def test_parts_by_file() -> None:
    table = corpus.parts_table(Split(training=documents(2, 3, 1), held_out=documents(4)))
    assert table.loc["training"].to_dict() == {"files": 2, "documents": 3, "lines": 6, "megabytes": 0.0}
    assert list(table["files"]) == [2, 1] and list(table["lines"]) == [6, 4]


def test_stores_by_selection() -> None:
    result = DocumentsResult(sources={}, dropped={}, held_out=STORE, teacher=STORE)
    table = corpus.stores_table(result, ARMS)
    assert list(table.index) == [
        ("", "held_out"), ("", "teacher"), ("head", "shuffled"), ("head", "merged"), ("same_lines", "shuffled"),
        ("same_lines", "merged"),
    ]  # fmt: skip
    assert table.loc[("head", "merged")].to_dict() == {
        "documents": 2, "lines": 3, "sequences": 4, "tokens": 30, "bytes": 120, "split_lines": 1, "unknown_tokens": 0,
        "mean_tokens": 7.5,
    }  # fmt: skip


def test_lengths_are_shares_without_empty_bins() -> None:
    table = corpus.length_table(ARMS)
    assert list(table.index) == ["0 to 7", "8 to 15"]
    assert list(table["head", "merged"]) == [0.75, 0.25]


def test_html_in_a_line_is_shown_not_run() -> None:
    table = corpus.sample_table(ARMS)
    assert list(table["arm"]) == ["shuffled"] * 2 + ["merged"] * 2
    html = table._repr_html_()  # what a notebook shows
    assert "<script>" not in html and "&lt;script&gt;" in html
