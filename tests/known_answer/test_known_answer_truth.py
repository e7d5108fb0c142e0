"""The true probabilities of known-answer Dutch, against enumeration of a tiny grammar and samples of the full one."""

import itertools
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest
from scipy.stats import chi2

from robbertje_lib.experiment.errors import UserError
from robbertje_lib.known_answer import documents as known_documents
from robbertje_lib.known_answer import model as known_model
from robbertje_lib.known_answer import truth as known_truth
from robbertje_lib.known_answer.documents import Writer
from robbertje_lib.known_answer.grammar import MENTIONS, Alternatives, Node, Slot, capitalised
from robbertje_lib.known_answer.lexicon import build_lexicon, default_lexicon
from robbertje_lib.known_answer.model import Model, default_model
from robbertje_lib.known_answer.truth import Passes, Truth, opening_share

SMALL = {"is_from", "is_called", "is_a", "finds", "item_is"}
PATTERN_SETS = [
    {"works_at", "works_since", "does_not", "helps"},
    {"is_called", "is_a", "relative_object"},
    {"lives_works", "there_is", "exclaims", "verdict"},
    {"story_of", "goes_to_a", "does", "people_are", "is_in_mood"},
]


def tiny_model(patterns: set[str]) -> Model:
    """Two topics of two groups with a handful of words, some of them in both topics; one name is of both genders."""
    topics = {
        "tuin": {
            "groups": [
                {"hypernym": "de plant", "posture": "staat", "verbs": ["zien", "kopen"], "adjectives": ["rood"],
                 "de": [], "het": ["viooltje"]},
                {"hypernym": "het ding", "posture": "none", "verbs": ["kopen"], "adjectives": ["oud", "rood"],
                 "de": ["schop"], "het": []},
            ],
            "places": {"de": ["tuin"], "het": ["park"]},
            "people": {"de": ["gast/gasten"], "het": ["kind/kinderen"]},
            "occupations": {"imker": 0.9, "kok": 0.3},
            "organisations": ["Kwekerij Noord", "Club Zuid"],
        },
        "sport": {
            "groups": [
                {"hypernym": "het artikel", "posture": "ligt", "verbs": ["zien"], "adjectives": ["oud"],
                 "de": ["bal", "schop"], "het": []},
                {"hypernym": "de boom", "posture": "staat", "verbs": ["zien", "kopen"], "adjectives": ["rood"],
                 "de": [], "het": ["viooltje"]},
            ],
            "places": {"de": ["zaal"], "het": ["park"]},
            "people": {"de": ["gast/gasten"], "het": ["lid/leden"]},
            "occupations": {"trainer": 0.5},
            "organisations": ["Club Noord"],
        },
    }  # fmt: skip
    words = {
        "names": {"zij": ["Anna", "Sam"], "hij": ["Sam"]},
        "surnames": ["Visser"], "cities": ["Gent", "Breda"], "languages": ["Frans"], "relatives": ["zus"],
        "degree": ["heel"], "now": ["nu"], "past": ["toen"], "past_inside": ["gisteren"], "numbers": ["drie"],
        "modals": ["wil"], "reporting": ["zegt"], "weather": ["regent"],
        "mood": {"positive": ["blij"], "negative": ["boos"]},
        "evaluative": {"positive": ["mooi mooie"], "negative": ["slecht slechte"]},
        "adjectives": ["rood rode", "oud oude"],
        "verbs": ["zien ziet zag gezien", "kopen koopt kocht gekocht"],
    }  # fmt: skip
    return Model(build_lexicon(topics, words), bias_strength=0.8, patterns=patterns)


Line = tuple[str, ...]


@dataclass
class World:
    """One value of every latent variable, its probability, and that of each sentence it can lead to."""

    probability: float
    opening: dict[Line, float]
    continuing: dict[Line, float]


