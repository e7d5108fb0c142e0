"""Examples become token ids, and what does not fit is counted."""

import pytest
from transformers import PreTrainedTokenizerFast

from robbertje_lib import tasks
from robbertje_lib.corpus.tokenization import train_tokenizer
from robbertje_lib.experiment import profile
from robbertje_lib.known_answer import labels
from robbertje_lib.tasks.encoding import IGNORED, Encoder
from tests.support.small_models import word_piece


def bpe(maximum_length: int) -> PreTrainedTokenizerFast:
    lines = [
        row["text"] for row in labels.task_examples("dbrd", {"train": 48, "validation": 16, "test": 24}, 1)["train"]
    ]
    return train_tokenizer(lines, profile.Tokenizer(vocabulary=400, maximum_length=maximum_length))


def test_texts_are_cut_as_asked_and_counted() -> None:
    tokenizer = word_piece()
    words = ["hij", "zij", "ze", "een", "is", "naar", "bakker", "markt"]
    row = [{"example_id": "1", "text": " ".join(words), "label": "a"}]
    whole = Encoder(tokenizer, 50).encode("text_classification", row, ("a",))
    ids = whole.features[0]["input_ids"]
    assert whole.features[0]["input_ids"] == tokenizer(row[0]["text"])["input_ids"]
    assert whole.counts == {"examples_cut": 0, "tokens_cut": 0}
    inner = ids[1:-1]
    for keep, wanted in {"head": inner[:5], "tail": inner[-5:], "both": inner[:3] + inner[-2:]}.items():
        cut = Encoder(tokenizer, 7, keep=keep).encode("text_classification", row, ("a",))
        assert cut.features[0]["input_ids"] == [ids[0], *wanted, ids[-1]]
        assert cut.counts == {"examples_cut": 1, "tokens_cut": len(inner) - 5}
        assert cut.n_tokens == [len(ids)]


def test_pairs_are_framed_as_the_tokenizer_frames_them_and_the_longer_is_cut() -> None:
    tokenizer = word_piece()
    tokenizer.model_input_names = ["input_ids", "token_type_ids", "attention_mask"]  # as a BERT tokenizer
    row = {"example_id": "1", "text": "hij zij ze een is naar", "text_pair": "een bakker", "label": "a"}
    whole = Encoder(tokenizer, 50).encode("pair_classification", [row], ("a",))
    expected = tokenizer(row["text"], row["text_pair"])
    assert whole.features[0]["input_ids"] == expected["input_ids"]
    assert whole.features[0]["token_type_ids"] == expected["token_type_ids"]
    cut = Encoder(tokenizer, whole.n_tokens[0] - 2).encode("pair_classification", [row], ("a",))
    assert tokenizer.decode(cut.features[0]["input_ids"], skip_special_tokens=True) == "hij zij ze een een bakker"
    assert cut.counts == {"examples_cut": 1, "tokens_cut": 2}


def test_the_mask_is_never_cut_away() -> None:
    tokenizer = bpe(16)
    for place in (0, 30, 60):
        words = ["de"] * 60
        words.insert(place, tasks.MASK)
        ids = Encoder(tokenizer, 16, keep="mask").masked_text(" ".join(words))
        assert len(ids) == 16 and ids.count(tokenizer.mask_token_id) == 1


@pytest.mark.parametrize("label_pieces", ["first", "all"])
def test_every_word_of_a_long_sentence_is_in_one_window(label_pieces: str) -> None:
    tokenizer = bpe(12)
    tokens = ["Onwaarschijnlijkheid", "in", "de", "winter", "!", "x" * 300, "\u200b", "einde"]
    row = {"example_id": "1", "tokens": tokens, "labels": ["B-LOC", *["O"] * 7]}
    made = Encoder(tokenizer, 12, label_pieces=label_pieces).encode("token_classification", [row], ("O", "B-LOC"))
    assert sum(map(len, made.first_pieces)) == len(tokens)
    assert all(len(feature["input_ids"]) <= 12 for feature in made.features)
    assert made.counts["sentences_in_windows"] == 1 and made.counts["windows"] == len(made.features) > 1
    assert made.counts["words_cut"] >= 1 and made.counts["tokens_cut"] > 0
    labels = [label for feature in made.features for label in feature["labels"] if label != IGNORED]
    pieces = sum(len(feature["input_ids"]) - 2 for feature in made.features)
    assert len(labels) == (pieces if label_pieces == "all" else len(tokens))
