"""Fine-tuning of every model on one task, with every seed: the grid behind the paper's table of scores.

For each model: draw hyper-parameters at random, judge each draw on the validation split, and fine-tune the
best once per seed; only these last runs read the test split, once each, at their end. All models get the same
draws and the same seeds. Each finished run is kept until the whole grid is done, so that an interrupted grid
goes on where it stopped.
"""

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from robbertje_lib.evaluation.finetuning_trainer import (
    EncodedTask,
    HyperParameters,
    Outcome,
    PretrainedModel,
    fine_tune,
    precision,
)
from robbertje_lib.experiment import artefacts
from robbertje_lib.experiment.errors import UserError, did_you_mean
from robbertje_lib.experiment.profile import Finetuning, HubTeacher
from robbertje_lib.experiment.run import Run
from robbertje_lib.models.evaluated import evaluated_models, load_evaluated
from robbertje_lib.models.masked_lm import MaskedLM, load_masked_lm
from robbertje_lib.statistics.resampling import bootstrapped_scores
from robbertje_lib.tasks import TaskData, load_task
from robbertje_lib.tasks.encoding import Encoder
from robbertje_lib.tasks.metrics import (
    METRICS,
    example_counts,
    further_scores,
    lexicon_baseline,
    majority_baseline,
    score,
)

LENGTH_BINS = 4
RESAMPLES = 1000
INTERVAL = (2.5, 97.5)  # percentiles


@dataclass(frozen=True)
class Candidate:
    """One model of the grid, with the task as it reads it; `digest` stands for its weights and the examples."""

    name: str
    pretrained: PretrainedModel
    digest: str
    task: EncodedTask
    extra_metrics: dict[str, float | int]


@dataclass(frozen=True)
class FinishedRun:
    """One model fine-tuned with one seed."""

    model: Candidate
    seed: int
    hyper: HyperParameters
    outcome: Outcome


def finetune_task(run: Run, task_name: str, models: Sequence[str] = (), seeds: Sequence[int] = ()) -> dict[str, Any]:
    """Fine-tune models on a task with every seed, write predictions and scores, and return the scores.

    `models` are names of the run's models, folders or hub ids, `seeds` the seeds: all of the profile's where
    empty. Writes `predictions/<task>.parquet` (`n_tokens` is the length before anything was cut) and
    `scores/<task>.json`. Raises `UserError` for a task, model or data file that is not right.
    """
    data = load_task(run, task_name)
    candidates = _candidates(run, data, models)
    grid = _Grid(run, data, candidates, list(seeds) or run.profile.finetuning.seeds)
    finished = [done for candidate in candidates for done in grid.fine_tune(candidate)]
    predictions = _prediction_table(data, finished)
    artefacts.write_parquet(run.paths.result("predictions", f"{task_name}.parquet"), predictions)
    scores = {
        "task": task_name,
        "kind": data.kind,
        "metric": data.task.metric,
        "labels": list(data.labels),
        "examples": data.counts["examples"],
        "counts": data.counts,
        **_baselines(data, candidates[0].task),
        "truncated": {candidate.name: candidate.task.counts() for candidate in candidates},
        "extra_metrics": {c.name: c.extra_metrics for c in candidates if c.extra_metrics},
        "precision": precision(),
        "by_length": _by_length(predictions, data.task.metric, run.profile.seed),
        "runs": [_scored(done) for done in finished],
    }
    artefacts.write_json(run.paths.result("scores", f"{task_name}.json"), scores)
    artefacts.remove(grid.folder)
    return scores


def draw_hyper_parameters(settings: Finetuning, seed: int) -> list[HyperParameters]:
    """`settings.trials` random draws: learning rate log-uniform, weight decay uniform, accumulation from its list.

    The search space of the paper's sentiment models: learning rate, weight decay and accumulation.
    """
    rng = np.random.default_rng([seed, settings.trials])
    low, high = np.log(settings.learning_rate)
    return [
        HyperParameters(
            learning_rate=float(np.exp(rng.uniform(low, high))),
            weight_decay=float(rng.uniform(*settings.weight_decay)),
            accumulation=int(rng.choice(settings.accumulation)),
            epochs=settings.epochs,
            batch_size=settings.batch_size,
            evaluations=settings.evaluations,
            early_stopping=settings.early_stopping,
        )
        for _ in range(settings.trials)
    ]


