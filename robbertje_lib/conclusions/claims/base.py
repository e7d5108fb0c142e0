"""The paper's claims, each with the test that decides it, and the verdict of a run.

Claims about arms are judged once per setting: every selection and recipe for which the profile has the students,
so that the table shows where a conclusion changes when all arms hold the same text. The same rules (`verdicts`)
are applied to the paper's own table, with what noise its test sizes allow.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from math import exp, log, sqrt
from typing import Any

import numpy as np
from scipy import stats

from robbertje_lib.conclusions import published
from robbertje_lib.conclusions.comparisons import PSEUDO_PERPLEXITY, Replicates, load_task
from robbertje_lib.conclusions.instruments import check_instruments
from robbertje_lib.experiment.artefacts import read_json, write_json
from robbertje_lib.experiment.profile import Profile
from robbertje_lib.experiment.run import Run
from robbertje_lib.statistics.significance import Difference
from robbertje_lib.statistics.verdicts import Finding, Verdict, every, judge_alike, judge_better, majority

MANY = 1e9  # degrees of freedom of a standard error that is as good as known
BIAS_METRIC = "rank_difference"  # the measure of RobBERT's figure, which the paper most likely used


@dataclass(frozen=True)
class Setting:
    """One selection and recipe, and its students by (arm, role); a role is `distilbert` or `bort`."""

    name: str
    students: Mapping[tuple[str, str], str]

    def arm(self, arm: str) -> str | None:
        """The larger student of an arm, or None."""
        return self.students.get((arm, "distilbert"))


def settings_of(profile: Profile) -> list[Setting]:
    """Every (selection, recipe) of the profile's students, in their order. A shape is named `bort`, or else large."""
    found: dict[str, dict[tuple[str, str], str]] = {}
    for name, student in profile.students.items():
        role = "bort" if student.shape == "bort" else "distilbert"
        found.setdefault(f"{student.selection}, {student.recipe}", {})[student.arm, role] = name
    return [Setting(name, students) for name, students in found.items()]


@dataclass(frozen=True)
class Decision:
    """What a claim's test came to on one body of evidence."""

    verdict: Verdict
    reason: str
    ours: float | None = None  # the headline number; its unit is the claim's
    interval: tuple[float, float] | None = None
    findings: list[Finding] = field(default_factory=list)
    factor: float | None = None  # times the sample that would decide an undecided claim


@dataclass(frozen=True)
class Evidence:
    """The result files of a run, each read when a claim first asks for it."""

    run: Run

    def has(self, *parts: str) -> bool:
        return self.run.paths.result(*parts).is_file()

    def read(self, *parts: str) -> dict[str, Any]:
        return read_json(self.run.paths.result(*parts))

    @cached_property
    def significance(self) -> dict[str, Any]:
        return self.read("significance.json")

    def tokens_of(self, arm: str, selection: str) -> int:
        """Tokens of one pass over an arm's text; 0 where the corpus has no result file."""
        if not self.has("corpus", f"{arm}.json"):
            return 0
        return int(self.read("corpus", f"{arm}.json")["selections"][selection]["tokens"])

    @property
    def margin(self) -> float:
        return self.run.profile.significance.equivalence_margin

    @property
    def alpha(self) -> float:
        return self.run.profile.significance.alpha

    @property
    def tasks(self) -> list[str]:
        return list(self.run.profile.finetuning.tasks)

    def differences(self, a: str, b: str, tasks: list[str]) -> dict[str, Difference]:
        """Task -> difference a - b, whichever way round `significance.json` holds it."""
        found = {}
        for row in self.significance["comparisons"]:
            if {row["a"], row["b"]} == {a, b} and row["task"] in tasks:
                sign = 1 if row["a"] == a else -1
                low, high = sorted(sign * bound for bound in row["interval"])
                found[row["task"]] = Difference(
                    sign * row["difference"], low, high, row["p"], row["standard_error"], row["degrees"]
                )
        return found


@dataclass(frozen=True)
class Claim:
    """A claim of the paper in our words, with its test and where the paper states it."""

    id: str
    claim: str
    test: str
    source: str
    unit: str
    decide: Callable[[Evidence, Setting], Decision]
    on_paper: Callable[[], Decision] | None = None  # the same test on the paper's own table
    remark: str = ""  # published evidence in words, beyond the paper's table


