"""Sizes are exact, timings count real tokens, and models take turns."""

import json
from pathlib import Path

import pytest
import torch
from small_models import LINES, save_small_model

from robbertje_lib import efficiency
from robbertje_lib.artefacts import write_json
from robbertje_lib.efficiency import encoder_parameters, finetuning_seconds, time_models, weight_bytes
from robbertje_lib.masked_lm import MaskedLM, load_masked_lm
from robbertje_lib.modelling import parameter_count
from robbertje_lib.run import open_run


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> MaskedLM:
    return load_masked_lm(save_small_model("roberta", tmp_path_factory.mktemp("roberta")))


def test_parameters_and_bytes(model: MaskedLM) -> None:
    hidden, feed_forward, layers = 32, 48, 2
    attention = 4 * (hidden * hidden + hidden) + 2 * hidden
    network = 2 * hidden * feed_forward + feed_forward + hidden + 2 * hidden
    assert encoder_parameters(model.model) == layers * (attention + network)
    folder = Path(model.model.name_or_path)
    size = weight_bytes(folder, model.model)
    assert size == (folder / "model.safetensors").stat().st_size
    # Tied weights are stored once; the rest of the file is its header.
    assert 0 <= size - 4 * parameter_count(model.model) < 20_000


def test_padding_is_not_counted(model: MaskedLM, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(efficiency, "_seconds", lambda _model, batches: float(len(batches)))
    lines = [LINES[0], "hij"]
    real = sum(len(model.tokenizer(line)["input_ids"]) for line in lines)
    measured = time_models({"teacher": model}, lines, batch_size=2, repeats=1)["teacher"]
    assert measured["throughput_tokens_per_second"]["median"] == real


def test_models_take_turns(model: MaskedLM, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[int] = []
    original = efficiency._seconds

    def spy(used: MaskedLM, batches: list[dict[str, torch.Tensor]]) -> float:
        order.append(id(used))
        return original(used, batches)

    monkeypatch.setattr(efficiency, "_seconds", spy)
    other = load_masked_lm(model.model.name_or_path)
    result = time_models({"teacher": model, "student": other}, LINES[:4], batch_size=2, repeats=2)
    one, two = id(model), id(other)
    # A warm-up each, then latency and throughput in turns, the second round the other way around.
    assert order == [one, two, one, one, two, two, two, two, one, one]
    for measured in result.values():
        for spread in measured.values():
            assert 0 < spread["low"] <= spread["median"] <= spread["high"]


def test_finetuning_seconds_are_medians_of_the_tasks_that_ran() -> None:
    run = open_run("smoke")
    runs = [
        {"model": m, "seed": s, "seconds": t}
        for m, s, t in (("teacher", 1, 4.0), ("teacher", 2, 6.0), ("bort", 1, 1.0))
    ]
    write_json(run.paths.result("scores", "ner.json"), {"task": "ner", "runs": runs})
    assert finetuning_seconds(run, "teacher") == {"ner": 5.0}
    assert finetuning_seconds(run, "merged") == {}
    assert json.dumps(finetuning_seconds(run, "bort")) == '{"ner": 1.0}'
