"""Tables of sizes, speeds and forms, from records."""

import numpy as np
import pandas as pd
import pytest

from robbertje_lib.experiment.results.efficiency import (
    EfficiencyResult,
    FormCosts,
    Hardware,
    ModelCosts,
    Spread,
    Timing,
)
from robbertje_lib.show.tables.efficiency import efficiency_table, finetuning_seconds_table, forms_table


def timing(latency: float) -> Timing:
    spread = Spread(median=1000 / latency, low=1.0, high=2000.0)
    return Timing(
        latency_ms=Spread(median=latency, low=latency / 2, high=latency * 2),
        latency_ms_by_round=[latency],
        throughput_tokens_per_second=spread,
    )


def form(latency: float, size: int, loss: float, agreement: float | None = None) -> FormCosts:
    return FormCosts(bytes=size, timing=timing(latency), masked_tokens=20, loss=loss, top1_agreement=agreement,
                     largest_logit_difference=agreement and 0.1)  # fmt: skip


def costs(parameters: int, latency: float, forms: dict[str, FormCosts], **seconds: float) -> ModelCosts:
    return ModelCosts(parameters=parameters, encoder_parameters=parameters // 2, bytes=4 * parameters,
                      timing=timing(latency), truncated_lines=0, finetuning_seconds=seconds, forms=forms)  # fmt: skip


RESULT = EfficiencyResult(
    models={
        "teacher": costs(
            8_000_000,
            12.0,
            {"torch": form(16.0, 32_000_000, 2.0), "fp32": form(8.0, 33_000_000, 2.0, 1.0), "int8": form(4.0, 9_000_000, 2.125, 0.75)},
            ner=8.0,
            pos=4.0,
        ),
        "bort": costs(2_000_000, 3.0, {"torch": form(4.0, 8_000_000, 3.0)}, ner=2.0),
    },
    not_exported={"bort": "bort cannot be exported to ONNX (too odd)"},
    lines=10, repeats=2, batch_size=4, threads=1,
    machine=Hardware(platform="p", processor="c", cores=2, memory_bytes=1, gpus=[]),
)  # fmt: skip


def test_models_are_compared_with_the_teacher() -> None:
    table = efficiency_table(RESULT)
    assert table["times smaller"].tolist() == [1, 4] and table["times faster"].tolist() == [1, 4]
    assert table.loc["bort", ["parameters (M)", "encoder (M)", "MB on disk", "ms a sentence"]].tolist() == [2, 1, 8, 3]
    assert table["lines cut"].tolist() == [0, 0]
    assert table["not exported"].tolist() == ["", RESULT.not_exported["bort"]]
    assert "not exported" not in efficiency_table(RESULT.model_copy(update={"not_exported": {}}))
    assert table["MB as int8"].tolist() == [9, pytest.approx(np.nan, nan_ok=True)]


def test_forms_are_compared_with_torch() -> None:
    table = forms_table(RESULT)
    assert table.index.tolist() == [("teacher", f) for f in ("torch", "ONNX", "ONNX, int8")] + [("bort", "torch")]
    assert table["times faster"].tolist() == [1, 2, 4, 1]
    assert table.loc["teacher", "difference"].tolist()[1:] == [0, 0.125]
    assert table.loc["teacher", "same guess, %"].tolist()[1:] == [100, 75]
    assert table.xs("torch", level="form")[["difference", "same guess, %"]].isna().all(axis=None)


def test_finetuning_seconds_by_task() -> None:
    expected = pd.DataFrame({"ner": [8.0, 2.0], "pos": [4.0, np.nan]}, index=["teacher", "bort"])
    pd.testing.assert_frame_equal(finetuning_seconds_table(RESULT), expected)
