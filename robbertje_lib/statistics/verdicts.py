"""From differences to a verdict: the rules by which a claim stands or falls.

A verdict is `supported`, `contradicted` or `undecided`, and an undecided one names the sample that would decide
it. `not_tested` is for claims whose evidence a run does not hold. A test that finds nothing never supports a
claim of likeness, and never contradicts a claim of difference: that takes an interval inside a stated margin.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from scipy import special

from robbertje_lib.statistics import Verdict
from robbertje_lib.statistics.significance import Difference, equivalence_test, holm, sample_factor


@dataclass(frozen=True)
class Finding:
    """One difference judged: in one task, or for one pair of models."""

    what: str
    difference: Difference
    adjusted_p: float  # of the test that this outcome rests on, Holm over the claim's findings
    outcome: Verdict
    factor: float  # times the present examples and seeds that would decide it with power 0.8; 1 if decided


def judge_better(differences: Mapping[str, Difference], margin: float, alpha: float) -> list[Finding]:
    """Is each difference above 0? Contradicted where it is below 0, or any gain is shown to lie under `margin`."""
    adjusted = holm([d.p for d in differences.values()])
    findings = []
    for (what, difference), p in zip(differences.items(), adjusted, strict=True):
        outcome: Verdict = "undecided"
        if p <= alpha:
            outcome = "supported" if difference.value > 0 else "contradicted"
        elif difference.high < margin:
            outcome = "contradicted"
        target = max(abs(difference.value), margin)
        factor = sample_factor(difference, target, alpha) if outcome == "undecided" else 1.0
        findings.append(Finding(what, difference, float(p), outcome, factor))
    return findings


def judge_alike(differences: Mapping[str, Difference], margin: float, alpha: float) -> list[Finding]:
    """Does each difference lie within `margin` (two one-sided tests)? Contradicted where it is shown to lie beyond."""
    alike = holm([equivalence_test(d, margin) for d in differences.values()])
    # That the true difference lies within the margin is the hypothesis of the other tail of the same t tests.
    beyond = holm([min(1.0, 2 * (1 - equivalence_test(d, margin))) for d in differences.values()])
    findings = []
    for (what, difference), within, outside in zip(differences.items(), alike, beyond, strict=True):
        outcome: Verdict = "supported" if within <= alpha else "contradicted" if outside <= alpha else "undecided"
        distance = abs(margin - abs(difference.value))
        factor = _one_sided_factor(difference, distance, alpha) if outcome == "undecided" else 1.0
        findings.append(Finding(what, difference, float(min(within, outside)), outcome, factor))
    return findings


def _one_sided_factor(difference: Difference, distance: float, alpha: float) -> float:
    if distance == 0:
        return float("inf")
    # A likeness is bounded on two sides: power 0.8 for both takes 0.9 for each.
    reach = float(special.stdtrit(difference.degrees, [1 - alpha, 0.9]).sum()) * difference.standard_error
    return max(1.0, (reach / distance) ** 2)


def majority(findings: list[Finding]) -> tuple[Verdict, float]:
    """The verdict of most findings, and the factor on the sample with which most would be decided.

    Supported: more than half are, and fewer than that contradict. Contradicted: more than half are. Anything else
    is undecided.
    """
    outcomes = [finding.outcome for finding in findings]
    needed = len(findings) // 2 + 1
    for verdict in ("supported", "contradicted"):
        if outcomes.count(verdict) >= needed:
            return verdict, 1.0
    return "undecided", sorted(finding.factor for finding in findings)[needed - 1]


def every(findings: list[Finding]) -> tuple[Verdict, float]:
    """Supported if all findings are, contradicted if any is; else undecided, with the factor that decides them all."""
    outcomes = [finding.outcome for finding in findings]
    if "contradicted" in outcomes:
        return "contradicted", 1.0
    if all(outcome == "supported" for outcome in outcomes):
        return "supported", 1.0
    return "undecided", max(finding.factor for finding in findings)
