"""Pairs of sentences whose relation follows from how they were made (the task of SICK-NL).

A premise says that somebody does something to a thing, or does no such thing; the hypothesis changes one or two
of its parts. The label is decided by what is changed, never by looking at the words.
"""

from dataclasses import dataclass, replace

import numpy as np

from robbertje_lib.known_answer.grammar import capitalised
from robbertje_lib.known_answer.lexicon import ARTICLES, GENDERS, Lexicon
from robbertje_lib.known_answer.slots import POSSESSIVES, skewed

LABELS = ("ENTAILMENT", "NEUTRAL", "CONTRADICTION")


@dataclass(frozen=True)
class Event:
    """ "Anna snijdt geen rijpe appel in de keuken .\""""

    agent: str
    verb: str
    noun: str  # or `iets`
    article: str  # of the noun
    adjective: str | None = None  # bare
    place: str | None = None  # with its article
    negated: bool = False

    def text(self, lexicon: Lexicon) -> str:
        words = [capitalised(self.agent), lexicon.verbs[self.verb]["present"]]
        if self.noun != "iets":
            words.append("geen" if self.negated else "een")
        if self.adjective is not None:
            words.append(lexicon.inflected[self.adjective] if self.article == "de" else self.adjective)
        words.append(self.noun)
        if self.place is not None:
            words.append(f"in {self.place}")
        return " ".join([*words, "."])


class PairWriter:
    """Draws premises and hypotheses."""

    def __init__(self, lexicon: Lexicon, rng: np.random.Generator) -> None:
        self.lexicon, self.rng = lexicon, rng

    def pair(self, label: str) -> tuple[str, str]:
        """Premise and hypothesis in the relation `label`."""
        self.topic = self.lexicon.topics[self.rng.integers(len(self.lexicon.topics))]
        self.group = self.topic.groups[self.rng.integers(len(self.topic.groups))]
        article, noun = self._noun()
        event = Event(self._agent(), self._pick(self.group.verbs), noun, article)
        build = {"ENTAILMENT": self._entailment, "NEUTRAL": self._neutral, "CONTRADICTION": self._contradiction}[label]
        premise, hypothesis = build(event)
        return premise.text(self.lexicon), hypothesis.text(self.lexicon)

    def _entailment(self, event: Event) -> tuple[Event, Event]:
        detailed = replace(event, adjective=self._adjective(), place=self._place() if self._coin() else None)
        match self.rng.integers(6):
            case 0:  # a modifier is dropped
                return detailed, replace(detailed, adjective=None)
            case 1:
                premise = replace(detailed, place=self._place())
                return premise, replace(premise, place=None)
            case 2:  # somebody, something
                return detailed, replace(detailed, agent="iemand")
            case 3:
                return detailed, replace(detailed, noun="iets", adjective=None)
            case 4:  # the general word
                premise = replace(event, place=detailed.place)
                return premise, self._generalised(premise)
            case _:  # no such thing at all: none of that sort either
                premise = replace(event, negated=True)
                return premise, replace(premise, adjective=self._adjective())

    def _neutral(self, event: Event) -> tuple[Event, Event]:
        detailed = replace(event, adjective=self._adjective(), place=self._place() if self._coin() else None)
        match self.rng.integers(7):
            case 0:  # a modifier is added
                return replace(detailed, adjective=None), detailed
            case 1:
                hypothesis = replace(detailed, place=self._place())
                return replace(hypothesis, place=None), hypothesis
            case 2:  # somebody else
                return detailed, replace(detailed, agent=self._agent(other_than=event.agent))
            case 3:  # something else
                article, noun = self._noun(other_than=event.noun)
                return replace(detailed, adjective=None), replace(detailed, adjective=None, noun=noun, article=article)
            case 4:  # the general word first
                hypothesis = replace(event, place=detailed.place)
                return self._generalised(hypothesis), hypothesis
            case 5:  # none of that sort: perhaps of another
                return replace(detailed, place=None, negated=True), replace(event, negated=True)
            case _:
                return replace(detailed, place=None, negated=True), event

    def _contradiction(self, event: Event) -> tuple[Event, Event]:
        adjective = self._adjective()
        match self.rng.integers(4):
            case 0:
                return event, replace(event, negated=True)
            case 1:
                return replace(event, adjective=adjective), replace(event, negated=True)
            case 2:
                return replace(event, negated=True), replace(event, adjective=adjective if self._coin() else None)
            case _:  # none at all, though one of the kind
                return event, replace(self._generalised(event), negated=True)

    def _generalised(self, event: Event) -> Event:
        article = next(a for a in ARTICLES if self.group.hypernym in self.group.nouns[a])
        return replace(event, noun=self.group.hypernym, article=article, adjective=None)

    def _noun(self, other_than: str | None = None) -> tuple[str, str]:
        """Article and noun of the group, not the hypernym."""
        while True:
            article = ARTICLES[int(self._coin())]
            noun = self._pick(self.group.nouns[article])
            if noun not in (other_than, self.group.hypernym):
                return article, noun

    def _agent(self, other_than: str | None = None) -> str:
        while True:
            gender = GENDERS[int(self._coin())]
            article = ARTICLES[int(self._coin())]
            options = (
                self._pick(self.lexicon.names[gender]),
                f"{article} {self._pick(self.topic.people[article])}",
                f"{POSSESSIVES[gender]} {self._pick(self.lexicon.lists['relatives'])}",
            )
            agent = options[self.rng.integers(len(options))]
            if agent != other_than:
                return agent

    def _place(self) -> str:
        article = ARTICLES[int(self._coin())]
        return f"{article} {self._pick(self.topic.places[article])}"

    def _adjective(self) -> str:
        return self._pick(self.group.adjectives)

    def _coin(self) -> bool:
        return bool(self.rng.random() < 0.5)

    def _pick(self, words: tuple[str, ...]) -> str:
        weights = skewed(words)
        return str(self.rng.choice(list(weights), p=list(weights.values())))
