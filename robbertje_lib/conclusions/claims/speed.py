"""Claims about time: of training on merged text (per pass, token and update, and to a held-out loss), and of use."""

from math import exp, log, sqrt
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from robbertje_lib.conclusions.claims import base
from robbertje_lib.conclusions.claims.base import Decision, Evidence, NotTested, Setting
from robbertje_lib.experiment.results.base import Interval
from robbertje_lib.experiment.results.corpus import ArmResult
from robbertje_lib.experiment.results.efficiency import EfficiencyResult, ModelCosts
from robbertje_lib.experiment.results.training import CurvePoint, DistillationResult, HeldOutPoint
from robbertje_lib.statistics import Verdict
from robbertje_lib.statistics.significance import Difference
from robbertje_lib.statistics.verdicts import every, judge_better

Unit = Literal["epoch", "token", "update"]


def _training(evidence: Evidence, setting: Setting) -> list[DistillationResult]:
    """Of the merged and the non-shuffled student."""
    names = [setting.arm(arm) for arm in ("merged", "non_shuffled")]
    return [evidence.read(DistillationResult, "distillation results", student=name) for name in names]


def faster(evidence: Evidence, setting: Setting, per: Unit) -> Decision:
    """Ratio of training speeds, merged over non-shuffled, from the stretches of each loss curve."""
    merged, ordered = _training(evidence, setting)
    rates = [_log_rates(training.curve, per) for training in (merged, ordered)]
    if min(len(rate) for rate in rates) < 3:
        raise NotTested("fewer than 3 stretches of the loss curve were timed; train longer")
    # Merging saves two special tokens at every seam, so that a pass over the same text has fewer tokens.
    shift = log(_pass_tokens(evidence, ordered) / _pass_tokens(evidence, merged)) if per == "epoch" else 0.0
    test = stats.ttest_ind(*rates, equal_var=False)
    low, high = test.confidence_interval(0.95)
    value = float(np.mean(rates[0]) - np.mean(rates[1])) + shift
    error = float((high - low) / 2 / stats.t.ppf(0.975, test.df))
    p = float(2 * stats.t.sf(abs(value) / error, test.df))
    difference = Difference(value, float(low) + shift, float(high) + shift, p, error, float(test.df))
    findings = judge_better({f"log speed-up per {per}": difference}, log(1.01), evidence.alpha)
    told = f"{merged.student} does {exp(value):.2f} times as many {per}s a second as {ordered.student}"
    interval = exp(difference.low), exp(difference.high)
    reason = f"{told}, one training run of each"
    return base.decision(every(findings), reason, "timed stretches", findings, (exp(value), interval))


def _pass_tokens(evidence: Evidence, training: DistillationResult) -> int:
    """Tokens of one pass over a student's text."""
    missing = "corpus results, so the length of an epoch is unknown"
    return evidence.read(ArmResult, missing, arm=training.arm).selections[training.selection].tokens


def _log_rates(curve: list[CurvePoint], per: Unit) -> NDArray[np.floating]:
    """log(updates, or else tokens, per second) of each stretch between two points of a loss curve."""
    steps = np.diff([point.update if per == "update" else point.tokens for point in curve])
    seconds = np.diff([point.seconds for point in curve])
    timed = (seconds > 0) & (steps > 0)
    return np.log(steps[timed] / seconds[timed])


def sooner_at_a_loss(evidence: Evidence, setting: Setting) -> Decision:
    """Seconds that each arm needs to reach the held-out loss at which the worse of the two ends."""
    merged, ordered = _training(evidence, setting)
    curves = [training.held_out_curve for training in (merged, ordered)]
    goal = max(min(point.loss for point in curve) for curve in curves)
    seconds = [_seconds_to(curve, goal) for curve in curves]
    if min(seconds) <= 0:
        raise NotTested("an arm starts below the other's final loss; nothing to time")
    reason = (
        f"a held-out loss of {goal:.2f} takes {merged.student} {seconds[0]:.0f} s and {ordered.student} "
        f"{seconds[1]:.0f} s; one run each gives no interval, so repeat distillation with at least 5 seeds"
    )
    return Decision("undecided", reason, seconds[1] / seconds[0])


