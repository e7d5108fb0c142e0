"""The verdict of a run on every claim of the paper.

Claims about arms are judged once per setting: every selection and recipe for which the profile has the students,
so that the table shows where a conclusion changes when all arms hold the same text. The same rules (`verdicts`)
are applied to the paper's own table, with what noise its test sizes allow.
"""

from collections.abc import Iterator

from robbertje_lib.conclusions import published
from robbertje_lib.conclusions.claims import arms, bias, pseudo_perplexity, shapes, training_speed, use_speed
from robbertje_lib.conclusions.claims.base import (
    NO_STUDENTS,
    Claim,
    Decision,
    Evidence,
    NotTested,
    Setting,
    settings_of,
)
from robbertje_lib.conclusions.form_losses import compare_forms
from robbertje_lib.conclusions.instruments import check_instruments
from robbertje_lib.experiment.results.claims import ClaimsResult, ClaimVerdict, FindingRow
from robbertje_lib.experiment.run import Run
from robbertje_lib.statistics.verdicts import Finding

CLAIMS = (
    arms.SHUFFLED_ALIKE,
    training_speed.MERGED_FASTER_PER_EPOCH,
    training_speed.MERGED_FASTER_PER_TOKEN,
    training_speed.MERGED_FASTER_PER_UPDATE,
    training_speed.MERGED_FASTER_TO_LOSS,
    arms.MERGED_BETTER_ON_LONG,
    shapes.DISTILBERT_BEATS_BORT,
    bias.STUDENTS_LESS_BIASED,
    use_speed.STUDENTS_FINETUNE_FASTER,
    use_speed.STUDENTS_RUN_FASTER,
    use_speed.MERGED_FOUR_TIMES_FASTER,
    pseudo_perplexity.NON_SHUFFLED_LOWEST,
)


def decide_claims(run: Run) -> ClaimsResult:
    """Judge every claim and every instrument on a run's results and write `results/claims.json`.

    A row per claim and setting. On known-answer Dutch `kind` says "instrument check": those verdicts test our
    machinery and are no evidence about the paper. Raises `UserError` if `significance.json` or predictions are
    missing.
    """
    evidence = Evidence(run)
    kind = "real text" if run.profile.text == "real" else "instrument check"
    result = ClaimsResult(
        kind=kind,
        margin=evidence.margin,
        alpha=evidence.alpha,
        claims=[row for claim in CLAIMS for row in _verdicts(claim, evidence, kind)],
        instruments=check_instruments(run, evidence.significance),
        form_losses=compare_forms(run),
    )
    result.write(run)
    return result


def _verdicts(claim: Claim, evidence: Evidence, kind: str) -> Iterator[ClaimVerdict]:
    """The claim in every setting that has the students it needs; in one without, if that is all there is."""
    on_paper = claim.on_paper() if claim.on_paper else None
    decisions = {setting.name: _decide(claim, evidence, setting) for setting in settings_of(evidence.run.profile)}
    with_students = {name: decision for name, decision in decisions.items() if decision.reason != NO_STUDENTS}
    tested = {decision.verdict for decision in decisions.values()} - {"not_tested"}
    for setting, decision in (with_students or dict([next(iter(decisions.items()))])).items():
        yield _verdict(claim, setting, decision, on_paper, kind, changes=len(tested) > 1)


def _decide(claim: Claim, evidence: Evidence, setting: Setting) -> Decision:
    try:
        return claim.decide(evidence, setting)
    except NotTested as reason:
        return Decision("not_tested", str(reason))


def _verdict(
    claim: Claim, setting: str, decision: Decision, on_paper: Decision | None, kind: str, changes: bool
) -> ClaimVerdict:
    scale = 100 if claim.unit == "points" else 1
    low, high = decision.interval or (0.0, 0.0)
    return ClaimVerdict(
        id=claim.id,
        setting=setting,
        claim=claim.claim,
        source=claim.source,
        test=claim.test,
        published=f"{_told(on_paper)}. {claim.remark}" if on_paper else claim.remark,
        published_verdict=on_paper.verdict if on_paper else None,
        unit=claim.unit,
        ours=None if decision.ours is None else scale * decision.ours,
        interval=(scale * low, scale * high) if decision.interval else None,
        verdict=decision.verdict,
        reason=decision.reason,
        sample_factor=decision.factor,
        findings=[_row(finding) for finding in decision.findings],
        kind=kind,
        changes=changes,
    )


def _row(finding: Finding) -> FindingRow:
    return FindingRow(
        what=finding.what,
        difference=finding.difference.value,
        interval=(finding.difference.low, finding.difference.high),
        adjusted_p=finding.adjusted_p,
        outcome=finding.outcome,
        factor=finding.factor if finding.factor != float("inf") else None,
    )


def _told(decision: Decision) -> str:
    cells = ", ".join(
        f"{published.TITLES.get(f.what, f.what)} {100 * f.difference.value:+.1f} "
        f"[{100 * f.difference.low:+.1f}, {100 * f.difference.high:+.1f}]"
        for f in decision.findings
    )
    return f"{cells}; {decision.reason}"
