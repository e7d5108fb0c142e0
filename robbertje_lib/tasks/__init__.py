"""The fine-tuning tasks: one module each, with one object `TASK`.

A task of your own is one new file in this folder, here `feest.py`, and one line below `finetuning.tasks` in the
profile, `feest: {data: mine}` (`known_answer` where the profile's text is):

    from robbertje_lib.experiment.profile import TaskSettings
    from robbertje_lib.tasks import Examples, Task, TaskSource

    def read(settings: TaskSettings, source: TaskSource) -> Examples:
        rows = [{"example_id": "1", "text": "Wat een feest.", "label": "positive"}, ...]
        return Examples(labels=("negative", "positive"), splits={"train": rows, "validation": ..., "test": ...})

    TASK = Task(name="feest", kind="text_classification", metric="accuracy", read=read)

Rows have `example_id`, then `text` and `label`; or `text`, `text_pair` and `label`; or, for token
classification, `tokens` and `labels`. A `<mask>` in a text becomes the model's own mask token. Where rows are
alike for a reason, such as sentences of one document, `cluster` names it: tests then resample whole clusters.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from robbertje_lib.experiment.errors import UserError, did_you_mean
from robbertje_lib.experiment.members import members
from robbertje_lib.experiment.profile import TaskSettings
from robbertje_lib.experiment.results.finetuning import SplitCounts

if TYPE_CHECKING:
    from datasets import Dataset

    from robbertje_lib.experiment.run import Run
    from robbertje_lib.models.masked_lm import MaskedLM

SPLITS = ("train", "validation", "test")
MASK = "<mask>"
COLUMNS: dict[str, dict[str, type]] = {
    "text_classification": {"text": str, "label": str},
    "pair_classification": {"text": str, "text_pair": str, "label": str},
    "token_classification": {"tokens": list, "labels": list},
}
Row = dict[str, Any]


@dataclass(frozen=True)
class Examples:
    """What a task reads: its labels, the rows of each split, and how many were left out, by reason.

    `further_tests` are sets that only finished models are tested on, by name; each `example_id` begins with that name.
    """

    labels: tuple[str, ...]
    splits: dict[str, list[Row]]
    dropped: dict[str, int] = field(default_factory=dict)
    further_tests: dict[str, list[Row]] = field(default_factory=dict)


@dataclass(frozen=True)
class TaskSource:
    """What a reader may draw on beside its settings."""

    held_out: Path  # token store of the held-out documents
    seed: int
    planted_strength: float  # of the bias in known-answer Dutch

    @classmethod
    def of(cls, run: "Run") -> "TaskSource":
        return cls(run.paths.held_out, run.profile.seed, run.profile.gender_bias.planted_strength)


class ZeroShot(NamedTuple):
    """What a pre-trained model answers without fine-tuning."""

    answers: list[str | None]  # a label a row; None where it cannot be asked
    metrics: dict[str, float]  # its scores, by metric name


@dataclass(frozen=True)
class Task:
    """One fine-tuning task.

    `read(settings, source)` gives its examples. `data` names what the profile may ask for (empty:
    anything); `options` the profile's further choices, the default first (empty: any text, by default none). `kind`
    may depend on the options (a pair instead of a text), so it can be a function of the settings. `keep` says what
    stays of a text too long for the model: its head, its tail, both, or what is around the mask. `further` names, by
    `data`, the sources of the further test sets. `zero_shot(model, rows)` gives the pre-trained model's own answers.
    """

    name: str
    kind: str | Callable[[TaskSettings], str]
    metric: Literal["accuracy", "f1"]
    read: Callable[[TaskSettings, TaskSource], Examples]
    data: tuple[str, ...] = ()
    options: dict[str, tuple[str, ...]] = field(default_factory=dict)
    keep: Literal["head", "tail", "both", "mask"] = "head"
    further: dict[str, tuple[str, ...]] = field(default_factory=dict)
    zero_shot: Callable[["MaskedLM", list[Row]], ZeroShot] | None = None

    def option(self, settings: TaskSettings, name: str, otherwise: str = "") -> str:
        """The profile's choice for the option `name`, its default, or `otherwise` where the task has no such option."""
        return str(settings.options.get(name, next(iter(self.options.get(name, ())), otherwise)))

    def check(self, settings: TaskSettings) -> None:
        """Raise `UserError` for data or options that this task does not know."""
        where = f"finetuning.tasks.{self.name}"
        if self.data and settings.data not in self.data:
            raise UserError(f"{where}.data: '{settings.data}' is unknown; {did_you_mean(settings.data, self.data)}")
        for name, value in settings.options.items():
            if name not in self.options:
                raise UserError(f"{where}.options: unknown option '{name}'; {did_you_mean(name, self.options)}")
            if self.options[name] and value not in self.options[name]:
                known = did_you_mean(str(value), self.options[name])
                raise UserError(f"{where}.options.{name}: '{value}' is not a choice; {known}")


