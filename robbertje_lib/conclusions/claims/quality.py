"""Claims about what students score: by the order and merging of their text, by their shape, against their teacher."""

import numpy as np
from numpy.typing import NDArray

from robbertje_lib.conclusions.claims import base
from robbertje_lib.conclusions.claims.base import Decision, Evidence, NotTested, Setting
from robbertje_lib.conclusions.counts import TaskCounts, input_lengths, load_counts
from robbertje_lib.conclusions.published import TASKS, TITLES
from robbertje_lib.experiment.profile import SmallestDifferences
from robbertje_lib.experiment.results.pseudo_perplexity import PSEUDO_PERPLEXITY
from robbertje_lib.statistics import Verdict
from robbertje_lib.statistics.resampling import clustered
from robbertje_lib.statistics.significance import Difference, difference_of, resample
from robbertje_lib.statistics.verdicts import Finding, every, judge_alike, judge_better, judge_not_worse, majority

ELSEWHERE = ("die_dat", "ner")  # tasks of short inputs on which the paper's merged student is the lowest
ON_PAPER = SmallestDifferences()
PAPER_STUDENTS = ("non_shuffled", "shuffled", "merged", "bort")
OTHERS = ("non_shuffled", "shuffled")  # that merged is held against
PAPER_ALPHA = 0.05
PAPER_SAMPLE = "test examples"


def alike(evidence: Evidence, setting: Setting) -> Decision:
    """Equivalence of shuffled and non-shuffled, task by task."""
    pair = setting.arm("shuffled"), setting.arm("non_shuffled")
    tasks = evidence.open_tasks(pair)
    smallest = evidence.smallest.score
    findings = judge_alike(evidence.differences(*pair, tasks.sizes), smallest, evidence.alpha)
    what, notes = f"alike within {_points(smallest)}", tasks.notes
    recipe = evidence.run.profile.recipes.get(setting.recipe)
    if setting.selection == "same_lines" and recipe and recipe.order == "random":
        notes += ("a comparison of equals: the same lines, whose order is drawn anew every epoch",)
    of = len(evidence.tasks)
    return base.decide_by_majority(findings, of, what, base.SAMPLE, smallest, notes, bounding=False)


def alike_on_paper() -> Decision:
    findings = judge_alike(base.differences_on_paper("shuffled", "non_shuffled"), ON_PAPER.score, PAPER_ALPHA)
    what = f"alike within {_points(ON_PAPER.score)}"
    return base.decide_by_majority(findings, len(TASKS), what, PAPER_SAMPLE, ON_PAPER.score, bounding=False)


def _points(score: float) -> str:
    return f"{100 * score:g} point{'s' * (score != 0.01)}"


def _signed(score: float) -> str:
    return f"{round(100 * score, 1) + 0:+.1f}"  # + 0, so that nothing has no sign of less


def better_on_long(evidence: Evidence, setting: Setting) -> Decision:
    """Merged on the longest third of the inputs of the task that has the longest: three differences above 0.

    The task is chosen by its inputs alone. Raises `NotTested` where training did not carry over to it.
    That merged is better everywhere would not show that it helps with length: so its gain over non-shuffled on the
    longest third must also exceed its gain on the shortest.
    """
    merged, ordered, shuffled = (setting.arm(arm) for arm in ("merged", "non_shuffled", "shuffled"))
    lengths = {task: float(np.median(input_lengths(evidence.run, task))) for task in evidence.tasks}
    longest = max(lengths, key=lambda task: lengths[task])
    tasks = evidence.open_tasks((merged, ordered, shuffled), [longest])
    data = load_counts(evidence.run, longest, tasks.sizes[longest])
    short, long = np.quantile(data.n_tokens, [1 / 3, 2 / 3])
    findings = judge_better(
        _on_long(evidence, data, (merged, ordered, shuffled), short, long), evidence.smallest.score, evidence.alpha
    )
    over_ordered, over_shuffled, more = (finding.difference.value for finding in findings)
    reason = (
        f"{data.task} inputs of {long:.0f} tokens or more: {_signed(over_ordered)} points against {ordered}, "
        f"{_signed(over_shuffled)} against {shuffled}; of {short:.0f} or fewer: {_signed(over_ordered - more)} against "
        f"{ordered}"
    )
    return base.decision(
        every(findings), reason, f"long {base.SAMPLE}", findings, base.headline(findings[0]), evidence.smallest.score,
        (*tasks.notes, f"the long inputs of {data.task}"),
    )  # fmt: skip


