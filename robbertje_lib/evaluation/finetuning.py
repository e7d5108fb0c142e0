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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from robbertje_lib.evaluation.finetuning_trainer import EncodedTask, Outcome, PretrainedModel, fine_tune, precision
from robbertje_lib.experiment import artefacts
from robbertje_lib.experiment.errors import UserError, did_you_mean
from robbertje_lib.experiment.profile import Finetuning
from robbertje_lib.experiment.results.finetuning import FinetuningRun, HyperParameters, Predictions, TaskScores
from robbertje_lib.experiment.run import Run
from robbertje_lib.experiment.words import duration
from robbertje_lib.models.evaluated import evaluated_models
from robbertje_lib.models.masked_lm import load_masked_lm
from robbertje_lib.tasks import TaskData, TaskSource, load_task
from robbertje_lib.tasks.encoding import Encoder
from robbertje_lib.tasks.metrics import further_scores, lexicon_baseline, majority_baseline, task_score


@dataclass(frozen=True)
class Contender:
    """One model of the grid, with the task as it reads it; `digest` stands for its weights and the examples."""

    name: str
    pretrained: PretrainedModel
    digest: str
    task: EncodedTask
    extra_metrics: dict[str, float]


def finetune_task(run: Run, task_name: str, models: Sequence[str] = (), seeds: Sequence[int] = ()) -> TaskScores:
    """Fine-tune models on a task with every seed, write predictions and scores, and return the scores.

    `models` are names of the run's models, folders or hub ids, `seeds` the seeds: all of the profile's where
    empty. Writes `predictions/<task>.parquet` and `scores/<task>.json`. Raises `UserError` for a task, model or data
    file that is not right.
    """
    data = load_task(task_name, run.profile.finetuning.tasks, TaskSource.of(run))
    contenders = contenders_of(run, data, models)
    grid = _Grid(run, data, contenders, list(seeds) or run.profile.finetuning.seeds)
    finished = [done for contender in contenders for done in grid.fine_tune(contender)]
    gold, metric = contenders[0].task.gold, data.task.metric
    of_words = data.kind == "token_classification"
    scores = TaskScores(
        task=task_name,
        kind=data.kind,
        metric=metric,
        labels=list(data.labels),
        counts=data.counts,
        majority_baseline=majority_baseline(metric, gold["train"], gold["test"]),
        lexicon_baseline=lexicon_baseline(metric, data.train.to_list(), data.test.to_list()) if of_words else None,
        truncated={contender.name: contender.task.counts() for contender in contenders},
        extra_metrics={c.name: c.extra_metrics for c in contenders if c.extra_metrics},
        precision=precision(),
        runs=[scored for scored, _ in finished],
    )
    Predictions.write(run, pa.concat_tables(predictions for _, predictions in finished), task=task_name)
    scores.write(run, task=task_name)
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


def contenders_of(run: Run, data: TaskData, wanted: Sequence[str] = ()) -> list[Contender]:
    """The models `wanted`, all of the run's where none is, with the task as each reads it. Raises `UserError`."""
    own = evaluated_models(run)
    examples = _digest(data.kind, data.labels, *(data.splits[split].to_list() for split in data.splits))
    settings = run.profile.finetuning.tasks[data.task.name]
    encoded: dict[str, EncodedTask] = {}
    contenders = []
    for name in wanted or own:
        if name not in own and "/" not in name and not Path(name).is_dir():
            raise UserError(f"no model '{name}' in this run: {did_you_mean(name, own)}, or give a folder or hub id")
        source = own.get(name, name)
        loaded = load_masked_lm(source, name=name)
        encoder = Encoder(
            loaded.tokenizer,
            loaded.maximum_length,
            keep=data.task.option(settings, "keep", data.task.keep),
            label_pieces=data.task.option(settings, "label_pieces", "first"),
        )
        # Students share their teacher's tokenizer: each task is encoded once.
        tokenizer = _digest(loaded.tokenizer.backend_tokenizer.to_str())
        key = _digest(encoder.keep, encoder.label_pieces, loaded.maximum_length, tokenizer)
        if key not in encoded:
            encoded[key] = EncodedTask.of(data, encoder)
        extra = data.task.extra_metrics(loaded, data.test.to_list()) if data.task.extra_metrics else {}
        weights = artefacts.sha256(Path(source)) if Path(source).is_dir() else source
        pretrained = PretrainedModel(source, loaded.tokenizer)
        contenders.append(Contender(name, pretrained, _digest(weights, examples, key), encoded[key], extra))
    return contenders


