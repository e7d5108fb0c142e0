"""A probabilistic grammar as a small automaton whose arcs write one word each.

A sentence pattern is built from slots (one word), sequences and weighted choices. What a document keeps to
itself is a configuration of five discrete latent variables (`AXES`), plus the values it mentions again and
again (`MENTIONS`: the person's name, ...). Given both, the sentences of a document are independent, and a
sentence is a path through the automaton. Writing (documents.py) and the exact truth (truth.py) read the same
automaton.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# Axes of every probability array. `item` is the thing a document keeps coming back to.
AXES = ("topic", "stance", "gender", "item_group", "item_article")
MENTIONS = ("name", "occupation", "city", "organisation", "item")


@dataclass(frozen=True, eq=False)
class Table:
    """Distribution over words. probabilities: (words, *AXES), where an axis of length 1 means "does not depend"."""

    words: tuple[str, ...]
    probabilities: Floats


@dataclass(frozen=True, eq=False)
class Slot:
    """One word: drawn from `table`, or part `part` of the document's own value of the mention `mention`."""

    name: str
    upos: str
    table: Table | None = None
    mention: str | None = None
    part: int = 0
    entity: str = "O"


@dataclass(frozen=True, eq=False)
class Seq:
    parts: tuple["Node", ...]


@dataclass(frozen=True, eq=False)
class Alternatives:
    """Alternatives with weights that sum to 1 in every configuration; a weight is a number or an array over AXES."""

    options: tuple[tuple[float | Floats, "Node"], ...]


Node = Slot | Seq | Alternatives


def choice(*options: tuple[float | Floats, Node]) -> Alternatives:
    """Alternatives; the weights are normalised."""
    total = sum((np.asarray(weight, dtype=float) for weight, _ in options), np.zeros(()))
    return Alternatives(tuple((weight / total, option) for weight, option in options))


@dataclass(frozen=True, eq=False)
class Arc:
    target: int
    slot: Slot
    weight: Floats  # (*AXES) or 0-dimensional
    capital: bool  # sentence-initial: the word is written with a capital

    def written(self, word: str) -> str:
        return capitalised(word) if self.capital else word


class Automaton:
    """The sentences that open a document, which begin in the state `first`, and all others, which begin in `later`.

    States are integers; state 0 is the end of a sentence.
    """

    def __init__(self, first: Node, later: Node) -> None:
        self.arcs: list[list[Arc]] = [[]]
        self.first, self.later = self.new_state(), self.new_state()
        self.add(first, self.first, 0, np.ones(()), capital=True)
        self.add(later, self.later, 0, np.ones(()), capital=True)

    def new_state(self) -> int:
        self.arcs.append([])
        return len(self.arcs) - 1

    def add(self, node: Node, start: int, end: int, weight: Floats, capital: bool = False) -> None:
        """Add paths for `node` from `start` to `end`; the first arc of each carries `weight`."""
        if isinstance(node, Slot):
            if np.any(weight):
                self.arcs[start].append(Arc(end, node, weight, capital))
        elif isinstance(node, Alternatives):
            for share, option in node.options:
                self.add(option, start, end, np.asarray(weight * share), capital)
        else:
            for number, part in enumerate(node.parts):
                stop = end if number == len(node.parts) - 1 else self.new_state()
                self.add(part, start, stop, weight if number == 0 else np.ones(()), capital and number == 0)
                start = stop


def capitalised(word: str) -> str:
    """The word as a Dutch sentence begins with it ("ijs" gives "IJs")."""
    return "IJ" + word[2:] if word.startswith("ij") else word[:1].upper() + word[1:]