def worlds(model: Model) -> list[World]:
    """Everything a tiny model can do, by brute force from the patterns: no automaton, no dynamic programming."""
    probabilities: dict[tuple[tuple[int, ...], Line], float] = defaultdict(float)
    topics, stances, genders, _, _ = model.sizes
    p, values, used = model.priors, model.values, mentioned(model.first) | mentioned(model.later)
    for t, s, g in itertools.product(range(topics), range(stances), range(genders)):
        rows = {"name": p["name"][g], "occupation": p["occupation"][t], "city": p["city"][0],
                "organisation": p["organisation"][t], "item": p["item"][t]}  # fmt: skip
        for chosen in itertools.product(*(np.flatnonzero(row) for row in rows.values())):
            mentions = {m: values[m][i] for m, i in zip(rows, chosen, strict=True)}
            probability = model.topic_prior[t] / stances
            probability *= float(np.prod([row[i] for row, i in zip(rows.values(), chosen, strict=True)]))
            zij = model.zij[mentions["occupation"][0]]
            probability *= zij if g == 0 else 1 - zij
            cell = (t, s, g, *model.item_kind[t][mentions["item"][0]])
            # What no pattern mentions makes no difference to the sentences.
            told = tuple(" ".join(mentions[m]) if m in used else "" for m in MENTIONS)
            probabilities[cell, told] += probability
    assert sum(probabilities.values()) == pytest.approx(1)
    result = []
    for (kind, told), probability in probabilities.items():
        mentions = {m: tuple(value.split(" ")) for m, value in zip(MENTIONS, told, strict=True)}
        result.append(
            World(probability, *(sentences(n, kind, mentions, model.sizes) for n in (model.first, model.later)))
        )
    return result


def mentioned(node: Node) -> set[str]:
    if isinstance(node, Slot):
        return {node.mention} if node.mention else set()
    parts = [option for _, option in node.options] if isinstance(node, Alternatives) else node.parts
    return set().union(*(mentioned(part) for part in parts))


def sentences(
    node: Node, cell: tuple[int, ...], mentions: dict[str, Line], sizes: tuple[int, ...]
) -> dict[Line, float]:
    """P(sentence) of every sentence that `node` can become."""
    total: dict[Line, float] = defaultdict(float)
    for tokens, share in written(node, cell, mentions, sizes):
        total[(capitalised(tokens[0]), *tokens[1:])] += share
    assert sum(total.values()) == pytest.approx(1)
    return dict(total)


def written(
    node: Node, cell: tuple[int, ...], mentions: dict[str, Line], sizes: tuple[int, ...]
) -> Iterator[tuple[Line, float]]:
    """Every way to write `node`, with its probability (a text may come up several times)."""

    def at(values: float | np.ndarray) -> float:
        return float(np.broadcast_to(values, sizes)[cell])

    if isinstance(node, Slot):
        if node.table is None:
            yield (mentions[str(node.mention)][node.part],), 1.0
        else:
            for word, row in zip(node.table.words, node.table.probabilities, strict=True):
                if at(row):
                    yield (word,), at(row)
    elif isinstance(node, Alternatives):
        for share, option in node.options:
            if at(share):
                for tokens, probability in written(option, cell, mentions, sizes):
                    yield tokens, at(share) * probability
    else:
        for parts in itertools.product(*(list(written(part, cell, mentions, sizes)) for part in node.parts)):
            yield tuple(t for tokens, _ in parts for t in tokens), float(np.prod([share for _, share in parts]))


def summed(sentences: dict[Line, float], sentence: Line, hidden: int | None) -> float:
    """P(sentence), or of every sentence that differs from it at most at position `hidden`."""
    if hidden is None:
        return sentences.get(sentence, 0.0)
    rest = sentence[:hidden], sentence[hidden + 1 :]
    alike = (s for s in sentences if len(s) == len(sentence) and (s[:hidden], s[hidden + 1 :]) == rest)
    return sum(sentences[s] for s in alike)


