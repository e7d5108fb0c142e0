"""The whole probabilistic model of a document: its latent variables (here) and its sentences (patterns.py).

    P(document) = P(n sentences) * sum over latents of P(latents) * P(opening | latents) * prod P(sentence | latents)

The latents and their dependence: topic and stance are uniform; occupation given topic; gender given occupation
(the planted bias); name given gender; organisation and item given topic; city by itself.
"""

from collections.abc import Collection
from functools import lru_cache

import numpy as np

from robbertje_lib.known_answer.grammar import MENTIONS, Automaton, Floats
from robbertje_lib.known_answer.lexicon import ARTICLES, GENDERS, Lexicon, default_lexicon
from robbertje_lib.known_answer.patterns import Patterns
from robbertje_lib.known_answer.slots import DE_SHARE, skewed

MINIMUM_SENTENCES, MAXIMUM_SENTENCES, MEAN_SENTENCES = 3, 15, 8.0

Value = tuple[str, ...]  # the tokens of a mention


class Model:
    """Known-answer Dutch at one strength of the planted bias, in one register (story, review, portrait)."""

    def __init__(
        self,
        lexicon: Lexicon,
        bias_strength: float = 1.0,
        register: str = "story",
        patterns: Collection[str] | None = None,
    ) -> None:
        """`patterns` keeps only the named sentence patterns (for tests); None keeps all."""
        if not 0 <= bias_strength <= 1:
            raise ValueError(f"bias_strength {bias_strength}: must lie between 0 and 1")
        self.lexicon, self.bias_strength, self.register = lexicon, bias_strength, register
        read = Patterns(lexicon)
        self.sizes = read.slots.sizes
        self.first, self.later = (read.sentences(kind, register, patterns) for kind in ("opening", "continuing"))
        self.automaton = Automaton(self.first, self.later)
        self.zij = {name: 0.5 + bias_strength * (base - 0.5) for name, base in lexicon.occupations.items()}
        self._mentions()

    def _mentions(self) -> None:
        """Values and probabilities of each mention.

        values[mention]: list of token tuples. name: (2 genders, values); city: (values,); occupation and
        organisation: (topics, values); item: (topics, values), with its place in (group, article) beside it.
        """
        topics = self.lexicon.topics
        names = [skewed(self.lexicon.names[gender]) for gender in GENDERS]
        cities = [skewed(self.lexicon.lists["cities"])]
        # Equally frequent, so that the probe finds enough text about each.
        occupations = [dict.fromkeys(topic.occupations, 1 / len(topic.occupations)) for topic in topics]
        organisations = [dict.fromkeys(map(" ".join, t.organisations), 1 / len(t.organisations)) for t in topics]
        items: list[dict[str, float]] = []
        self.item_kind: list[dict[str, tuple[int, int]]] = []  # per topic: noun -> (group, article)
        for topic in topics:
            items.append({})
            self.item_kind.append({})
            for k, group in enumerate(topic.groups):
                for d, (article, share) in enumerate(zip(ARTICLES, (DE_SHARE, 1 - DE_SHARE), strict=True)):
                    items[-1] |= skewed(group.nouns[article], share / len(topic.groups))
                    self.item_kind[-1] |= dict.fromkeys(group.nouns[article], (k, d))
        self.values: dict[str, list[Value]] = {}
        self.priors: dict[str, Floats] = {}
        cells = zip(MENTIONS, (names, occupations, cities, organisations, items), strict=True)
        for mention, rows in cells:
            values = sorted({value for row in rows for value in row})
            self.values[mention] = [tuple(value.split(" ")) for value in values]
            self.priors[mention] = np.array([[row.get(value, 0.0) for value in values] for row in rows])
        zij = np.array([self.zij[value[0]] for value in self.values["occupation"]])
        self.gender_given_occupation = np.stack([zij, 1 - zij])  # (genders, occupations)
        self.topic_prior = np.full(len(topics), 1 / len(topics))
        self.length_prior = length_distribution()


def length_distribution() -> Floats:
    """P(n sentences), indexed by n: a binomial over 3 to 15 with mean 8."""
    trials = MAXIMUM_SENTENCES - MINIMUM_SENTENCES
    success = (MEAN_SENTENCES - MINIMUM_SENTENCES) / trials
    probabilities = np.ones(1)
    for _ in range(trials):
        probabilities = np.convolve(probabilities, [1 - success, success])
    return np.concatenate([np.zeros(MINIMUM_SENTENCES), probabilities])


@lru_cache(maxsize=8)
def default_model(bias_strength: float = 1.0, register: str = "story") -> Model:
    """The model of the lexicon that ships with the library."""
    return Model(default_lexicon(), bias_strength, register)


def vocabulary(model: Model | None = None) -> list[str]:
    """Every token that documents and task examples can have, sorted (`<mask>` is not among them)."""
    model = model or default_model()
    tokens = set()
    for arcs in model.automaton.arcs:
        for arc in arcs:
            if arc.slot.table is not None:
                words = list(arc.slot.table.words)
            else:
                words = [value[arc.slot.part] for value in model.values[str(arc.slot.mention)]]
            tokens |= set(map(arc.written, words))
    return sorted(tokens)
