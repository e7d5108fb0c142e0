"""From differences to a verdict: the rules by which a claim stands or falls.

A verdict is `supported`, `contradicted` or `undecided`, and an undecided one names the sample that would decide
it. `not_tested` is for claims whose evidence a run does not hold. Both ways take a test, corrected alike for how many
were made: groups that differ by chance alone get a verdict in at most a share `alpha` of cases, and between
contradicted and supported there is always undecided. A test that finds nothing supports no claim of likeness: that
takes an interval inside a stated margin.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from robbertje_lib.statistics import Verdict
from robbertje_lib.statistics.significance import Difference, above_test, equivalence_test, holm, sample_factor


@dataclass(frozen=True)
class Finding:
    """One difference judged: in one task, or for one pair of models."""

    what: str
    difference: Difference
    adjusted_p: float  # of the test that this outcome rests on, Holm over the claim's findings
    outcome: Verdict
    factor: float  # times the present sample that would decide it with power 0.8; 1 if decided, inf if none would
    bounded: bool  # whether the interval lies within the smallest difference of interest, both ways


def judge_better(differences: Mapping[str, Difference], smallest: float, alpha: float) -> list[Finding]:
    """Is each difference above 0? Contradicted where it is below.

    A difference shown to be smaller than `smallest` is neither, however significant: it is of no interest.
    """
    adjusted = holm([d.p for d in differences.values()])
    findings = []
    for (what, difference), p in zip(differences.items(), adjusted.tolist(), strict=True):
        outcome: Verdict = "undecided"
        if p <= alpha and difference.value > 0 and difference.high >= smallest:
            outcome = "supported"
        elif p <= alpha and difference.value < 0 and difference.low <= -smallest:
            outcome = "contradicted"
        bounded = _bounded(difference, smallest)
        target = 0.0 if bounded else max(abs(difference.value), smallest)
        # Holm's first step, which the least of the differences may have to pass.
        factor = sample_factor(difference, target, alpha / len(adjusted)) if outcome == "undecided" else 1.0
        findings.append(Finding(what, difference, p, outcome, factor, bounded))
    return findings


def judge_alike(differences: Mapping[str, Difference], smallest: float, alpha: float) -> list[Finding]:
    """Does each difference lie within `smallest` (two one-sided tests)? Contradicted where shown to lie beyond."""
    within = [equivalence_test(d, smallest) for d in differences.values()]
    # That the true difference lies within is the hypothesis of the other tail of the same t tests.
    beyond = [min(1.0, 2 * (1 - p)) for p in within]
    distances = [smallest - abs(d.value) for d in differences.values()]
    # A likeness is bounded on two sides: power 0.8 for both takes 0.9 for each.
    return _one_sided(differences, within, beyond, distances, smallest, alpha, power=0.9)


def judge_not_worse(differences: Mapping[str, Difference], trade_off: float, alpha: float) -> list[Finding]:
    """Does each difference lie above -`trade_off` (non-inferiority)? Contradicted where it is shown to lie below."""
    above = [above_test(d, -trade_off) for d in differences.values()]
    distances = [trade_off + d.value for d in differences.values()]
    return _one_sided(differences, above, [1 - p for p in above], distances, trade_off, alpha, power=0.8)


def _one_sided(
    differences: Mapping[str, Difference],
    support: Sequence[float],
    contradiction: Sequence[float],
    distances: Sequence[float],
    smallest: float,
    alpha: float,
    power: float,
) -> list[Finding]:
    """Findings of one-sided tests for and against, each corrected by Holm; distances: of a value from the bound."""
    findings = []
    tests = zip(differences.items(), holm(support).tolist(), holm(contradiction).tolist(), distances, strict=True)
    for (what, difference), for_it, against, distance in tests:
        outcome: Verdict = "supported" if for_it <= alpha else "contradicted" if against <= alpha else "undecided"
        factor = 1.0
        if outcome == "undecided":
            # A one-sided test is a two-sided one at twice the level.
            factor = sample_factor(difference, distance, 2 * alpha / len(distances), power)
        findings.append(
            Finding(what, difference, min(for_it, against), outcome, factor, _bounded(difference, smallest))
        )
    return findings


def _bounded(difference: Difference, smallest: float) -> bool:
    return -smallest < difference.low and difference.high < smallest


def majority(findings: Sequence[Finding], of: int) -> tuple[Verdict, float]:
    """The verdict of more than half of `of`, or undecided with the factor on the sample that may decide it.

    of: all that were to be judged; what has no finding shows nothing either way. Few findings that contradict do not
    take away what most support, nor the other way round.
    """
    outcomes = [finding.outcome for finding in findings]
    needed = of // 2 + 1
    verdicts: tuple[Verdict, Verdict] = ("supported", "contradicted")
    for verdict in verdicts:
        if outcomes.count(verdict) >= needed:
            return verdict, 1.0
    factors = sorted(finding.factor for finding in findings if finding.outcome == "undecided")
    lacking = needed - max(map(outcomes.count, verdicts))
    return "undecided", factors[lacking - 1] if lacking <= len(factors) else float("inf")


def every(findings: Sequence[Finding]) -> tuple[Verdict, float]:
    """Supported if all findings are, contradicted if any is; else undecided, with the factor that decides them all.

    As contradiction is corrected for the number of findings, any one among many true nulls is as rare as one alone.
    """
    outcomes = [finding.outcome for finding in findings]
    if "contradicted" in outcomes:
        return "contradicted", 1.0
    if findings and all(outcome == "supported" for outcome in outcomes):
        return "supported", 1.0
    return "undecided", max((finding.factor for finding in findings), default=float("inf"))