def by_brute_force(everything: list[World], line: list[Line], opening: float) -> list[float]:
    """P(token | rest) of a line of sentences, `opening` being the share of such lines that open a document."""
    conditionals = []
    for j, sentence in enumerate(line):
        for t in range(len(sentence)):
            seen = hidden = 0.0
            for world in everything:
                product = {True: world.probability, False: world.probability}
                for i, other in enumerate(line):
                    for mask in (True, False):
                        position = t if mask and i == j else None
                        later = summed(world.continuing, other, position)
                        first = summed(world.opening, other, position)
                        product[mask] *= opening * first + (1 - opening) * later if i == 0 else later
                seen, hidden = seen + product[False], hidden + product[True]
            conditionals.append(seen / hidden)
    return conditionals


@pytest.mark.parametrize("patterns", PATTERN_SETS, ids=lambda patterns: sorted(patterns)[0])
def test_lines_of_one_sentence_have_the_probabilities_of_enumeration(patterns: set[str]) -> None:
    model = tiny_model(patterns)
    everything = worlds(model)
    # A line of one sentence opens its document once in eight: documents have 8 sentences on average.
    total: dict[Line, float] = defaultdict(float)
    for world in everything:
        for share, possible in ((1 / 8, world.opening), (7 / 8, world.continuing)):
            for sentence, probability in possible.items():
                total[sentence] += share * probability * world.probability
    assert sum(total.values()) == pytest.approx(1)
    alike: dict[tuple[int, Line, Line], float] = defaultdict(float)
    for sentence, probability in total.items():
        for t in range(len(sentence)):
            alike[t, sentence[:t], sentence[t + 1 :]] += probability
    lines = list(total)
    rng = np.random.default_rng(1)
    chosen = [lines[i] for i in rng.choice(len(lines), size=min(60, len(lines)), replace=False)]
    truth = known_truth.true_log_probs([" ".join(line) for line in chosen], model=model)
    for line, log_probs in zip(chosen, truth, strict=True):
        expected = [total[line] / alike[t, line[:t], line[t + 1 :]] for t in range(len(line))]
        np.testing.assert_allclose(np.exp(log_probs), expected, rtol=1e-9)


@pytest.mark.parametrize(("count", "merge_probability", "whole"), [(2, 0.5, False), (3, 0.0, False), (3, 0.0, True)])
def test_merged_lines_and_documents_have_the_probabilities_of_enumeration(
    count: int, merge_probability: float, whole: bool
) -> None:
    model = tiny_model(SMALL)
    everything = worlds(model)
    opening = 1.0 if whole else share_by_enumeration(model, count, merge_probability)
    writer = Writer(model, np.random.default_rng(2))
    documents = [document for document in (writer.document("x") for _ in range(20)) if len(document.sentences) > count]
    for number, document in enumerate(documents[:4]):
        # Lines from the opening and from later on, in turn.
        start = 0 if whole else number % 2
        line = [sentence.tokens for sentence in document.sentences[start : start + count]]
        text = " ".join(" ".join(sentence) for sentence in line)
        (log_probs,) = known_truth.true_log_probs([text], 0.8, merge_probability, whole, model)
        np.testing.assert_allclose(np.exp(log_probs), by_brute_force(everything, line, opening), rtol=1e-9)


def share_by_enumeration(model: Model, count: int, merge_probability: float) -> float:
    """Of all lines of `count` sentences that merging leaves, the share that open a document: every way to merge."""
    p = merge_probability or 1e-9  # without merging there are no such lines: the limit is meant
    opening = later = 0.0
    for n, probability in enumerate(model.length_prior):
        for joins in itertools.product((True, False), repeat=max(n - 1, 0)):
            lengths = [len(list(run)) for _, run in itertools.groupby(np.cumsum([0, *(not j for j in joins)]).tolist())]
            weight = probability * p ** sum(joins) * (1 - p) ** (len(joins) - sum(joins))
            opening += weight * (lengths[0] == count) if n else 0.0
            later += weight * lengths[1:].count(count)
    return float(opening / (opening + later))


