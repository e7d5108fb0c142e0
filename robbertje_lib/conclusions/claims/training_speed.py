"""Claims about the time that training takes on merged text, per pass, token and update, and to a held-out loss."""

from functools import partial
from math import exp, log
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from robbertje_lib.conclusions.claims import base
from robbertje_lib.conclusions.claims.base import Claim, Decision, Evidence, NotTested, Setting
from robbertje_lib.experiment.results.corpus import ArmResult
from robbertje_lib.experiment.results.training import CurvePoint, DistillationResult, HeldOutPoint
from robbertje_lib.statistics.significance import Difference
from robbertje_lib.statistics.verdicts import every, judge_better

Unit = Literal["epoch", "token", "update"]


def _training(evidence: Evidence, setting: Setting) -> list[DistillationResult]:
    """Of the merged and the non-shuffled student."""
    names = [setting.arm(arm) for arm in ("merged", "non_shuffled")]
    return [evidence.read(DistillationResult, "distillation results", student=name) for name in names]


def _faster(evidence: Evidence, setting: Setting, per: Unit) -> Decision:
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


def _sooner_at_a_loss(evidence: Evidence, setting: Setting) -> Decision:
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


MERGED_FASTER_PER_EPOCH = Claim(
    "merged_faster_per_epoch",
    "Merging sentences makes a pass over the text faster.",
    "Welch t test of log speed over stretches of training, merged against non-shuffled, per epoch.",
    base.ABSTRACT,
    "x",
    partial(_faster, per="epoch"),
    remark="No training times are published.",
)
MERGED_FASTER_PER_TOKEN = Claim(
    "merged_faster_per_token",
    "Merging sentences makes training on the same number of tokens faster.",
    "The same, per token.",
    base.ABSTRACT,
    "x",
    partial(_faster, per="token"),
    remark="No training times are published.",
)
MERGED_FASTER_PER_UPDATE = Claim(
    "merged_faster_per_update",
    "Merging sentences makes an update faster.",
    "The same, per update. Where batches count sequences, merged updates hold more tokens and should be slower.",
    base.ABSTRACT,
    "x",
    partial(_faster, per="update"),
    remark="No training times are published. The paper's batches count sequences, and merging makes fewer of them: "
    "fewer updates an epoch may be all that its claim of faster training says.",
)
MERGED_FASTER_TO_LOSS = Claim(
    "merged_faster_to_loss",
    "Merging sentences reaches the same held-out loss sooner.",
    "Seconds to the held-out loss at which the worse of merged and non-shuffled ends.",
    "our reading of the abstract",
    "x",
    _sooner_at_a_loss,
    remark="No loss curves are published.",
)
