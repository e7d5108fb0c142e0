"""Known-answer Dutch as text: it agrees, it is reproducible, and its labels follow from how it was made."""

import re
import time
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

from robbertje_lib.experiment.errors import UserError
from robbertje_lib.known_answer import bias as known_bias
from robbertje_lib.known_answer import documents as known_documents
from robbertje_lib.known_answer import labels as known_labels
from robbertje_lib.known_answer import model as known_model
from robbertje_lib.known_answer.documents import KnownDocument
from robbertje_lib.known_answer.lexicon import STANCES, build_lexicon, default_lexicon

SIZES = {"train": 200, "validation": 50, "test": 100}
TASKS = ("dbrd", "die_dat", "ner", "pos", "sick_nl")
LEXICON = default_lexicon()
BARE = {inflected: bare for bare, inflected in LEXICON.inflected.items()}


@pytest.fixture(scope="module")
def documents() -> list[KnownDocument]:
    return list(known_documents.generate(seed=5, count=1200))


@pytest.fixture(scope="module")
def lines(documents: list[KnownDocument]) -> list[list[str]]:
    return [list(sentence.tokens) for document in documents for sentence in document.sentences]


def disagreements(tokens: list[str]) -> list[str]:
    """What a strict reader of articles, adjectives, relative pronouns and verb-final clauses objects to."""
    words = [tokens[0].lower() if i == 0 else token for i, token in enumerate(tokens)]
    found = []
    for i, word in enumerate(words):
        modified = words[i - 1] in BARE or words[i - 1] in LEXICON.inflected
        determiner = words[i - 2] if modified else words[i - 1]
        if word in LEXICON.articles and determiner in ("de", "het", "een", "geen"):
            article = LEXICON.articles[word]
            if determiner in ("de", "het") and determiner != article:
                found.append(f"{determiner} {word}")
            if modified:
                inflected = words[i - 1] in BARE
                if inflected != (determiner in ("de", "het") or article == "de"):
                    found.append(f"{determiner} {words[i - 1]} {word}")
        relative = {"de": "die", "het": "dat"}.get(LEXICON.articles.get(words[i - 1], ""))
        if word in ("die", "dat") and relative not in (None, word):
            found.append(f"{words[i - 1]} {word}")
    return found


def test_articles_adjectives_and_relative_pronouns_agree(lines: list[list[str]]) -> None:
    assert [fault for tokens in lines for fault in disagreements(tokens)] == []
    pronouns = Counter(word for tokens in lines for word in tokens)
    assert pronouns["die"] > 100 and pronouns["dat"] > 100


@pytest.mark.parametrize(
    "wrong",
    ["Zij ziet het tuin .", "Zij ziet een mooi tuin .", "Zij ziet een mooie huis .", "Zij ziet het mooi huis .",
     "Zij ziet een huis die mooi is .", "De gast dat Anna ziet , is blij ."],
)  # fmt: skip
def test_the_reader_objects_to_what_is_wrong(wrong: str) -> None:
    words = wrong.replace("tuin", "heg").replace("huis", "hek").split()
    assert disagreements(words)


def test_pronouns_refer_to_the_person_named_before(documents: list[KnownDocument]) -> None:
    own = {"zij": {"zij", "haar"}, "hij": {"hij", "zijn", "hem"}}
    for document in documents:
        assert document.mentions["name"][0] in document.sentences[0].tokens
        names = {t for s in document.sentences for t, e in zip(s.tokens, s.entities, strict=True) if e == "B-PER"}
        assert names == set(document.mentions["name"])
        assert document.mentions["name"][0] in LEXICON.names[document.gender]
        for sentence in document.sentences:
            referring = ("pronoun", "possessive", "object_pronoun")
            words = {t.lower() for t, slot in zip(sentence.tokens, sentence.slots, strict=True) if slot in referring}
            assert words <= own[document.gender]