@pytest.mark.parametrize(("count", "merge_probability"), [(1, 0.0), (1, 0.5), (2, 0.5), (4, 0.3)])
def test_how_often_a_line_opens_its_document(count: int, merge_probability: float) -> None:
    model = tiny_model(SMALL)
    model.length_prior = np.array([0, 0, 0, 0.2, 0.1, 0.4, 0.0, 0.0, 0.3])
    expected = share_by_enumeration(model, count, merge_probability)
    assert opening_share(model, count, merge_probability) == pytest.approx(expected)


def independent_lines(count: int) -> Counter[str]:
    """Lines of as many documents, so that they do not share an occupation: an opening once in eight, else a later one."""
    model = Model(default_lexicon())
    model.length_prior = np.array([0.0, 0.0, 1.0])
    writer = Writer(model, np.random.default_rng(21))
    later = np.random.default_rng(22).random(count) >= 1 / 8
    return Counter(writer.document("x").sentences[int(is_later)].text for is_later in later)


def test_samples_of_the_full_grammar_have_the_true_probabilities() -> None:
    """Chi-square over every context (a line with one token hidden) that comes up often, at a fixed seed."""
    lines = independent_lines(30_000)
    contexts: dict[tuple[int, str], Counter[str]] = defaultdict(Counter)
    for line, count in lines.items():
        tokens = line.split(" ")
        for t, token in enumerate(tokens):
            contexts[t, " ".join([*tokens[:t], "<mask>", *tokens[t + 1 :]])][token] += count
    frequent = {key: seen for key, seen in contexts.items() if seen.total() >= 25 and len(seen) > 1}
    variants = sorted({context.replace("<mask>", token) for (_, context), seen in frequent.items() for token in seen})
    scores = dict(zip(variants, map(np.exp, known_truth.true_log_probs(variants)), strict=True))

    def p_value(exponent: float) -> float:
        statistic, freedom = 0.0, 0
        for (t, context), seen in frequent.items():
            p = np.array([scores[context.replace("<mask>", token)][t] for token in seen])
            assert p.sum() < 1 + 1e-9
            p = np.append(p, max(1 - p.sum(), 0.0)) ** exponent
            observed = np.append(np.array(list(seen.values()), dtype=float), 0.0)
            expected = p / p.sum() * seen.total()
            # Words not seen and words rarely expected are one cell, left out if even so it is rare: chi-square
            # needs 5 a cell.
            rare = np.append(expected[:-1] < 5, True)
            expected = np.append(expected[~rare], expected[rare].sum())
            observed = np.append(observed[~rare], observed[rare].sum())
            kept = expected >= 5
            statistic += float(((observed - expected) ** 2 / np.maximum(expected, 1e-9))[kept].sum())
            freedom += int(kept.sum()) - int(kept.all())
        assert freedom > 100
        return float(chi2.sf(statistic, freedom))

    assert p_value(1.0) > 1e-3
    # The test can fail: probabilities too sharp or too flat are found out.
    assert p_value(1.5) < 1e-4
    assert p_value(0.6) < 1e-4


@pytest.mark.parametrize(
    ("line", "t"),
    [
        ("Zij is een kok .", 0),
        ("Zij is een kok .", 3),
        ("In Gent regent het vandaag .", 1),
        ("Wat een mooie taart !", 2),
    ],
)
def test_the_probabilities_of_all_words_at_a_position_sum_to_one(line: str, t: int) -> None:
    truth, tokens, total = Truth(default_model()), line.split(" "), 0.0
    for word in known_model.vocabulary():
        variant = " ".join([*tokens[:t], word, *tokens[t + 1 :]])
        total += float(np.exp(truth.log_probs(variant)[t])) if truth.possible(variant) else 0.0
    assert total == pytest.approx(1)


def test_no_other_word_can_stand_for_the_end_of_a_sentence() -> None:
    """So conditioning on the number of sentences in a line takes nothing away from "given everything else"."""
    truth = Truth(default_model())
    starts = {truth.model.automaton.first: 0.5, truth.model.automaton.later: 0.5}
    for document in known_documents.generate(31, 12):
        for before, after in itertools.pairwise(document.sentences):
            tokens = [*before.tokens, *after.tokens]
            passes = Passes(truth, truth.configurations(tokens), tokens, starts)
            assert not passes.with_any(len(before.tokens) - 1).any()
        for t in range(1, len(before.tokens) - 1):
            assert not truth.possible(" ".join([*before.tokens[:t], ".", *before.tokens[t + 1 :]]))


