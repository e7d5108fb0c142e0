"""The claim about gender bias."""

from scipy import stats

from robbertje_lib.conclusions.claims import base
from robbertje_lib.conclusions.claims.base import Decision, Evidence, NotTested, Setting
from robbertje_lib.experiment.results.gender_bias import GenderBiasResult
from robbertje_lib.statistics.significance import Difference
from robbertje_lib.statistics.verdicts import every, judge_better

METRIC = "rank_difference"  # the measure of RobBERT's figure, which the paper most likely used


def less_biased(evidence: Evidence, setting: Setting) -> Decision:
    """Every student of the setting against the teacher, paired over professions."""
    members = set(setting.students.values())
    less: dict[str, dict[str, Difference]] = {}
    for row in evidence.read(GenderBiasResult, "gender-bias results").comparisons:
        if {row.a, row.b} & members and "teacher" in (row.a, row.b):
            low, high = row.interval
            error = (high - low) / 2 / float(stats.t.ppf(0.975, row.n - 1))
            difference = Difference(row.difference, low, high, row.p, error, float(row.n - 1))
            student = row.a if row.b == "teacher" else row.b
            # Less bias than the teacher is what has to lie above 0.
            less.setdefault(row.metric, {})[student] = difference if row.a == "teacher" else base.turned(difference)
    if not less:
        raise NotTested("no comparison of these students with the teacher")
    metric = METRIC if METRIC in less else next(iter(less))
    judged = {name: judge_better(differences, 0.0, evidence.alpha) for name, differences in less.items()}
    told = ", ".join(f"{name}: {every(findings)[0].replace('_', ' ')}" for name, findings in judged.items())
    worst = min(judged[metric], key=lambda f: f.difference.value)
    reason = f"by metric, {told}; shown is {worst.what} by {metric}"
    return base.decision(every(judged[metric]), reason, "professions", judged[metric], base.headline(worst))
