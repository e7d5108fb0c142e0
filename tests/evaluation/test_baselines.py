"""Baselines find a rule that was planted, and none where there is none; on the public data they are strong."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import Dataset

from robbertje_lib.evaluation.baselines import TunedBaseline, gold_of, tuned_baselines
from robbertje_lib.experiment.profile import RESERVED, TaskSettings
from robbertje_lib.tasks import Row, TaskData, TaskSource, get_task, load_task
from robbertje_lib.tasks.metrics import task_score

Make = Callable[[np.random.Generator], Row]
NAMES = ("Emma", "Gent", "Daan", "Lier", "Noor", "Brugge")
FILLERS = ("de", "rode", "fiets", "staat", "vaak", "buiten", "naast", "een", "oude", "schuur")


def data_of(task: str, kind: str, make: Make, train: int = 400) -> TaskData:
    """Made examples of a task: `train` of the training split, 100 and 300 of the others."""
    rng = np.random.default_rng(1)
    splits = [
        Dataset.from_list([{"example_id": f"{s}-{i}", **make(rng)} for i in range(n)])
        for s, n in enumerate((train, 100, 300))
    ]
    return TaskData(get_task(task), kind, ("a", "b"), *splits, counts={})  # type: ignore[arg-type]


def scored(data: TaskData) -> dict[str, float]:
    """Test score of each baseline that has learnt from the whole training split."""
    return {tuned.name: on_test(data, tuned) for tuned in tuned_baselines(data, data.train.to_list())}


def on_test(data: TaskData, tuned: TunedBaseline) -> float:
    rows = data.test.to_list()
    return task_score(data.task.metric, gold_of(rows), tuned.answer(rows))


def words(rng: np.random.Generator, n: int = 6) -> list[str]:
    return rng.choice(FILLERS, n).tolist()


def text(rng: np.random.Generator, rule: Callable[[list[str]], bool] | None) -> Row:
    made = words(rng)
    return {"text": " ".join(made), "label": "ab"[rule(made) if rule else rng.integers(2)]}


def masked(rng: np.random.Generator, rule: bool) -> Row:
    before, after = words(rng), words(rng)
    label = "ab"[FILLERS.index(after[0]) % 2 if rule else rng.integers(2)]
    return {"text": " ".join([*before, "<mask>", *after]), "label": label}


def pair(rng: np.random.Generator, rule: bool) -> Row:
    first = rng.permutation(FILLERS).tolist()
    alike = bool(rng.integers(2))
    second = first[:] if alike else [*first[:-3], "niet", *first[-3:]]
    return {"text": " ".join(first), "text_pair": " ".join(second), "label": "ab"[alike if rule else rng.integers(2)]}


def tagged(rng: np.random.Generator, rule: bool) -> Row:
    tokens = words(rng)
    labels = ["ab"[FILLERS.index(token) % 2 if rule else rng.integers(2)] for token in tokens]
    return {"tokens": tokens, "labels": labels}


def entity(rng: np.random.Generator, rule: bool) -> Row:
    """A name, sometimes with a title, among other words; without a rule the label is anywhere."""
    tokens, at = words(rng, 5), int(rng.integers(4))
    tokens[at : at + 1] = ["mevrouw", str(rng.choice(NAMES[::2]))] if rng.random() < 0.5 else [str(rng.choice(NAMES))]
    labels = ["O"] * len(tokens)
    if not rule:
        labels[int(rng.integers(len(tokens)))] = "B-PER"
    elif tokens[at] == "mevrouw":
        labels[at : at + 2] = ["B-PER", "I-PER"]
    elif tokens[at] in NAMES:
        labels[at] = "B-PER" if NAMES.index(tokens[at]) % 2 == 0 else "B-LOC"
    return {"tokens": tokens, "labels": labels}


def test_a_planted_rule_is_found() -> None:
    fietsen = data_of("dbrd", "text_classification", lambda rng: text(rng, lambda made: "fiets" in made))
    assert scored(fietsen)["tf_idf"] > 0.97
    assert scored(data_of("die_dat", "text_classification", lambda rng: masked(rng, True)))["bigram_rule"] == 1
    assert scored(data_of("sick_nl", "pair_classification", lambda rng: pair(rng, True)))["shared_ngrams"] == 1
    assert scored(data_of("pos", "token_classification", lambda rng: tagged(rng, True)))["word_tag"] == 1
    assert scored(data_of("ner", "token_classification", lambda rng: entity(rng, True)))["word_list"] > 0.97


def test_where_nothing_is_planted_nothing_is_found() -> None:
    chance = [
        (data_of("dbrd", "text_classification", lambda rng: text(rng, None)), "tf_idf"),
        (data_of("die_dat", "text_classification", lambda rng: masked(rng, False)), "bigram_rule"),
        (data_of("sick_nl", "pair_classification", lambda rng: pair(rng, False)), "shared_ngrams"),
        (data_of("pos", "token_classification", lambda rng: tagged(rng, False)), "word_tag"),
    ]
    assert all(abs(scored(data)[name] - 0.5) < 0.1 for data, name in chance)
    # Who marks each of five or six words finds the one entity: F1 = 2 / (1 + 5.5).
    assert scored(data_of("ner", "token_classification", lambda rng: entity(rng, False)))["word_list"] < 0.34


def test_each_kind_of_task_has_its_baselines() -> None:
    def names(data: TaskData) -> list[str]:
        found = list(scored(data))
        assert set(found) <= set(RESERVED)  # a student called so would be taken for it
        return found

    assert names(data_of("dbrd", "text_classification", lambda rng: text(rng, None), 20)) == ["majority", "tf_idf"]
    hidden = data_of("dbrd", "text_classification", lambda rng: masked(rng, True), 20)
    assert names(hidden) == ["majority", "tf_idf", "bigram_rule"]
    assert names(data_of("sick_nl", "pair_classification", lambda rng: pair(rng, True), 20))[1:] == ["shared_ngrams"]
    assert names(data_of("pos", "token_classification", lambda rng: tagged(rng, True), 20))[1:] == ["word_tag"]
    assert names(data_of("ner", "token_classification", lambda rng: entity(rng, True), 20))[1:] == ["word_list"]


def test_the_majority_answers_alike_and_finds_no_entity() -> None:
    row = {"tokens": ["nu", "in", "Gent"], "labels": ["O", "O", "B-LOC"]}
    assert scored(data_of("ner", "token_classification", lambda rng: row, 5))["majority"] == 0
    common = data_of("dbrd", "text_classification", lambda rng: text(rng, lambda made: rng.random() < 0.2))
    share = np.mean([label == "a" for label in common.test["label"]])
    assert scored(common)["majority"] == share


def test_training_examples_of_one_label_are_no_error() -> None:
    data = data_of("dbrd", "text_classification", lambda rng: text(rng, None))
    rows = [row for row in data.train.to_list() if row["label"] == "a"]
    assert {tuned.name: tuned.answer(rows[:3]) for tuned in tuned_baselines(data, rows)} == {
        "majority": ["a"] * 3,
        "tf_idf": ["a"] * 3,
    }


def test_unseen_words_are_tagged_by_their_shape_and_ending() -> None:
    stems = [a + b for a in "bdfgklmnprst" for b in ("aar", "ook", "iel", "uur")]

    def make(rng: np.random.Generator) -> Row:
        ends = rng.choice(["heid", "lijk"], 4)
        return {"tokens": [rng.choice(stems) + end for end in ends], "labels": ["ab"[end == "lijk"] for end in ends]}

    data = data_of("pos", "token_classification", make, 20)  # most words of the test split are new
    tuned = tuned_baselines(data, data.train.to_list())[1]
    assert tuned.settings == {"ending": 2} and on_test(data, tuned) == 1  # the shortest ending that tells


def test_which_of_two_sentences_is_the_original_is_told_by_what_stands_in_one_alone() -> None:
    """The two-sentence form of die/dat: the right pronoun follows from the word after it."""

    def make(rng: np.random.Generator) -> Row:
        before, after = words(rng), words(rng)
        right, place = FILLERS.index(after[0]) % 2, int(rng.integers(2))
        forms = [" ".join([*before, pronoun, *after]) for pronoun in (("die", "dat")[right], ("die", "dat")[1 - right])]
        return {"text": forms[place], "text_pair": forms[1 - place], "label": "ab"[place]}

    data = data_of("die_dat", "pair_classification", make)
    tuned = tuned_baselines(data, data.train.to_list())[1]
    assert tuned.name == "shared_ngrams" and on_test(data, tuned) > 0.95


def test_settings_are_chosen_on_the_validation_split_and_training_repeats_exactly() -> None:
    data = data_of("die_dat", "text_classification", lambda rng: masked(rng, True), 60)
    rows, validation = data.train.to_list(), data.validation.to_list()
    first, again = (tuned_baselines(data, rows) for _ in range(2))
    for one, other in zip(first, again, strict=True):
        assert one.validation == task_score("accuracy", gold_of(validation), one.answer(validation))
        assert one.settings == other.settings
        assert one.answer(data.test.to_list()) == other.answer(data.test.to_list())


def test_answers_are_plain_strings() -> None:
    """Labels go to files: NumPy's strings would not pass."""
    for data in (
        data_of("dbrd", "text_classification", lambda rng: text(rng, None), 20),
        data_of("sick_nl", "pair_classification", lambda rng: pair(rng, True), 20),
    ):
        answers: Sequence[Any] = tuned_baselines(data, data.train.to_list())[1].answer(data.test.to_list())
        assert {type(answer) for answer in answers} == {str}


def full(task: str, settings: TaskSettings) -> TaskData:
    return load_task(task, {task: settings}, TaskSource(held_out=Path("none"), seed=56, planted_strength=1.0))


@pytest.mark.parametrize(
    ("task", "source", "least"),
    [("dbrd", "bol_reviews", 0.92), ("sick_nl", "sick_nl", 0.79), ("ner", "conll2002", 0.57),
     ("pos", "lassysmall-r1.4", 0.92)],
)  # fmt: skip
def test_baselines_on_the_whole_public_data(mirror: Path, task: str, source: str, least: float) -> None:
    assert max(scored(full(task, TaskSettings(data=source, test=600))).values()) > least