NO_STUDENTS = "the profile has no such pair of students in this setting"


def _not_tested(reason: str) -> Decision:
    return Decision("not_tested", reason)


def published_differences(a: str, b: str) -> dict[str, Difference]:
    """Task -> difference a - b of the paper's table, with the standard error that its test sizes allow."""
    found = {}
    for task in published.TASKS:
        size, cells = published.SAMPLE_SIZES[task].size, [published.published_score(m, task) for m in (a, b)]
        if size is None or any(cell is None or not isinstance(cell.value, float) for cell in cells):
            continue
        scores = [cell.value / 100 for cell in cells]  # type: ignore[union-attr, operator]
        error = sqrt(sum(s * (1 - s) for s in scores) / size)
        value, reach = scores[0] - scores[1], 1.96 * error
        p = float(2 * stats.norm.sf(abs(value) / error))
        found[task] = Difference(value, value - reach, value + reach, p, error, MANY)
    return found


def _over_tasks(findings: list[Finding], what: str, sample: str) -> Decision:
    verdict, factor = majority(findings)
    counts = {o: sum(f.outcome == o for f in findings) for o in ("supported", "contradicted", "undecided")}
    reason = (
        f"{what}: yes on {counts['supported']}, no on {counts['contradicted']}, undecided on "
        f"{counts['undecided']} of {len(findings)} tasks"
    )
    return _decision(verdict, reason, factor, sample, findings, _mean(findings))


def _decision(
    verdict: Verdict,
    reason: str,
    factor: float,
    sample: str,
    findings: list[Finding],
    headline: tuple[float, tuple[float, float] | None],
) -> Decision:
    if verdict == "undecided":
        reason += "; no sample would decide it, as the difference lies on the margin" if factor == float("inf") else (
            f"; about {factor:.{1 if factor < 10 else 0}f} times the {sample} would decide it"
        )  # fmt: skip
    bounded = factor if verdict == "undecided" and factor != float("inf") else None
    return Decision(verdict, reason, headline[0], headline[1], findings, bounded)


def _mean(findings: list[Finding]) -> tuple[float, tuple[float, float]]:
    """Mean difference over tasks; tasks have test sets and fine-tuning of their own, so their errors add up."""
    value = float(np.mean([f.difference.value for f in findings]))
    error = sqrt(sum(f.difference.standard_error**2 for f in findings)) / len(findings)
    # Satterthwaite, as for each difference.
    weight = sum(f.difference.standard_error**4 / f.difference.degrees for f in findings)
    degrees = sum(f.difference.standard_error**2 for f in findings) ** 2 / weight if weight else MANY
    reach = float(stats.t.ppf(0.975, degrees)) * error
    return value, (value - reach, value + reach)


def _one(findings: list[Finding]) -> tuple[float, tuple[float, float]]:
    return findings[0].difference.value, (findings[0].difference.low, findings[0].difference.high)


SAMPLE = "test examples and fine-tuning seeds"


def shuffled_alike(evidence: Evidence, setting: Setting) -> Decision:
    """Equivalence within the profile's margin, task by task."""
    shuffled, ordered = setting.arm("shuffled"), setting.arm("non_shuffled")
    if not shuffled or not ordered:
        return _not_tested(NO_STUDENTS)
    differences = evidence.differences(shuffled, ordered, evidence.tasks)
    findings = judge_alike(differences, evidence.margin, evidence.alpha)
    return _over_tasks(
        findings, f"alike within {100 * evidence.margin:g} point{'s' * (evidence.margin != 0.01)}", SAMPLE
    )


def _shuffled_alike_on_paper() -> Decision:
    findings = judge_alike(published_differences("shuffled", "non_shuffled"), 0.01, 0.05)
    return _over_tasks(findings, "alike within 1 point", "test examples")


