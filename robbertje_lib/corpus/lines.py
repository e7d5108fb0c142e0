"""Documents as lines, what can be done with any lines, and the random streams of a corpus."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

# Independent of each other for one profile seed. Another number is another corpus: never renumber.
FILES, DOCUMENTS, SHUFFLE, MERGE, SAMPLE, TEACHER = range(6)


class Line(NamedTuple):
    """A line of a corpus, and the id of the document that it comes from."""

    text: str
    document: str

    @property
    def bytes(self) -> int:
        """Size in UTF-8, newline included."""
        return line_bytes(self.text)


@dataclass(frozen=True)
class SplitDocument:
    """A document as lines, in order. `file` is the book, manifesto or file that it is part of, or its own id."""

    id: str
    source: str
    file: str
    lines: tuple[str, ...]

    @property
    def bytes(self) -> int:
        """Size in UTF-8, newlines included."""
        return sum(map(line_bytes, self.lines))


def line_bytes(text: str) -> int:
    """Size of a line in UTF-8, newline included."""
    return (len(text) if text.isascii() else len(text.encode())) + 1


def random_stream(seed: int, *stream: int) -> np.random.Generator:
    """The generator of a stream from its start, such as `random_stream(seed, FILES, 2)`."""
    return np.random.default_rng([seed, *stream])


def document_lines(documents: Iterable[SplitDocument]) -> Iterator[Line]:
    """Every line, in order."""
    return (Line(text, document.id) for document in documents for text in document.lines)


def group_lines(lines: Iterable[Line]) -> list[SplitDocument]:
    """The documents that lines come from, with those lines alone, as they first appear; without sources and files."""
    grouped: dict[str, list[str]] = {}
    for line in lines:
        grouped.setdefault(line.document, []).append(line.text)
    return [SplitDocument(document, "", "", tuple(texts)) for document, texts in grouped.items()]


def join_lines(
    documents: Iterable[SplitDocument], probability: float, generator: np.random.Generator
) -> Iterator[Line]:
    """One sequential pass: each next line of the same document joins the current one with `probability`.

    Runs of lines are therefore geometric, 1/(1 - probability) lines long on average in long documents. Joined by a
    space; documents never mix. The paper's own code is not public; this is its README's description.
    """
    for document in documents:
        run: list[str] = []
        joins = generator.random(len(document.lines)) < probability
        for text, join in zip(document.lines, joins, strict=True):
            if run and not join:
                yield Line(" ".join(run), document.id)
                run = []
            run.append(text)
        if run:
            yield Line(" ".join(run), document.id)


def head(lines: Iterable[Line], size: float) -> list[Line]:
    """The first whole lines that fit in `size` bytes of UTF-8, newlines included; at least one."""
    kept: list[Line] = []
    total = 0
    for line in lines:
        total += line.bytes
        if kept and total > size:
            break
        kept.append(line)
    return kept