def test_verbs_close_subordinate_clauses_and_follow_inversion(lines: list[list[str]]) -> None:
    present = {forms["present"] for forms in LEXICON.verbs.values()}
    past = {forms["past"] for forms in LEXICON.verbs.values()}
    for tokens in lines:
        text = " ".join(tokens)
        if match := re.search(r" (?:zegt|denkt|weet|vertelt) dat (?:hij|zij) .* (\w+) \.$", text):
            assert match[1] in present
        if re.match(r"(?:Gisteren|Eergisteren|Toen|Daarna|Vroeger) ", text):
            assert tokens[1] in past
        if match := re.search(r"omdat .* (\w+) heeft \.$", text):
            assert match[1] in {forms["participle"] for forms in LEXICON.verbs.values()}


def test_a_document_keeps_to_its_topic(documents: list[KnownDocument]) -> None:
    topics = {topic.name: topic for topic in LEXICON.topics}
    for document in documents[:300]:
        topic = topics[document.topic]
        nouns = {n for group in topic.groups for ns in group.nouns.values() for n in ns}
        for sentence in document.sentences:
            used = {t for t, slot in zip(sentence.tokens, sentence.slots, strict=True) if slot in ("noun", "item")}
            assert used <= nouns


def test_lines_are_tokenised_and_documents_as_long_as_promised(documents: list[KnownDocument]) -> None:
    vocabulary = set(known_model.vocabulary())
    for document in documents:
        assert 3 <= len(document.sentences) <= 15
        for sentence in document.sentences:
            assert set(sentence.tokens) <= vocabulary
            assert sentence.text == " ".join(sentence.text.split())
            assert sentence.tokens[0][0].isupper() and sentence.tokens[-1] in (".", "!")


def test_the_lexicon_is_as_large_as_promised() -> None:
    assert len(LEXICON.articles) >= 600
    assert len(LEXICON.occupations) >= 60
    assert 1500 <= len(known_model.vocabulary()) <= 2500


def test_a_lexicon_that_contradicts_itself_is_refused() -> None:
    group = {
        "hypernym": "het ding",
        "posture": "ligt",
        "verbs": ["zien"],
        "adjectives": ["groot"],
        "de": ["bal"],
        "het": ["net"],
    }
    topic = {"groups": [group], "places": {"de": ["zaal"], "het": ["veld"]}, "people": {"de": ["gast/gasten"], "het": ["kind/kinderen"]},
             "occupations": {"kok": 0.5}, "organisations": ["Club Noord"]}  # fmt: skip
    words = {"names": {"zij": ["Anna"], "hij": ["Jan"]}, "verbs": ["zien ziet zag gezien"], "adjectives": ["groot grote"],
             "evaluative": {s: ["mooi mooie"] for s in STANCES}, "mood": {s: ["blij"] for s in STANCES}}  # fmt: skip
    assert build_lexicon({"sport": topic}, words).articles["bal"] == "de"
    with pytest.raises(ValueError, match="another article"):
        build_lexicon({"sport": {**topic, "places": {"de": ["net"], "het": ["veld"]}}}, words)
    with pytest.raises(ValueError, match="forms missing"):
        build_lexicon({"sport": {**topic, "groups": [{**group, "verbs": ["horen"]}]}}, words)


def test_the_same_seed_writes_the_same_text_and_another_does_not() -> None:
    first, again, other = (list(known_documents.generate_documents(seed, megabytes=0.01)) for seed in (1, 1, 2))
    assert first == again
    assert {d.sentences for d in first}.isdisjoint({d.sentences for d in other})
    assert len({d.id for d in first + other}) == len(first + other)


def test_documents_reach_the_size_asked_for_in_time() -> None:
    begin = time.process_time()
    written = [sum(len(s.text.encode()) + 1 for s in d.sentences) for d in known_documents.generate_documents(3, 0.5)]
    assert 0.5e6 <= sum(written) < 0.5e6 + max(written)
    # About 1 s on one core of a laptop; the bound leaves room for a busy machine.
    assert time.process_time() - begin < 10
    with pytest.raises(UserError, match="more than 0"):
        next(known_documents.generate_documents(3, 0.0))