def distilbert_beats_bort(evidence: Evidence, setting: Setting) -> Decision:
    """The larger student minus Bort, on the arm that Bort was trained on."""
    pairs = [(setting.arm(arm), name) for (arm, role), name in setting.students.items() if role == "bort"]
    if not pairs or not pairs[0][0]:
        return _not_tested(NO_STUDENTS)
    larger, bort = pairs[0]
    assert larger is not None
    findings = judge_better(evidence.differences(larger, bort, evidence.tasks), evidence.margin, evidence.alpha)
    return _over_tasks(findings, f"{larger} above {bort}", SAMPLE)


def _distilbert_beats_bort_on_paper() -> Decision:
    findings = judge_better(published_differences("non_shuffled", "bort"), 0.01, 0.05)
    return _over_tasks(findings, "non_shuffled above bort", "test examples")


def merged_better_on_long(evidence: Evidence, setting: Setting) -> Decision:
    """Merged minus non-shuffled on the longest third of the task with the longest inputs, and against the shortest."""
    merged, ordered = setting.arm("merged"), setting.arm("non_shuffled")
    if not merged or not ordered:
        return _not_tested(NO_STUDENTS)
    data = max((load_task(evidence.run, task) for task in evidence.tasks), key=lambda d: float(np.median(d.n_tokens)))
    rng = np.random.default_rng([evidence.run.profile.seed, 90])
    short, long = np.quantile(data.n_tokens, [1 / 3, 2 / 3])
    thirds = {"longest third": data.n_tokens >= long, "shortest third": data.n_tokens <= short}
    found = {}
    for name, chosen in thirds.items():
        replicates = Replicates.draw(data.subset(chosen), evidence.run.profile.significance.bootstrap, rng)
        found[name] = replicates.difference(merged, ordered, rng, 1 - evidence.alpha)
    long_findings = judge_better(
        {f"{data.task}, longest third": found["longest third"]}, evidence.margin, evidence.alpha
    )
    short_findings = judge_better(
        {f"{data.task}, shortest third": found["shortest third"]}, evidence.margin, evidence.alpha
    )
    verdict, factor = every(long_findings)
    reason = (
        f"{data.task} inputs of {long:.0f} tokens or more: {100 * found['longest third'].value:+.1f} points; "
        f"of {short:.0f} or fewer: {100 * found['shortest third'].value:+.1f}"
    )
    sample = "long " + SAMPLE
    return _decision(verdict, reason, factor, sample, [*long_findings, *short_findings], _one(long_findings))


def _merged_better_on_long_on_paper() -> Decision:
    differences = published_differences("merged", "non_shuffled")
    findings = judge_better({"dbrd": differences["dbrd"]}, 0.01, 0.05)
    verdict, factor = every(findings)
    against = published_differences("merged", "shuffled")["dbrd"]
    reason = f"DBRD against non-shuffled; against shuffled {100 * against.value:+.1f} points, p = {against.p:.2f}"
    return _decision(verdict, reason, factor, "test examples", findings, _one(findings))


def non_shuffled_lowest(evidence: Evidence, setting: Setting) -> Decision:
    """PPPL of every other student of the setting minus non-shuffled's, in nats per token."""
    ordered = setting.arm("non_shuffled")
    others = [name for name in setting.students.values() if name != ordered]
    if not ordered or not others:
        return _not_tested(NO_STUDENTS)
    differences = {name: evidence.differences(name, ordered, [PSEUDO_PERPLEXITY])[PSEUDO_PERPLEXITY] for name in others}
    findings = judge_better(differences, 0.0, evidence.alpha)
    verdict, factor = every(findings)
    nearest = min(findings, key=lambda f: f.difference.value)
    reason = f"next is {nearest.what}; one distillation run per student, so the seed's share is unknown"
    return _decision(verdict, reason, factor, "held-out lines", findings, _one([nearest]))


