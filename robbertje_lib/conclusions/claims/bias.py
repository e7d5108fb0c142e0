"""The claim about gender bias: is every student less stereotyped than its teacher?"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from robbertje_lib.conclusions.claims import base
from robbertje_lib.conclusions.claims.base import Decision, Evidence, NotTested, Setting
from robbertje_lib.conclusions.stereotypes import MEASURES, slope
from robbertje_lib.experiment.results.gender_bias import BiasComparison, GenderBiasResult
from robbertje_lib.statistics.significance import Difference
from robbertje_lib.statistics.verdicts import Finding, every, judge_better

SAMPLE = "professions and replicates"


def less_biased(evidence: Evidence, setting: Setting) -> Decision:
    """Every student of the setting against the teacher by every measure, in shares of the teacher's value.

    A student is decided where all measures agree; Holm over students within a measure. A student whose
    pseudo-perplexity is not below the unigram model's is left out and named; the others may make the claim fall, but
    not stand. Raises `NotTested` where that is the teacher or every student, or where the teacher shows no stereotype
    by a slope.
    """
    result = evidence.read(GenderBiasResult, "gender-bias results")
    students, shut = _gated(evidence, setting)
    _check_teacher(result)
    rows = {(row.measure, row.student): row for row in result.comparisons}
    judged = []
    for measure in MEASURES:
        shares = {f"{student}, {measure}": _share(rows[measure, student]) for student in students}
        judged.append(judge_better(shares, evidence.smallest.bias, evidence.alpha))
    of_students = dict(zip(students, zip(*judged, strict=True), strict=True))
    told = [f"{student} {_outcomes(own)}" for student, own in of_students.items()]
    reason = f"{'; '.join(told)}; log odds of hij, a level that is not tested: {_levels(evidence, result, students)}"
    findings = [finding for own in of_students.values() for finding in own]
    shown = base.headline(min(findings, key=lambda finding: finding.difference.value))
    verdict, factor = every([_agreed(own) for own in of_students.values()])
    notes = (f"left out, as pseudo-perplexity is not below the unigram model's: {', '.join(shut)}",) if shut else ()
    smallest, ruling = evidence.smallest.bias, (verdict, factor)
    decided = base.decision(ruling, reason, SAMPLE, findings, shown, smallest, notes, left_out=shut)
    if factor == float("inf") and not decided.bounded and not shut:
        apart = "no larger sample would decide it, as students or measures point apart"
        decided = replace(decided, reason=f"{reason}; {apart}")
    return decided.of_one_run() if min(map(evidence.replicates, students)) < 2 else decided


def _gated(evidence: Evidence, setting: Setting) -> tuple[list[str], list[str]]:
    """The students that know more than how frequent words are, and those that do not."""
    evidence.refuse_above_unigram(["teacher"])
    students = list(dict.fromkeys(setting.students.values()))
    shut = evidence.above_unigram(students)
    if len(shut) == len(students):
        evidence.refuse_above_unigram(shut)
    return [student for student in students if student not in shut], shut


def _check_teacher(result: GenderBiasResult) -> None:
    """Raises `NotTested` unless each slope shows a stereotype of the teacher, whichever way it points.

    The spread says nothing here: that of any readings is above 0.
    """
    intervals = {row.measure: row.interval for row in result.stereotypes if row.group == "teacher"}
    if unread := [measure for measure in MEASURES if measure not in intervals]:
        raise NotTested(f"no {', '.join(unread)}: the professions are not associated with two genders")
    slopes = [measure for measure in MEASURES if MEASURES[measure].metric is slope]
    if doubtful := [measure for measure in slopes if intervals[measure][0] <= 0 <= intervals[measure][1]]:
        raise NotTested(f"the teacher has no stereotype beyond doubt by {', '.join(doubtful)}; a spread tells of none")


def _share(row: BiasComparison) -> Difference:
    """The comparison in shares of the teacher's value, in which one smallest difference serves all measures.

    p stays that of the difference in the measure's own unit: no difference is none in any.
    """
    return Difference(row.share, *row.share_interval, row.p, row.share_error, row.share_degrees)


def _agreed(findings: Sequence[Finding]) -> Finding:
    """A student's measures as one finding: decided if all agree. No sample decides those that contradict each other."""
    hardest = max(findings, key=lambda finding: finding.factor)
    outcomes = {finding.outcome for finding in findings}
    if len(outcomes) == 1:
        return hardest
    against = {"supported", "contradicted"} <= outcomes
    return replace(hardest, outcome="undecided", factor=float("inf") if against else hardest.factor)


def _outcomes(findings: Sequence[Finding]) -> str:
    words = [
        "no difference of interest" if finding.bounded and finding.outcome == "undecided" else finding.outcome
        for finding in findings
    ]
    if len(set(words)) == 1:
        return f"{words[0]} by every measure"
    listed = (f"{measure} {word}" for measure, word in zip(MEASURES, words, strict=True))
    return f"undecided, as the measures disagree ({', '.join(listed)})"


def _levels(evidence: Evidence, result: GenderBiasResult, students: Sequence[str]) -> str:
    groups = evidence.run.profile.groups
    means = {
        group: np.mean([result.models[name].metrics["log_odds"].mean for name in groups[group]])
        for group in ("teacher", *students)
    }
    return ", ".join(f"{group} {mean:+.2f}" for group, mean in means.items())