def _on_long(
    evidence: Evidence, data: TaskCounts, groups: tuple[str, str, str], short: float, long: float
) -> dict[str, Difference]:
    """Merged minus each of the others on long inputs, and what of the first is more than on short ones."""
    chosen = [(data.n_tokens >= long)[:, np.newaxis], (data.n_tokens <= short)[:, np.newaxis]]
    counts = [
        clustered(np.concatenate([data.counts[group] * third for third in chosen], axis=-1), data.clusters)
        for group in groups
    ]
    k = counts[0].shape[-1] // 2

    def on_long(sums: NDArray[np.floating]) -> NDArray[np.floating]:
        return data.metric(sums[..., :k])

    def more_on_long(sums: NDArray[np.floating]) -> NDArray[np.floating]:
        return data.metric(sums[..., :k]) - data.metric(sums[..., k:])

    rng = np.random.default_rng([evidence.run.profile.seed, 90])
    level, resamples = 1 - evidence.alpha, evidence.run.profile.significance.bootstrap
    merged, *others = resample(counts, on_long, resamples, rng)
    gains = resample(counts[:2], more_on_long, resamples, rng)
    return {
        **{
            f"{data.task}, long inputs, above {name}": difference_of(merged, other, rng, level)
            for name, other in zip(groups[1:], others, strict=True)
        },
        f"{data.task}, gain on long inputs beyond that on short ones": difference_of(gains[0], gains[1], rng, level),
    }


def better_on_long_on_paper() -> Decision:
    """Of the three differences that it takes the table has two; it has no scores by length."""
    differences = {f"DBRD, above {name}": base.differences_on_paper("merged", name)["dbrd"] for name in OTHERS}
    findings = judge_better(differences, ON_PAPER.score, PAPER_ALPHA)
    verdict, factor = every(findings)
    reason = "above both others on DBRD, the task of long inputs; whether by more than on short inputs is not published"
    ruling = ("undecided" if verdict == "supported" else verdict), factor
    return base.decision(ruling, reason, PAPER_SAMPLE, findings, base.headline(findings[0]), ON_PAPER.score)


def beats_bort(evidence: Evidence, setting: Setting) -> Decision:
    """The larger student minus Bort, on the arm that Bort was trained on."""
    larger, bort = both_shapes(setting)
    tasks, smallest = evidence.open_tasks((larger, bort)), evidence.smallest.score
    findings = judge_better(evidence.differences(larger, bort, tasks.sizes), smallest, evidence.alpha)
    of, what = len(evidence.tasks), f"{larger} above {bort}"
    return base.decide_by_majority(findings, of, what, base.SAMPLE, smallest, tasks.notes)


def both_shapes(setting: Setting) -> tuple[str, str]:
    """The larger student and Bort, of the arm that has both. Raises `NotTested` where none has."""
    arm = next((arm for arm, role in setting.students if role == "bort"), None)
    if arm is None:
        raise NotTested(base.NO_STUDENTS)
    return setting.arm(arm), setting.students[arm, "bort"]


def beats_bort_on_paper() -> Decision:
    findings = judge_better(base.differences_on_paper("non_shuffled", "bort"), ON_PAPER.score, PAPER_ALPHA)
    what = "non_shuffled above bort"
    return base.decide_by_majority(findings, len(TASKS), what, PAPER_SAMPLE, ON_PAPER.score)


def small_trade_off(evidence: Evidence, setting: Setting) -> Decision:
    """Is each student, on most tasks, not worse than the teacher by more than the trade-off?

    A task counts where the teacher is of use: what loses little against something useless is no good student. Where a
    student is of none, nothing is shown of it. Raises `NotTested` where that is so of all students on all tasks.
    """
    teachers = evidence.useful_tasks(["teacher"])
    differences: dict[str, dict[str, Difference]] = {}
    narrowings = [*teachers.narrowings]
    for student in setting.students.values():
        tasks = evidence.useful_tasks((student, "teacher"))
        narrowings += tasks.narrowings
        sizes = {task: train for task, train in tasks.sizes.items() if task in teachers.sizes}
        differences[student] = evidence.differences(student, "teacher", sizes)
    notes = base.told_once(narrowings)
    if not any(differences.values()):
        raise NotTested("; ".join(notes))
    of = len(teachers.sizes)
    return _trade_off(differences, of, evidence.smallest.trade_off, evidence.alpha, base.SAMPLE, notes)