def _speed(evidence: Evidence, setting: Setting, per: str) -> Decision:
    """Ratio of training speeds, merged over non-shuffled, from the stretches of each loss curve."""
    merged, ordered = setting.arm("merged"), setting.arm("non_shuffled")
    if not merged or not ordered:
        return _not_tested(NO_STUDENTS)
    files = [("distillation", f"{name}.json") for name in (merged, ordered)]
    if not all(evidence.has(*file) for file in files):
        return _not_tested("no distillation results")
    training = [evidence.read(*file) for file in files]
    rates = [_log_rates(t["curve"], "updates" if per == "update" else "tokens") for t in training]
    if min(len(rate) for rate in rates) < 3:
        return _not_tested("fewer than 3 stretches of the loss curve were timed; train longer")
    shift = 0.0
    if per == "epoch":
        # Merging saves two special tokens at every seam, so that a pass over the same text has fewer tokens.
        passes = [evidence.tokens_of(t["arm"], t["selection"]) for t in training]
        if not all(passes):
            return _not_tested("no corpus results, so the length of an epoch is unknown")
        shift = log(passes[1] / passes[0])
    test = stats.ttest_ind(*rates, equal_var=False)
    low, high = test.confidence_interval(0.95)
    value = float(np.mean(rates[0]) - np.mean(rates[1])) + shift
    error = float((high - low) / 2 / stats.t.ppf(0.975, test.df))
    p = float(2 * stats.t.sf(abs(value) / error, test.df))
    difference = Difference(value, float(low) + shift, float(high) + shift, p, error, float(test.df))
    findings = judge_better({f"log speed-up per {per}": difference}, log(1.01), evidence.alpha)
    verdict, factor = every(findings)
    reason = f"{merged} does {exp(value):.2f} times as many {per}s a second as {ordered}, one training run of each"
    interval = exp(difference.low), exp(difference.high)
    return _decision(verdict, reason, factor, "timed stretches", findings, (exp(value), interval))


def _log_rates(curve: list[dict[str, float]], unit: str) -> np.ndarray:
    """log(units per second) of each stretch between two points of a loss curve."""
    column = {"tokens": "tokens", "updates": "update"}[unit]
    steps = np.diff([point[column] for point in curve])
    seconds = np.diff([point["seconds"] for point in curve])
    timed = (seconds > 0) & (steps > 0)
    return np.log(steps[timed] / seconds[timed])


def merged_to_same_loss(evidence: Evidence, setting: Setting) -> Decision:
    """Seconds that each arm needs to reach the held-out loss at which the worse of the two ends."""
    merged, ordered = setting.arm("merged"), setting.arm("non_shuffled")
    if not merged or not ordered:
        return _not_tested(NO_STUDENTS)
    files = [("distillation", f"{name}.json") for name in (merged, ordered)]
    if not all(evidence.has(*file) for file in files):
        return _not_tested("no distillation results")
    curves = [evidence.read(*file)["held_out_curve"] for file in files]
    goal = max(min(point["loss"] for point in curve) for curve in curves)
    seconds = [_seconds_to(curve, goal) for curve in curves]
    if min(seconds) <= 0:
        return _not_tested("an arm starts below the other's final loss; nothing to time")
    ratio = seconds[1] / seconds[0]
    reason = (
        f"a held-out loss of {goal:.2f} takes {merged} {seconds[0]:.0f} s and {ordered} {seconds[1]:.0f} s; "
        "one run each gives no interval, so repeat distillation with at least 5 seeds"
    )
    return Decision("undecided", reason, ratio)


def _seconds_to(curve: list[dict[str, float]], goal: float) -> float:
    """Time at which the running minimum of the loss first reaches `goal`, linear between points."""
    losses = np.minimum.accumulate([point["loss"] for point in curve])
    seconds = [point["seconds"] for point in curve]
    at = int(np.argmax(losses <= goal))
    if at == 0:
        return float(seconds[0])
    return float(np.interp(-goal, -losses[at - 1 : at + 1], seconds[at - 1 : at + 1]))


