"""Baselines without a network: what a model must beat before its score on a task is of any use.

Each learns from the same training examples as the models; of a small grid of settings, the simplest first, the one
that scores best on the validation split is kept. Nothing in them is random.

- `majority`, for every task: always the most frequent label (ZeroR in the RobBERT paper). For entities that is `O`,
  which finds none: F1 is 0.
- `word_tag`, for words and accuracy: the most frequent label of each word; an unseen word gets that of the training
  words with the same shape (capital, digit, other) and the same ending.
- `word_list`, for entities: the phrases that are entities in training, the longest first, if they are often enough.
- `tf_idf`, for single texts: logistic regression on words and pairs of words, with or without runs of characters.
- `bigram_rule`, for single texts that all hold a mask: the most frequent label beside the same neighbouring words.
- `shared_ngrams`, for pairs of texts: logistic regression on the words and pairs of words that both, only the first,
  or only the second has, on how many there are, and on the shares that are shared.

A task of your own gets those of its kind.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from robbertje_lib.tasks import MASK, Row, TaskData
from robbertje_lib.tasks.metrics import entities, task_score

Label = str | list[str]
Answer = Callable[[Sequence[Row]], list[Any]]  # a label a row, or a list of them
Settings = dict[str, float | int | str]
Fit = Callable[[Sequence[Row]], Iterator[tuple[Settings, Answer]]]  # a pair a point of the grid

WORD = rf"{MASK}|\w+|[^\w\s]"
STRENGTHS = (0.1, 1.0, 10.0, 100.0)  # `C` of logistic regression: the larger, the less it is regularised
ENDINGS = (0, 2, 3, 4)  # longest ending that `word_tag` looks at, in characters
# Contexts that `bigram_rule` looks up in turn, until one is known.
ORDERS = ("next", "next two, next", "next, previous", "around, next, previous", "next two, around, next, previous")


@dataclass(frozen=True)
class TunedBaseline:
    """A baseline with the settings that are best on the validation split, and its score there (0 to 1)."""

    name: str
    settings: Settings
    validation: float
    answer: Answer


def tuned_baselines(data: TaskData, train: Sequence[Row]) -> list[TunedBaseline]:
    """The baselines of a task of this kind, `majority` first, that have learnt from the rows `train`."""
    metric, validation = data.task.metric, data.validation.to_list()
    gold = gold_of(validation)
    tuned = []
    for name, fit in _baselines_of(data).items():
        scored = [(task_score(metric, gold, answer(validation)), chosen, answer) for chosen, answer in fit(train)]
        best, chosen, answer = max(scored, key=lambda entry: entry[0])  # the first of equals, which is the simplest
        tuned.append(TunedBaseline(name, chosen, best, answer))
    return tuned


def gold_of(rows: Iterable[Row]) -> list[Label]:
    """The gold label of each row, or the labels of its words."""
    return [row["labels"] if "labels" in row else row["label"] for row in rows]


def _baselines_of(data: TaskData) -> dict[str, Fit]:
    chosen: dict[str, Fit] = {"majority": _majority}
    if data.kind == "token_classification":
        return chosen | ({"word_list": _word_list} if data.task.metric == "f1" else {"word_tag": _word_tag})
    if data.kind == "pair_classification":
        return chosen | {"shared_ngrams": _shared_ngrams}
    masked = all(MASK in text for text in data.train["text"])
    return chosen | {"tf_idf": _tf_idf} | ({"bigram_rule": _bigram_rule} if masked else {})


def _most_frequent(counts: Counter[str]) -> str:
    return min(counts, key=lambda label: (-counts[label], label))


def _most_frequent_by(pairs: Iterable[tuple[Any, str]]) -> dict[Any, str]:
    """What stands first in each pair -> the label that it has most often."""
    counts: defaultdict[Any, Counter[str]] = defaultdict(Counter)
    for key, label in pairs:
        counts[key][label] += 1
    return {key: _most_frequent(labels) for key, labels in counts.items()}


def _words(text: str) -> list[str]:
    return re.findall(WORD, text.lower())


def _majority(train: Sequence[Row]) -> Iterator[tuple[Settings, Answer]]:
    answers = gold_of(train)
    label = _most_frequent(Counter(label for row in answers for label in ([row] if isinstance(row, str) else row)))
    yield {}, lambda rows: [[label] * len(row["labels"]) if "labels" in row else label for row in rows]


def _word_tag(train: Sequence[Row]) -> Iterator[tuple[Settings, Answer]]:
    seen = [pair for row in train for pair in zip(row["tokens"], row["labels"], strict=True)]
    lexicon = _most_frequent_by(seen)
    overall = _most_frequent(Counter(label for _, label in seen))
    for longest in ENDINGS:
        # Over distinct words: those that are new in a test text are like the rare ones, not like the frequent ones.
        ends = _most_frequent_by((end, label) for word, label in lexicon.items() for end in _ends(word, longest))
        yield {"ending": longest}, partial(_tagged, lexicon, ends, overall, longest)


def _tagged(lexicon: dict[str, str], ends: dict[Any, str], other: str, longest: int, rows: Sequence[Row]) -> list[Any]:
    def tag(word: str) -> str:
        known = lexicon.get(word) or lexicon.get(word.lower())  # a sentence begins with a capital
        # Without endings there are no shapes either.
        return known or next((ends[end] for end in _ends(word, longest) if longest and end in ends), other)

    return [[tag(word) for word in row["tokens"]] for row in rows]


def _ends(word: str, longest: int) -> list[tuple[str, str]]:
    """The shape of a word with its endings, the longest first, down to none."""
    shape = "digit" if any(map(str.isdigit, word)) else "capital" if word[:1].isupper() else "other"
    return [(shape, word[len(word) - n :].lower()) for n in range(min(longest, len(word)), -1, -1)]


def _word_list(train: Sequence[Row]) -> Iterator[tuple[Settings, Answer]]:
    kinds: defaultdict[tuple[str, ...], Counter[str]] = defaultdict(Counter)
    for row in train:
        for kind, first, last in entities(row["labels"]):
            kinds[tuple(row["tokens"][first : last + 1])][kind] += 1
    lengths = sorted({len(phrase) for phrase in kinds}, reverse=True)
    there: Counter[tuple[str, ...]] = Counter()  # how often a phrase occurs, as an entity or not
    for row in train:
        tokens = row["tokens"]
        there.update(tuple(tokens[at : at + n]) for n in lengths for at in range(len(tokens) - n + 1))
    for count in (1, 2, 3):
        for share in (0.0, 0.25, 0.5, 0.75):
            listed = {
                phrase: _most_frequent(found)
                for phrase, found in kinds.items()
                if found.total() >= max(count, share * there[phrase])
            }
            yield {"least_count": count, "least_share": share}, partial(_marked, listed)


def _marked(listed: dict[tuple[str, ...], str], rows: Sequence[Row]) -> list[Any]:
    """Labels of the listed phrases in every row, read from left to right, the longest that fits first."""
    lengths = sorted({len(phrase) for phrase in listed}, reverse=True)
    answers = []
    for row in rows:
        tokens, labels, at = tuple(row["tokens"]), ["O"] * len(row["tokens"]), 0
        while at < len(tokens):
            length = next((n for n in lengths if at + n <= len(tokens) and tokens[at : at + n] in listed), 0)
            if length:
                kind = listed[tokens[at : at + length]]
                labels[at : at + length] = [f"B-{kind}", *[f"I-{kind}"] * (length - 1)]
            at += max(length, 1)
        answers.append(labels)
    return answers


def _bigram_rule(train: Sequence[Row]) -> Iterator[tuple[Settings, Answer]]:
    pairs = [(context, row["label"]) for row in train for context in _contexts(row["text"]).items()]
    counts, rule = Counter(context for context, _ in pairs), _most_frequent_by(pairs)
    overall = _most_frequent(Counter(row["label"] for row in train))
    for order in ORDERS:
        for least in (1, 2, 3):
            known = {context: label for context, label in rule.items() if counts[context] >= least}
            yield {"contexts": order, "least_count": least}, partial(_by_context, known, overall, order.split(", "))


def _by_context(known: dict[tuple[str, str], str], other: str, order: list[str], rows: Sequence[Row]) -> list[Any]:
    answers = []
    for row in rows:
        contexts = _contexts(row["text"])
        found = (known[name, contexts[name]] for name in order if (name, contexts[name]) in known)
        answers.append(next(found, other))
    return answers


def _contexts(text: str) -> dict[str, str]:
    before, _, after = text.partition(MASK)
    left, right = ["", *_words(before)], [*_words(after), "", ""]
    return {
        "previous": left[-1],
        "next": right[0],
        "next two": " ".join(right[:2]),
        "around": f"{left[-1]} {right[0]}",
    }


def _tf_idf(train: Sequence[Row]) -> Iterator[tuple[Settings, Answer]]:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.pipeline import make_union

    def words() -> Any:
        return TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=WORD)

    characters = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True)
    features = {"words": words(), "words and characters": make_union(words(), characters)}
    yield from _regressions(train, {name: (vectors, _text) for name, vectors in features.items()})


def _text(row: Row) -> str:
    return row["text"]


def _shared_ngrams(train: Sequence[Row]) -> Iterator[tuple[Settings, Answer]]:
    from sklearn.feature_extraction import DictVectorizer

    features: dict[str, Callable[[Row], Any]] = {
        "n-grams": _compared,
        "n-grams and their side": partial(_compared, signed=True),
    }
    yield from _regressions(train, {name: (DictVectorizer(), read) for name, read in features.items()})


def _compared(row: Row, signed: bool = False) -> dict[str, float]:
    """What two texts share and do not share.

    signed: also one feature for an n-gram on either side, 1 in the first and -1 in the second text, which learns twice
    as fast where the answer turns round with the texts, as in the pairs of *die* and *dat*.
    """
    first, second = _words(row["text"]), _words(row["text_pair"])
    # In tens of words, so that the penalty of the regression weighs them like the others, which lie from 0 to 1.
    features = {"length of first": len(first) / 10, "length of second": len(second) / 10}
    for n in (1, 2):
        one, other = ({" ".join(side[at : at + n]) for at in range(len(side) - n + 1)} for side in (first, second))
        parts = {"both": one & other, "first": one - other, "second": other - one}
        features |= {f"{part} {ngram}": 1.0 for part, ngrams in parts.items() for ngram in ngrams}
        features[f"share of first, {n}"] = len(one & other) / max(len(one), 1)
        features[f"share of second, {n}"] = len(one & other) / max(len(other), 1)
        if signed:
            features |= {f"side {ngram}": 1.0 if ngram in one else -1.0 for ngram in one ^ other}
    return features


def _regressions(
    train: Sequence[Row], features: dict[str, tuple[Any, Callable[[Row], Any]]]
) -> Iterator[tuple[Settings, Answer]]:
    """Logistic regressions of every strength on every choice of features: a vectorizer, and what it reads of a row."""
    from sklearn.linear_model import LogisticRegression

    labels = [row["label"] for row in train]
    if len(set(labels)) == 1:  # nothing to tell apart
        yield {}, lambda rows: [labels[0]] * len(rows)
        return
    for name, (vectors, read) in features.items():
        matrix = vectors.fit_transform([read(row) for row in train])
        for strength in STRENGTHS:
            model = LogisticRegression(C=strength, max_iter=2000).fit(matrix, labels)
            yield {"features": name, "C": strength}, partial(_predicted, model, vectors, read)


def _predicted(model: Any, vectors: Any, read: Callable[[Row], Any], rows: Sequence[Row]) -> list[Any]:
    return model.predict(vectors.transform([read(row) for row in rows])).tolist()
