"""Claims about time: of training on merged text (per pass, token and update, and to a held-out loss), and of use.

Training runs are the replicates, one speed a run: stretches of one run share its machine, its text and its luck.
"""

from collections.abc import Mapping, Sequence
from math import exp, log, sqrt
from typing import Literal

import numpy as np
from scipy import stats

from robbertje_lib.conclusions.claims import base
from robbertje_lib.conclusions.claims.base import Decision, Evidence, NotTested, Setting
from robbertje_lib.experiment.results.base import Interval
from robbertje_lib.experiment.results.efficiency import EfficiencyResult, ModelCosts
from robbertje_lib.experiment.results.record import RunRecord
from robbertje_lib.experiment.results.training import DistillationResult, HeldOutPoint
from robbertje_lib.statistics.significance import Difference, welch_difference
from robbertje_lib.statistics.verdicts import Finding, every, judge_better

Unit = Literal["epoch", "token", "update"]
RUNS = "training runs"
ROUNDS = "rounds"  # of timing, in which models take turns
FEWEST_ROUNDS = 3  # that say how much rounds differ


def _training(evidence: Evidence, setting: Setting) -> list[list[DistillationResult]]:
    """Every run of the merged and of the non-shuffled student. Raises `NotTested` where machines differ."""
    models = [evidence.run.profile.groups[setting.arm(arm)] for arm in ("merged", "non_shuffled")]
    stages = [f"30_distillation-{model}" for of_arm in models for model in of_arm]
    records = [RunRecord.read(evidence.run, stage=s) for s in stages if RunRecord.exists(evidence.run, stage=s)]
    # Runs that were taken over keep the times of where they ran.
    if len({(of.hardware.processor, of.hardware.cores, *of.hardware.gpus, of.threads) for of in records}) > 1:
        raise NotTested("the training runs come from unlike machines, so that their times cannot be compared")
    return [
        [evidence.read(DistillationResult, "distillation results", student=model) for model in of_arm]
        for of_arm in models
    ]


def faster(evidence: Evidence, setting: Setting, per: Unit) -> Decision:
    """Ratio of training speeds, merged over non-shuffled; evaluation and checkpoints do not count."""
    logs = [[log(_speed(run, per)) for run in runs] for runs in _training(evidence, setting)]
    merged, ordered = setting.arm("merged"), setting.arm("non_shuffled")
    times = exp(float(np.mean(logs[0]) - np.mean(logs[1])))
    told = f"{merged} does {times:.2f} times as many {per}s a second as {ordered}"
    return _judged(evidence, logs, f"log speed-up per {per}", told)


def _speed(run: DistillationResult, per: Unit) -> float:
    """Updates, tokens or passes over what is trained on, a second of training."""
    if per == "update":
        return run.updates * run.tokens_per_second / run.tokens
    return run.tokens_per_second / (run.epoch_tokens if per == "epoch" else 1)


def _judged(evidence: Evidence, logs: Sequence[Sequence[float]], what: str, told: str) -> Decision:
    """The first of two rows of logarithms, one a run, above the second; with one run there is nothing to judge."""
    smallest = evidence.smallest.speed
    if min(map(len, logs)) < 2:
        ratio = exp(float(np.mean(logs[0]) - np.mean(logs[1])))
        return Decision("undecided", told, ratio, smallest=exp(smallest))
    difference = welch_difference(logs[0], logs[1], 1 - evidence.alpha)
    findings = judge_better({what: difference}, smallest, evidence.alpha)
    return base.decision(every(findings), told, RUNS, findings, _times(findings[0]), exp(smallest))


def sooner_at_a_loss(evidence: Evidence, setting: Setting) -> Decision:
    """Seconds of training until the held-out loss that every run of both arms reaches."""
    runs = _training(evidence, setting)
    goal = max(min(point.loss for point in run.held_out_curve) for of_arm in runs for run in of_arm)
    seconds = [[_seconds_to(run.held_out_curve, goal) for run in of_arm] for of_arm in runs]
    if min(map(min, seconds)) <= 0:
        raise NotTested("a run starts below the loss at which another ends; nothing to time")
    merged, ordered = (float(np.exp(np.mean(np.log(of_arm)))) for of_arm in seconds)
    told = (
        f"a held-out loss of {goal:.2f} takes {setting.arm('merged')} {merged:.0f} s and "
        f"{setting.arm('non_shuffled')} {ordered:.0f} s"
    )
    # The fewer seconds the faster, so non-shuffled over merged.
    logs = [np.log(seconds[1]).tolist(), np.log(seconds[0]).tolist()]
    return _judged(evidence, logs, "log ratio of seconds to the loss", told)


def _seconds_to(curve: list[HeldOutPoint], goal: float) -> float:
    """Training time at which the running minimum of the loss first reaches `goal`, linear between points."""
    losses = np.minimum.accumulate([point.loss for point in curve])
    seconds = [point.training_seconds for point in curve]
    at = int(np.argmax(losses <= goal))
    if at == 0:
        return seconds[0]
    return float(np.interp(-goal, -losses[at - 1 : at + 1], seconds[at - 1 : at + 1]))


