"""Every form of a model is asked for the same masked tokens, and what sets it apart is measured."""

import numpy as np
import pytest
import torch

from robbertje_lib.evaluation.efficiency import TOKENS_A_LINE, score_forms
from robbertje_lib.evaluation.onnx_export import Exporter, quantise, run_on_onnx
from robbertje_lib.evaluation.pseudo_perplexity import pseudo_perplexity
from robbertje_lib.experiment.errors import UserError
from robbertje_lib.experiment.results.efficiency import FormLosses
from robbertje_lib.experiment.run import open_run
from robbertje_lib.models.masked_lm import MaskedLM, load_masked_lm
from tests.support.small_models import LINES, save_small_model


@pytest.fixture(scope="module")
def forms(tmp_path_factory: pytest.TempPathFactory) -> dict[str, MaskedLM]:
    folder = tmp_path_factory.mktemp("forms")
    model, other = (load_masked_lm(save_small_model("roberta", folder / str(seed), seed)) for seed in (1, 2))
    Exporter().export(model, folder / "m.onnx")
    quantise(folder / "m.onnx", folder / "q.onnx")
    onnx = {"fp32": run_on_onnx(model, folder / "m.onnx"), "int8": run_on_onnx(model, folder / "q.onnx")}
    return {"torch": model, **onnx, "other": other}


def test_losses_are_compared_on_the_same_masks(forms: dict[str, MaskedLM]) -> None:
    scores = score_forms(forms, LINES, seed=3)
    exact, small, other = scores["fp32"], scores["int8"], scores["other"]
    assert scores["torch"].top1_agreement is None and scores["torch"].largest_logit_difference is None
    # The definition: of all tokens, some, each masked alone.
    every = pseudo_perplexity(forms["torch"], LINES)
    drawn = np.sort(np.random.default_rng(3).choice(len(every.log_prob), TOKENS_A_LINE * len(LINES), replace=False))
    np.testing.assert_allclose(scores["torch"].nats, -every.log_prob[drawn], atol=2e-5)
    assert scores["torch"].line.tolist() == every.tokens.line[drawn].tolist() == other.line.tolist()
    assert exact.top1_agreement == 1 and exact.largest_logit_difference is not None
    assert exact.largest_logit_difference < 1e-4 and abs((exact.nats - scores["torch"].nats).mean()) < 1e-5
    assert 1e-5 < abs((small.nats - scores["torch"].nats).mean()) < 0.2
    # Another model's guesses are others: what agrees must not do so by construction.
    assert other.top1_agreement is not None and small.top1_agreement is not None
    assert other.top1_agreement < 0.5 < small.top1_agreement


def test_the_largest_difference_is_that_of_the_logits(forms: dict[str, MaskedLM]) -> None:
    scores = score_forms({"torch": forms["torch"], "other": forms["other"]}, ["hij"], seed=1)
    ids = forms["torch"].tokenizer("hij", return_tensors="pt")["input_ids"]
    extremes = []
    for position in range(1, ids.shape[1] - 1):
        masked = ids.clone()
        masked[0, position] = forms["torch"].tokenizer.mask_token_id
        with torch.inference_mode():
            one, two = (forms[form].model(input_ids=masked).logits[0, position] for form in ("torch", "other"))
        extremes.append(float((one - two).abs().max()))
    assert any(scores["other"].largest_logit_difference == pytest.approx(value, abs=1e-4) for value in extremes)


def test_masks_follow_the_seed_and_become_a_row_a_line(forms: dict[str, MaskedLM]) -> None:
    torch_ = {"torch": forms["torch"]}
    again, other = score_forms(torch_, LINES, 1)["torch"], score_forms(torch_, LINES, 2)["torch"]
    scores = score_forms(torch_, LINES, 1)["torch"]
    assert scores.nats.tolist() == again.nats.tolist() != other.nats.tolist()
    run = open_run("smoke")
    FormLosses.write(run, scores.table("teacher", "torch"))
    rows = FormLosses.read(run).to_pandas()
    assert rows["line"].tolist() == sorted(set(scores.line.tolist()))
    assert rows["nats"].sum() == pytest.approx(scores.nats.sum())
    first = rows.iloc[0]
    assert first["nats"] == pytest.approx(scores.nats[scores.line == first["line"]].sum())
    assert first["masked_tokens"] == (scores.line == first["line"]).sum()


def test_lines_without_a_token_are_refused(forms: dict[str, MaskedLM]) -> None:
    with pytest.raises(UserError, match="none of 2 lines holds a token"):
        score_forms(forms, ["", ""], 1)
