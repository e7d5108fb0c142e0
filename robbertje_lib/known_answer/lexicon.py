"""The words of known-answer Dutch, read from `data/known_answer/*.yaml` and checked."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import chain
from typing import Any

import yaml

from robbertje_lib.experiment.paths import DATA

ARTICLES = ("de", "het")
GENDERS = ("zij", "hij")  # of persons, named by their pronoun
STANCES = ("negative", "positive")
VERB_FORMS = ("infinitive", "present", "past", "participle")


@dataclass(frozen=True)
class Group:
    """Things of one kind within a topic, and what one does with them."""

    hypernym: str  # a noun true of every other noun of the group
    posture: str | None  # `staat` or `ligt`; None for what stands nowhere, such as an illness
    verbs: tuple[str, ...]  # infinitives
    adjectives: tuple[str, ...]  # bare forms
    nouns: Mapping[str, tuple[str, ...]]  # article -> nouns, the hypernym last


@dataclass(frozen=True)
class Topic:
    name: str
    groups: tuple[Group, ...]
    places: Mapping[str, tuple[str, ...]]  # article -> nouns after "in" and "naar"
    people: Mapping[str, tuple[str, ...]]  # article -> nouns
    plurals: tuple[str, ...]  # of `people`
    occupations: Mapping[str, float]  # -> P(zij) at full strength of the planted bias
    organisations: tuple[tuple[str, str], ...]  # two tokens each


@dataclass(frozen=True)
class Lexicon:
    topics: tuple[Topic, ...]
    names: Mapping[str, tuple[str, ...]]  # gender -> first names
    verbs: Mapping[str, Mapping[str, str]]  # infinitive -> form -> word
    inflected: Mapping[str, str]  # bare adjective -> form with -e
    evaluative: Mapping[str, tuple[str, ...]]  # stance -> bare adjectives
    mood: Mapping[str, tuple[str, ...]]  # stance -> predicative adjectives for people
    lists: Mapping[str, tuple[str, ...]]  # the remaining word lists: surnames, cities, degree, ...

    @cached_property
    def occupations(self) -> dict[str, float]:
        """Every occupation and its P(zij) at full strength."""
        return {name: base for topic in self.topics for name, base in topic.occupations.items()}

    @cached_property
    def articles(self) -> dict[str, str]:
        """Every singular noun that takes an article, and that article. Raises `ValueError` for one that has both."""
        articles: dict[str, str] = {}
        for topic in self.topics:
            for source in (*(group.nouns for group in topic.groups), topic.places, topic.people):
                for article, nouns in source.items():
                    clashing = [noun for noun in nouns if articles.setdefault(noun, article) != article]
                    if clashing:
                        raise ValueError(f"{topic.name}: {clashing} has another article elsewhere")
        return dict.fromkeys(self.occupations, "de") | articles


@lru_cache
def default_lexicon() -> Lexicon:
    """The lexicon that ships with the library."""
    return build_lexicon(read_data("topics"), read_data("words"))


def read_data(name: str) -> dict[str, Any]:
    """The mapping of `data/known_answer/<name>.yaml`."""
    text = (DATA / "known_answer" / f"{name}.yaml").read_text(encoding="utf-8")
    return dict(yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)))


def build_lexicon(topics: Mapping[str, Any], words: Mapping[str, Any]) -> Lexicon:
    """Lexicon from the two mappings of the data files. Raises `ValueError` where they do not fit together."""
    adjectives = chain(words["adjectives"], *words["evaluative"].values())
    grouped = {"names", "verbs", "adjectives", "evaluative", "mood"}
    lexicon = Lexicon(
        topics=tuple(_topic(name, raw) for name, raw in topics.items()),
        names={gender: tuple(words["names"][gender]) for gender in GENDERS},
        verbs={line.split()[0]: dict(zip(VERB_FORMS, line.split(), strict=True)) for line in words["verbs"]},
        inflected={entry.split()[0]: entry.split()[1] for entry in adjectives},
        evaluative={stance: tuple(e.split()[0] for e in words["evaluative"][stance]) for stance in STANCES},
        mood={stance: tuple(words["mood"][stance]) for stance in STANCES},
        lists={name: tuple(entries) for name, entries in words.items() if name not in grouped},
    )
    _check(lexicon)
    return lexicon


def _topic(name: str, raw: Mapping[str, Any]) -> Topic:
    groups = []
    for group in raw["groups"]:
        article, hypernym = group["hypernym"].split()
        nouns = {a: (*group[a], *([hypernym] if a == article else [])) for a in ARTICLES}
        posture = None if group["posture"] == "none" else group["posture"]
        groups.append(Group(hypernym, posture, tuple(group["verbs"]), tuple(group["adjectives"]), nouns))
    people = {article: [entry.split("/") for entry in raw["people"][article]] for article in ARTICLES}
    return Topic(
        name=name,
        groups=tuple(groups),
        places={article: tuple(raw["places"][article]) for article in ARTICLES},
        people={article: tuple(singular for singular, _ in people[article]) for article in ARTICLES},
        plurals=tuple(plural for article in ARTICLES for _, plural in people[article]),
        occupations=raw["occupations"],
        organisations=tuple((first, second) for first, second in (o.split() for o in raw["organisations"])),
    )


def _check(lexicon: Lexicon) -> None:
    if len({len(topic.groups) for topic in lexicon.topics}) != 1:
        raise ValueError("topics must have equally many groups")
    for topic in lexicon.topics:
        nouns = list(chain(*(group.nouns[article] for group in topic.groups for article in ARTICLES)))
        if len(nouns) != len(set(nouns)):
            # The truth takes a topic's noun to have one group.
            raise ValueError(f"{topic.name}: a noun is listed twice")
        for group in topic.groups:
            unknown = {*group.verbs} - {*lexicon.verbs} | {*group.adjectives} - {*lexicon.inflected}
            if unknown:
                raise ValueError(f"{topic.name}: forms missing of {sorted(unknown)}")
    _ = lexicon.articles  # refuses a noun that has both
