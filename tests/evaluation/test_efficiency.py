"""Sizes are exact, timings count real tokens, and models take turns."""

import json
from pathlib import Path

import pytest
import torch

from robbertje_lib.evaluation import efficiency
from robbertje_lib.evaluation.efficiency import (
    Form,
    encoder_form,
    encoder_parameters,
    finetuning_seconds,
    time_forms,
    weight_bytes,
)
from robbertje_lib.experiment.artefacts import read_json, write_json
from robbertje_lib.experiment.errors import UserError
from robbertje_lib.experiment.run import open_run
from robbertje_lib.models.masked_lm import MaskedLM, load_masked_lm
from robbertje_lib.models.shapes import build_student, parameter_count, save_model
from tests.support.small_models import LINES, save_small_model
from tests.support.tiny_run import FAST, tiny_run


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
    monkeypatch.setattr(efficiency, "_seconds", lambda _form, batches: float(len(batches)))
    lines = [LINES[0], "hij"]
    real = sum(len(model.tokenizer(line)["input_ids"]) for line in lines)
    measured = time_forms({"teacher": encoder_form(model, lines, batch_size=2)}, repeats=1)["teacher"]
    assert measured["throughput_tokens_per_second"]["median"] == real


def test_forms_take_turns(model: MaskedLM, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[Form] = []
    original = efficiency._seconds

    def spy(form: Form, batches: list[dict[str, torch.Tensor]]) -> float:
        order.append(form)
        return original(form, batches)

    monkeypatch.setattr(efficiency, "_seconds", spy)
    one, two = (encoder_form(model, LINES[:4], batch_size=2) for _ in range(2))
    result = time_forms({"teacher": one, "student": two}, repeats=2)
    # A warm-up each, then latency and throughput in turns, the second round the other way around.
    assert [form is one for form in order] == [
        form is one for form in (one, two, one, one, two, two, two, two, one, one)
    ]
    for measured in result.values():
        for spread in measured.values():
            assert 0 < spread["low"] <= spread["median"] <= spread["high"]


def test_every_model_has_its_onnx_forms_and_what_they_cost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROBBERTJE_OUTPUT", str(tmp_path))
    run = tiny_run(tmp_path, {"fast": FAST})
    teacher = load_masked_lm(run.paths.model("teacher"))
    for name, student in run.profile.students.items():
        shape, recipe = run.profile.shapes[student.shape], run.profile.recipes[student.recipe]
        save_model(build_student(shape, teacher.model, recipe, seed=4), teacher.tokenizer, run.paths.model(name))
    other = str(save_small_model("bert", tmp_path / "other"))

    def refuse(run_: object, model: MaskedLM, exporter: object) -> object:
        if model.name == other:
            raise UserError(f"{other} cannot be exported to ONNX (too odd)")
        return export(run_, model, exporter)

    export = efficiency.export_model
    monkeypatch.setattr(efficiency, "export_model", refuse)
    said: list[str] = []
    summary = efficiency.measure_models(run, also=other, progress=said.append)
    assert summary["not_exported"] == {other: f"{other} cannot be exported to ONNX (too odd)"} and said[0] in str(
        summary
    )
    assert summary["models"][other]["onnx"] is None and summary["models"][other]["with_head"]["loss"] > 0
    for name in run.profile.models:
        stored = read_json(run.paths.result("efficiency.json"))["models"][name]
        exact, small = stored["onnx"]["fp32"], stored["onnx"]["int8"]
        assert exact["bytes"] == run.paths.onnx(name).stat().st_size > small["bytes"]
        assert small["bytes"] == run.paths.onnx(f"{name}.int8").stat().st_size
        assert exact["largest_logit_difference"] < 1e-4 and exact["top1_agreement"] == 1
        assert small["loss_difference"] == pytest.approx(small["loss"] - stored["with_head"]["loss"], abs=1e-6)
        assert small["masked_tokens"] == stored["with_head"]["masked_tokens"] > summary["lines"] // 2
        for form in (stored["with_head"], exact, small):
            assert 0 < form["latency_ms"]["low"] <= form["latency_ms"]["median"] <= form["latency_ms"]["high"]
            assert form["throughput_tokens_per_second"]["median"] > 0
    table = efficiency.forms_table(summary)
    assert table.index.tolist()[:3] == [("teacher", form) for form in ("torch", "ONNX", "ONNX, int8")]
    assert table.loc[other].index.tolist() == ["torch"]
    assert table.loc[("teacher", "torch"), "times faster"] == 1
    assert efficiency.summary_table(summary)["MB as int8"].isna().tolist() == [*[False] * len(run.profile.models), True]


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
