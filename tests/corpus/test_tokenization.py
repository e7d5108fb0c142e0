"""Tokenizers survive saving, specials lie where RoBERTa has them, and long lines lose nothing."""

from pathlib import Path

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from robbertje_lib.corpus.tokenization import SPECIALS, tokenize_lines, train_tokenizer
from robbertje_lib.experiment.errors import UserError
from robbertje_lib.experiment.profile import Tokenizer

LINES = ["De kat zit op de mat, en de hond ligt ernaast.", "Wie zag de één of andere zee?"] * 20
WORDS = [line.replace(",", " ,").replace(".", " .").replace("?", " ?") for line in LINES]


@pytest.fixture(params=["bpe", "word"])
def settings(request: pytest.FixtureRequest) -> Tokenizer:
    return Tokenizer(kind=request.param, vocabulary=300, maximum_length=16)


def test_specials_have_the_ids_of_roberta(settings: Tokenizer) -> None:
    tokenizer = train_tokenizer(WORDS, settings)
    assert tokenizer.convert_tokens_to_ids(list(SPECIALS)) == [0, 1, 2, 3, 4]
    assert tokenizer.model_max_length == 16
    assert sorted(tokenizer.all_special_ids) == [0, 1, 2, 3, 4]


def test_a_saved_tokenizer_is_the_same(settings: Tokenizer, tmp_path: Path) -> None:
    tokenizer = train_tokenizer(WORDS, settings)
    tokenizer.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    assert isinstance(again, PreTrainedTokenizerFast)
    text = "De <mask> zit op de mat ."
    assert again(text).input_ids == tokenizer(text).input_ids
    words = [word for word in again(text).word_ids() if word is not None]
    assert sorted(set(words)) == list(range(7)) and words == sorted(words)
    assert again.model_max_length == 16
    assert again.decode(again(WORDS[0]).input_ids, skip_special_tokens=True) == WORDS[0]


def test_training_is_deterministic(settings: Tokenizer) -> None:
    first, second = (train_tokenizer(LINES, settings).get_vocab() for _ in range(2))
    assert first == second


def test_the_mask_takes_the_space_before_it() -> None:
    tokenizer = train_tokenizer(LINES, Tokenizer(kind="bpe", vocabulary=300, maximum_length=16))
    masked, whole = tokenizer("De <mask> zit").input_ids, tokenizer("De kat zit").input_ids
    assert masked[1] == whole[1] and masked[-2:] == whole[-2:]
    assert masked.count(tokenizer.mask_token_id) == 1


def test_bytes_need_no_unknown_token_and_words_do() -> None:
    odd = ["Çedille ☃"]
    bpe = train_tokenizer(LINES, Tokenizer(kind="bpe", vocabulary=300, maximum_length=64))
    rows = tokenize_lines(odd, bpe)
    assert rows.counts["unknown_tokens"] == 0
    assert bpe.decode(rows.input_ids[0], skip_special_tokens=True) == odd[0]
    words = train_tokenizer(WORDS, Tokenizer(kind="word", vocabulary=300, maximum_length=64))
    assert tokenize_lines(odd, words).counts["unknown_tokens"] == 2


def test_long_lines_are_split_and_nothing_is_lost(settings: Tokenizer) -> None:
    tokenizer = train_tokenizer(WORDS, settings)
    lines = ["de mat", " ".join(WORDS[:7]), "", "zee"]
    rows = tokenize_lines(lines, tokenizer)
    assert rows.counts["lines"] == 4 and rows.counts["split_lines"] == 1
    assert max(rows.n_tokens) == 16 and rows.n_tokens == [len(ids) for ids in rows.input_ids]
    for index, line in enumerate(lines):
        own = [row for row, source in enumerate(rows.line) if source == index]
        inner = [token for row in own for token in rows.input_ids[row][1:-1]]
        assert inner == tokenizer(line, add_special_tokens=False).input_ids
        assert "".join(rows.text[row] for row in own) == line
        assert all(rows.input_ids[row][0] == 0 and rows.input_ids[row][-1] == 2 for row in own)


def test_no_text_is_refused(settings: Tokenizer) -> None:
    with pytest.raises(UserError, match="no text to train on"):
        train_tokenizer([], settings)
