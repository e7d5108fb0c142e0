"""The claim about the shape of a student."""

from robbertje_lib.conclusions.claims import base
from robbertje_lib.conclusions.claims.base import Claim, Decision, Evidence, NotTested, Setting
from robbertje_lib.statistics.verdicts import judge_better


def _beats_bort(evidence: Evidence, setting: Setting) -> Decision:
    """The larger student minus Bort, on the arm that Bort was trained on."""
    arm = next((arm for arm, role in setting.students if role == "bort"), None)
    if arm is None:
        raise NotTested(base.NO_STUDENTS)
    larger, bort = setting.arm(arm), setting.students[arm, "bort"]
    findings = judge_better(evidence.differences(larger, bort, evidence.tasks), evidence.margin, evidence.alpha)
    return base.decide_by_majority(findings, f"{larger} above {bort}", base.SAMPLE)


def _beats_bort_on_paper() -> Decision:
    findings = judge_better(base.differences_on_paper("non_shuffled", "bort"), 0.01, 0.05)
    return base.decide_by_majority(findings, "non_shuffled above bort", "test examples")


DISTILBERT_BEATS_BORT = Claim(
    "distilbert_beats_bort",
    "The DistilBERT shape scores better than Bort's.",
    "Paired difference per task on the same arm, Holm over tasks; most tasks decide.",
    base.ABSTRACT,
    "points",
    _beats_bort,
    on_paper=_beats_bort_on_paper,
    remark="ScandEval: 41.90 ± 1.34 against 33.52 ± 3.76. Which arm the released Bort saw is not known.",
)