def test_the_planted_bias_is_in_the_text_and_gone_at_strength_0() -> None:
    planted = known_bias.planted_bias(1.0)
    assert min(planted.values()) < 0.05 and max(planted.values()) > 0.95
    assert sum(value == 0.5 for value in planted.values()) >= 5
    assert set(known_bias.planted_bias(0.0).values()) == {0.5}
    for strength in (1.0, 0.5, 0.0):
        counts: dict[str, list[int]] = {}
        for document in known_documents.generate(8, 2500, bias_strength=strength):
            counts.setdefault(document.mentions["occupation"][0], []).append(document.gender == "zij")
        expected = known_bias.planted_bias(strength)
        z = [
            (np.mean(zij) - expected[name]) / np.sqrt(expected[name] * (1 - expected[name]) / len(zij))
            for name, zij in counts.items()
        ]
        assert len(z) == len(planted)
        assert np.max(np.abs(z)) < 4.5 and 0.5 < np.std(z) < 1.5


@pytest.mark.parametrize("strength", [1.0, 0.4, 0.0])
def test_a_perfect_probe_reads_the_planted_value(strength: float) -> None:
    planted = known_bias.planted_bias(strength)
    for template in known_bias.probe_templates():
        for occupation in list(planted)[::7]:
            truth = known_bias.probe_truth(template, occupation, strength)
            assert truth["Zij"] == pytest.approx(planted[occupation], abs=1e-9)
            assert truth["Zij"] + truth["Hij"] == pytest.approx(1.0, abs=1e-9)
    with pytest.raises(UserError, match="did you mean 'chirurg'"):
        known_bias.probe_truth(known_bias.probe_templates()[0], "chirurgg")
    with pytest.raises(UserError, match="between 0 and 1"):
        known_bias.planted_bias(1.5)


def test_every_occupation_is_probed_often_enough(lines: list[list[str]]) -> None:
    frames = {("is", "een"), ("werkt", "als", "een"), ("gaat", "naar", "een")}
    counts = Counter(t[-2] for t in lines if t[0] in ("Zij", "Hij") and tuple(t[1:-2]) in frames)
    assert set(counts) == set(LEXICON.occupations)
    assert sum(counts.values()) / len(lines) > 0.06


@pytest.mark.parametrize("task", TASKS)
def test_splits_are_full_disjoint_and_reproducible(task: str) -> None:
    rows = known_labels.task_examples(task, SIZES, seed=3)
    assert {split: len(examples) for split, examples in rows.items()} == SIZES
    assert rows == known_labels.task_examples(task, SIZES, seed=3)
    # A larger training set leaves the test set as it is.
    assert rows["test"] == known_labels.task_examples(task, {**SIZES, "train": 300}, seed=3)["test"]
    assert rows["test"] != known_labels.task_examples(task, SIZES, seed=4)["test"]
    keys = [
        str([row.get(k) for k in ("text", "text_pair", "tokens")]) for examples in rows.values() for row in examples
    ]
    assert len(set(keys)) == len(keys) == sum(SIZES.values())
    assert len({row["example_id"] for examples in rows.values() for row in examples}) == len(keys)
    vocabulary = {*known_model.vocabulary(), "<mask>"}
    for row in rows["train"]:
        tokens = row.get("tokens") or f"{row['text']} {row.get('text_pair', '')}".split()
        assert set(tokens) <= vocabulary
        if "labels" in row:
            assert len(row["labels"]) == len(tokens)


def test_an_unknown_task_is_refused() -> None:
    with pytest.raises(UserError, match="did you mean 'sick_nl'"):
        known_labels.task_examples("sicknl", SIZES, seed=1)


@pytest.mark.parametrize("task", ["dbrd", "die_dat", "sick_nl"])
def test_labels_are_balanced(task: str) -> None:
    labels = Counter(row["label"] for row in known_labels.task_examples(task, SIZES, seed=3)["train"])
    assert min(labels.values()) > 0.75 * SIZES["train"] / len(labels)