def _of_use(evidence: Evidence, students: Sequence[str]) -> tuple[dict[str, ModelCosts], tuple[str, ...], list[str]]:
    """Costs of teacher and students that are of use on some task, which those tasks are, and who is left out.

    What answers fast and wrong is no lighter deployment. Raises `NotTested` where no student is left, or one was not
    timed.
    """
    models = evidence.read(EfficiencyResult, "efficiency results").models
    if untimed := [name for name in ("teacher", *students) if name not in models]:
        raise NotTested(f"no timing of {', '.join(untimed)}")
    useful = {name: evidence.of_use(name) for name in students}
    kept = [name for name in students if useful[name].sizes]
    if not kept:
        raise NotTested("; ".join(base.told_once(note for name in students for note in useful[name].narrowings)))
    of_use: dict[str, list[str]] = {}
    for name in students:
        of_use.setdefault(", ".join(useful[name].sizes), []).append(name)
    notes = [
        f"{', '.join(names)}: {f'of use on {tasks}' if tasks else 'left out, of use on no task'}"
        for tasks, names in of_use.items()
    ]
    left_out = [name for name in students if name not in kept]
    return {name: models[name] for name in ("teacher", *kept)}, tuple(notes), left_out


def run_faster(evidence: Evidence, setting: Setting) -> Decision:
    """Latency of the teacher over that of each student, Welch t tests of the logarithms of the rounds."""
    models, notes, left_out = _of_use(evidence, list(setting.students.values()))
    differences = {name: _log_speed_up(evidence, models, name) for name in models if name != "teacher"}
    reason = "teacher's latency over the student's on this machine, rounds of one session"
    return _of_each(evidence, differences, reason, ROUNDS, notes, left_out)


def _of_each(
    evidence: Evidence,
    differences: Mapping[str, Difference],
    reason: str,
    sample: str,
    notes: tuple[str, ...],
    left_out: Sequence[str],
) -> Decision:
    """Every student's logarithm of a speed-up above 0; what is told and shown is ratios."""
    smallest = evidence.smallest.speed
    findings = judge_better(differences, smallest, evidence.alpha)
    told = ", ".join(f"{f.what} {exp(f.difference.value):.2f}" for f in findings)
    headline, ruling = _times(min(findings, key=lambda f: f.difference.value)), every(findings)
    reason = f"{reason}: {told}"
    return base.decision(ruling, reason, sample, findings, headline, exp(smallest), notes, left_out=left_out)


def four_times_faster(evidence: Evidence, setting: Setting) -> Decision:
    """The same of the merged student alone, against 4."""
    merged = setting.arm("merged")
    models, notes, _ = _of_use(evidence, [merged])
    smallest = evidence.smallest.speed
    difference = _log_speed_up(evidence, models, merged, times=4)
    findings = judge_better({f"{merged}, log speed-up beyond 4": difference}, smallest, evidence.alpha)
    value, (low, high) = _times(findings[0])
    headline = 4 * value, (4 * low, 4 * high)
    reason = f"{merged} answers {4 * value:.2f} times as fast as the teacher on this machine, rounds of one session"
    return base.decision(every(findings), reason, ROUNDS, findings, headline, exp(smallest), notes)


def _log_speed_up(evidence: Evidence, models: Mapping[str, ModelCosts], student: str, times: float = 1.0) -> Difference:
    """Logarithm of the teacher's latency over `times` the student's. Raises `NotTested` with fewer than 3 rounds."""
    teacher, own = (models[name].timing.latency_ms_by_round for name in ("teacher", student))
    if min(len(teacher), len(own)) < FEWEST_ROUNDS:
        raise NotTested(f"timed in fewer than {FEWEST_ROUNDS} rounds; raise efficiency.repeats")
    logs = np.log(teacher) - log(times), np.log(own)
    return welch_difference(logs[0].tolist(), logs[1].tolist(), 1 - evidence.alpha)


def _times(finding: Finding) -> tuple[float, Interval]:
    """A difference of logarithms as a ratio, with its interval."""
    value, (low, high) = base.headline(finding)
    return exp(value), (exp(low), exp(high))


def finetune_faster(evidence: Evidence, setting: Setting) -> Decision:
    """Fine-tuning seconds of the teacher over the student's, a t interval over tasks of the log ratio."""
    models, notes, left_out = _of_use(evidence, list(setting.students.values()))
    seconds = {name: own.finetuning_seconds for name, own in models.items()}
    tasks = [task for task in evidence.tasks if all(of.get(task) for of in seconds.values())]
    if len(tasks) < 2:
        raise NotTested("fine-tuning was timed on fewer than 2 tasks")
    differences = {}
    for name in models:
        if name != "teacher":
            logs = [log(seconds["teacher"][task] / seconds[name][task]) for task in tasks]
            test = stats.ttest_1samp(logs, 0.0)
            low, high = map(float, test.confidence_interval(1 - evidence.alpha))
            error = float(np.std(logs, ddof=1) / sqrt(len(logs)))
            differences[name] = Difference(float(np.mean(logs)), low, high, float(test.pvalue), error, len(logs) - 1.0)
    reason = f"teacher's time over the student's, geometric mean of {len(tasks)} tasks"
    return _of_each(evidence, differences, reason, "tasks", notes, left_out)
