"""What each model made of each test example, or of each held-out line, as counts: from stored predictions alone."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robbertje_lib.experiment.artefacts import ANEW
from robbertje_lib.experiment.errors import UserError
from robbertje_lib.experiment.results.finetuning import Predictions, TaskScores
from robbertje_lib.experiment.results.pseudo_perplexity import TokenLogProbs
from robbertje_lib.experiment.run import Run
from robbertje_lib.statistics.resampling import Metric, ratio
from robbertje_lib.tasks.metrics import METRICS, example_counts

PSEUDO_PERPLEXITY = "pseudo_perplexity"  # stands where a task does


@dataclass(frozen=True)
class TaskCounts:
    """What each model made of each test example of one task."""

    task: str
    metric_name: str
    metric: Metric
    counts: dict[str, NDArray[np.float64]]  # model -> (seeds, examples, k)
    n_tokens: NDArray[np.int64]  # (examples,)
    stored: NDArray[np.intp]  # (examples,) places of the examples, in the order of the file

    @property
    def examples(self) -> int:
        return len(self.n_tokens)

    @property
    def one_answer_each(self) -> bool:
        """Whether an example is right or wrong as a whole, as McNemar's test needs."""
        return self.metric_name == "accuracy" and all((c[..., 1] == 1).all() for c in self.counts.values())

    def subset(self, chosen: NDArray[np.bool_] | NDArray[np.intp]) -> "TaskCounts":
        """The same task on some of its examples; chosen: (examples,) bool, or their places in another order."""
        kept = {model: counts[:, chosen] for model, counts in self.counts.items()}
        n_tokens = self.n_tokens[chosen]
        return TaskCounts(self.task, self.metric_name, self.metric, kept, n_tokens, np.arange(len(n_tokens)))


def load_counts(run: Run, task: str) -> TaskCounts:
    """Per-example counts of one task from `predictions/<task>.parquet`, models in the profile's order.

    Accuracy counts (correct, examples), or (correct, words) where labels are lists; F1 counts entities as
    (true positive, false positive, false negative) per sentence. Raises `UserError` where a model, a seed or an
    example is missing, or a prediction is not as long as its gold labels.
    """
    where = f"predictions/{task}.parquet"
    metric_name = TaskScores.read(run, task=task).metric
    frame = Predictions.read(run, task=task).to_pandas()
    _refuse_missing(where, run.profile.models, set(frame["model"]))
    counts: dict[str, NDArray[np.float64]] = {}
    first = None
    for model in run.profile.models:
        seeds = []
        for seed, rows in frame[frame["model"] == model].groupby("seed", sort=True):
            rows = rows.sort_values("example_id")
            first = rows if first is None else first
            if not np.array_equal(rows["example_id"].to_numpy(), first["example_id"].to_numpy()):
                raise UserError(
                    f"{where}: {model}, seed {seed} was tested on other examples than the first model; {ANEW}"
                )
            try:
                seeds.append(example_counts(metric_name, *(_labels(rows[side]) for side in ("gold", "prediction"))))
            except ValueError as error:
                raise UserError(f"{where}: {model}, seed {seed}: {error}; {ANEW}") from None
        counts[model] = np.stack(seeds).astype(np.float64)
    assert first is not None
    n_tokens, stored = first["n_tokens"].to_numpy(np.int64), np.argsort(first.index.to_numpy())
    return TaskCounts(task, metric_name, METRICS[metric_name], counts, n_tokens, stored)


def _labels(column: Any) -> list[Any]:
    """A label an example as it is; a sentence's labels, which pandas reads as an array, as a list."""
    return [list(value) if isinstance(value, np.ndarray) else value for value in column]


def load_line_counts(run: Run) -> dict[str, NDArray[np.float64]]:
    """Model -> (nats, tokens) per held-out line, (lines, 2): every model of `pseudo_perplexity.parquet`."""
    # One thread: several add the tokens of a line in another order, and the last bit with it.
    lines = TokenLogProbs.read(run).group_by(["model", "line"], use_threads=False)
    frame = lines.aggregate([("log_prob", "sum"), ("log_prob", "count")]).to_pandas().sort_values("line")
    return {
        str(model): np.column_stack([-rows["log_prob_sum"], rows["log_prob_count"]])
        for model, rows in frame.groupby("model", observed=True)
    }


def pseudo_perplexity_counts(run: Run, lines: dict[str, NDArray[np.float64]]) -> TaskCounts:
    """The profile's models of `load_line_counts` as a task; a model has no seeds here, as it was distilled once.

    Raises `UserError` where a model is missing or was scored on other tokens.
    """
    where = "pseudo_perplexity.parquet"
    _refuse_missing(where, run.profile.models, set(lines))
    counts = {model: lines[model][np.newaxis] for model in run.profile.models}
    tokens = lines[run.profile.models[0]][:, 1]
    for model in run.profile.models:
        if not np.array_equal(lines[model][:, 1], tokens):
            raise UserError(f"{where}: {model} was scored on other tokens than the first model; {ANEW}")
    order = np.arange(len(tokens))
    return TaskCounts(PSEUDO_PERPLEXITY, "nats_per_token", ratio, counts, tokens.astype(np.int64), order)


def _refuse_missing(where: str, models: list[str], there: set[str]) -> None:
    missing = [model for model in models if model not in there]
    if missing:
        raise UserError(f"{where} has no predictions of {', '.join(missing)}; {ANEW}")