def students_less_biased(evidence: Evidence, setting: Setting) -> Decision:
    """Every student of the setting against the teacher, paired over professions."""
    if not evidence.has("gender_bias.json"):
        return _not_tested("no gender-bias results")
    rows = evidence.read("gender_bias.json")["comparisons"]
    members = set(setting.students.values())
    less: dict[str, dict[str, Difference]] = {}
    for row in rows:
        if {row["a"], row["b"]} & members and "teacher" in (row["a"], row["b"]):
            student = row["a"] if row["b"] == "teacher" else row["b"]
            # Less bias than the teacher is what has to lie above 0.
            sign = 1 if row["a"] == "teacher" else -1
            low, high = sorted(sign * bound for bound in row["interval"])
            error = (high - low) / 2 / float(stats.t.ppf(0.975, row["n"] - 1))
            less.setdefault(row["metric"], {})[student] = Difference(
                sign * row["difference"], low, high, row["p"], error, float(row["n"] - 1)
            )
    if not less:
        return _not_tested("no comparison of these students with the teacher")
    metric = BIAS_METRIC if BIAS_METRIC in less else next(iter(less))
    judged = {name: judge_better(differences, 0.0, evidence.alpha) for name, differences in less.items()}
    verdict, factor = every(judged[metric])
    told = ", ".join(f"{name}: {every(findings)[0].replace('_', ' ')}" for name, findings in judged.items())
    worst = min(judged[metric], key=lambda f: f.difference.value)
    reason = f"by metric, {told}; shown is {worst.what} by {metric}"
    return _decision(verdict, reason, factor, "professions", judged[metric], _one([worst]))


def students_run_faster(evidence: Evidence, setting: Setting) -> Decision:
    """Latency of the teacher over that of each student; the intervals must not overlap."""
    if not evidence.has("efficiency.json"):
        return _not_tested("no efficiency results")
    models = evidence.read("efficiency.json")["models"]
    students = [name for name in setting.students.values() if name in models]
    if not students or "teacher" not in models:
        return _not_tested("no timing of these models")
    speed_ups = {name: _speed_up(models["teacher"], models[name]) for name in students}
    slowest = min(speed_ups, key=lambda name: speed_ups[name][0])
    lows, highs = [s[1] for s in speed_ups.values()], [s[2] for s in speed_ups.values()]
    verdict: Verdict = "supported" if min(lows) > 1 else "contradicted" if min(highs) < 1 else "undecided"
    told = ", ".join(f"{name} {value:.2f}" for name, (value, _, _) in speed_ups.items())
    reason = f"teacher's latency over the student's: {told}"
    if verdict == "undecided":
        reason += "; intervals overlap, so time more repetitions on an idle machine"
    return Decision(verdict, reason, speed_ups[slowest][0], speed_ups[slowest][1:])


def four_times_faster(evidence: Evidence, setting: Setting) -> Decision:
    """The speed-up of the merged student in inference, against 4."""
    merged = setting.arm("merged")
    if not evidence.has("efficiency.json"):
        return _not_tested("no efficiency results")
    models = evidence.read("efficiency.json")["models"]
    if merged not in models or "teacher" not in models:
        return _not_tested(NO_STUDENTS)
    value, low, high = _speed_up(models["teacher"], models[merged])
    verdict: Verdict = "supported" if low >= 4 else "contradicted" if high < 4 else "undecided"
    reason = f"{merged} answers {value:.2f} times as fast as the teacher on this machine"
    return Decision(verdict, reason, value, (low, high))


def _speed_up(teacher: dict[str, Any], student: dict[str, Any]) -> tuple[float, float, float]:
    slow, fast = teacher["latency_ms"], student["latency_ms"]
    return slow["median"] / fast["median"], slow["low"] / fast["high"], slow["high"] / fast["low"]


def students_finetune_faster(evidence: Evidence, setting: Setting) -> Decision:
    """Fine-tuning seconds of the teacher over the student's, a t interval over tasks of the log ratio."""
    if not evidence.has("efficiency.json"):
        return _not_tested("no efficiency results")
    models = evidence.read("efficiency.json")["models"]
    seconds = {
        name: models.get(name, {}).get("finetuning_seconds") or {} for name in ("teacher", *setting.students.values())
    }
    tasks = [task for task in evidence.tasks if all(of.get(task) for of in seconds.values())]
    if len(tasks) < 2:
        return _not_tested("fine-tuning was timed on fewer than 2 tasks")
    differences = {}
    for name in setting.students.values():
        logs = [log(seconds["teacher"][task] / seconds[name][task]) for task in tasks]
        test = stats.ttest_1samp(logs, 0.0)
        low, high = test.confidence_interval(0.95)
        error = float(np.std(logs, ddof=1) / sqrt(len(logs)))
        differences[name] = Difference(
            float(np.mean(logs)), float(low), float(high), float(test.pvalue), error, len(logs) - 1.0
        )
    findings = judge_better(differences, log(1.01), evidence.alpha)
    verdict, factor = every(findings)
    slowest = min(findings, key=lambda f: f.difference.value)
    told = ", ".join(f"{f.what} {exp(f.difference.value):.2f}" for f in findings)
    value, (low, high) = _one([slowest])
    reason = f"teacher's time over the student's, geometric mean of {len(tasks)} tasks: {told}"
    return _decision(verdict, reason, factor, "tasks", findings, (exp(value), (exp(low), exp(high))))