def tag_posteriors(truth: Truth, sentence: str, attribute: str) -> list[dict[str, float]]:
    """P(tag | the sentence) of each token; `attribute` is `upos` or `entity`."""
    configurations, (passes,) = truth.passes(sentence, 0.0, False)
    result = []
    for t, token in enumerate(sentence.split(" ")):
        mass: dict[str, float] = {}
        for state, forward in passes.forward[t].items():
            for target, slot, factor in truth.steps(configurations, state, token):
                joint = configurations.prior @ (forward * factor * passes.backward(t + 1, target))
                tag = getattr(slot, attribute)
                mass[tag] = mass.get(tag, 0.0) + float(joint)
        total = sum(mass.values())
        result.append({tag: share / total for tag, share in mass.items() if share})
    return result


def test_tags_are_a_function_of_the_sentence() -> None:
    truth = Truth(default_model())
    for document in known_documents.generate(41, 15):
        for sentence in document.sentences:
            for attribute, gold in (("upos", sentence.upos), ("entity", sentence.entities)):
                posteriors = tag_posteriors(truth, sentence.text, attribute)
                assert [set(posterior) for posterior in posteriors] == [{tag} for tag in gold]


def test_context_helps_and_a_wrong_belief_costs() -> None:
    documents = list(known_documents.generate(51, 40))
    lines = [sentence.text for document in documents for sentence in document.sentences]
    single = known_truth.floor(lines)
    pairs = [f"{a.text} {b.text}" for d in documents for a, b in zip(d.sentences[::2], d.sentences[1::2], strict=False)]
    merged = known_truth.floor(pairs, merge_probability=0.5)
    whole = known_truth.floor([document.text for document in documents], whole_documents=True)
    assert whole["corpus"] < merged["corpus"] < single["corpus"]
    assert single["corpus"] < known_truth.floor(lines, bias_strength=0.0)["corpus"]
    scores = known_truth.true_log_probs(lines)
    assert [len(score) for score in scores] == [len(line.split(" ")) for line in lines]
    assert single["corpus"] == pytest.approx(np.exp(-np.mean(np.concatenate(scores))))
    assert single["per_line_mean"] == pytest.approx(np.exp(-np.mean([score.mean() for score in scores])))


def test_a_document_tells_the_gender_that_a_line_leaves_open() -> None:
    line = "Zij is een imker ."
    document = f"Jan is een imker uit Gent . {line.replace('Zij', 'Hij')} Zijn zus helpt hem in de tuin ."
    (alone,) = known_truth.true_log_probs([line])
    (whole,) = known_truth.true_log_probs([document], whole_documents=True)
    assert np.exp(alone[0]) == pytest.approx(0.5)
    assert np.exp(whole[7]) == pytest.approx(1.0)


def test_a_line_of_another_origin_is_refused() -> None:
    for line in (
        "Zij is een kok",
        "Zij is een kok . .",
        "Zij zijn een kok .",
        "Jan is blij . Hij is blij . Anna is blij .",
    ):
        with pytest.raises(UserError, match="not known-answer Dutch"):
            known_truth.true_log_probs([line])
    with pytest.raises(UserError, match="longer than any document"):
        known_truth.true_log_probs([" ".join(["Hij is blij ."] * 16)])


def test_five_hundred_lines_take_seconds() -> None:
    lines = [sentence.text for document in known_documents.generate(61, 70) for sentence in document.sentences][:500]
    begin = time.process_time()
    known_truth.floor(lines)
    # About 1.5 s on one core of a laptop; the bound leaves room for a busy machine.
    assert len(lines) == 500 and time.process_time() - begin < 15