def _seconds_to(curve: list[HeldOutPoint], goal: float) -> float:
    """Time at which the running minimum of the loss first reaches `goal`, linear between points."""
    losses = np.minimum.accumulate([point.loss for point in curve])
    seconds = [point.seconds for point in curve]
    at = int(np.argmax(losses <= goal))
    if at == 0:
        return seconds[0]
    return float(np.interp(-goal, -losses[at - 1 : at + 1], seconds[at - 1 : at + 1]))


def _models(evidence: Evidence) -> dict[str, ModelCosts]:
    return evidence.read(EfficiencyResult, "efficiency results").models


def run_faster(evidence: Evidence, setting: Setting) -> Decision:
    """Latency of the teacher over that of each student; the intervals must not overlap."""
    models = _models(evidence)
    students = [name for name in setting.students.values() if name in models]
    if not students or "teacher" not in models:
        raise NotTested("no timing of these models")
    speed_ups = {name: _speed_up(models["teacher"], models[name]) for name in students}
    lows, highs = zip(*(interval for _, interval in speed_ups.values()), strict=True)
    verdict: Verdict = "supported" if min(lows) > 1 else "contradicted" if min(highs) < 1 else "undecided"
    told = ", ".join(f"{name} {value:.2f}" for name, (value, _) in speed_ups.items())
    reason = f"teacher's latency over the student's: {told}"
    if verdict == "undecided":
        reason += "; intervals overlap, so time more repetitions on an idle machine"
    return Decision(verdict, reason, *min(speed_ups.values(), key=lambda speed_up: speed_up[0]))


def four_times_faster(evidence: Evidence, setting: Setting) -> Decision:
    """The speed-up of the merged student in inference, against 4."""
    models = _models(evidence)
    merged = setting.arm("merged")
    if merged not in models or "teacher" not in models:
        raise NotTested(base.NO_STUDENTS)
    value, (low, high) = _speed_up(models["teacher"], models[merged])
    verdict: Verdict = "supported" if low >= 4 else "contradicted" if high < 4 else "undecided"
    reason = f"{merged} answers {value:.2f} times as fast as the teacher on this machine"
    return Decision(verdict, reason, value, (low, high))


def _speed_up(teacher: ModelCosts, student: ModelCosts) -> tuple[float, Interval]:
    slow, fast = teacher.timing.latency_ms, student.timing.latency_ms
    return slow.median / fast.median, (slow.low / fast.high, slow.high / fast.low)


def finetune_faster(evidence: Evidence, setting: Setting) -> Decision:
    """Fine-tuning seconds of the teacher over the student's, a t interval over tasks of the log ratio."""
    models = _models(evidence)
    names = ["teacher", *setting.students.values()]
    seconds = {name: models[name].finetuning_seconds if name in models else {} for name in names}
    tasks = [task for task in evidence.tasks if all(of.get(task) for of in seconds.values())]
    if len(tasks) < 2:
        raise NotTested("fine-tuning was timed on fewer than 2 tasks")
    differences = {}
    for name in setting.students.values():
        logs = [log(seconds["teacher"][task] / seconds[name][task]) for task in tasks]
        test = stats.ttest_1samp(logs, 0.0)
        low, high = map(float, test.confidence_interval(0.95))
        error = float(np.std(logs, ddof=1) / sqrt(len(logs)))
        differences[name] = Difference(float(np.mean(logs)), low, high, float(test.pvalue), error, len(logs) - 1.0)
    findings = judge_better(differences, log(1.01), evidence.alpha)
    told = ", ".join(f"{f.what} {exp(f.difference.value):.2f}" for f in findings)
    value, (low, high) = base.headline(min(findings, key=lambda f: f.difference.value))
    reason = f"teacher's time over the student's, geometric mean of {len(tasks)} tasks: {told}"
    return base.decision(every(findings), reason, "tasks", findings, (exp(value), (exp(low), exp(high))))
