"""What `50_finetuning` writes for each task: `scores/<task>.json`, and every prediction in parquet."""

from typing import ClassVar

import pyarrow as pa

from robbertje_lib.experiment.results.base import Record, ResultFile, ResultTable


class HyperParameters(Record):
    """The settings of one fine-tuning run."""

    learning_rate: float
    weight_decay: float
    accumulation: int  # batches an update
    epochs: float
    batch_size: int
    evaluations: int  # on the validation split, evenly spread over the run
    early_stopping: int  # evaluations without improvement before the run ends; 0 is off


class SplitCounts(Record):
    """A task's examples, by split (train, validation, test)."""

    examples: dict[str, int]
    not_sampled: dict[str, int]  # left aside by the profile's sizes
    dropped: dict[str, int]  # left out by the reader, by reason
    labels: dict[str, dict[str, int]]  # split -> label -> examples, or words


class FinetuningRun(Record):
    """One model fine-tuned with one seed. Scores lie between 0 and 1."""

    model: str
    seed: int
    metrics: dict[str, float]  # on the test split: the task's metric first, then what stands behind it
    validation: float  # the task's metric on the validation split
    hyper_parameters: HyperParameters
    updates: int
    seconds: float


class TaskScores(ResultFile):
    """One task: its examples, its baselines, and a run a model and seed."""

    where: ClassVar[str] = "scores/{task}.json"
    version: ClassVar[int] = 2

    task: str
    kind: str
    metric: str  # accuracy or f1
    labels: list[str]
    counts: SplitCounts
    majority_baseline: float
    lexicon_baseline: float | None  # of token classification alone
    truncated: dict[str, dict[str, dict[str, int]]]  # model -> split -> what did not fit, counted
    extra_metrics: dict[str, dict[str, float]]  # model -> of the pre-trained model itself
    precision: str
    runs: list[FinetuningRun]


def _predictions(label: pa.DataType) -> pa.Schema:
    columns = [("model", pa.string()), ("seed", pa.int64()), ("example_id", pa.string())]
    return pa.schema([*columns, ("gold", label), ("prediction", label), ("n_tokens", pa.int32())])


class Predictions(ResultTable):
    """A row a model, seed and test example; lists of labels where words have them. `n_tokens`: before any cut."""

    where: ClassVar[str] = "predictions/{task}.parquet"
    schemas: ClassVar = (_predictions(pa.string()), _predictions(pa.list_(pa.string())))
