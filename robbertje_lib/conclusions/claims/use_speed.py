"""Claims about the time that fine-tuning and inference take."""

from math import exp, log, sqrt

import numpy as np
from scipy import stats

from robbertje_lib.conclusions.claims import base
from robbertje_lib.conclusions.claims.base import Claim, Decision, Evidence, NotTested, Setting
from robbertje_lib.experiment.results.base import Interval
from robbertje_lib.experiment.results.efficiency import EfficiencyResult, ModelCosts
from robbertje_lib.statistics import Verdict
from robbertje_lib.statistics.significance import Difference
from robbertje_lib.statistics.verdicts import every, judge_better

IMPLIED = "implied by the aim of distillation"


def _models(evidence: Evidence) -> dict[str, ModelCosts]:
    return evidence.read(EfficiencyResult, "efficiency results").models


def _run_faster(evidence: Evidence, setting: Setting) -> Decision:
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


def _four_times_faster(evidence: Evidence, setting: Setting) -> Decision:
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


def _finetune_faster(evidence: Evidence, setting: Setting) -> Decision:
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


STUDENTS_FINETUNE_FASTER = Claim(
    "students_finetune_faster",
    "Students fine-tune faster than the teacher.",
    "t test over tasks of the log ratio of fine-tuning times, Holm over students.",
    IMPLIED,
    "x",
    _finetune_faster,
    remark="No fine-tuning times are published.",
)
STUDENTS_RUN_FASTER = Claim(
    "students_run_faster",
    "Students answer faster than the teacher.",
    "Ratio of latencies; intervals over repetitions must not overlap.",
    IMPLIED,
    "x",
    _run_faster,
    remark="ScandEval measures 1.36 to 2.05 times for the DistilBERT shape and 2.01 to 3.03 for Bort.",
)
MERGED_FOUR_TIMES_FASTER = Claim(
    "merged_four_times_faster",
    "The merged student is four times as fast as the teacher in inference.",
    "Ratio of latencies with its interval, against 4.",
    "RobBERT-2022 model card",
    "x",
    _four_times_faster,
    remark="ScandEval measures 1.36 to 2.05 times.",
)
