"""What a pre-trained model puts at a mask, of a few forms that it is given: answers without fine-tuning."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from robbertje_lib.tasks.encoding import Encoder

if TYPE_CHECKING:
    from robbertje_lib.models.masked_lm import MaskedLM

Question = tuple[str, tuple[str, ...]]  # a text with one mask, and the forms to choose from, leading spaces included


@dataclass(frozen=True)
class FillIns:
    """An entry a question. `best`: which of its forms is the likeliest; None where one of them is no single token.

    `rank`: how many other entries of the vocabulary are likelier still.
    """

    best: list[int | None]
    rank: list[int]


def fill_ins(model: "MaskedLM", questions: list[Question]) -> FillIns:
    """The likeliest form at every mask, by the masked language model as it is. Long texts are cut around the mask."""
    # Not above: a profile's tasks are looked up in this folder, and `make plan` would import torch for it.
    from robbertje_lib.models.log_probs import vocabulary_log_probs

    tokens = _single_tokens(model, {forms for _, forms in questions})
    asked = [number for number, (_, forms) in enumerate(questions) if forms in tokens]
    encoder = Encoder(model.tokenizer, model.maximum_length, keep="mask")
    sequences = [np.array(encoder.masked_text(questions[number][0])) for number in asked]
    places = np.array([ids.tolist().index(model.tokenizer.mask_token_id) for ids in sequences])
    result = FillIns([None] * len(questions), [0] * len(questions))
    for batch, log_probs in vocabulary_log_probs(model, sequences, places) if asked else ():
        for row, entries in zip(batch.tolist(), log_probs, strict=True):
            scores = entries[tokens[questions[asked[row]][1]]]
            result.best[asked[row]] = int(scores.argmax())
            result.rank[asked[row]] = int((entries > scores.max()).sum())
    return result


def _single_tokens(model: "MaskedLM", choices: set[tuple[str, ...]]) -> dict[tuple[str, ...], list[int]]:
    """The token of each form, for those choices whose every form is a single one that the tokenizer knows."""
    tokens = {}
    for forms in choices:
        pieces: Sequence[list[int]] = model.tokenizer(list(forms), add_special_tokens=False)["input_ids"]
        if all(len(piece) == 1 and piece[0] != model.tokenizer.unk_token_id for piece in pieces):
            tokens[forms] = [piece[0] for piece in pieces]
    return tokens
