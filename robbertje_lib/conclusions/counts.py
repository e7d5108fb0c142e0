"""What each group made of each test example, or of each held-out line, as counts: from stored predictions alone.

A group is the teacher, a student with its replicates, a control with random weights, or a baseline. Its counts are
(units, seeds, examples, k). A unit is the highest level at which chance acts: the replicates of a student that was
distilled more than once, with their fine-tuning seeds within; the fine-tuning seeds of what is there once. One unit
stands for a given set of weights. Examples that belong together, such as those of one document, share a cluster.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.compute as pc
from numpy.typing import NDArray

from robbertje_lib.experiment.artefacts import ANEW
from robbertje_lib.experiment.errors import UserError
from robbertje_lib.experiment.results.finetuning import TEST, ZERO_SHOT, Predictions, TaskScores
from robbertje_lib.experiment.results.pseudo_perplexity import PSEUDO_PERPLEXITY, UNIGRAM, TokenLogProbs
from robbertje_lib.experiment.run import Run
from robbertje_lib.statistics.resampling import Metric, ratio
from robbertje_lib.tasks.metrics import METRICS, example_counts


@dataclass(frozen=True)
class TaskCounts:
    """What each group made of each test example of one task, at one size of the training split."""

    task: str
    train: int  # training examples
    test_set: str
    metric_name: str
    metric: Metric
    models: Mapping[str, Mapping[str, Sequence[int]]]  # group -> its models, each with its fine-tuning seeds
    counts: dict[str, NDArray[np.float64]]  # group -> (units, seeds, examples, k)
    zero_shot: dict[str, NDArray[np.float64]]  # the same without fine-tuning; 0 where a model was not asked
    n_tokens: NDArray[np.int64]  # (examples,)
    clusters: NDArray[np.intp]  # (examples,) the cluster of each, numbered in order of appearance

    @property
    def examples(self) -> int:
        return len(self.n_tokens)

    @cached_property
    def one_answer_each(self) -> bool:
        """Whether an example stands for itself and is right or wrong as a whole, as McNemar's test needs."""
        alone = len(np.unique(self.clusters)) == self.examples
        return alone and self.metric_name == "accuracy" and all((c[..., 1] == 1).all() for c in self.counts.values())

    def replicates(self, group: str) -> int:
        """How often it was distilled, or is there."""
        return len(self.models[group])

    def scores(self, group: str) -> dict[str, list[float]]:
        """Model of the group -> the score of each of its fine-tuning seeds."""
        scores = self.metric(self.counts[group].sum(axis=-2)).reshape(self.replicates(group), -1)
        return dict(zip(self.models[group], scores.tolist(), strict=True))

    def subset(self, chosen: NDArray[np.bool_]) -> "TaskCounts":
        """The same task on some of its examples; chosen: (examples,)."""
        counts, zero_shot = ({g: c[:, :, chosen] for g, c in of.items()} for of in (self.counts, self.zero_shot))
        return replace(
            self, counts=counts, zero_shot=zero_shot, n_tokens=self.n_tokens[chosen], clusters=self.clusters[chosen]
        )

    def without_tuning(self) -> "TaskCounts | None":
        """The examples that every model was asked without fine-tuning, the answers as groups `zero_shot/<group>`.

        None where there is no such example.
        """
        asked = [(counts[..., 1] > 0).all(axis=(0, 1)) for counts in self.zero_shot.values()]
        if not asked or not np.logical_and.reduce(asked).any():
            return None
        part = self.subset(np.logical_and.reduce(asked))
        answers = {ZERO_SHOT + group: counts for group, counts in part.zero_shot.items()}
        models = {ZERO_SHOT + group: _not_tuned(self.models[group]) for group in part.zero_shot}
        return replace(part, models={**self.models, **models}, counts={**part.counts, **answers}, zero_shot={})


def load_counts(run: Run, task: str, train: int | None = None, test_set: str = TEST) -> TaskCounts:
    """Per-example counts of one task from `predictions/<task>.parquet`, groups in the profile's order, then the rest.

    train: size of the training split, the largest if none is given. Accuracy counts (correct, examples), or (correct,
    words) where labels are lists; F1 counts entities as (true positive, false positive, false negative) per sentence.
    Raises `UserError` where a model, a seed or an example is missing, or a prediction is not as long as its gold
    labels.
    """
    where, told = f"predictions/{task}.parquet", TaskScores.read(run, task=task)
    train = told.largest if train is None else train
    wanted = (pc.field("test_set") == test_set) & pc.field("train").isin([train, 0])
    frame = Predictions.read(run, task=task).filter(wanted).to_pandas().sort_values("example_id", kind="stable")
    parts = {(str(model), int(seed)): rows for (model, seed), rows in frame.groupby(["model", "seed"])}
    models: dict[str, dict[str, list[int]]] = {
        **{group: {m: run.profile.finetuning_seeds(m) for m in own} for group, own in run.profile.groups.items()},
        **{control: {control: run.profile.finetuning_seeds(control)} for control in run.profile.controls},
        **{row.name: {row.name: [0]} for row in told.baselines if row.train == train},
    }
    untuned = {group: _not_tuned(own) for group, own in run.profile.groups.items()}
    if not any((model, 0) in parts for own in untuned.values() for model in own):
        untuned = {}
    needed = [(m, seed) for own in (*models.values(), *untuned.values()) for m, seeds in own.items() for seed in seeds]
    _refuse_missing(f"{where}, {test_set}, {train} training examples", needed, parts)
    first = parts[needed[0]]
    for (model, seed), rows in parts.items():
        if not np.array_equal(rows["example_id"].to_numpy(), first["example_id"].to_numpy()):
            raise UserError(f"{where}: {model}, seed {seed} was tested on other examples than the first model; {ANEW}")
    counted = {key: _count(where, told.metric, key, parts[key]) for key in needed}
    return TaskCounts(
        task=task,
        train=train,
        test_set=test_set,
        metric_name=told.metric,
        metric=METRICS[told.metric],
        models=models,
        counts={group: _units(counted, own) for group, own in models.items()},
        zero_shot={group: _units(counted, own) for group, own in untuned.items()},
        n_tokens=first["n_tokens"].to_numpy(np.int64),
        clusters=pd.factorize(first["cluster"])[0],
    )


