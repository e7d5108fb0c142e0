"""Writes documents of known-answer Dutch, with what no reader of the text is told: tags and latent variables."""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from typing import Any

import numpy as np

from robbertje_lib.experiment.errors import UserError
from robbertje_lib.known_answer.grammar import MENTIONS, Floats, Slot
from robbertje_lib.known_answer.lexicon import GENDERS, STANCES
from robbertje_lib.known_answer.model import Model, Value, default_model


@dataclass(frozen=True)
class Sentence:
    tokens: tuple[str, ...]
    upos: tuple[str, ...]
    entities: tuple[str, ...]  # IOB2
    slots: tuple[str, ...]  # the grammar's name of each token's role, such as `relative`

    @property
    def text(self) -> str:
        return " ".join(self.tokens)


@dataclass(frozen=True)
class KnownDocument:
    """A document and its latent variables."""

    id: str
    topic: str
    stance: str
    gender: str  # `zij` or `hij`
    mentions: dict[str, Value]  # name, occupation, city, organisation, item -> tokens
    sentences: tuple[Sentence, ...]

    @property
    def text(self) -> str:
        return " ".join(sentence.text for sentence in self.sentences)


def generate(
    seed: int | list[int], count: int | None = None, bias_strength: float = 1.0, register: str = "story"
) -> Iterator[KnownDocument]:
    """Write `count` documents (without end if None). The same seed gives the same documents."""
    writer = Writer(default_model(bias_strength, register), np.random.default_rng(seed))
    prefix = "-".join(map(str, [seed] if isinstance(seed, int) else seed))
    number = 0
    while count is None or number < count:
        yield writer.document(f"known_answer-{prefix}-{number}")
        number += 1


def generate_documents(seed: int, megabytes: float, bias_strength: float = 1.0) -> Iterator[KnownDocument]:
    """Documents, until `megabytes` (10^6 bytes of UTF-8, line ends counted) are reached.

    Raises `UserError` if `megabytes` is not positive.
    """
    if megabytes <= 0:
        raise UserError(f"known-answer Dutch: {megabytes:g} megabytes; ask for more than 0")
    written = 0
    for document in generate(seed, bias_strength=bias_strength):
        yield document
        written += sum(len(sentence.text.encode()) + 1 for sentence in document.sentences)
        if written >= megabytes * 1e6:
            return


class Writer:
    """Draws documents from a model."""

    def __init__(self, model: Model, rng: np.random.Generator) -> None:
        self.model = model
        self._rng = rng
        self._uniforms: Iterator[float] = iter(())
        self._distributions = _distributions(model)

    def document(self, identifier: str) -> KnownDocument:
        model = self.model
        topic = self._index("topic", 0, model.topic_prior)
        stance = int(self._uniform() < 0.5)
        by_topic = ("occupation", "organisation", "item")
        drawn = {name: self._index(name, topic, model.priors[name][topic]) for name in by_topic}
        drawn["city"] = self._index("city", 0, model.priors["city"][0])
        gender = int(self._uniform() >= model.gender_given_occupation[0, drawn["occupation"]])
        drawn["name"] = self._index("name", gender, model.priors["name"][gender])
        mentions = {name: model.values[name][drawn[name]] for name in MENTIONS}
        kind = model.item_kind[topic][mentions["item"][0]]
        configuration = int(np.ravel_multi_index((topic, stance, gender, *kind), model.sizes))
        count = self._index("length", 0, model.length_prior)
        starts = [model.automaton.first] + [model.automaton.later] * (count - 1)
        return KnownDocument(
            id=identifier,
            topic=model.lexicon.topics[topic].name,
            stance=STANCES[stance],
            gender=GENDERS[gender],
            mentions=mentions,
            sentences=tuple(self._sentence(start, configuration, mentions) for start in starts),
        )

    def _sentence(self, state: int, configuration: int, mentions: dict[str, Value]) -> Sentence:
        tokens, slots = [], []
        while state:
            arcs, bounds = self._distributions.arcs(state, configuration)
            arc = arcs[bisect_right(bounds, self._uniform())] if len(arcs) > 1 else arcs[0]
            slot = arc.slot
            if slot.mention is not None:
                word = mentions[slot.mention][slot.part]
            else:
                words, bounds = self._distributions.words(slot, configuration)
                word = words[bisect_right(bounds, self._uniform())] if len(words) > 1 else words[0]
            tokens.append(arc.written(word))
            slots.append(slot)
            state = arc.target
        return Sentence(
            tuple(tokens), tuple(s.upos for s in slots), tuple(s.entity for s in slots), tuple(s.name for s in slots)
        )

    def _index(self, name: str, row: int, probabilities: Floats) -> int:
        indices, bounds = self._distributions.indices(name, row, probabilities)
        return int(indices[bisect_right(bounds, self._uniform())])

    def _uniform(self) -> float:
        value = next(self._uniforms, None)
        if value is None:
            self._uniforms = iter(self._rng.random(65536).tolist())
            value = next(self._uniforms)
        return value


Drawable = tuple[list[Any], list[float]]  # options, and the upper bound of each one's share of [0, 1)


class _Distributions:
    """The distributions of a model, made ready to draw from when first needed: a lookup a word, instead of numpy."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._index = list(np.ndindex(*model.sizes))
        self._arcs: dict[tuple[int, int], Drawable] = {}
        self._words: dict[tuple[Slot, int], Drawable] = {}
        self._shared: dict[Any, Drawable] = {}  # what configurations have in common

    def arcs(self, state: int, configuration: int) -> Drawable:
        drawable = self._arcs.get((state, configuration))
        if drawable is None:
            arcs = self._model.automaton.arcs[state]
            indices = [self._at(arc.weight.shape, configuration) for arc in arcs]
            key = (state, *indices)
            if key not in self._shared:
                weights = [float(arc.weight[index]) for arc, index in zip(arcs, indices, strict=True)]
                self._shared[key] = _drawable(arcs, weights)
            drawable = self._arcs[state, configuration] = self._shared[key]
        return drawable

    def words(self, slot: Slot, configuration: int) -> Drawable:
        drawable = self._words.get((slot, configuration))
        if drawable is None:
            assert slot.table is not None
            probabilities = slot.table.probabilities
            key = (slot, self._at(probabilities.shape[1:], configuration))
            if key not in self._shared:
                self._shared[key] = _drawable(slot.table.words, [float(row[key[1]]) for row in probabilities])
            drawable = self._words[slot, configuration] = self._shared[key]
        return drawable

    def indices(self, name: str, row: int, probabilities: Floats) -> Drawable:
        key = (name, row)
        if key not in self._shared:
            self._shared[key] = _drawable(range(len(probabilities)), probabilities.tolist())
        return self._shared[key]

    def _at(self, shape: tuple[int, ...], configuration: int) -> tuple[int, ...]:
        """Where an array of `shape` over AXES keeps this configuration; axes of length 1 play no role."""
        index = self._index[configuration]
        return tuple(i if size > 1 else 0 for i, size in zip(index, shape, strict=True)) if shape else ()


@lru_cache(maxsize=8)
def _distributions(model: Model) -> _Distributions:
    return _Distributions(model)


def _drawable(options: Sequence[Any], weights: Sequence[float]) -> Drawable:
    kept = [(option, weight) for option, weight in zip(options, weights, strict=True) if weight > 0]
    total = sum(weight for _, weight in kept)
    bounds = [bound / total for bound in accumulate(weight for _, weight in kept)]
    # Above every draw, whatever the rounding.
    bounds[-1] = 1.0
    return [option for option, _ in kept], bounds
