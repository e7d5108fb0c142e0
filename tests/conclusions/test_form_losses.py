"""What the ONNX forms lose is read off the losses by line."""

from pathlib import Path

import pyarrow as pa
import pytest

from robbertje_lib.conclusions.comparisons import compare_forms
from robbertje_lib.experiment.results.efficiency import FormLosses
from tests.support.result_files import make_run


def test_losses_are_told_against_torch_per_masked_token(tmp_path: Path) -> None:
    run = make_run(tmp_path, "smoke")
    assert compare_forms(run) == []
    extra = {"torch": [0.0] * 4, "fp32": [0.0] * 4, "int8": [0.1, 0.3, -0.1, 0.9]}
    masked = [1, 2, 1, 4]
    rows = [
        {"model": model, "form": form, "line": line, "masked_tokens": masked[line], "nats": 3.0 * masked[line] + more}
        for model in ("teacher", "bort")
        for form, of in extra.items()
        for line, more in reversed(list(enumerate(of)))  # in whatever order
        if (model, form) != ("bort", "fp32")
    ]
    FormLosses.write(run, pa.Table.from_pylist(rows))
    losses = {(loss.model, loss.form): loss for loss in compare_forms(run)}
    assert list(losses) == [("teacher", "fp32"), ("teacher", "int8"), ("bort", "int8")]
    assert losses["teacher", "fp32"].difference == pytest.approx(0) and losses["teacher", "fp32"].interval[1] < 1e-9
    small = losses["bort", "int8"]
    low, high = small.interval
    assert small.difference == pytest.approx(1.2 / 8) and -0.1 <= low < small.difference < high <= 0.9 / 4
