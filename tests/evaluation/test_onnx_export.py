"""ONNX files give torch's logits, int8 costs little and measurably, and what cannot be exported is said."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from transformers import RobertaConfig, RobertaForMaskedLM

from robbertje_lib.evaluation.onnx_export import Exporter, OnnxModel, quantise, run_on_onnx
from robbertje_lib.evaluation.pseudo_perplexity import pseudo_perplexity
from robbertje_lib.experiment.errors import UserError
from robbertje_lib.models.masked_lm import MaskedLM, load_masked_lm, wrap
from tests.support.small_models import LINES, POSITIONS, byte_level, save_small_model


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[MaskedLM]:
    """Two models of one shape with different weights."""
    return [load_masked_lm(save_small_model("roberta", tmp_path_factory.mktemp("m"), seed)) for seed in (1, 2)]


@pytest.fixture(scope="module")
def files(models: list[MaskedLM], tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder, exporter = tmp_path_factory.mktemp("onnx"), Exporter()
    paths = [folder / f"{number}.onnx" for number in range(len(models))]
    for model, path in zip(models, paths, strict=True):
        exporter.export(model, path)
    assert len(exporter._programs) == 1  # one shape, one trace
    return paths


def ids(rows: int, width: int) -> torch.Tensor:
    return torch.randint(5, 300, (rows, width), generator=torch.Generator().manual_seed(width))


def expected(model: MaskedLM, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    with torch.inference_mode():
        return model.model(**batch).logits


@pytest.mark.parametrize(("rows", "width"), [(1, 1), (1, 40), (3, 11), (9, POSITIONS)])
def test_logits_are_torchs_for_any_batch_and_length(
    models: list[MaskedLM], files: list[Path], rows: int, width: int
) -> None:
    for model, path in zip(models, files, strict=True):
        batch = {"input_ids": ids(rows, width), "attention_mask": torch.ones(rows, width, dtype=torch.int64)}
        found = OnnxModel(path)(**batch).logits
        assert found.shape == (rows, width, model.model.config.vocab_size)
        assert (found - expected(model, batch)).abs().max() < 1e-4
    assert (found - expected(models[0], batch)).abs().max() > 0.1  # the second file holds the second model's weights


def test_the_attention_mask_is_honoured(models: list[MaskedLM], files: list[Path]) -> None:
    model, onnx = models[0], OnnxModel(files[0])
    padded = {"input_ids": ids(2, 12), "attention_mask": torch.ones(2, 12, dtype=torch.int64)}
    padded["input_ids"][1, 7:], padded["attention_mask"][1, 7:] = model.tokenizer.pad_token_id, 0
    alone = {key: value[1:, :7] for key, value in padded.items()}
    found = onnx(**padded).logits
    assert (found[1, :7] - onnx(**alone).logits[0]).abs().max() < 1e-4
    assert (found - expected(model, padded))[padded["attention_mask"].bool()].abs().max() < 1e-4
    unmasked = onnx(padded["input_ids"]).logits
    assert (found[1, :7] - unmasked[1, :7]).abs().max() > 0.01


def test_a_file_runs_without_torch_and_names_no_path_of_this_machine(files: list[Path]) -> None:
    session = onnxruntime.InferenceSession(str(files[0]), providers=["CPUExecutionProvider"])
    assert [i.name for i in session.get_inputs()] == ["input_ids", "attention_mask"]
    assert [i.shape for i in session.get_inputs()] == [["batch", "length"]] * 2
    one = np.ones((1, 3), dtype=np.int64)
    assert session.run(["logits"], {"input_ids": 7 * one, "attention_mask": one})[0].shape[:2] == (1, 3)
    assert str(Path(torch.__file__).parent).encode() not in files[0].read_bytes()


def test_a_file_is_scored_as_a_model_is(models: list[MaskedLM], files: list[Path]) -> None:
    lines = [*LINES[:3], "hij"]
    onnx, model = run_on_onnx(models[0], files[0]), models[0]
    assert onnx.device.type == "cpu" and onnx.special_ids() == model.special_ids()
    exact, again = pseudo_perplexity(model, lines, 100), pseudo_perplexity(onnx, lines, 100)
    np.testing.assert_allclose(again.log_prob, exact.log_prob, atol=2e-5)
    np.testing.assert_allclose(again.log_prob_l2r, exact.log_prob_l2r, atol=2e-5)


def test_int8_is_smaller_and_near(models: list[MaskedLM], files: list[Path], tmp_path: Path) -> None:
    quantise(files[0], tmp_path / "q.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["q.onnx"]
    assert (tmp_path / "q.onnx").stat().st_size < 0.75 * files[0].stat().st_size  # most of so small a file is its graph
    batch = {"input_ids": ids(4, 20), "attention_mask": torch.ones(4, 20, dtype=torch.int64)}
    exact, found = OnnxModel(files[0])(**batch).logits, OnnxModel(tmp_path / "q.onnx")(**batch).logits
    assert 0 < (found - exact).abs().max() < 0.25 * exact.abs().max()


def test_another_family_is_exported_too(tmp_path: Path) -> None:
    model = load_masked_lm(save_small_model("distilbert", tmp_path / "model"))
    Exporter().export(model, tmp_path / "m.onnx")
    batch = {"input_ids": ids(2, 9) % 100 + 5, "attention_mask": torch.ones(2, 9, dtype=torch.int64)}
    assert (OnnxModel(tmp_path / "m.onnx")(**batch).logits - expected(model, batch)).abs().max() < 1e-4


class Undecided(RobertaForMaskedLM):
    """What it computes depends on what it reads, which no fixed graph can follow."""

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None, **options: object) -> object:
        if int(input_ids.sum()) % 2:
            input_ids = input_ids.flip(1)
        return super().forward(input_ids=input_ids, attention_mask=attention_mask, **options)


def test_what_cannot_be_exported_is_said_and_leaves_no_file(tmp_path: Path) -> None:
    tokenizer = byte_level()
    config = RobertaConfig(
        vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        max_position_embeddings=34, pad_token_id=1,
    )  # fmt: skip
    model = wrap(Undecided(config), tokenizer, "undecided")
    with pytest.raises(UserError, match="^undecided cannot be exported to ONNX") as caught:
        Exporter().export(model, tmp_path / "m.onnx")
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []
