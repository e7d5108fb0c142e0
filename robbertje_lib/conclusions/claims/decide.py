"""The verdict of a run on every claim of the paper; `data/claims.yaml` has the claims in words.

Claims about arms are judged once per setting: every selection and recipe for which the profile has the students,
so that the table shows where a conclusion changes when all arms hold the same text. The same rules (`verdicts`)
are applied to the paper's own table, with what noise its test sizes allow.
"""

from collections.abc import Callable, Iterator
from functools import partial

import yaml

from robbertje_lib.conclusions import published
from robbertje_lib.conclusions.claims import bias, quality, speed
from robbertje_lib.conclusions.claims.base import NO_STUDENTS, Decision, Evidence, NotTested, Setting, settings_of
from robbertje_lib.conclusions.comparisons import compare_forms
from robbertje_lib.conclusions.instruments import check_instruments
from robbertje_lib.experiment import paths
from robbertje_lib.experiment.results.claims import ClaimsResult, ClaimVerdict, FindingRow
from robbertje_lib.experiment.run import Run
from robbertje_lib.statistics.verdicts import Finding

# The test of each claim of `data/claims.yaml` in one setting; it may raise `NotTested`. Shown in this order.
CLAIMS: dict[str, Callable[[Evidence, Setting], Decision]] = {
    "shuffled_alike": quality.alike,
    "merged_faster_per_epoch": partial(speed.faster, per="epoch"),
    "merged_faster_per_token": partial(speed.faster, per="token"),
    "merged_faster_per_update": partial(speed.faster, per="update"),
    "merged_faster_to_loss": speed.sooner_at_a_loss,
    "merged_better_on_long": quality.better_on_long,
    "distilbert_beats_bort": quality.beats_bort,
    "students_less_biased": bias.less_biased,
    "students_finetune_faster": speed.finetune_faster,
    "students_run_faster": speed.run_faster,
    "merged_four_times_faster": speed.four_times_faster,
    "non_shuffled_lowest_pppl": quality.non_shuffled_lowest,
}
# The same test on the paper's own table, where its numbers allow.
ON_PAPER: dict[str, Callable[[], Decision]] = {
    "shuffled_alike": quality.alike_on_paper,
    "merged_better_on_long": quality.better_on_long_on_paper,
    "distilbert_beats_bort": quality.beats_bort_on_paper,
}


def decide_claims(run: Run) -> ClaimsResult:
    """Judge every claim and every instrument on a run's results and write `results/claims.json`.

    A row per claim and setting. On known-answer Dutch `kind` says "instrument check": those verdicts test our
    machinery and are no evidence about the paper. Raises `UserError` if `significance.json` or predictions are
    missing.
    """
    evidence = Evidence(run)
    words = yaml.safe_load((paths.DATA / "claims.yaml").read_text(encoding="utf-8"))
    kind = "real text" if run.profile.text == "real" else "instrument check"
    result = ClaimsResult(
        kind=kind,
        margin=evidence.margin,
        alpha=evidence.alpha,
        claims=[row for claim in CLAIMS for row in _verdicts(claim, words[claim], evidence, kind)],
        instruments=check_instruments(run, evidence.significance),
        form_losses=compare_forms(run),
    )
    result.write(run)
    return result


def _verdicts(claim: str, words: dict[str, str], evidence: Evidence, kind: str) -> Iterator[ClaimVerdict]:
    """The claim in every setting that has the students it needs; in one without, if that is all there is."""
    decisions = {setting.name: _decide(claim, evidence, setting) for setting in settings_of(evidence.run.profile)}
    with_students = {name: decision for name, decision in decisions.items() if decision.reason != NO_STUDENTS}
    tested = {decision.verdict for decision in decisions.values()} - {"not_tested"}
    on_paper = ON_PAPER[claim]() if claim in ON_PAPER else None
    remark, scale = words.pop("remark"), 100 if words["unit"] == "points" else 1
    for setting, decision in (with_students or dict([next(iter(decisions.items()))])).items():
        low, high = decision.interval or (0.0, 0.0)
        yield ClaimVerdict(
            **words,
            id=claim,
            setting=setting,
            published=f"{_told(on_paper)}. {remark}" if on_paper else remark,
            published_verdict=on_paper.verdict if on_paper else None,
            ours=None if decision.ours is None else scale * decision.ours,
            interval=(scale * low, scale * high) if decision.interval else None,
            verdict=decision.verdict,
            reason=decision.reason,
            sample_factor=decision.factor,
            findings=[_row(finding) for finding in decision.findings],
            kind=kind,
            changes=len(tested) > 1,
        )


def _decide(claim: str, evidence: Evidence, setting: Setting) -> Decision:
    try:
        return CLAIMS[claim](evidence, setting)
    except NotTested as reason:
        return Decision("not_tested", str(reason))


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