def scores_by_length(run: Run, task_name: str) -> dict[str, Any]:
    """Scores of each model on short to long test examples, from the stored predictions.

    Bins hold about equally many examples by `n_tokens`. Returns `bins` (`low` and `high` tokens, both
    included, `n`) and `models`: per name and bin the score averaged over seeds with its 95 % bootstrap
    interval over examples. Raises `UserError` when the task has not been scored.
    """
    metric = artefacts.read_json(run.paths.result("scores", f"{task_name}.json"))["metric"]
    predictions = artefacts.read_parquet(run.paths.result("predictions", f"{task_name}.parquet"))
    return _by_length(predictions, metric, run.profile.seed)


class _Grid:
    """All runs of one task: which are needed, which are done already, how long the rest will take."""

    def __init__(self, run: Run, data: TaskData, candidates: Sequence[Candidate], seeds: Sequence[int]) -> None:
        self.folder = run.paths.checkpoints(f"finetuning-{data.task.name}")
        self.draws = draw_hyper_parameters(run.profile.finetuning, run.profile.seed)
        self.seeds = seeds
        searched = len(self.draws) if len(self.draws) > 1 else 0
        self.progress = _Progress(data.task.name, data.task.metric, len(candidates) * (searched + len(seeds)))

    def fine_tune(self, candidate: Candidate) -> list[FinishedRun]:
        """The best draw by validation, fine-tuned with every seed and then tested."""
        hyper = self.draws[0]
        if len(self.draws) > 1:
            trials = [self._run(candidate, draw, self.seeds[0], test=False) for draw in self.draws]
            hyper = max(zip(self.draws, trials, strict=True), key=lambda pair: pair[1].validation_score)[0]
        outcomes = [self._run(candidate, hyper, seed, test=True) for seed in self.seeds]
        return [FinishedRun(candidate, seed, hyper, done) for seed, done in zip(self.seeds, outcomes, strict=True)]

    def _run(self, candidate: Candidate, hyper: HyperParameters, seed: int, test: bool) -> Outcome:
        key = _digest(candidate.digest, asdict(hyper), seed, test)
        path = self.folder / f"{candidate.name.replace('/', '--')}-{seed}-{key[:16]}.json"
        reused = path.is_file()
        if reused:
            stored = artefacts.read_json(path)
            outcome = Outcome(**{name: stored[name] for name in Outcome.__dataclass_fields__})
        else:
            outcome = fine_tune(candidate.pretrained, candidate.task, hyper, seed, test)
            artefacts.write_json(path, asdict(outcome))
        what = f"{candidate.name} seed {seed}" if test else f"{candidate.name} trial at {hyper.learning_rate:.1e}"
        self.progress.step(what, outcome, reused)
        return outcome


class _Progress:
    """One line per finished run: how many, how long so far, how long still."""

    def __init__(self, task: str, metric: str, total: int) -> None:
        self.task, self.metric, self.total = task, metric, total
        self.done = self.trained = 0
        self.started = time.monotonic()

    def step(self, what: str, outcome: Outcome, reused: bool) -> None:
        self.done += 1
        self.trained += not reused
        passed = time.monotonic() - self.started
        left = passed / max(self.trained, 1) * (self.total - self.done)
        print(
            f"{self.task} {self.done}/{self.total}  {what}: validation {self.metric} {outcome.validation_score:.3f}"
            f"{' (kept from before)' if reused else ''}  {_clock(passed)} so far, about {_clock(left)} left",
            flush=True,
        )


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"


def _candidates(run: Run, data: TaskData, wanted: Sequence[str]) -> list[Candidate]:
    own = evaluated_models(run)
    examples = _digest(data.kind, data.labels, *(data.splits[split].to_list() for split in data.splits))
    settings = run.profile.finetuning.tasks[data.task.name]
    encoded: dict[str, EncodedTask] = {}
    candidates = []
    for name in wanted or own:
        if name not in own and "/" not in name and not Path(name).is_dir():
            raise UserError(f"no model '{name}' in this run: {did_you_mean(name, own)}, or give a folder or hub id")
        loaded = load_evaluated(run, name) if name in own else load_masked_lm(name, name=name)
        pretrained = _pretrained(run, name, loaded)
        encoder = Encoder(
            loaded.tokenizer,
            loaded.maximum_length,
            keep=data.task.option(settings, "keep") if "keep" in data.task.options else data.task.keep,
            label_pieces=data.task.option(settings, "label_pieces") if "label_pieces" in data.task.options else "first",
        )
        # Students share their teacher's tokenizer: each task is encoded once.
        key = _digest(encoder.keep, encoder.label_pieces, loaded.maximum_length, _tokenizer_digest(loaded))
        if key not in encoded:
            encoded[key] = EncodedTask.of(data, encoder)
        extra = data.task.extra_metrics(loaded, data.test.to_list()) if data.task.extra_metrics else {}
        digest = _digest(_weights_digest(pretrained), examples, key)
        candidates.append(Candidate(name, pretrained, digest, encoded[key], extra))
    return candidates


