"""Examples of the five tasks, whose gold labels follow from how the text was made.

The best possible accuracy is 1 for die_dat, ner, pos and sick_nl: the label is a function of the text. In dbrd
(sentiment) a document's evaluations agree with its stance only four times in five, so the best possible accuracy
is the mean over documents of the larger P(stance | text): `bayes_accuracy`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from robbertje_lib.experiment.errors import UserError, did_you_mean
from robbertje_lib.known_answer.documents import KnownDocument, Sentence, generate
from robbertje_lib.known_answer.entailment import LABELS as RELATIONS
from robbertje_lib.known_answer.entailment import PairWriter
from robbertje_lib.known_answer.lexicon import STANCES, default_lexicon
from robbertje_lib.known_answer.model import default_model
from robbertje_lib.known_answer.truth import truth_of

SPLITS = ("train", "validation", "test")
PLAIN_SHARE = 0.3  # of the sentences without an entity that the ner task keeps
MINIMUM_TOKENS = 6  # of a sentence of the pos task

Row = dict[str, Any]


def task_examples(task: str, sizes: Mapping[str, int], seed: int, bias_strength: float = 1.0) -> dict[str, list[Row]]:
    """Rows of each split, `sizes[split]` of them, from documents of the split's own.

    dbrd: example_id, text, label; die_dat: and cluster; ner, pos: example_id, tokens, labels, cluster; sick_nl:
    example_id, text, text_pair, label. A cluster is the document that a sentence is from. No two rows of a task have
    the same text, within or across splits, and the test split does not depend on the size of the others. Raises
    `UserError` for an unknown task.
    """
    if task not in _TASKS:
        raise UserError(f"no task '{task}' in known-answer Dutch: {did_you_mean(task, _TASKS)}")
    number = sorted(_TASKS).index(task)
    seen: set[str] = set()
    rows: dict[str, list[Row]] = {}
    for s, split in enumerate(reversed(SPLITS)):
        rows[split] = []
        candidates = _TASKS[task]([seed, number, s], bias_strength)
        while len(rows[split]) < sizes[split]:
            row = next(candidates)
            text = " ".join(row[key] if isinstance(row[key], str) else " ".join(row[key]) for key in _TEXT & row.keys())
            if text not in seen:
                seen.add(text)
                rows[split].append({"example_id": f"{task}-{split}-{len(rows[split])}", **row})
    return {split: rows[split] for split in SPLITS}


def bayes_accuracy(task: str, rows: Sequence[Row], bias_strength: float = 1.0) -> float:
    """The best accuracy to be expected on `rows` of anyone who sees the text alone: the mean largest posterior."""
    if task not in _TASKS:
        raise UserError(f"no task '{task}' in known-answer Dutch: {did_you_mean(task, _TASKS)}")
    if task != "dbrd":
        return 1.0
    return float(np.mean([max(posterior.values()) for posterior in sentiment_posteriors(rows, bias_strength)]))


def sentiment_posteriors(rows: Sequence[Row], bias_strength: float = 1.0) -> list[dict[str, float]]:
    """P(label | text) of each dbrd row, exact."""
    truth = truth_of(default_model(bias_strength, "review"))
    return [truth.stance_posterior(row["text"]) for row in rows]


_TEXT = {"text", "text_pair", "tokens"}


def _reviews(seed: list[int], bias_strength: float) -> Iterator[Row]:
    stance = 0
    for document in generate(seed, bias_strength=bias_strength, register="review"):
        # As many of each label: a document of the other stance is passed over.
        if document.stance == STANCES[stance]:
            stance = 1 - stance
            yield {"text": document.text, "label": document.stance}


def _relative_pronouns(seed: list[int], bias_strength: float) -> Iterator[Row]:
    wanted = "die"
    for document, sentence in _sentences(seed, bias_strength, register="portrait"):
        for t, slot in enumerate(sentence.slots):
            if slot == "relative" and sentence.tokens[t] == wanted:
                tokens = [*sentence.tokens[:t], "<mask>", *sentence.tokens[t + 1 :]]
                yield {"cluster": document.id, "text": " ".join(tokens), "label": wanted}
                wanted = "dat" if wanted == "die" else "die"
                break


def _entities(seed: list[int], bias_strength: float) -> Iterator[Row]:
    rng = np.random.default_rng([*seed, 1])
    for document, sentence in _sentences(seed, bias_strength):
        if set(sentence.entities) != {"O"} or rng.random() < PLAIN_SHARE:
            yield {"cluster": document.id, "tokens": list(sentence.tokens), "labels": list(sentence.entities)}


def _parts_of_speech(seed: list[int], bias_strength: float) -> Iterator[Row]:
    for document, sentence in _sentences(seed, bias_strength):
        if len(sentence.tokens) >= MINIMUM_TOKENS:
            yield {"cluster": document.id, "tokens": list(sentence.tokens), "labels": list(sentence.upos)}


def _pairs(seed: list[int], _: float) -> Iterator[Row]:
    rng = np.random.default_rng(seed)
    writer = PairWriter(default_lexicon(), rng)
    while True:
        label = RELATIONS[rng.integers(len(RELATIONS))]
        premise, hypothesis = writer.pair(label)
        yield {"text": premise, "text_pair": hypothesis, "label": label}


def _sentences(
    seed: list[int], bias_strength: float, register: str = "story"
) -> Iterator[tuple[KnownDocument, Sentence]]:
    for document in generate(seed, bias_strength=bias_strength, register=register):
        for sentence in document.sentences:
            yield document, sentence


_TASKS: dict[str, Callable[[list[int], float], Iterator[Row]]] = {
    "dbrd": _reviews,
    "die_dat": _relative_pronouns,
    "ner": _entities,
    "pos": _parts_of_speech,
    "sick_nl": _pairs,
}
