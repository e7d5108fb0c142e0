"""What `10_corpus` writes: `corpus/documents.json` for the text as a whole, `corpus/<arm>.json` for each arm."""

from typing import ClassVar

from robbertje_lib.experiment.results.base import Record, ResultFile


class LengthHistogram(Record):
    """Sequences by length in tokens, `<s>` and `</s>` included: `counts[i]` have edges[i] to edges[i + 1] - 1."""

    edges: list[int]
    counts: list[int]


class StoreFigures(Record):
    """A token store. `bytes`: of UTF-8, newlines included; `tokens`: `<s>` and `</s>` included."""

    documents: int
    lines: int
    sequences: int  # lines, those longer than the model's maximum counted once a piece
    tokens: int
    bytes: int
    mean_tokens: float  # a sequence
    split_lines: int  # lines longer than the model's maximum, cut into pieces
    unknown_tokens: int
    length_histogram: LengthHistogram
    sha256: str  # of the lines, each with its newline


class SourceRead(Record):
    """What was read of one source. `files` is 0 for a source without files."""

    files_read: int
    files: int
    documents: int
    lines: int
    bytes: int  # of UTF-8, newlines included


class DocumentsResult(ResultFile):
    """All documents: what was read and left out, the held-out part, and the text the teacher is trained on."""

    where: ClassVar[str] = "corpus/documents.json"

    sources: dict[str, SourceRead]
    dropped: dict[str, int]  # reason -> how often; what is counted stands in brackets behind the reason
    held_out: StoreFigures
    teacher: StoreFigures | None  # None where the teacher is a released one


class ArmResult(ResultFile):
    """One arm, in every selection of the profile."""

    where: ClassVar[str] = "corpus/{arm}.json"
    version: ClassVar[int] = 2

    arm: str
    asked_bytes: int  # how much text the arm could have taken
    merge_probability: float | None  # of a next line to join; None for an arm that merges none
    selections: dict[str, StoreFigures]  # selection ->
    sample_lines: list[str]
