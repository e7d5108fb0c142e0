"""Slots and phrases of known-answer Dutch, built from the lexicon: what agrees with what is decided here."""

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from robbertje_lib.known_answer.grammar import Choice, Floats, Index, Node, Seq, Slot, Table, choice, seq, tabulate
from robbertje_lib.known_answer.lexicon import ARTICLES, GENDERS, STANCES, Lexicon

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


class Phrases:
    """Everything the sentence patterns are made of. `k` is a group of things, `article` is `de` or `het`."""

    def __init__(self, lexicon: Lexicon) -> None:
        self.lexicon = lexicon
        self.groups = range(len(lexicon.topics[0].groups))
        self._slots: dict[tuple[object, ...], Slot] = {}
        self.sizes = (len(lexicon.topics), len(STANCES), len(GENDERS), len(self.groups), len(ARTICLES))
        lists = lexicon.lists
        self.pronoun = self._by_gender("pronoun", "PRON", {gender: gender for gender in GENDERS})
        self.object_pronoun = self._by_gender("object_pronoun", "PRON", OBJECTS)
        self.possessive = self._by_gender("possessive", "DET", POSSESSIVES)
        self.name = Slot("name", "PROPN", mention="name", entity="B-PER")
        self.surname = self._listed("surname", "PROPN", lists["surnames"], entity="I-PER")
        self.occupation = Slot("occupation", "NOUN", mention="occupation")
        self.city = Slot("city", "PROPN", mention="city", entity="B-LOC")
        self.organisation = seq(
            Slot("organisation", "PROPN", mention="organisation", entity="B-ORG"),
            Slot("organisation", "PROPN", mention="organisation", part=1, entity="I-ORG"),
        )
        self.item = Slot("item", "NOUN", mention="item")
        self.language = self._listed("language", "PROPN", lists["languages"], entity="B-MISC")
        self.relative = self._listed("kin", "NOUN", lists["relatives"])
        self.degree = self._listed("degree", "ADV", lists["degree"])
        self.now = self._listed("now", "ADV", lists["now"])
        self.past = self._listed("past", "ADV", lists["past"])
        self.past_inside = self._listed("past_inside", "ADV", lists["past_inside"])
        self.number = self._listed("number", "NUM", lists["numbers"])
        self.modal = self._listed("modal", "AUX", lists["modals"])
        self.reports = self._listed("reporting", "VERB", lists["reporting"])
        self.weather = self._listed("weather", "VERB", lists["weather"])
        self.people = self._by_topic("people", "NOUN", [skewed(topic.plurals) for topic in lexicon.topics])
        self.mood = Slot("mood", "ADJ", self._by_stance(lexicon.mood))
        self.evaluation = Slot("evaluation", "ADJ", self._by_stance(lexicon.evaluative))

    # Words.

    def word(self, text: str, upos: str, name: str = "function") -> Slot:
        return self._once((name, text, upos), lambda: Slot(name, upos, self._table({(None,) * 5: {text: 1.0}})))

    def noun(self, k: int, article: str) -> Slot:
        nouns = [skewed(topic.groups[k].nouns[article]) for topic in self.lexicon.topics]
        return self._once(("noun", k, article), lambda: self._by_topic("noun", "NOUN", nouns))

    def verb(self, k: int, form: str) -> Slot:
        verbs = self.lexicon.verbs
        cells = [
            mixed(*({verbs[infinitive][form]: w} for infinitive, w in skewed(topic.groups[k].verbs).items()))
            for topic in self.lexicon.topics
        ]
        return self._once(("verb", k, form), lambda: self._by_topic(f"verb_{form}", "VERB", cells))

    def adjective(self, k: int, inflected: bool) -> Slot:
        """Attributive adjective: of the group, or evaluative in the document's stance."""
        form = self._forms(inflected)
        cells: dict[Index, dict[str, float]] = {}
        for t, topic in enumerate(self.lexicon.topics):
            own = skewed([form[a] for a in topic.groups[k].adjectives], 1 - EVALUATIVE_SHARE)
            for s in range(len(STANCES)):
                judging = self._leaning(self.lexicon.evaluative, s, EVALUATIVE_SHARE)
                cells[t, s, None, None, None] = mixed(own, {form[a]: w for a, w in judging.items()})
        return self._once(("adjective", k, inflected), lambda: Slot("adjective", "ADJ", self._table(cells)))

    def place_noun(self, article: str) -> Slot:
        nouns = [skewed(topic.places[article]) for topic in self.lexicon.topics]
        return self._once(("place", article), lambda: self._by_topic("place", "NOUN", nouns))

    def person_noun(self, article: str) -> Slot:
        nouns = [skewed(topic.people[article]) for topic in self.lexicon.topics]
        return self._once(("person", article), lambda: self._by_topic("person", "NOUN", nouns))

    # Phrases.

    def either_article(self, build: Callable[[str], Node]) -> Choice:
        """`build(article)` for de-words and het-words in their shares."""
        shares = zip((DE_SHARE, 1 - DE_SHARE), ARTICLES, strict=True)
        return choice(*((share, build(article)) for share, article in shares))

    def in_place(self) -> Node:
        return seq(self.word("in", "ADP"), self.place())

    def place(self) -> Node:
        return self.either_article(lambda a: seq(self.word(a, "DET"), self.place_noun(a)))

    def person(self) -> Node:
        return self.either_article(lambda a: seq(self.word(a, "DET"), self.person_noun(a)))

    def kin(self) -> Seq:
        return seq(self.possessive, self.relative)

    def subject(self, named: bool = True) -> Choice:
        """Who acts: mostly the person the document is about, by pronoun or (unless `named` is False) by name."""
        options: list[tuple[float, Node]] = [(0.55, self.pronoun), (0.17, self.kin()), (0.13, self.person())]
        return choice(*options, *([(0.15, self.name)] if named else []))

    def full_name(self) -> Choice:
        return choice((0.6, self.name), (0.4, seq(self.name, self.surname)))

    def noun_phrase(self, k: int, article: str) -> Choice:
        """ "een mooie tuin", "de tuin", "een mooi huis", "het mooie huis": the inflection follows the article."""
        een, definite, noun = self.word("een", "DET"), self.word(article, "DET"), self.noun(k, article)
        return choice(
            (0.35, seq(een, self.adjective(k, inflected=article == "de"), noun)),
            (0.2, seq(een, noun)),
            (0.2, seq(definite, self.adjective(k, inflected=True), noun)),
            (0.25, seq(definite, noun)),
        )

    def some_thing(self, k: int) -> Choice:
        """A thing of group `k`; where the document's own item is of that group, often the item."""
        is_group = self._is_item_group(k)
        other = self.either_article(lambda article: self.noun_phrase(k, article))
        return choice((0.4 * is_group, self.the_item()), (1 - 0.4 * is_group, other))

    def the_item(self) -> Seq:
        return seq(self._by_item_article("article", "DET", {a: {a: 1.0} for a in ARTICLES}), self.item)

    def an_evaluated_item(self) -> Seq:
        """ "een mooie tuin" about the document's item."""
        cells: dict[Index, dict[str, float]] = {}
        for s in range(len(STANCES)):
            for d, article in enumerate(ARTICLES):
                form = self._forms(article == "de")
                leaning = self._leaning(self.lexicon.evaluative, s, 1.0)
                cells[None, s, None, None, d] = {form[bare]: weight for bare, weight in leaning.items()}
        return seq(self.word("een", "DET"), Slot("evaluation", "ADJ", self._table(cells)), self.item)

    def judged(self) -> Choice:
        """ "heel mooi"."""
        return choice((0.6, seq(self.degree, self.evaluation)), (0.4, self.evaluation))

    def relative_pronoun(self, article: str) -> Slot:
        return self.word(RELATIVES[article], "PRON", name="relative")

    def each_group(self, build: Callable[[int], Node], weights: Sequence[Floats] | None = None) -> Choice:
        """`build(k)` for each group of things; the document's item draws its own group."""
        weights = weights or [0.25 + 0.5 * self._is_item_group(k) for k in self.groups]
        return choice(*((weights[k], build(k)) for k in self.groups))

    def with_posture(self) -> list[Floats]:
        """Weights of the groups for "Er staat ...": none for things that stand nowhere."""
        return [
            np.array([float(t.groups[k].posture is not None) for t in self.lexicon.topics]).reshape(-1, 1, 1, 1, 1)
            for k in self.groups
        ]

    def posture(self, k: int) -> Slot:
        # A group without posture has no weight in `with_posture`, so its entry is never used.
        return self._by_topic("posture", "VERB", [{t.groups[k].posture or "staat": 1.0} for t in self.lexicon.topics])

    def item_verb(self, form: str) -> Slot:
        """A verb that fits the document's item."""
        cells: dict[Index, dict[str, float]] = {
            (t, None, None, k, None): skewed([self.lexicon.verbs[v][form] for v in topic.groups[k].verbs])
            for t, topic in enumerate(self.lexicon.topics)
            for k in self.groups
        }
        return Slot(f"verb_{form}", "VERB", self._table(cells))

    # Tables.

    def _once(self, key: tuple[object, ...], build: Callable[[], Slot]) -> Slot:
        """Equal slots are one object, so that whatever is computed about a slot is computed once."""
        if key not in self._slots:
            self._slots[key] = build()
        return self._slots[key]

    def _table(self, cells: Mapping[Index, Mapping[str, float]]) -> Table:
        return tabulate(cells, self.sizes)

    def _listed(self, name: str, upos: str, words: Sequence[str], entity: str = "O") -> Slot:
        return Slot(name, upos, self._table({(None,) * 5: skewed(words)}), entity=entity)

    def _by_topic(self, name: str, upos: str, cells: Iterable[Mapping[str, float]]) -> Slot:
        return Slot(name, upos, self._table({(t, None, None, None, None): cell for t, cell in enumerate(cells)}))

    def _by_gender(self, name: str, upos: str, words: Mapping[str, str]) -> Slot:
        cells: dict[Index, dict[str, float]] = {
            (None, None, g, None, None): {words[gender]: 1.0} for g, gender in enumerate(GENDERS)
        }
        return Slot(name, upos, self._table(cells))

    def _by_item_article(self, name: str, upos: str, cells: Mapping[str, Mapping[str, float]]) -> Slot:
        return Slot(name, upos, self._table({(None, None, None, None, d): cells[a] for d, a in enumerate(ARTICLES)}))

    def _by_stance(self, words: Mapping[str, Sequence[str]]) -> Table:
        return self._table({(None, s, None, None, None): self._leaning(words, s, 1.0) for s in range(len(STANCES))})

    def _leaning(self, words: Mapping[str, Sequence[str]], stance: int, share: float) -> dict[str, float]:
        shares = {name: STANCE_SHARE if s == stance else 1 - STANCE_SHARE for s, name in enumerate(STANCES)}
        return mixed(*(skewed(words[name], share * shares[name]) for name in STANCES))

    def _forms(self, inflected: bool) -> Mapping[str, str]:
        return self.lexicon.inflected if inflected else {bare: bare for bare in self.lexicon.inflected}

    def _is_item_group(self, k: int) -> Floats:
        return (np.arange(len(self.groups)) == k).astype(float).reshape(1, 1, 1, -1, 1)