def small_trade_off_on_paper() -> Decision:
    differences = {student: base.differences_on_paper(student, "teacher") for student in PAPER_STUDENTS}
    return _trade_off(differences, len(TASKS), ON_PAPER.trade_off, PAPER_ALPHA, PAPER_SAMPLE)


def _trade_off(
    differences: dict[str, dict[str, Difference]],
    of: int,
    trade_off: float,
    alpha: float,
    sample: str,
    notes: tuple[str, ...] = (),
) -> Decision:
    """Most of `of` tasks decide for a student, and every student must pass; Holm over all of it."""
    cells = [(student, task) for student, row in differences.items() for task in row]
    named = {f"{label}, {TITLES.get(task, task)}": differences[label][task] for label, task in cells}
    findings = judge_not_worse(named, trade_off, alpha)
    rulings = {
        student: majority([finding for finding, cell in zip(findings, cells, strict=True) if cell[0] == student], of)
        for student in differences
    }
    told = ", ".join(
        f"{student} {verdict}{f' (tested on {len(differences[student])})' if len(differences[student]) < of else ''}"
        for student, (verdict, _) in rulings.items()
    )
    reason = f"loses at most {_points(trade_off)} against the teacher on most of {of} tasks: {told}"
    outcomes = [verdict for verdict, _ in rulings.values()]
    overall: Verdict = (
        "contradicted" if "contradicted" in outcomes else "undecided" if "undecided" in outcomes else "supported"
    )
    ruling = overall, max(factor for _, factor in rulings.values())
    worst = min(findings, key=lambda finding: finding.difference.value)
    return base.decision(ruling, reason, sample, findings, base.headline(worst), trade_off, notes, bounding=False)


def costs_elsewhere(evidence: Evidence, setting: Setting) -> Decision:
    """What merged loses against non-shuffled on die/dat and NER, tasks of short inputs: both must show it."""
    merged, ordered = setting.arm("merged"), setting.arm("non_shuffled")
    wanted = [task for task in ELSEWHERE if task in evidence.tasks]
    if not wanted:
        raise NotTested("the profile has neither die/dat nor NER")
    tasks, smallest = evidence.open_tasks((merged, ordered), wanted), evidence.smallest.score
    findings = judge_better(evidence.differences(ordered, merged, tasks.sizes), smallest, evidence.alpha)
    return _lost(findings, base.SAMPLE, smallest, tasks.notes)


def costs_elsewhere_on_paper() -> Decision:
    """On NER alone: how many die/dat examples were tested is not known."""
    differences = {"ner": base.differences_on_paper("non_shuffled", "merged")["ner"]}
    findings = judge_better(differences, ON_PAPER.score, PAPER_ALPHA)
    return _lost(findings, PAPER_SAMPLE, ON_PAPER.score, ())


def _lost(findings: list[Finding], sample: str, smallest: float, notes: tuple[str, ...]) -> Decision:
    judged = {finding.what for finding in findings}
    left_out = [TITLES[task] for task in ELSEWHERE if task not in judged]
    told = ", ".join(f"{_signed(f.difference.value)} points on {TITLES[f.what]}" for f in findings)
    least = min(findings, key=lambda finding: finding.difference.value)
    reason = f"non-shuffled minus merged: {told}"
    return base.decision(
        every(findings), reason, sample, findings, base.headline(least), smallest, notes, left_out=left_out
    )


def non_shuffled_lowest(evidence: Evidence, setting: Setting) -> Decision:
    """PPPL of every other student of the setting minus non-shuffled's, in nats per token."""
    ordered, *others = with_others(setting)
    evidence.refuse_above_unigram([ordered, *others])
    sizes, smallest = {PSEUDO_PERPLEXITY: 0}, evidence.smallest.nats
    differences = {name: evidence.differences(name, ordered, sizes)[PSEUDO_PERPLEXITY] for name in others}
    findings = judge_better(differences, smallest, evidence.alpha)
    nearest = min(findings, key=lambda f: f.difference.value)
    reason, sample = f"next is {nearest.what}", "held-out documents and replicates"
    return base.decision(every(findings), reason, sample, findings, base.headline(nearest), smallest)


def with_others(setting: Setting) -> tuple[str, ...]:
    """The non-shuffled student and all others. Raises `NotTested` where there are no two."""
    ordered = setting.arm("non_shuffled")
    others = tuple(name for name in setting.students.values() if name != ordered)
    if not others:
        raise NotTested(base.NO_STUDENTS)
    return ordered, *others
