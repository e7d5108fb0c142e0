"""ONNX files give torch's logits, int8 costs little and measurably, and what cannot be exported is said."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from transformers import RobertaConfig, RobertaForMaskedLM

from robbertje_lib.evaluation.onnx_export import Exporter, OnnxModel, mask_lines, quantise, score_loss
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
        found = OnnxModel(path).logits(batch)
        assert found.shape == (rows, width, model.model.config.vocab_size)
        assert (found - expected(model, batch)).abs().max() < 1e-4
    assert (found - expected(models[0], batch)).abs().max() > 0.1  # the second file holds the second model's weights


def test_the_attention_mask_is_honoured(models: list[MaskedLM], files: list[Path]) -> None:
    model, onnx = models[0], OnnxModel(files[0])
    padded = {"input_ids": ids(2, 12), "attention_mask": torch.ones(2, 12, dtype=torch.int64)}
    padded["input_ids"][1, 7:], padded["attention_mask"][1, 7:] = model.tokenizer.pad_token_id, 0
    alone = {key: value[1:, :7] for key, value in padded.items()}
    found = onnx.logits(padded)
    assert (found[1, :7] - onnx.logits(alone)[0]).abs().max() < 1e-4
    assert (found - expected(model, padded))[padded["attention_mask"].bool()].abs().max() < 1e-4
    unmasked = onnx.logits({**padded, "attention_mask": torch.ones(2, 12, dtype=torch.int64)})
    assert (found[1, :7] - unmasked[1, :7]).abs().max() > 0.01


def test_a_file_runs_without_torch_and_names_no_path_of_this_machine(files: list[Path]) -> None:
    session = onnxruntime.InferenceSession(str(files[0]), providers=["CPUExecutionProvider"])
    assert [i.name for i in session.get_inputs()] == ["input_ids", "attention_mask"]
    assert [i.shape for i in session.get_inputs()] == [["batch", "length"]] * 2
    one = np.ones((1, 3), dtype=np.int64)
    assert session.run(["logits"], {"input_ids": 7 * one, "attention_mask": one})[0].shape[:2] == (1, 3)
    assert str(Path(torch.__file__).parent).encode() not in files[0].read_bytes()


def test_int8_is_smaller_and_near(models: list[MaskedLM], files: list[Path], tmp_path: Path) -> None:
    quantise(files[0], tmp_path / "q.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["q.onnx"]
    assert (tmp_path / "q.onnx").stat().st_size < 0.75 * files[0].stat().st_size  # most of so small a file is its graph
    batch = {"input_ids": ids(4, 20), "attention_mask": torch.ones(4, 20, dtype=torch.int64)}
    exact, found = OnnxModel(files[0]).logits(batch), OnnxModel(tmp_path / "q.onnx").logits(batch)
    assert 0 < (found - exact).abs().max() < 0.25 * exact.abs().max()


def test_another_family_is_exported_too(tmp_path: Path) -> None:
    model = load_masked_lm(save_small_model("distilbert", tmp_path / "model"))
    Exporter().export(model, tmp_path / "m.onnx")
    batch = {"input_ids": ids(2, 9) % 100 + 5, "attention_mask": torch.ones(2, 9, dtype=torch.int64)}
    assert (OnnxModel(tmp_path / "m.onnx").logits(batch) - expected(model, batch)).abs().max() < 1e-4


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


def test_masks_are_the_same_for_every_batch_size_and_cover_every_line(models: list[MaskedLM]) -> None:
    def masked(batch_size: int, seed: int) -> set[tuple[int, int]]:
        made = mask_lines(models[0], LINES[:5], batch_size, seed)
        for batch, places, targets in zip(made.batches, made.places, made.targets, strict=True):
            assert (batch["input_ids"][places] == models[0].tokenizer.mask_token_id).all()
            assert not set(targets.tolist()) & models[0].special_ids()
            assert batch["attention_mask"][places].all()
        columns = [column for _, columns in made.places for column in columns.tolist()]
        return set(zip(torch.cat(made.lines).tolist(), columns, strict=True))

    assert masked(2, 1) == masked(5, 1) != masked(5, 2)
    assert {line for line, _ in masked(2, 1)} == set(range(5))
    with pytest.raises(UserError, match="none of 2 lines holds a token to mask"):
        mask_lines(models[0], ["", ""], 2, 1)


def test_losses_are_compared_on_the_same_masks(models: list[MaskedLM], files: list[Path], tmp_path: Path) -> None:
    quantise(files[0], tmp_path / "q.onnx")
    masked = mask_lines(models[0], LINES, 4, seed=3)
    forms = {
        "torch": lambda batch: expected(models[0], batch),
        "fp32": OnnxModel(files[0]).logits,
        "int8": OnnxModel(tmp_path / "q.onnx").logits,
        "other": OnnxModel(files[1]).logits,
    }
    scores = score_loss(forms, masked, seed=3)
    by_hand = [
        -float(expected(models[0], batch)[row, column].log_softmax(0)[target])
        for batch, (rows, columns), targets in zip(masked.batches, masked.places, masked.targets, strict=True)
        for row, column, target in zip(rows, columns, targets, strict=True)
    ]
    assert scores["torch"] == {"loss": pytest.approx(np.mean(by_hand), rel=1e-5)}
    assert scores["fp32"]["top1_agreement"] == 1 and scores["fp32"]["largest_logit_difference"] < 1e-4
    assert abs(scores["fp32"]["loss_difference"]) < 1e-5
    assert 1e-5 < abs(scores["int8"]["loss_difference"]) < 0.2
    for form in ("fp32", "int8", "other"):
        low, high = scores[form]["loss_difference_interval"]
        assert low <= scores[form]["loss_difference"] <= high
        assert scores[form]["loss"] - scores["torch"]["loss"] == pytest.approx(
            scores[form]["loss_difference"], abs=1e-6
        )
    # Another model's guesses are others: what agrees must not do so by construction.
    assert scores["other"]["top1_agreement"] < 0.5 < scores["int8"]["top1_agreement"]
