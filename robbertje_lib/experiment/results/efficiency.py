"""What `80_efficiency` writes: `efficiency.json`, and the loss of every form of a model by line in parquet."""

from typing import ClassVar

import pyarrow as pa

from robbertje_lib.experiment.results.base import Record, ResultFile, ResultTable
from robbertje_lib.experiment.results.record import Hardware


class Spread(Record):
    """Median, lowest and highest over repeated rounds."""

    median: float
    low: float
    high: float


class Timing(Record):
    """Latency: milliseconds a sentence, alone. Throughput: real tokens a second in batches, special tokens included."""

    latency_ms: Spread
    latency_ms_by_round: list[float]
    throughput_tokens_per_second: Spread


class FormCosts(Record):
    """One form of a model with its head (torch, ONNX in float32 or int8). Loss in nats a masked token."""

    bytes: int
    timing: Timing
    masked_tokens: int
    loss: float
    top1_agreement: float | None  # share of masked tokens with torch's best guess; None for torch
    largest_logit_difference: float | None  # from torch; None for torch


class ModelCosts(Record):
    """One model; of a student the first replicate. `timing` is without the head, as a task would use it."""

    parameters: int
    encoder_parameters: int  # without embeddings and head
    bytes: int  # of weights on disk
    timing: Timing
    truncated_lines: int  # cut at the model's maximum
    finetuning_seconds: dict[str, float]  # task -> median over seeds and replicates
    forms: dict[str, FormCosts]  # torch, and where the model can be exported fp32 and int8


class EfficiencyResult(ResultFile):
    """The teacher and each student, timed in turns on one machine."""

    where: ClassVar[str] = "efficiency.json"
    version: ClassVar[int] = 3

    models: dict[str, ModelCosts]
    not_exported: dict[str, str]  # model -> why it has no ONNX form
    lines: int
    repeats: int
    batch_size: int
    threads: int
    machine: Hardware


class FormLosses(ResultTable):
    """A row a model, form and held-out line: the masked-LM loss summed over its masked tokens, in nats."""

    where: ClassVar[str] = "form_losses.parquet"
    columns: ClassVar = {
        "model": pa.string(),
        "form": pa.string(),
        "line": pa.int32(),
        "masked_tokens": pa.int32(),
        "nats": pa.float64(),
    }
