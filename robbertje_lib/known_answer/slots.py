"""The slots of known-answer Dutch, built from the lexicon: what agrees with what is decided here."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from robbertje_lib.known_answer.grammar import AXES, Floats, Slot, Table
from robbertje_lib.known_answer.lexicon import ARTICLES, GENDERS, STANCES, Group, Lexicon, Topic

DE_SHARE = 0.6  # of nouns in running text
STANCE_SHARE = 0.8  # of evaluations that agree with the document's stance
EVALUATIVE_SHARE = 0.3  # of attributive adjectives
POSSESSIVES = {"zij": "haar", "hij": "zijn"}
OBJECTS = {"zij": "haar", "hij": "hem"}
RELATIVES = {"de": "die", "het": "dat"}


def skewed(words: Sequence[str], share: float = 1.0) -> dict[str, float]:
    """Zipf-like weights, earlier words more frequent, summing to `share`."""
    weights = (np.arange(len(words)) + 1.5) ** -1.3
    return dict(zip(words, (share * weights / weights.sum()).tolist(), strict=True))


def mixed(*parts: Mapping[str, float]) -> dict[str, float]:
    """Sum of weighted word lists."""
    total: dict[str, float] = {}
    for part in parts:
        for word, weight in part.items():
            total[word] = total.get(word, 0.0) + weight
    return total


class Given(NamedTuple):
    """What words may depend on. Group and article are those of the place in the pattern, or else the item's."""

    topic: Topic
    stance: str
    gender: str
    group: Group
    article: str


class Slots:
    """Every slot by its name, as `slots` of `data/known_answer/patterns.yaml` describes it, and fixed words."""

    def __init__(self, lexicon: Lexicon, described: Mapping[str, Mapping[str, Any]]) -> None:
        self.lexicon, self._described = lexicon, described
        groups = range(len(lexicon.topics[0].groups))
        self.sizes = (len(lexicon.topics), len(STANCES), len(GENDERS), len(groups), len(ARTICLES))
        self._slots: dict[Any, Slot] = {}
        # Of each group, over AXES: whether the document's item is of it; whether its things stand or lie somewhere.
        self.is_item_group: list[Floats] = [np.eye(len(groups))[k].reshape(1, 1, 1, -1, 1) for k in groups]
        postures = [[float(topic.groups[k].posture is not None) for topic in lexicon.topics] for k in groups]
        self.has_posture: list[Floats] = [np.array(of_topics).reshape(-1, 1, 1, 1, 1) for of_topics in postures]

    def word(self, text: str, upos: str) -> Slot:
        """A word that is always the same."""
        role = "relative" if text in RELATIVES.values() and upos == "PRON" else "function"
        return self._once(Slot(role, upos, Table((text,), np.ones((1,) * (1 + len(AXES))))))

    def get(self, name: str, k: int | None, article: str | None) -> Slot:
        """The slot `name`, within a group of things and with an article where these are not None."""
        if (name, k, article) not in self._slots:
            described = dict(self._described[name])
            role, axes = described.pop("role"), described.pop("by", ())
            words = described.pop("words", role)
            table = None if "mention" in described else self._table(words, axes, k, article)
            self._slots[name, k, article] = self._once(Slot(role, table=table, **described))
        return self._slots[name, k, article]

    def _once(self, slot: Slot) -> Slot:
        """Equal slots are one object, so that whatever is computed about a slot is computed once."""
        table = slot.table and (slot.table.words, slot.table.probabilities.shape, slot.table.probabilities.tobytes())
        return self._slots.setdefault((slot.name, slot.upos, slot.mention, slot.part, slot.entity, table), slot)

    def _table(self, words: str, axes: Sequence[str], k: int | None, article: str | None) -> Table:
        """The distribution of `words` over `axes`, normalised; the other axes have length 1."""
        cells = {}
        for index in np.ndindex(*(size if axis in axes else 1 for axis, size in zip(AXES, self.sizes, strict=True))):
            t, s, g, group, d = index
            topic = self.lexicon.topics[t]
            things = topic.groups[group if k is None else k]
            cells[index] = self._weights(words, Given(topic, STANCES[s], GENDERS[g], things, article or ARTICLES[d]))
        every = sorted({word for cell in cells.values() for word in cell})
        probabilities = np.zeros((len(every), *np.add(index, 1)))
        for index, cell in cells.items():
            total = sum(cell.values())
            for word, weight in cell.items():
                probabilities[(every.index(word), *index)] = weight / total
        return Table(tuple(every), probabilities)

    def _weights(self, words: str, given: Given) -> Mapping[str, float]:
        topic, stance, gender, group, article = given
        if words in self.lexicon.lists:
            return skewed(self.lexicon.lists[words])
        if words.startswith("verb_"):
            form = words.removeprefix("verb_")
            return mixed(*({self.lexicon.verbs[v][form]: weight} for v, weight in skewed(group.verbs).items()))
        certain = {
            "pronoun": gender,
            "object_pronoun": OBJECTS[gender],
            "possessive": POSSESSIVES[gender],
            "article": article,
            "relative": RELATIVES[article],
            "posture": group.posture or "staat",  # without posture its weight in `has_posture` is 0
        }
        if words in certain:
            return {certain[words]: 1.0}
        nouns = {
            "people": topic.plurals,
            "place": topic.places[article],
            "person": topic.people[article],
            "noun": group.nouns[article],
        }
        if words in nouns:
            return skewed(nouns[words])
        match words:
            case "mood":
                return _leaning(self.lexicon.mood, stance)
            case "evaluation":
                return _leaning(self.lexicon.evaluative, stance)
            case "agreeing_evaluation":
                return self._inflected(_leaning(self.lexicon.evaluative, stance), article == "de")
            case "adjective" | "inflected_adjective":
                own = skewed(group.adjectives, 1 - EVALUATIVE_SHARE)
                judging = _leaning(self.lexicon.evaluative, stance, EVALUATIVE_SHARE)
                inflect = words == "inflected_adjective" or article == "de"
                return mixed(self._inflected(own, inflect), self._inflected(judging, inflect))
        raise KeyError(words)

    def _inflected(self, weights: Mapping[str, float], inflect: bool) -> Mapping[str, float]:
        return {self.lexicon.inflected[bare]: weight for bare, weight in weights.items()} if inflect else weights


def _leaning(words: Mapping[str, Sequence[str]], stance: str, share: float = 1.0) -> dict[str, float]:
    """Words of both stances, those of `stance` in their share."""
    return mixed(
        *(skewed(words[name], share * (STANCE_SHARE if name == stance else 1 - STANCE_SHARE)) for name in STANCES)
    )