@dataclass(frozen=True)
class TaskData:
    """A task's examples, cut to the profile's sizes: the largest of the training split, that of the test split for
    every further test set too. All have the column `cluster`: the example itself where nothing ties it to others.
    """

    task: Task
    kind: str
    labels: tuple[str, ...]
    train: "Dataset"
    validation: "Dataset"
    test: "Dataset"
    counts: SplitCounts
    further_tests: dict[str, "Dataset"] = field(default_factory=dict)

    @property
    def splits(self) -> dict[str, "Dataset"]:
        return {"train": self.train, "validation": self.validation, "test": self.test}

    @property
    def sets(self) -> dict[str, "Dataset"]:
        """The splits, then the further test sets."""
        return {**self.splits, **self.further_tests}

    def tests(self, further: bool) -> dict[str, "Dataset"]:
        """What a run is tested on: the further sets after the largest size of the training split alone."""
        return {"test": self.test, **(self.further_tests if further else {})}


def all_tasks() -> dict[str, Task]:
    """Every task of this folder, by name. Raises `UserError` when a file and its task differ in name."""
    return members(__name__, __path__, "task")


def check_tasks(tasks: Mapping[str, TaskSettings]) -> None:
    """Raise `UserError` if a profile's `finetuning.tasks` name a task, data or an option that there is not."""
    for name, settings in tasks.items():
        get_task(name).check(settings)


def get_task(name: str) -> Task:
    """The task called `name`. Raises `UserError` naming the nearest one when there is none."""
    tasks = all_tasks()
    if name not in tasks:
        raise UserError(f"finetuning.tasks: no task '{name}': {did_you_mean(name, tasks)}")
    return tasks[name]


def load_task(name: str, tasks: Mapping[str, TaskSettings], source: TaskSource) -> TaskData:
    """Read the task `name` as `tasks`, those of a profile, ask, check its rows and sample its splits.

    Raises `UserError` when the profile lacks the task, or its data, options or rows are not right.
    """
    from datasets import Dataset

    task = get_task(name)
    if name not in tasks:
        raise UserError(f"finetuning.tasks: the profile has no task '{name}'; {did_you_mean(name, tasks)}")
    settings = tasks[name]
    task.check(settings)
    kind = task.kind if isinstance(task.kind, str) else task.kind(settings)
    examples = task.read(settings, source)
    _check_rows(name, kind, examples)
    read = {**examples.splits, **examples.further_tests}
    sizes = {name: settings.sizes.get(name, settings.test) for name in read}
    sets = {name: _sample(rows, sizes[name], source.seed, name) for name, rows in read.items()}
    counts = SplitCounts(
        examples={name: len(rows) for name, rows in sets.items()},
        not_sampled={name: len(read[name]) - len(rows) for name, rows in sets.items()},
        dropped=examples.dropped,
        labels={name: _label_counts(examples.labels, rows) for name, rows in sets.items()},
    )
    clustered = {name: [{"cluster": row["example_id"], **row} for row in rows] for name, rows in sets.items()}
    made = {name: Dataset.from_list(rows) for name, rows in clustered.items()}
    splits = {split: made.pop(split) for split in SPLITS}
    return TaskData(task, kind, examples.labels, **splits, counts=counts, further_tests=made)


def _check_rows(name: str, kind: str, examples: Examples) -> None:
    """Hold every row against the columns of `kind`, so that a mistake in a reader shows up here."""
    if set(examples.splits) != set(SPLITS) or set(examples.further_tests) & set(SPLITS):
        given = [*sorted(examples.splits), *sorted(examples.further_tests)]
        raise UserError(f"task {name}: splits {given}; expected {', '.join(SPLITS)}, and other names for further tests")
    if kind not in COLUMNS:
        raise UserError(f"task {name}: unknown kind '{kind}'; {did_you_mean(kind, COLUMNS)}")
    seen: set[str] = set()
    for split, rows in {**examples.splits, **examples.further_tests}.items():
        if not rows:
            raise UserError(f"task {name}: the {split} split is empty; give it more data or larger sizes")
        for row in rows:
            _check_row(f"task {name}, {split}", kind, examples.labels, row)
            if row["example_id"] in seen:
                raise UserError(f"task {name}, {split}: two examples are called '{row['example_id']}'; ids must differ")
            seen.add(row["example_id"])


def _check_row(where: str, kind: str, labels: tuple[str, ...], row: Row) -> None:
    for column, wanted in {"example_id": str, **COLUMNS[kind], "cluster": str}.items():
        if not isinstance(row.get(column, "" if column == "cluster" else None), wanted):
            given = f"{row.get(column)!r:.40} in {row!r:.60}"
            raise UserError(f"{where}: '{column}' must be {wanted.__name__}, not {given}")
    where += f", example '{row['example_id']}'"
    own = row["labels"] if kind == "token_classification" else [row["label"]]
    if kind == "token_classification" and len(row["tokens"]) != len(own):
        raise UserError(f"{where}: {len(row['tokens'])} tokens but {len(own)} labels")
    unknown = next((label for label in own if label not in labels), None)
    if unknown is not None:
        raise UserError(f"{where}: unknown label '{unknown}'; {did_you_mean(str(unknown), labels)}")


def _sample(rows: list[Row], size: int | None, seed: int, split: str) -> list[Row]:
    """`size` rows drawn without replacement, in their own order."""
    if size is None or size >= len(rows):
        return rows
    number = SPLITS.index(split) if split in SPLITS else len(SPLITS)
    drawn = np.random.default_rng([seed, number]).choice(len(rows), size, replace=False)
    return [rows[i] for i in sorted(drawn)]


def _label_counts(labels: tuple[str, ...], rows: list[Row]) -> dict[str, int]:
    counts = Counter(label for row in rows for label in (row["labels"] if "labels" in row else [row["label"]]))
    return {label: counts[label] for label in labels}
