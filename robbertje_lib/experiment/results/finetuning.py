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
    """One model, or one control, fine-tuned with one seed on one size of training split. Scores lie from 0 to 1."""

    model: str
    seed: int
    train: int  # training examples
    metrics: dict[str, float]  # on the test split: the task's metric first, then what stands behind it
    validation: float  # the task's metric on the validation split
    hyper_parameters: HyperParameters
    further: dict[str, float]  # further test set -> the metric there; of the largest size alone
    updates: int
    seconds: float  # of training, in the attempt that these scores are of
    restarts: int  # how often it was started again, as it stayed at chance
    at_chance: bool  # whether it stayed there to the end: no better than one label for everything


class BaselineScore(Record):
    """A baseline without a network, tuned on the validation split; scores from 0 to 1."""

    name: str  # such as tf_idf
    train: int  # training examples
    validation: float
    score: float
    further: dict[str, float]  # further test set -> its score there; of the largest size alone
    settings: dict[str, float | int | str]  # what was chosen on the validation split


class TaskScores(ResultFile):
    """One task: its examples, its baselines, and a run a model (or control), seed and size."""

    where: ClassVar[str] = "scores/{task}.json"
    version: ClassVar[int] = 4

    task: str
    kind: str
    metric: str  # accuracy or f1
    labels: list[str]
    counts: SplitCounts
    sizes: list[int]  # of the training split, ascending
    further_tests: dict[str, int]  # further test set -> its examples
    baselines: list[BaselineScore]  # a row a baseline and size
    truncated: dict[str, dict[str, dict[str, int]]]  # model -> split -> what did not fit, counted
    extra_metrics: dict[str, dict[str, float]]  # model -> of the pre-trained model itself
    precision: str
    runs: list[FinetuningRun]

    @property
    def largest(self) -> int:
        """The largest size of the training split, which claims are about first."""
        return self.sizes[-1]

    def best_baseline(self, train: int) -> str:
        """The baseline of a size that does best on the validation split: the test split chooses nothing."""
        return max((row for row in self.baselines if row.train == train), key=lambda row: row.validation).name


def _predictions(label: pa.DataType) -> pa.Schema:
    columns = [("model", pa.string()), ("seed", pa.int64()), ("train", pa.int32()), ("test_set", pa.string())]
    columns += [("example_id", pa.string()), ("cluster", pa.string())]
    return pa.schema([*columns, ("gold", label), ("prediction", label), ("n_tokens", pa.int32())])


TEST = "test"  # the `test_set` that claims are about
ZERO_SHOT = "zero_shot/"  # begins the name under which a model's answers without fine-tuning stand


class Predictions(ResultTable):
    """A row a model, seed, size of the training split, and test example; lists of labels where words have them.

    `model`: of the profile, a control, a baseline (seed 0), or `zero_shot/` and a model (seed 0, train 0), whose
    `prediction` is null where it was not asked. `test_set`: `test`, or a further one. `cluster`: what the example
    belongs to that makes it like others, such as its document; the example itself where nothing does. `n_tokens`:
    before any cut.
    """

    where: ClassVar[str] = "predictions/{task}.parquet"
    version: ClassVar[int] = 2
    schemas: ClassVar = (_predictions(pa.string()), _predictions(pa.list_(pa.string())))