ABSTRACT = "abstract"
CLAIMS = (
    Claim(
        "shuffled_alike",
        "Students of shuffled and of non-shuffled text perform alike on most tasks.",
        "Equivalence per task: two one-sided tests within the margin, Holm over tasks; most tasks decide.",
        ABSTRACT,
        "points",
        shuffled_alike,
        on_paper=_shuffled_alike_on_paper,
        remark="ScandEval ranks the two equal (41.90 ± 1.34 and 40.81 ± 1.93).",
    ),
    Claim(
        "merged_faster_per_epoch",
        "Merging sentences makes a pass over the text faster.",
        "Welch t test of log speed over stretches of training, merged against non-shuffled, per epoch.",
        ABSTRACT,
        "x",
        lambda evidence, setting: _speed(evidence, setting, "epoch"),
        remark="No training times are published.",
    ),
    Claim(
        "merged_faster_per_token",
        "Merging sentences makes training on the same number of tokens faster.",
        "The same, per token.",
        ABSTRACT,
        "x",
        lambda evidence, setting: _speed(evidence, setting, "token"),
        remark="No training times are published.",
    ),
    Claim(
        "merged_faster_per_update",
        "Merging sentences makes an update faster.",
        "The same, per update. Where batches count sequences, merged updates hold more tokens and should be slower.",
        ABSTRACT,
        "x",
        lambda evidence, setting: _speed(evidence, setting, "update"),
        remark="No training times are published. The paper's batches count sequences, and merging makes fewer of them: "
        "fewer updates an epoch may be all that its claim of faster training says.",
    ),
    Claim(
        "merged_faster_to_loss",
        "Merging sentences reaches the same held-out loss sooner.",
        "Seconds to the held-out loss at which the worse of merged and non-shuffled ends.",
        "our reading of the abstract",
        "x",
        merged_to_same_loss,
        remark="No loss curves are published.",
    ),
    Claim(
        "merged_better_on_long",
        "The merged student is better on long inputs.",
        "Difference from non-shuffled on the longest third of the task with the longest inputs.",
        ABSTRACT,
        "points",
        merged_better_on_long,
        on_paper=_merged_better_on_long_on_paper,
        remark="No scores by length are published; DBRD is the long task.",
    ),
    Claim(
        "distilbert_beats_bort",
        "The DistilBERT shape scores better than Bort's.",
        "Paired difference per task on the same arm, Holm over tasks; most tasks decide.",
        ABSTRACT,
        "points",
        distilbert_beats_bort,
        on_paper=_distilbert_beats_bort_on_paper,
        remark="ScandEval: 41.90 ± 1.34 against 33.52 ± 3.76. Which arm the released Bort saw is not known.",
    ),
    Claim(
        "students_less_biased",
        "Students are less gender-stereotypical than their teacher.",
        "Mean absolute rank difference of hij and zij, teacher minus student, paired over professions, Holm over "
        "students; all students must be less biased.",
        ABSTRACT,
        "ranks",
        students_less_biased,
        remark="No bias number of the students could be read. A model that has learnt little leans little: see its "
        "pseudo-perplexity.",
    ),
    Claim(
        "students_finetune_faster",
        "Students fine-tune faster than the teacher.",
        "t test over tasks of the log ratio of fine-tuning times, Holm over students.",
        "implied by the aim of distillation",
        "x",
        students_finetune_faster,
        remark="No fine-tuning times are published.",
    ),
    Claim(
        "students_run_faster",
        "Students answer faster than the teacher.",
        "Ratio of latencies; intervals over repetitions must not overlap.",
        "implied by the aim of distillation",
        "x",
        students_run_faster,
        remark="ScandEval measures 1.36 to 2.05 times for the DistilBERT shape and 2.01 to 3.03 for Bort.",
    ),
    Claim(
        "merged_four_times_faster",
        "The merged student is four times as fast as the teacher in inference.",
        "Ratio of latencies with its interval, against 4.",
        "RobBERT-2022 model card",
        "x",
        four_times_faster,
        remark="ScandEval measures 1.36 to 2.05 times.",
    ),
    Claim(
        "non_shuffled_lowest_pppl",
        "Of the students, the non-shuffled one has the lowest pseudo-perplexity.",
        "Permutation test over held-out lines against every other student, Holm over students.",
        "main table",
        "nats/token",
        non_shuffled_lowest,
        remark="12.95 against 17.10 (merged), 18.74 (shuffled), 26.44 (bort); the held-out lines may overlap its text.",
    ),
)


