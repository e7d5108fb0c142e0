"""Claims about the order of the text and the merging of its sentences, judged by scores."""

import numpy as np

from robbertje_lib.conclusions.claims import base
from robbertje_lib.conclusions.claims.base import Claim, Decision, Evidence, Setting
from robbertje_lib.conclusions.comparisons import Replicates
from robbertje_lib.conclusions.counts import load_counts
from robbertje_lib.statistics.verdicts import every, judge_alike, judge_better


def _alike(evidence: Evidence, setting: Setting) -> Decision:
    """Equivalence within the profile's margin, task by task."""
    differences = evidence.differences(setting.arm("shuffled"), setting.arm("non_shuffled"), evidence.tasks)
    findings = judge_alike(differences, evidence.margin, evidence.alpha)
    points = f"{100 * evidence.margin:g} point{'s' * (evidence.margin != 0.01)}"
    return base.decide_by_majority(findings, f"alike within {points}", base.SAMPLE)


def _alike_on_paper() -> Decision:
    findings = judge_alike(base.differences_on_paper("shuffled", "non_shuffled"), 0.01, 0.05)
    return base.decide_by_majority(findings, "alike within 1 point", "test examples")


def _better_on_long(evidence: Evidence, setting: Setting) -> Decision:
    """Merged minus non-shuffled on the longest third of the task with the longest inputs, and against the shortest."""
    merged, ordered = setting.arm("merged"), setting.arm("non_shuffled")
    data = max((load_counts(evidence.run, task) for task in evidence.tasks), key=lambda d: float(np.median(d.n_tokens)))
    rng = np.random.default_rng([evidence.run.profile.seed, 90])
    short, long = np.quantile(data.n_tokens, [1 / 3, 2 / 3])
    findings = []
    for third, chosen in (("longest", data.n_tokens >= long), ("shortest", data.n_tokens <= short)):
        replicates = Replicates.draw(data.subset(chosen), evidence.run.profile.significance.bootstrap, rng)
        difference = replicates.difference(merged, ordered, rng, 1 - evidence.alpha)
        findings += judge_better({f"{data.task}, {third} third": difference}, evidence.margin, evidence.alpha)
    on_long, on_short = (f"{100 * finding.difference.value:+.1f}" for finding in findings)
    reason = f"{data.task} inputs of {long:.0f} tokens or more: {on_long} points; of {short:.0f} or fewer: {on_short}"
    return base.decision(every(findings[:1]), reason, f"long {base.SAMPLE}", findings, base.headline(findings[0]))


def _better_on_long_on_paper() -> Decision:
    findings = judge_better({"dbrd": base.differences_on_paper("merged", "non_shuffled")["dbrd"]}, 0.01, 0.05)
    against = base.differences_on_paper("merged", "shuffled")["dbrd"]
    reason = f"DBRD against non-shuffled; against shuffled {100 * against.value:+.1f} points, p = {against.p:.2f}"
    return base.decision(every(findings), reason, "test examples", findings, base.headline(findings[0]))


SHUFFLED_ALIKE = Claim(
    "shuffled_alike",
    "Students of shuffled and of non-shuffled text perform alike on most tasks.",
    "Equivalence per task: two one-sided tests within the margin, Holm over tasks; most tasks decide.",
    base.ABSTRACT,
    "points",
    _alike,
    on_paper=_alike_on_paper,
    remark="ScandEval ranks the two equal (41.90 ± 1.34 and 40.81 ± 1.93).",
)
MERGED_BETTER_ON_LONG = Claim(
    "merged_better_on_long",
    "The merged student is better on long inputs.",
    "Difference from non-shuffled on the longest third of the task with the longest inputs.",
    base.ABSTRACT,
    "points",
    _better_on_long,
    on_paper=_better_on_long_on_paper,
    remark="No scores by length are published; DBRD is the long task.",
)