def test_sentiment_cannot_be_had_for_free_and_its_bayes_accuracy_is_reached() -> None:
    rows = known_labels.task_examples("dbrd", {"train": 0, "validation": 0, "test": 250}, seed=3)["test"]
    posteriors = known_labels.sentiment_posteriors(rows)
    best = known_labels.bayes_accuracy("dbrd", rows)
    right = np.mean(
        [max(p, key=lambda label: p[label]) == row["label"] for p, row in zip(posteriors, rows, strict=True)]
    )
    assert 0.85 < best < 0.97
    assert abs(right - best) < 3 * np.sqrt(best * (1 - best) / len(rows))
    # Counting evaluations, without the grammar, does about as well: the evidence lies where it should.
    positive, negative = (
        {form for bare in LEXICON.evaluative[s] for form in (bare, LEXICON.inflected[bare])} | set(LEXICON.mood[s])
        for s in ("positive", "negative")
    )
    votes = [sum((w in positive) - (w in negative) for w in row["text"].split()) for row in rows]
    counted = np.mean([(v > 0) == (row["label"] == "positive") for v, row in zip(votes, rows, strict=True) if v])
    assert abs(counted - best) < 0.06


def test_die_dat_follows_from_the_antecedent() -> None:
    rows = known_labels.task_examples("die_dat", SIZES, seed=3)["train"]
    plurals = {plural for topic in LEXICON.topics for plural in topic.plurals}
    for row in rows:
        tokens = row["text"].split()
        assert tokens.count("<mask>") == 1
        antecedent = tokens[tokens.index("<mask>") - 1]
        article = "de" if antecedent in plurals else LEXICON.articles[antecedent]
        assert row["label"] == {"de": "die", "het": "dat"}[article]
        assert disagreements(row["text"].replace("<mask>", row["label"]).split()) == []


def test_entities_are_iob2_of_every_kind() -> None:
    rows = known_labels.task_examples("ner", SIZES, seed=3)["train"]
    for row in rows:
        for before, label in pairwise(["O", *row["labels"]]):
            assert label[:2] != "I-" or before[2:] == label[2:]
        for token, label in zip(row["tokens"], row["labels"], strict=True):
            assert (label == "B-LOC") == (token in LEXICON.lists["cities"])
    counts = Counter(label for row in rows for label in row["labels"])
    assert {"O", "B-PER", "I-PER", "B-LOC", "B-ORG", "I-ORG", "B-MISC"} <= set(counts)
    # A surname names a person or a firm: the word alone does not tell.
    tagged = [pair for row in rows for pair in zip(row["tokens"], row["labels"], strict=True)]
    surnames = {label for token, label in tagged if token in LEXICON.lists["surnames"]}
    assert surnames == {"I-PER", "I-ORG"}


def test_parts_of_speech_need_context_and_are_determined_by_it() -> None:
    rows = known_labels.task_examples("pos", {**SIZES, "train": 2000}, seed=3)["train"]
    tags: dict[str, set[str]] = {}
    for row in rows:
        for token, tag in zip(row["tokens"], row["labels"], strict=True):
            tags.setdefault(token, set()).add(tag)
    for word in ("haar", "zijn", "het", "dat"):
        assert len(tags[word]) > 1, word


def test_pairs_follow_from_what_was_changed() -> None:
    rows = known_labels.task_examples("sick_nl", {**SIZES, "train": 1500}, seed=3)["train"]
    labels: dict[tuple[str, str], set[str]] = {}
    hypernyms = {
        group.hypernym: {n for ns in group.nouns.values() for n in ns} for t in LEXICON.topics for group in t.groups
    }
    for row in rows:
        labels.setdefault((row["text"], row["text_pair"]), set()).add(row["label"])
        premise, hypothesis = row["text"].split(), row["text_pair"].split()
        assert disagreements(premise) == disagreements(hypothesis) == []
        if row["label"] == "CONTRADICTION":
            assert ("geen" in premise) != ("geen" in hypothesis)
        if row["label"] == "ENTAILMENT":
            assert ("geen" in premise) == ("geen" in hypothesis)
            added = set(hypothesis) - set(premise) - {"een", "iets", "Iemand"}
            if "geen" not in premise:
                assert added <= set(hypernyms)
    assert {len(found) for found in labels.values()} == {1}
    # Negation alone gives nothing away.
    negated = Counter(row["label"] for row in rows if "geen" in row["text_pair"].split())
    assert len(negated) == 3
