"""The library's count against a literal loop over its rules, one mask at a time."""

import numpy as np
import pytest
import torch

from robbertje_lib.evaluation.pseudo_perplexity import pseudo_perplexity
from robbertje_lib.experiment.errors import UserError
from robbertje_lib.models.masked_lm import MaskedLM, load_masked_lm
from tests.support.small_models import FAMILIES, LINES, save_small_model

SHORT = ["hij", "Ze is er.", "Zij is er."]  # 4, 10 and 11 characters with their newlines
TEXT = [*LINES[:3], *SHORT, "Zij werkt als een ziekenhuisdirecteur. "]
LONG = " ".join(LINES[:10])
SCORES_NEWLINES = {"roberta", "modernbert", "deberta", "deberta_v2"}  # as a byte, or as an unknown token


@pytest.fixture(scope="module", params=sorted(FAMILIES))
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> MaskedLM:
    return load_masked_lm(save_small_model(request.param, tmp_path_factory.mktemp(request.param)), request.param)


def literally(model: MaskedLM, lines: list[str]) -> float:
    """What the library does with a file of these lines."""
    means = []
    for line in (f"{text}\n" for text in lines):
        if not len(line) > 10:
            continue
        ids = model.tokenizer(line, truncation=True, max_length=model.maximum_length, return_tensors="pt")["input_ids"]
        losses = []
        for position in range(1, ids.shape[1] - 1):
            masked = ids.clone()
            masked[0, position] = model.tokenizer.mask_token_id
            with torch.no_grad():
                logits = model.model(input_ids=masked).logits[0, position]
            losses.append(-float(logits.log_softmax(0)[ids[0, position]]))
        means.append(np.mean(losses))
    return float(np.exp(np.mean(means)))


def test_every_family_agrees_with_the_literal_loop(family: MaskedLM) -> None:
    lines = [*TEXT, LONG, f"hij {family.tokenizer.mask_token} zij"]
    summary = pseudo_perplexity(family, lines).summary()
    assert summary.as_published == pytest.approx(literally(family, lines), rel=2e-5)
    assert (summary.as_published_dropped, summary.as_published_cut) == (2, 1)
    assert summary.as_published_lines == len(lines) - 2


def test_without_newline_token_short_and_long_lines_it_is_the_mean_of_means(family: MaskedLM) -> None:
    kept = [line for line in TEXT if len(line) > 9]
    scores = pseudo_perplexity(family, kept)
    summary = scores.summary()
    if family.name in SCORES_NEWLINES:
        assert summary.as_published != summary.per_line_mean
        with_newlines = pseudo_perplexity(family, [f"{line}\n" for line in kept]).summary()
        assert summary.as_published == pytest.approx(with_newlines.per_line_mean, rel=2e-5)
    else:
        assert summary.as_published == summary.per_line_mean  # bit for bit: nothing was asked twice


def test_nothing_but_short_lines_is_refused(family: MaskedLM) -> None:
    with pytest.raises(UserError, match="^none of 2 lines is longer than 10 characters"):
        pseudo_perplexity(family, SHORT[:2])
