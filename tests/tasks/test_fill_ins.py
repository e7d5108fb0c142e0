"""Answers without fine-tuning: the likelier form at a mask, against a literal reading of the model's distribution."""

from typing import Any

import pytest
import torch
from transformers import RobertaConfig, RobertaForMaskedLM

from robbertje_lib.corpus.tokenization import train_tokenizer
from robbertje_lib.experiment import profile
from robbertje_lib.models import log_probs, shapes
from robbertje_lib.models.masked_lm import MaskedLM, load_masked_lm
from robbertje_lib.tasks import MASK, Row, die_dat

# Frequent enough for one token each: die and dat after a space, Die and Dat at the start of a line; never " Die".
TEXT = ["Die boot die daar ligt, en het huis dat daar staat.", "Dat weet ik, dat of die."] * 40


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> MaskedLM:
    folder = tmp_path_factory.mktemp("model")
    tokenizer = train_tokenizer(TEXT, profile.Tokenizer(vocabulary=330, maximum_length=24))
    config = RobertaConfig(
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=48,
        max_position_embeddings=26, pad_token_id=1, type_vocab_size=1, initializer_range=0.5,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(3)
        shapes.save_model(RobertaForMaskedLM(config), tokenizer, folder)
    return load_masked_lm(str(folder), name="klein")


def occurring(pair: bool = False) -> list[Row]:
    lines = [
        "Die boot ligt daar, en het huis dat daar staat.",
        "Dat weet ik van de boot die daar ligt.",
        "Ik weet: Dat huis, die boot.",
        "DAT huis staat daar.",
    ]
    found = die_dat.occurrences((line, "x") for line in lines)[0]
    return die_dat.as_pairs(found, seed=2) if pair else found


def literal(model: MaskedLM, row: Row) -> tuple[str | None, int]:
    """The likelier pronoun and its rank, one text at a time; None where a form is several tokens."""
    space = "" if row["text"].startswith(MASK) else " "
    forms = [space + die_dat.like(label, row["pronoun"]) for label in die_dat.LABELS]
    tokens = [model.tokenizer(form, add_special_tokens=False)["input_ids"] for form in forms]
    if any(len(pieces) > 1 for pieces in tokens):
        return None, 0
    ids = model.tokenizer(row["text"])["input_ids"]
    with torch.no_grad():
        logits = model.model(torch.tensor([ids])).logits[0, ids.index(model.tokenizer.mask_token_id)]
    scores = [float(logits[token]) for (token,) in tokens]
    return die_dat.LABELS[scores.index(max(scores))], int((logits > max(scores)).sum())


def test_each_answer_is_the_likelier_form_as_it_was_written(model: MaskedLM) -> None:
    rows = occurring()
    answers = die_dat.zero_shot(model, rows).answers
    assert answers == [literal(model, row)[0] for row in rows]
    # At the start of a line Die and Dat are asked for; within it, and in capitals, they are no single tokens here.
    asked = [answer is not None for answer in answers]
    assert asked == [row["pronoun"].islower() or row["example_id"] in {"0-0", "1-0"} for row in rows]
    assert [row["pronoun"] for row, was in zip(rows, asked, strict=True) if not was] == ["Dat", "DAT"]


def test_in_a_pair_the_answer_is_the_sentence_with_that_pronoun(model: MaskedLM) -> None:
    pairs, masked = occurring(pair=True), die_dat.zero_shot(model, occurring()).answers
    for row, answer, pronoun in zip(pairs, die_dat.zero_shot(model, pairs).answers, masked, strict=True):
        if pronoun is None:
            assert answer is None
        else:
            assert (answer == row["label"]) == (pronoun == row["pronoun"].lower())


def test_scores_and_answers_come_from_one_pass(model: MaskedLM, monkeypatch: pytest.MonkeyPatch) -> None:
    passes: list[int] = []
    one_pass = log_probs.vocabulary_log_probs

    def counted(*given: Any) -> Any:
        passes.append(len(given[1]))
        return one_pass(*given)

    monkeypatch.setattr(log_probs, "vocabulary_log_probs", counted)
    rows = occurring()[1:]
    lower = [(literal(model, row), row["pronoun"]) for row in rows if row["pronoun"].islower()]
    limit = max(rank for (_, rank), _ in lower)
    monkeypatch.setattr(die_dat, "MISS_RANK", limit)
    answers, scores = die_dat.zero_shot(model, rows)
    assert passes == [4]
    right = [answer == row["pronoun"].lower() for row, answer in zip(rows, answers, strict=True) if answer]
    near = [rank < limit for (_, rank), _ in lower]
    assert 0 < sum(near) < len(near)
    assert scores == {
        "zero_shot_accuracy": sum(right) / 4,
        "zero_shot_n": 4,
        "zero_shot_skipped": 2,
        "zero_shot_accuracy_robbert": sum(a == b and n for ((a, _), b), n in zip(lower, near, strict=True))
        / len(lower),
        "zero_shot_n_robbert": len(lower),
        "zero_shot_misses": near.count(False),
    }


def test_a_model_that_cannot_be_asked_gives_no_score(model: MaskedLM) -> None:
    rows = [row for row in occurring() if row["pronoun"] == "DAT"]
    assert die_dat.zero_shot(model, rows) == ([None], {})