def decide_claims(run: Run) -> dict[str, Any]:
    """Judge every claim and every instrument on a run's results and write `results/claims.json`.

    A row per claim and setting. On known-answer Dutch `kind` says "instrument check": those verdicts test our
    machinery and are no evidence about the paper. Raises `UserError` if `significance.json` or predictions are
    missing.
    """
    evidence = Evidence(run)
    kind = "real text" if run.profile.text == "real" else "instrument check"
    rows = []
    for claim in CLAIMS:
        on_paper = claim.on_paper() if claim.on_paper else None
        rows += [
            _row(claim, setting, claim.decide(evidence, setting), on_paper, kind)
            for setting in settings_of(run.profile)
        ]
    result = {
        "kind": kind,
        "margin": evidence.margin,
        "alpha": evidence.alpha,
        "claims": _mark_changes(_drop_empty_settings(rows)),
        "instruments": check_instruments(run, evidence.significance),
        "published": published.published_tables(),
    }
    write_json(run.paths.result("claims.json"), result)
    return result


def _row(claim: Claim, setting: Setting, decision: Decision, on_paper: Decision | None, kind: str) -> dict[str, Any]:
    told = f"{_told(on_paper)}. {claim.remark}" if on_paper else claim.remark
    scale = 100 if claim.unit == "points" else 1
    return {
        "id": claim.id,
        "setting": setting.name,
        "claim": claim.claim,
        "source": claim.source,
        "test": claim.test,
        "published": told,
        "published_verdict": on_paper.verdict if on_paper else None,
        "unit": claim.unit,
        "ours": None if decision.ours is None else scale * decision.ours,
        "interval": [scale * bound for bound in decision.interval] if decision.interval else None,
        "verdict": decision.verdict,
        "reason": decision.reason,
        "sample_factor": decision.factor,
        "findings": [finding.row() for finding in decision.findings],
        "kind": kind,
    }


def _told(decision: Decision) -> str:
    cells = ", ".join(
        f"{published.TITLES.get(f.what, f.what)} {100 * f.difference.value:+.1f} "
        f"[{100 * f.difference.low:+.1f}, {100 * f.difference.high:+.1f}]"
        for f in decision.findings
    )
    return f"{cells}; {decision.reason}"


def _drop_empty_settings(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Leave out settings without the students a claim needs; one stays if that is all there is."""
    kept = []
    for name in dict.fromkeys(row["id"] for row in rows):
        own = [row for row in rows if row["id"] == name]
        kept += [row for row in own if row["reason"] != NO_STUDENTS] or own[:1]
    return kept


def _mark_changes(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each row with `changes`: whether its claim was tested in several settings and did not come out alike in all."""
    verdicts: dict[str, set[str]] = {}
    for row in rows:
        if row["verdict"] != "not_tested":
            verdicts.setdefault(row["id"], set()).add(row["verdict"])
    return [{**row, "changes": len(verdicts.get(row["id"], ())) > 1} for row in rows]
