"""Pseudo-perplexity against the definition, computed one mask at a time with the plain model."""

from pathlib import Path

import numpy as np
import pytest
import torch

from robbertje_lib.evaluation.as_published import LibraryScores
from robbertje_lib.evaluation.lines import Windows, most_central, window_starts
from robbertje_lib.evaluation.pseudo_perplexity import TokenScores, pseudo_perplexity
from robbertje_lib.experiment.errors import UserError
from robbertje_lib.models.masked_lm import MaskedLM, load_masked_lm
from tests.support.small_models import FAMILIES, LINES, POSITIONS, save_small_model

TEXT = [*LINES[:3], "hij", "Zij werkt als een ziekenhuisdirecteur."]
LONG = " ".join(LINES[:10])


@pytest.fixture(scope="module", params=sorted(FAMILIES))
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> MaskedLM:
    return load_masked_lm(save_small_model(request.param, tmp_path_factory.mktemp(request.param)))


@pytest.fixture(scope="module")
def roberta(tmp_path_factory: pytest.TempPathFactory) -> MaskedLM:
    return load_masked_lm(save_small_model("roberta", tmp_path_factory.mktemp("roberta")))


def one_at_a_time(model: MaskedLM, line: str, to_word_end: bool) -> list[float]:
    """The definition, word for word."""
    encoded = model.tokenizer(line, return_tensors="pt")
    ids, words = encoded["input_ids"][0], encoded.word_ids(0)
    found = []
    for position in range(1, len(ids) - 1):
        masked = ids.clone()
        for later in range(position, len(ids) - 1):
            if later == position or (to_word_end and words[later] == words[position]):
                masked[later] = model.tokenizer.mask_token_id
        with torch.no_grad():
            logits = model.model(input_ids=masked[None]).logits[0, position]
        found.append(float(logits.log_softmax(0)[ids[position]]))
    return found


def test_every_family_agrees_with_the_definition(family: MaskedLM) -> None:
    scores = pseudo_perplexity(family, TEXT)
    for column, to_word_end in ((scores.log_prob, False), (scores.log_prob_l2r, True)):
        per_line = [one_at_a_time(family, line, to_word_end) for line in TEXT]
        np.testing.assert_allclose(column, np.concatenate(per_line), atol=2e-5)
    assert not np.allclose(scores.log_prob, scores.log_prob_l2r)
    lines = [one_at_a_time(family, line, False) for line in TEXT]
    summary = scores.summary()
    assert summary.corpus == pytest.approx(np.exp(-np.mean(np.concatenate(lines))), rel=1e-5)
    assert summary.per_line_mean == pytest.approx(np.exp(-np.mean([np.mean(x) for x in lines])), rel=1e-5)
    assert summary.tokens == sum(map(len, lines))


def test_no_special_token_is_scored(family: MaskedLM) -> None:
    scores = pseudo_perplexity(family, [*TEXT, f"hij {family.tokenizer.mask_token} zij"])
    assert not set(scores.tokens.token_id) & family.special_ids()


@pytest.mark.parametrize("tokens_per_batch", [1, 37, 200, 10_000])
def test_batch_size_and_padding_change_nothing(family: MaskedLM, tokens_per_batch: int) -> None:
    expected = pseudo_perplexity(family, TEXT[:4])
    found = pseudo_perplexity(family, TEXT[:4], tokens_per_batch)
    np.testing.assert_allclose(found.log_prob, expected.log_prob, atol=2e-5)
    np.testing.assert_allclose(found.log_prob_l2r, expected.log_prob_l2r, atol=2e-5)


def test_order_of_lines_changes_nothing(roberta: MaskedLM) -> None:
    forwards, backwards = pseudo_perplexity(roberta, TEXT), pseudo_perplexity(roberta, TEXT[::-1])
    last = len(TEXT) - 1
    for line in range(len(TEXT)):
        np.testing.assert_allclose(
            forwards.log_prob[forwards.tokens.line == line],
            backwards.log_prob[backwards.tokens.line == last - line],
            atol=2e-5,
        )


def test_long_lines_are_windowed_and_counted(roberta: MaskedLM) -> None:
    scores = pseudo_perplexity(roberta, [TEXT[3], LONG, ""])
    tokens, ids = scores.tokens, roberta.tokenizer(LONG, add_special_tokens=False)["input_ids"]
    assert len(ids) > 2 * POSITIONS
    assert scores.summary().windowed == 1 and scores.summary().dropped == {"empty": 1}
    long = tokens.line == 1
    assert tokens.token_id[long].tolist() == ids
    assert tokens.line_position[long].tolist() == list(range(len(ids)))
    # A token in the middle of the line is scored in a window of full length around it.
    at, room = len(ids) // 2, POSITIONS - 2
    starts = window_starts(len(ids), room)
    start = starts[most_central(len(ids), starts, room)[at]]
    window = [0, *ids[start : start + room], 2]
    window[1 + at - start] = roberta.tokenizer.mask_token_id
    with torch.no_grad():
        logits = roberta.model(input_ids=torch.tensor([window])).logits[0, 1 + at - start]
    assert scores.log_prob[long][at] == pytest.approx(float(logits.log_softmax(0)[ids[at]]), abs=2e-5)


def test_summary_of_known_values() -> None:
    def column(*values: float) -> np.ndarray:
        return np.array(values)

    line, zero = np.array([0, 0, 0, 1]), np.zeros(4, np.int64)
    tokens = Windows([], 0, {}, zero, zero, zero, line, np.array([0, 1, 2, 0]), zero, np.array([0, 1, 1, 0]))
    log_prob = np.log(column(0.5, 0.25, 0.125, 0.5))
    published = LibraryScores(column(0.5, 1.5), dropped=3, cut=1)
    scores = TokenScores(tokens, log_prob, log_prob * 2, published, "float32", 1.0)
    summary = scores.summary()
    assert summary.as_published == pytest.approx(np.exp(1.0))
    assert (summary.as_published_lines, summary.as_published_dropped, summary.as_published_cut) == (2, 3, 1)
    assert summary.corpus == pytest.approx(2 ** (7 / 4))
    assert summary.per_line_mean == pytest.approx(2 ** ((6 / 3 + 1) / 2))
    assert summary.word_l2r == pytest.approx(2 ** (14 / 4))
    assert summary.word_l2r_per_word == pytest.approx(2 ** (14 / 3))
    assert scores.by_line().tolist() == [[pytest.approx(6 * np.log(2)), 3], [pytest.approx(np.log(2)), 1]]


def test_lines_without_tokens(roberta: MaskedLM) -> None:
    for lines in ([], ["", ""]):
        with pytest.raises(UserError, match="holds a token to score"):
            pseudo_perplexity(roberta, lines)


def test_bfloat16_is_within_a_percent(tmp_path: Path) -> None:
    model = load_masked_lm(save_small_model("roberta", tmp_path))
    exact = pseudo_perplexity(model, TEXT * 4).summary().corpus
    assert pseudo_perplexity(model, TEXT * 4, precision="bfloat16").summary().corpus == pytest.approx(exact, rel=0.01)
