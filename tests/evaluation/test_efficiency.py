"""Sizes are exact, and every form of a model has its costs."""

from pathlib import Path

import pytest

from robbertje_lib.evaluation import efficiency
from robbertje_lib.evaluation.efficiency import encoder_parameters, finetuning_seconds, weight_bytes
from robbertje_lib.experiment.errors import UserError
from robbertje_lib.experiment.results.efficiency import EfficiencyResult, FormLosses
from robbertje_lib.experiment.results.finetuning import FinetuningRun, HyperParameters, SplitCounts, TaskScores
from robbertje_lib.experiment.run import open_run
from robbertje_lib.models.masked_lm import MaskedLM, load_masked_lm
from robbertje_lib.models.shapes import build_student, parameter_count, save_model
from tests.support.small_models import save_small_model
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


def test_every_model_has_its_onnx_forms_and_what_they_cost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROBBERTJE_OUTPUT", str(tmp_path))
    run = tiny_run(tmp_path, {"fast": FAST}, replicates=2)  # of which the first alone is asked for
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
    result = efficiency.measure_models(run, also=other, progress=said.append)
    assert EfficiencyResult.read(run) == result
    assert result.not_exported == {other: f"{other} cannot be exported to ONNX (too odd)"}
    assert said[0] == result.not_exported[other]
    assert list(result.models[other].forms) == ["torch"] and result.models[other].forms["torch"].loss > 0
    losses = FormLosses.read(run).to_pandas()
    assert list(result.models) == [*run.profile.groups, other]
    for name in run.profile.groups:
        assert list(result.models[name].forms) == ["torch", "fp32", "int8"]
        torch_, exact, small = result.models[name].forms.values()
        assert torch_.bytes == result.models[name].bytes and torch_.top1_agreement is None
        assert exact.bytes == run.paths.onnx(name).stat().st_size > small.bytes
        assert small.bytes == run.paths.onnx(f"{name}.int8").stat().st_size
        assert exact.largest_logit_difference is not None and exact.largest_logit_difference < 1e-4
        assert exact.top1_agreement == 1
        for form, costs in result.models[name].forms.items():
            rows = losses[(losses["model"] == name) & (losses["form"] == form)]
            assert rows["line"].is_unique and rows["line"].isin(range(result.lines)).all()
            assert rows["masked_tokens"].sum() == costs.masked_tokens == 2 * result.lines
            assert rows["nats"].sum() / costs.masked_tokens == pytest.approx(costs.loss)
            for spread in (costs.timing.latency_ms, costs.timing.throughput_tokens_per_second):
                assert 0 < spread.low <= spread.median <= spread.high


def test_finetuning_seconds_are_medians_of_the_tasks_that_ran() -> None:
    run = open_run("smoke")
    settings = HyperParameters(
        learning_rate=1e-4, weight_decay=0.0, accumulation=1, epochs=1.0, batch_size=8, evaluations=1, early_stopping=0
    )
    runs = [
        FinetuningRun(
            model=m, seed=s, train=n, metrics={}, validation=0.5, hyper_parameters=settings, further={}, updates=1,
            seconds=t, restarts=0, at_chance=False,
        )
        for m, s, n, t in (("teacher", 1, 60, 4.0), ("teacher", 2, 60, 6.0), ("teacher", 1, 20, 1.0), ("bort", 1, 60, 1.0), ("bort.2", 7, 60, 2.0))
    ]  # fmt: skip
    TaskScores(
        task="ner", kind="token_classification", metric="f1", labels=[], sizes=[20, 60], further_tests={}, baselines=[],
        counts=SplitCounts(examples={}, not_sampled={}, dropped={}, labels={}), truncated={}, extra_metrics={},
        precision="fp32", runs=runs,
    ).write(run, task="ner")  # fmt: skip
    assert finetuning_seconds(run, "teacher") == {"ner": 5.0}
    assert finetuning_seconds(run, "merged") == {}
    assert finetuning_seconds(run, "bort") == {"ner": 1.5}  # over its replicates
