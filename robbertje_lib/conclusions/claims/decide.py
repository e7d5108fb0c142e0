"""The verdict of a run on every claim of the paper; `data/claims.yaml` has the claims in words.

Claims about arms are judged once per setting: every selection and recipe for which the profile has the students,
so that the table shows where a conclusion changes when all arms hold the same text. The same rules (`verdicts`)
are applied to the paper's own table, with what noise its test sizes allow; as each of its students was distilled once,
a claim about distillations stays undecided there, too.

Error rates hold for one claim in one setting: one that is judged in several settings has as many chances of an error.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial

import yaml

from robbertje_lib.conclusions import published
from robbertje_lib.conclusions.claims import bias, quality, speed
from robbertje_lib.conclusions.claims.base import NO_STUDENTS, Decision, Evidence, NotTested, Setting, settings_of
from robbertje_lib.conclusions.claims.scope import scope_of
from robbertje_lib.conclusions.comparisons import compare_forms
from robbertje_lib.conclusions.instruments import check_instruments
from robbertje_lib.experiment import paths
from robbertje_lib.experiment.results.claims import ClaimsResult, ClaimVerdict, FindingRow
from robbertje_lib.experiment.run import Run
from robbertje_lib.statistics.verdicts import Finding


def _larger(*arms: str) -> Callable[[Setting], tuple[str, ...]]:
    return lambda setting: tuple(setting.arm(arm) for arm in arms)


def _all(setting: Setting) -> tuple[str, ...]:
    return tuple(setting.students.values())


@dataclass(frozen=True)
class Claim:
    """How a claim of `data/claims.yaml` is tested.

    `students`: those of a setting that it compares. `test`: in that setting. `on_paper`: by the same rules on the
    paper's own table, where its numbers allow. The first two raise `NotTested`. `of_chance`: whether the claim is about
    what chance makes of a distillation too, so that one run of each decides nothing.
    """

    students: Callable[[Setting], tuple[str, ...]]
    test: Callable[[Evidence, Setting], Decision]
    on_paper: Callable[[], Decision] | None = None
    of_chance: bool = True


_MERGED = _larger("merged", "non_shuffled")
# In the order in which they are shown.
CLAIMS: dict[str, Claim] = {
    "shuffled_alike": Claim(_larger("shuffled", "non_shuffled"), quality.alike, quality.alike_on_paper),
    "merged_faster_per_epoch": Claim(_MERGED, partial(speed.faster, per="epoch")),
    "merged_faster_per_token": Claim(_MERGED, partial(speed.faster, per="token")),
    "merged_faster_per_update": Claim(_MERGED, partial(speed.faster, per="update")),
    "merged_faster_to_loss": Claim(_MERGED, speed.sooner_at_a_loss),
    "merged_better_on_long": Claim(
        _larger("merged", "non_shuffled", "shuffled"), quality.better_on_long, quality.better_on_long_on_paper
    ),
    "merging_costs_elsewhere": Claim(_MERGED, quality.costs_elsewhere, quality.costs_elsewhere_on_paper),
    "distilbert_beats_bort": Claim(quality.both_shapes, quality.beats_bort, quality.beats_bort_on_paper),
    # Of one run it says whether these very weights are as good, which is worth knowing.
    "small_trade_off": Claim(_all, quality.small_trade_off, quality.small_trade_off_on_paper, of_chance=False),
    # It says itself what one run decides.
    "students_less_biased": Claim(_all, bias.less_biased, of_chance=False),
    # Answering and fine-tuning take the time that a shape takes, whatever the weights.
    "students_finetune_faster": Claim(_all, speed.finetune_faster, of_chance=False),
    "students_run_faster": Claim(_all, speed.run_faster, of_chance=False),
    "merged_four_times_faster": Claim(_larger("merged"), speed.four_times_faster, of_chance=False),
    "non_shuffled_lowest_pppl": Claim(quality.with_others, quality.non_shuffled_lowest),
}
# Of a smallest difference of interest, in words, by the unit of the claim.
_IN_WORDS: Mapping[str, Callable[[float], str]] = {
    "points": lambda smallest: f"{100 * smallest:g} point{'s' * (smallest != 0.01)}",
    "x": lambda smallest: f"{100 * (smallest - 1):.2g} %",
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
        alpha=evidence.alpha,
        claims=[row for claim in CLAIMS for row in _verdicts(claim, words[claim], evidence, kind)],
        instruments=check_instruments(run, evidence.significance),
        form_losses=compare_forms(run),
    )
    result.write(run)
    return result


def _verdicts(name: str, words: dict[str, str], evidence: Evidence, kind: str) -> Iterator[ClaimVerdict]:
    """The claim in every setting that compares other students than one before; in the first, if none has them."""
    claim, remark, profile = CLAIMS[name], words.pop("remark"), evidence.run.profile
    decided = dict(_decided(claim, words["unit"], evidence))
    tested = {decision.verdict for _, decision in decided.values()} - {"not_tested"}
    on_paper = claim.on_paper() if claim.on_paper else None
    if on_paper and claim.of_chance:
        on_paper = on_paper.of_one_run()
    scale = 100 if words["unit"] == "points" else 1
    for students, (setting, decision) in decided.items():
        low, high = decision.interval or (0.0, 0.0)
        yield ClaimVerdict(
            **words,
            id=name,
            setting=setting.name,
            scope=scope_of(profile, setting, students, decision.notes),
            smallest=None if decision.smallest is None else scale * decision.smallest,
            bounded=decision.bounded,
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


def _decided(claim: Claim, unit: str, evidence: Evidence) -> Iterator[tuple[tuple[str, ...], tuple[Setting, Decision]]]:
    """Students compared -> the first setting that compares them, and what the claim comes to there."""
    settings, seen = settings_of(evidence.run.profile), set()
    for setting in settings:
        try:
            students = claim.students(setting)
        except NotTested:
            continue
        if students not in seen:
            seen.add(students)
            yield students, (setting, _decide(claim, students, unit, evidence, setting))
    if not seen:
        yield (), (settings[0], Decision("not_tested", NO_STUDENTS))


def _decide(claim: Claim, students: tuple[str, ...], unit: str, evidence: Evidence, setting: Setting) -> Decision:
    try:
        decision = claim.test(evidence, setting)
    except NotTested as reason:
        return Decision("not_tested", str(reason))
    if decision.verdict == "undecided" and decision.bounded and decision.smallest is not None:
        word = _IN_WORDS.get(unit, lambda smallest: f"{smallest:g} {unit}")(decision.smallest)
        told = f"{decision.reason}; it differs by less than {word}, so there is no difference of interest"
        decision = replace(decision, reason=told)
    alone = claim.of_chance and min(map(evidence.replicates, students)) < 2
    return decision.of_one_run() if alone else decision


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
    """The cells, if they are not more than the tasks (the table of distances has them all), and what they come to."""
    if len(decision.findings) > len(published.TASKS):
        return decision.reason
    cells = ", ".join(
        f"{published.TITLES.get(f.what, f.what)} {100 * f.difference.value:+.1f} "
        f"[{100 * f.difference.low:+.1f}, {100 * f.difference.high:+.1f}]"
        for f in decision.findings
    )
    return f"{cells}; {decision.reason}"