def _pretrained(run: Run, name: str, loaded: MaskedLM) -> PretrainedModel:
    source, teacher = evaluated_models(run).get(name, name), run.profile.teacher
    revision = teacher.revision if isinstance(teacher, HubTeacher) and name == "teacher" else None
    return PretrainedModel(source, revision, loaded.tokenizer, loaded.maximum_length)


def _tokenizer_digest(loaded: MaskedLM) -> str:
    return _digest(loaded.tokenizer.backend_tokenizer.to_str())


def _weights_digest(pretrained: PretrainedModel) -> str:
    folder = Path(pretrained.source)
    return artefacts.sha256(folder) if folder.is_dir() else f"{pretrained.source}@{pretrained.revision}"


def _digest(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _baselines(data: TaskData, task: EncodedTask) -> dict[str, float]:
    baselines = {"majority_baseline": majority_baseline(data.task.metric, task.gold["train"], task.gold["test"])}
    if data.kind == "token_classification":
        lexicon = lexicon_baseline(data.task.metric, data.train.to_list(), data.test.to_list())
        baselines["lexicon_baseline"] = lexicon
    return baselines


def _scored(done: FinishedRun) -> dict[str, Any]:
    data, gold = done.model.task.data, done.model.task.gold["test"]
    assert done.outcome.test is not None
    metrics: dict[str, float] = {data.task.metric: score(data.task.metric, gold, done.outcome.test)}
    metrics |= further_scores(data.task.metric, data.labels, gold, done.outcome.test)
    return {
        "model": done.model.name,
        "seed": done.seed,
        "metrics": metrics,
        "validation": {data.task.metric: done.outcome.validation_score},
        "hyper_parameters": asdict(done.hyper),
        "updates": done.outcome.updates,
        "seconds": done.outcome.seconds,
    }


def _prediction_table(data: TaskData, finished: Sequence[FinishedRun]) -> pa.Table:
    """One row per model, seed and test example."""
    label = pa.list_(pa.string()) if data.kind == "token_classification" else pa.string()
    fields = [("model", pa.string()), ("seed", pa.int64()), ("example_id", pa.string()), ("gold", label)]
    schema = pa.schema([*fields, ("prediction", label), ("n_tokens", pa.int32())])
    batches = []
    for done in finished:
        task, n = done.model.task, len(data.test)
        columns = [[done.model.name] * n, [done.seed] * n, list(data.test["example_id"])]
        columns += [task.gold["test"], done.outcome.test, task.splits["test"].n_tokens]
        batches.append(pa.table(columns, schema=schema))
    return pa.concat_tables(batches)


def _by_length(predictions: pa.Table, metric: str, seed: int) -> dict[str, Any]:
    frame = predictions.to_pandas()
    models = list(dict.fromkeys(frame["model"]))
    first = frame[(frame["model"] == models[0]) & (frame["seed"] == frame["seed"].iloc[0])]
    lengths = first["n_tokens"].to_numpy()
    bins = _length_bins(lengths)
    scored: dict[str, list[dict[str, Any]]] = {}
    for model in models:
        rows = [part for _, part in frame[frame["model"] == model].groupby("seed", sort=True)]
        counts = np.stack([example_counts(metric, part["gold"].tolist(), part["prediction"].tolist()) for part in rows])
        scored[model] = [_interval(counts[:, chosen], metric, seed) for chosen in bins]
    edges = [{"low": int(lengths[b].min()), "high": int(lengths[b].max()), "n": int(b.sum())} for b in bins]
    return {"bins": edges, "models": scored}


def _length_bins(lengths: np.ndarray) -> list[np.ndarray]:
    """Masks of (n_examples,): at most four bins at the quartiles of the lengths; equal lengths share a bin."""
    edges = np.unique(np.quantile(lengths, np.linspace(0, 1, LENGTH_BINS + 1)[1:-1], method="lower"))
    place = np.searchsorted(edges, lengths, side="left")
    return [place == bin_ for bin_ in np.unique(place)]


def _interval(counts: np.ndarray, metric: str, seed: int) -> dict[str, Any]:
    """Score averaged over seeds and its bootstrap interval; counts: (seeds, examples, k)."""
    drawn = bootstrapped_scores(counts, METRICS[metric], RESAMPLES, np.random.default_rng(seed)).mean(axis=1)
    low, high = np.percentile(drawn, INTERVAL)
    value = METRICS[metric](counts.sum(axis=1, dtype=np.float64)).mean()
    return {"score": float(value), "interval": [float(low), float(high)]}