def input_lengths(run: Run, task: str) -> NDArray[np.int64]:
    """Tokens of each test example as the teacher reads it, (examples,), without counting what was made of it."""
    asked = (pc.field("test_set") == TEST) & (pc.field("model") == "teacher")
    rows = Predictions.read(run, task=task).filter(asked).select(["example_id", "n_tokens"]).to_pandas()
    return rows.drop_duplicates("example_id")["n_tokens"].to_numpy(np.int64)


def _not_tuned(models: Iterable[str]) -> dict[str, list[int]]:
    return {ZERO_SHOT + model: [0] for model in models}


def _units(
    counted: Mapping[tuple[str, int], NDArray[np.float64]], models: Mapping[str, Sequence[int]]
) -> NDArray[np.float64]:
    """The counts of a group, (examples, k) each run, as (units, seeds, examples, k)."""
    counts = np.array([[counted[model, seed] for seed in seeds] for model, seeds in models.items()])
    return counts if len(counts) > 1 else np.moveaxis(counts, 0, 1)


def _count(where: str, metric: str, key: tuple[str, int], rows: pd.DataFrame) -> NDArray[np.float64]:
    """Counts of one run, (examples, k); 0 where a model was not asked, which it must be once it is fine-tuned."""
    told = f"{where}: {key[0]}, seed {key[1]}"
    asked = rows["prediction"].notna().to_numpy()
    if not asked.all() and not key[0].startswith(ZERO_SHOT):
        raise UserError(f"{told}: {np.count_nonzero(~asked)} examples have no prediction; {ANEW}")
    try:
        own = example_counts(metric, *(_labels(rows.loc[asked, side]) for side in ("gold", "prediction")))
    except ValueError as error:
        raise UserError(f"{told}: {error}; {ANEW}") from None
    counts = np.zeros((len(rows), own.shape[1]))
    counts[asked] = own
    return counts


def _labels(column: Any) -> list[Any]:
    """A label an example as it is; a sentence's labels, which pandas reads as an array, as a list."""
    return [list(value) if isinstance(value, np.ndarray) else value for value in column]


def pseudo_perplexity_counts(run: Run) -> TaskCounts:
    """(nats, tokens) of every held-out line as a task, clustered by document; groups: the profile's, and the unigram.

    Raises `UserError` where a model is missing or was scored on other tokens.
    """
    where = "pseudo_perplexity.parquet"
    # One thread: several add the tokens of a line in another order, and the last bit with it.
    lines = TokenLogProbs.read(run).group_by(["model", "document", "line"], use_threads=False)
    frame = lines.aggregate([("log_prob", "sum"), ("log_prob", "count")]).to_pandas().sort_values("line", kind="stable")
    groups = {**run.profile.groups, UNIGRAM: [UNIGRAM]}
    models = {group: {model: [0] for model in own} for group, own in groups.items()}
    ours = {model for own in groups.values() for model in own}  # not those that someone scored beside them
    parts = {(str(model), 0): rows for model, rows in frame.groupby("model", observed=True) if model in ours}
    _refuse_missing(where, [(model, 0) for own in models.values() for model in own], parts)
    first = parts["teacher", 0]
    tokens = first["log_prob_count"].to_numpy(np.int64)
    for (model, _), rows in parts.items():
        if not np.array_equal(rows["log_prob_count"].to_numpy(), tokens):
            raise UserError(f"{where}: {model} was scored on other tokens than the first model; {ANEW}")
    counted = {key: np.column_stack([-rows["log_prob_sum"], tokens]) for key, rows in parts.items()}
    return TaskCounts(
        task=PSEUDO_PERPLEXITY,
        train=0,
        test_set=TEST,
        metric_name="nats_per_token",
        metric=ratio,
        models=models,
        counts={group: _units(counted, own) for group, own in models.items()},
        zero_shot={},
        n_tokens=tokens,
        clusters=pd.factorize(first["document"])[0],
    )


def _refuse_missing(where: str, needed: Sequence[tuple[str, int]], there: Mapping[tuple[str, int], Any]) -> None:
    missing = dict.fromkeys(model for model, seed in needed if (model, seed) not in there)
    if missing:
        raise UserError(f"{where}: has no predictions of {', '.join(missing)}, or not with every seed; {ANEW}")