class _Grid:
    """All runs of one task: which are needed, which are done already, how long the rest will take."""

    def __init__(self, run: Run, data: TaskData, contenders: Sequence[Contender], seeds: Sequence[int]) -> None:
        self.run, self.task, self.metric = run, data.task.name, data.task.metric
        self.folder = run.paths.checkpoints(f"finetuning-{self.task}")
        self.draws = draw_hyper_parameters(run.profile.finetuning, run.profile.seed)
        self.seeds = seeds
        searched = len(self.draws) if len(self.draws) > 1 else 0
        self.total = len(contenders) * (searched + len(seeds))
        self.done = self.trained = 0
        self.started = time.monotonic()

    def fine_tune(self, contender: Contender) -> list[tuple[FinetuningRun, pa.Table]]:
        """The best draw by validation, fine-tuned with every seed and then tested: scores and predictions of each."""
        hyper = self.draws[0]
        if len(self.draws) > 1:
            trials = [self._outcome(contender, draw, self.seeds[0], test=False) for draw in self.draws]
            hyper = max(zip(self.draws, trials, strict=True), key=lambda pair: pair[1].validation)[0]
        return [_tested(contender, s, hyper, self._outcome(contender, hyper, s, test=True)) for s in self.seeds]

    def _outcome(self, contender: Contender, hyper: HyperParameters, seed: int, test: bool) -> Outcome:
        digest = _digest(contender.digest, hyper.model_dump(), seed, test)
        names = {"task": self.task, "key": f"{contender.name.replace('/', '--')}-{seed}-{digest[:16]}"}
        kept = Outcome.exists(self.run, **names)
        if kept:
            outcome = Outcome.read(self.run, **names)
        else:
            outcome = fine_tune(contender.pretrained, contender.task, hyper, seed, test)
            outcome.write(self.run, **names)
        self.done, self.trained = self.done + 1, self.trained + (not kept)
        passed = time.monotonic() - self.started
        left = passed / max(self.trained, 1) * (self.total - self.done)
        what = f"{contender.name} seed {seed}" if test else f"{contender.name} trial at {hyper.learning_rate:.1e}"
        print(
            f"{self.task} {self.done}/{self.total}  {what}: validation {self.metric} {outcome.validation:.3f}"
            f"{' (kept from before)' if kept else ''}  {duration(passed)} so far, about {duration(left)} left",
            flush=True,
        )
        return outcome


def _digest(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _tested(
    contender: Contender, seed: int, hyper: HyperParameters, outcome: Outcome
) -> tuple[FinetuningRun, pa.Table]:
    """The scores of one run on the test split, and its predictions, a row an example."""
    task, data = contender.task, contender.task.data
    gold, answers, metric = task.gold["test"], outcome.test, data.task.metric
    assert answers is not None
    scored = FinetuningRun(
        model=contender.name,
        seed=seed,
        metrics={metric: task_score(metric, gold, answers), **further_scores(metric, data.labels, gold, answers)},
        validation=outcome.validation,
        hyper_parameters=hyper,
        updates=outcome.updates,
        seconds=outcome.seconds,
    )
    n = len(data.test)
    columns = [[contender.name] * n, [seed] * n, list(data.test["example_id"]), gold, answers]
    schema = Predictions.schemas[data.kind == "token_classification"]
    return scored, pa.table([*columns, task.splits["test"].n_tokens], schema=schema)
