"""Fine-tuning of every model on one task, with every size and seed: the grid behind the paper's table of scores.

For each model: draw hyper-parameters at random, judge each draw on the validation split, and fine-tune the best once
per size of the training split and seed; only these last runs read the test split, once each, at their end. All models
get the same draws. The search is made once for a student, with its first replicate on the largest size: replicates
share its choice, as they differ by chance alone.

A run that stays at chance (`evaluation.chance`) is started again, by the same rule for every model, control, size and
seed, which asks the validation split alone. A trial of the search is not: to fail is to be passed over.

Controls (`evaluation.contenders`) are fine-tuned like the models, with a search of their own. Baselines without a
network (`evaluation.baselines`) learn from the same examples. Each finished run is kept until the whole grid is done,
so that an interrupted grid goes on where it stopped.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from robbertje_lib.evaluation.baselines import gold_of, tuned_baselines
from robbertje_lib.evaluation.contenders import Contender, contenders_of, digest_of
from robbertje_lib.evaluation.finetuning_trainer import EncodedTask, Outcome, fine_tune, precision
from robbertje_lib.experiment import artefacts, heartbeat
from robbertje_lib.experiment.profile import Finetuning
from robbertje_lib.experiment.results.finetuning import (
    TEST,
    ZERO_SHOT,
    BaselineScore,
    FinetuningRun,
    HyperParameters,
    Predictions,
    TaskScores,
)
from robbertje_lib.experiment.run import Run
from robbertje_lib.experiment.words import duration
from robbertje_lib.tasks import TaskData, TaskSource, load_task
from robbertje_lib.tasks.metrics import further_scores, task_score

SUBSETS = 10  # random stream, apart from those that the tasks draw their splits from


def finetune_task(run: Run, task_name: str, models: Sequence[str] = (), seeds: Sequence[int] = ()) -> TaskScores:
    """Fine-tune models on a task with every size and seed, write predictions and scores, and return the scores.

    `models` are names of the run's models or controls, folders or hub ids, `seeds` the seeds: all of the profile's
    where empty. Writes `predictions/<task>.parquet` and `scores/<task>.json`. Raises `UserError` for a task, model or
    data file that is not right.
    """
    settings = run.profile.finetuning.tasks
    data = load_task(task_name, settings, TaskSource.of(run))
    contenders = contenders_of(run, data, models)
    subsets = nested_subsets(data, settings[task_name].train, run.profile.seed)
    # Lengths in tokens are the first model's where no model answers.
    baselines = list(_score_baselines(data, subsets, contenders[0].task))
    grid = _Grid(run, data, contenders, seeds, subsets)
    print(f"{task_name}: {grid.precision.name}, because {grid.precision.reason}", flush=True)
    finished = [done for contender in contenders for done in grid.fine_tune(contender)]
    scores = TaskScores(
        task=task_name,
        kind=data.kind,
        metric=data.task.metric,
        labels=list(data.labels),
        counts=data.counts,
        sizes=list(subsets),
        further_tests={name: len(rows) for name, rows in data.further_tests.items()},
        baselines=[scored for scored, _ in baselines],
        # A control reads what its model reads.
        truncated={c.name: c.task.counts() for c in contenders if not c.pretrained.random},
        extra_metrics={c.name: c.zero_shot.metrics for c in contenders if c.zero_shot and c.zero_shot.metrics},
        precision=grid.precision.name,
        runs=[scored for scored, _ in finished],
    )
    untuned = [(c.task, ZERO_SHOT + c.name, c.zero_shot.answers) for c in contenders if c.zero_shot]
    rows = [predictions for _, predictions in (*finished, *baselines)]
    rows += [_predictions(task, name, 0, 0, {TEST: answers}) for task, name, answers in untuned]
    Predictions.write(run, pa.concat_tables(rows), task=task_name)
    scores.write(run, task=task_name)
    artefacts.remove(grid.folder)
    return scores


def nested_subsets(data: TaskData, sizes: Sequence[int | None], seed: int) -> dict[int, list[int]]:
    """Size -> rows of the training split, ascending: one random order, of which each size takes the first.

    The first example of each label stands before the others, so that a size holds every label of the split unless it is
    too small, which is printed. A size beyond the split, or None, is all of it.
    """
    labels = [{row["label"]} if "label" in row else set(row["labels"]) for row in data.train.to_list()]
    order = np.random.default_rng([seed, SUBSETS]).permutation(len(labels)).tolist()
    firsts: dict[str, int] = {}
    for row in order:
        if not labels[row] <= firsts.keys():
            firsts |= dict.fromkeys(labels[row] - firsts.keys(), row)
    ordered = list(dict.fromkeys([*firsts.values(), *order]))
    subsets = {size: ordered[:size] for size in sorted({min(size or len(order), len(order)) for size in sizes})}
    for size, rows in subsets.items():
        if missing := sorted(firsts.keys() - set().union(*(labels[row] for row in rows))):
            print(f"{data.task.name}: {size} training examples hold no {', '.join(missing)}", flush=True)
    return {size: sorted(rows) for size, rows in subsets.items()}


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


class _Grid:
    """All runs of one task: which are needed, which are done already, how long the rest will take."""

    def __init__(
        self,
        run: Run,
        data: TaskData,
        contenders: Sequence[Contender],
        seeds: Sequence[int],
        subsets: Mapping[int, list[int]],
    ) -> None:
        self.run, self.task, self.metric = run, data.task.name, data.task.metric
        self.folder = run.paths.checkpoints(f"finetuning-{self.task}")
        first, kept = contenders[0], run.paths.choice(f"finetuning-{self.task}")
        self.precision = precision(first.pretrained, first.task, run.profile.finetuning.batch_size, kept)
        self.draws = draw_hyper_parameters(run.profile.finetuning, run.profile.seed)
        self.seeds = {c.name: list(seeds) or run.profile.finetuning_seeds(c.name) for c in contenders}
        self.restarts = run.profile.finetuning.restarts
        self.in_vain: set[tuple[str, int]] = set()  # group and size of a run that no restart helped
        self.subsets = subsets
        self.tests = {size: list(data.tests(further=size == max(subsets))) for size in subsets}
        several = len(self.draws) > 1
        self.chosen: dict[str, HyperParameters] = {} if several else {c.group: self.draws[0] for c in contenders}
        groups = {contender.group for contender in contenders} - self.chosen.keys()
        self.total = len(groups) * len(self.draws) + sum(map(len, self.seeds.values())) * len(subsets)
        self.done = self.trained = 0
        self.started = time.monotonic()

    def fine_tune(self, contender: Contender) -> list[tuple[FinetuningRun, pa.Table]]:
        """The best draw by validation, fine-tuned with every size and seed and then tested: scores and predictions."""
        hyper = self.chosen.get(contender.group) or self._best_draw(contender)
        self.chosen[contender.group] = hyper
        return [
            _tested(contender, seed, size, hyper, self._outcome(contender, hyper, seed, size, self.tests[size]))
            for size in self.subsets
            for seed in self.seeds[contender.name]
        ]

    def _best_draw(self, contender: Contender) -> HyperParameters:
        seed, size = self.seeds[contender.name][0], max(self.subsets)
        trials = [self._outcome(contender, draw, seed, size, []) for draw in self.draws]
        return max(zip(self.draws, trials, strict=True), key=lambda pair: pair[1].validation)[0]

    def _outcome(
        self, contender: Contender, hyper: HyperParameters, seed: int, size: int, tests: Sequence[str]
    ) -> Outcome:
        rows, place = self.subsets[size], (contender.group, size)
        # A model that cannot learn from so few examples is found once, not once a seed.
        restarts = self.restarts if tests and place not in self.in_vain else 0
        digest = digest_of(contender.digest, hyper.model_dump(), seed, rows, tests, restarts, self.precision.name)
        names = {"task": self.task, "key": f"{contender.name.replace('/', '--')}-{size}-{seed}-{digest[:16]}"}
        kept = Outcome.exists(self.run, **names)
        if kept:
            outcome = Outcome.read(self.run, **names)
        else:
            outcome = fine_tune(
                contender.pretrained, contender.task, hyper, seed, rows, tests, restarts, self.precision
            )
            outcome.write(self.run, **names)
        if outcome.at_chance and restarts:
            self.in_vain.add(place)
        self.done, self.trained = self.done + 1, self.trained + (not kept)
        passed = time.monotonic() - self.started
        left = passed / max(self.trained, 1) * (self.total - self.done)
        heartbeat.tell(self.done / self.total, left)
        what = f"seed {seed}" if tests else f"trial at {hyper.learning_rate:.1e}"
        print(
            f"{self.task} {self.done}/{self.total}  {contender.name} on {size:,}, {what}: "
            f"validation {self.metric} {outcome.validation:.3f}{_told(outcome, kept)}  "
            f"{duration(passed)} so far, about {duration(left)} left",
            flush=True,
        )
        return outcome


def _told(outcome: Outcome, kept: bool) -> str:
    again = f", started again {outcome.restarts} {'time' if outcome.restarts == 1 else 'times'}"
    still = ", at chance" if outcome.at_chance else ""
    return f"{again if outcome.restarts else ''}{still}{' (kept from before)' if kept else ''}"


def _score_baselines(
    data: TaskData, subsets: Mapping[int, list[int]], encoded: EncodedTask
) -> Iterator[tuple[BaselineScore, pa.Table]]:
    """The baselines of every size on the test sets: scores and predictions of each."""
    metric = data.task.metric
    for size, rows in subsets.items():
        examples = {name: test.to_list() for name, test in data.tests(further=size == max(subsets)).items()}
        for tuned in tuned_baselines(data, data.train.select(rows).to_list()):
            answers = {name: tuned.answer(asked) for name, asked in examples.items()}
            scores = {name: task_score(metric, gold_of(asked), answers[name]) for name, asked in examples.items()}
            scored = BaselineScore(
                name=tuned.name,
                train=size,
                validation=tuned.validation,
                score=scores.pop(TEST),
                further=scores,
                settings=tuned.settings,
            )
            told = f"validation {metric} {tuned.validation:.3f}"
            print(f"{data.task.name}  baseline {tuned.name} on {size:,}: {told}", flush=True)
            yield scored, _predictions(encoded, tuned.name, 0, size, answers)


def _tested(
    contender: Contender, seed: int, size: int, hyper: HyperParameters, outcome: Outcome
) -> tuple[FinetuningRun, pa.Table]:
    """The scores of one run on its test sets, and its predictions, a row an example."""
    task, data, metric = contender.task, contender.task.data, contender.task.data.task.metric
    scores = {name: task_score(metric, task.gold[name], answers) for name, answers in outcome.answers.items()}
    further = further_scores(metric, data.labels, task.gold[TEST], outcome.answers[TEST])
    scored = FinetuningRun(
        model=contender.name,
        seed=seed,
        train=size,
        metrics={metric: scores.pop(TEST), **further},
        validation=outcome.validation,
        hyper_parameters=hyper,
        further=scores,
        updates=outcome.updates,
        seconds=outcome.seconds,
        restarts=outcome.restarts,
        at_chance=outcome.at_chance,
    )
    return scored, _predictions(task, contender.name, seed, size, outcome.answers)


def _predictions(
    task: EncodedTask, model: str, seed: int, train: int, answers: Mapping[str, Sequence[Any]]
) -> pa.Table:
    """The rows of one run: test set -> an answer an example."""
    schema = Predictions.schemas[task.data.kind == "token_classification"]
    tables = []
    for name, given in answers.items():
        rows, n = task.data.sets[name], len(given)
        columns = [[model] * n, [seed] * n, [train] * n, [name] * n, list(rows["example_id"]), list(rows["cluster"])]
        tables.append(pa.table([*columns, task.gold[name], given, task.sets[name].n_tokens], schema=schema))
    return pa.concat_tables(tables)
