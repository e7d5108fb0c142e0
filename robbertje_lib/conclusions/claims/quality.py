"""Claims about what students score: by the order and merging of their text, by their shape, in pseudo-perplexity."""

import numpy as np

from robbertje_lib.conclusions.claims import base
from robbertje_lib.conclusions.claims.base import Decision, Evidence, NotTested, Setting
from robbertje_lib.conclusions.comparisons import Replicates
from robbertje_lib.conclusions.counts import PSEUDO_PERPLEXITY, load_counts
from robbertje_lib.statistics.verdicts import every, judge_alike, judge_better


def alike(evidence: Evidence, setting: Setting) -> Decision:
    """Equivalence within the profile's margin, task by task."""
    differences = evidence.differences(setting.arm("shuffled"), setting.arm("non_shuffled"), evidence.tasks)
    findings = judge_alike(differences, evidence.margin, evidence.alpha)
    points = f"{100 * evidence.margin:g} point{'s' * (evidence.margin != 0.01)}"
    return base.decide_by_majority(findings, f"alike within {points}", base.SAMPLE)


def alike_on_paper() -> Decision:
    findings = judge_alike(base.differences_on_paper("shuffled", "non_shuffled"), 0.01, 0.05)
    return base.decide_by_majority(findings, "alike within 1 point", "test examples")


def better_on_long(evidence: Evidence, setting: Setting) -> Decision:
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


def better_on_long_on_paper() -> Decision:
    findings = judge_better({"dbrd": base.differences_on_paper("merged", "non_shuffled")["dbrd"]}, 0.01, 0.05)
    against = base.differences_on_paper("merged", "shuffled")["dbrd"]
    reason = f"DBRD against non-shuffled; against shuffled {100 * against.value:+.1f} points, p = {against.p:.2f}"
    return base.decision(every(findings), reason, "test examples", findings, base.headline(findings[0]))


def beats_bort(evidence: Evidence, setting: Setting) -> Decision:
    """The larger student minus Bort, on the arm that Bort was trained on."""
    arm = next((arm for arm, role in setting.students if role == "bort"), None)
    if arm is None:
        raise NotTested(base.NO_STUDENTS)
    larger, bort = setting.arm(arm), setting.students[arm, "bort"]
    findings = judge_better(evidence.differences(larger, bort, evidence.tasks), evidence.margin, evidence.alpha)
    return base.decide_by_majority(findings, f"{larger} above {bort}", base.SAMPLE)


def beats_bort_on_paper() -> Decision:
    findings = judge_better(base.differences_on_paper("non_shuffled", "bort"), 0.01, 0.05)
    return base.decide_by_majority(findings, "non_shuffled above bort", "test examples")


def non_shuffled_lowest(evidence: Evidence, setting: Setting) -> Decision:
    """PPPL of every other student of the setting minus non-shuffled's, in nats per token."""
    ordered = setting.arm("non_shuffled")
    others = [name for name in setting.students.values() if name != ordered]
    if not others:
        raise NotTested(base.NO_STUDENTS)
    differences = {name: evidence.differences(name, ordered, [PSEUDO_PERPLEXITY])[PSEUDO_PERPLEXITY] for name in others}
    findings = judge_better(differences, 0.0, evidence.alpha)
    nearest = min(findings, key=lambda f: f.difference.value)
    reason = f"next is {nearest.what}; one distillation run per student, so the seed's share is unknown"
    return base.decision(every(findings), reason, "held-out lines", findings, base.headline(nearest))
