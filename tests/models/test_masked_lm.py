"""Models of every family are loaded safely and asked at chosen positions only."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import AutoModelForMaskedLM, RobertaConfig, RobertaModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from robbertje_lib.experiment.errors import UserError
from robbertje_lib.models.log_probs import log_probs_of
from robbertje_lib.models.masked_lm import MaskedLM, load_masked_lm
from robbertje_lib.models.packed_attention import PACKED
from tests.support.no_waiting import NoWaiting
from tests.support.small_models import FAMILIES, LINES, POSITIONS, byte_level, save_small_model


@pytest.fixture(scope="module", params=sorted(FAMILIES))
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> MaskedLM:
    return load_masked_lm(save_small_model(request.param, tmp_path_factory.mktemp(request.param)))


def test_every_family_predicts_at_chosen_positions_as_in_full(family: MaskedLM) -> None:
    assert family.gather_at is not None
    encoded = family.tokenizer(LINES[:3], padding=True, truncation=True, max_length=POSITIONS, return_tensors="pt")
    lengths = encoded["attention_mask"].sum(1)
    rows, columns = torch.tensor([2, 0, 1, 1]), torch.tensor([3, 1, 4, 2])
    plain = AutoModelForMaskedLM.from_pretrained(family.model.name_or_path, use_safetensors=True).eval()
    with torch.no_grad():
        expected = plain(input_ids=encoded["input_ids"], attention_mask=encoded["attention_mask"]).logits
    found = family.logits(encoded["input_ids"], rows, columns, lengths)
    torch.testing.assert_close(found, expected[rows, columns], atol=2e-5, rtol=1e-4)


PACKED_FROM = {"bert": 0, "roberta": 2, "distilbert": 0}  # where positions start


def test_a_ragged_batch_runs_packed_where_the_family_can(family: MaskedLM) -> None:
    kind = family.model.config.model_type
    assert family.first_position == PACKED_FROM.get(kind)
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(5, len(family.tokenizer), (4, POSITIONS), generator=generator)
    lengths = torch.tensor([POSITIONS, 40, 41, 3])
    ids[torch.arange(POSITIONS) >= lengths[:, None]] = family.tokenizer.pad_token_id
    at = torch.tensor([3, 0, 1, 2, 0]), torch.tensor([2, POSITIONS - 1, 0, 20, 5])
    padded = replace(family, first_position=None)
    seen = []
    handle = family.model.get_input_embeddings().register_forward_hook(lambda m, given, out: seen.append(given[0]))
    packed, expected = family.logits(ids, *at, lengths), padded.logits(ids, *at, lengths)
    handle.remove()
    torch.testing.assert_close(packed, expected, atol=2e-5, rtol=1e-4)
    assert [tuple(given.shape) for given in seen] == [
        (1, int(lengths.sum())) if kind in PACKED_FROM else (4, 72),
        (4, 72),
    ]


def test_no_packed_pass_waits_for_the_device(family: MaskedLM, monkeypatch: pytest.MonkeyPatch) -> None:
    if family.first_position is None:
        pytest.skip("runs padded")
    forward = family.model.forward

    def without_waiting(**inputs: Any) -> Any:
        with NoWaiting():
            return forward(**inputs)

    monkeypatch.setattr(family.model, "forward", without_waiting)
    ids, at = torch.full((2, 6), 7), (torch.tensor([0, 1]), torch.tensor([5, 1]))
    logits = family.logits(ids, *at, torch.tensor([6, 2]))
    with torch.inference_mode(), NoWaiting():
        assert log_probs_of(logits, torch.tensor([7, 7])).shape == (2,)


def test_an_attention_that_ignores_where_sequences_end_is_found_out(
    family: MaskedLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    def whole_row(module: nn.Module, *given: Any, packing: object = None, **options: Any) -> tuple[torch.Tensor, None]:
        return sdpa_attention_forward(module, *given, **options)

    monkeypatch.setitem(ALL_ATTENTION_FUNCTIONS._global_mapping, PACKED, whole_row)
    model = load_masked_lm(family.model.name_or_path)
    assert model.first_position is None and model.model.config._attn_implementation != PACKED


def test_every_family_falls_back_to_the_whole_head(family: MaskedLM) -> None:
    whole = MaskedLM(family.name, family.model, family.tokenizer, family.maximum_length, family.device, None)
    ids = torch.tensor([[5, 6, 7, 8]])
    at, lengths = (torch.tensor([0]), torch.tensor([2])), torch.tensor([4])
    torch.testing.assert_close(family.logits(ids, *at, lengths), whole.logits(ids, *at, lengths), atol=2e-5, rtol=1e-4)


def test_maximum_length_is_what_the_positions_hold(family: MaskedLM) -> None:
    assert family.maximum_length == POSITIONS
    ids = torch.full((1, POSITIONS), 7)
    last = torch.tensor([POSITIONS - 1])
    assert family.logits(ids, torch.tensor([0]), last, torch.tensor([POSITIONS])).shape[0] == 1


def test_tokenizer_limit_counts_when_credible(tmp_path: Path) -> None:
    folder = save_small_model("roberta", tmp_path)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    for stored, expected in ((20, 20), (10_000, POSITIONS), (int(1e30), POSITIONS)):
        (folder / "tokenizer_config.json").write_text(json.dumps({**settings, "model_max_length": stored}))
        assert load_masked_lm(folder).maximum_length == expected


def test_bfloat16_is_close(family: MaskedLM) -> None:
    ids, at = torch.tensor([[5, 6, 7, 8]]), (torch.tensor([0]), torch.tensor([2]))
    exact = family.logits(ids, *at, torch.tensor([4]))
    if family.model.config.model_type == "deberta":
        with pytest.raises(UserError, match="cannot run in bfloat16"):
            family.logits(ids, *at, torch.tensor([4]), precision="bfloat16")
        return
    low = family.logits(ids, *at, torch.tensor([4]), precision="bfloat16")
    assert low.dtype == torch.float32
    assert 0 < (low - exact).abs().max() < 0.1 * exact.abs().max()


def test_pickled_weights_are_refused(tmp_path: Path) -> None:
    folder = save_small_model("roberta", tmp_path)
    model = AutoModelForMaskedLM.from_pretrained(folder, use_safetensors=True)
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(UserError, match="pickled weights are refused"):
        load_masked_lm(folder)


@pytest.mark.parametrize(
    "removed, message",
    [("config.json", "no config.json"), ("tokenizer.json", "masked language model|fast tokenizer|no mask_token")],
)
def test_incomplete_folder(tmp_path: Path, removed: str, message: str) -> None:
    folder = save_small_model("roberta", tmp_path)
    (folder / removed).unlink()
    with pytest.raises(UserError, match=message):
        load_masked_lm(folder)


def test_missing_folder_and_unreachable_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="train it first"):
        load_masked_lm(tmp_path / "nothing")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match="cannot load 'nobody/no-such-model' from the Hugging Face hub"):
        load_masked_lm("nobody/no-such-model")


def test_model_without_a_head_is_refused(tmp_path: Path) -> None:
    tokenizer = byte_level()
    tokenizer.save_pretrained(tmp_path)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 16}
    RobertaModel(RobertaConfig(vocab_size=len(tokenizer), max_position_embeddings=20, **sizes)).save_pretrained(
        tmp_path
    )
    with pytest.raises(UserError, match="no trained weights for"):
        load_masked_lm(tmp_path)


def test_tokenizer_of_another_model_is_refused(tmp_path: Path) -> None:
    folder = save_small_model("roberta", tmp_path)
    tokenizer = byte_level()
    tokenizer.add_tokens(["extra", "woorden"])
    tokenizer.save_pretrained(folder)
    with pytest.raises(UserError, match="do not match"):
        load_masked_lm(folder)
