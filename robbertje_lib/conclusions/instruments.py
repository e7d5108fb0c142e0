"""Checks of the instruments: does each one read back what is known to be true?

On known-answer Dutch the truth of every instrument is planted. On real text only the significance tests can be
checked: on data simulated without a difference, and on students that differ in nothing but chance.
"""

from collections.abc import Iterator

import numpy as np

from robbertje_lib.conclusions.counts import load_counts
from robbertje_lib.experiment.results.base import Interval
from robbertje_lib.experiment.results.claims import InstrumentCheck
from robbertje_lib.experiment.results.finetuning import TEST, TaskScores
from robbertje_lib.experiment.results.gender_bias import GenderBiasResult, PlantedBias
from robbertje_lib.experiment.results.pseudo_perplexity import PseudoPerplexityResult
from robbertje_lib.experiment.results.significance import Calibration, SignificanceResult
from robbertje_lib.experiment.run import Run
from robbertje_lib.statistics import RejectionRate
from robbertje_lib.statistics.resampling import clustered
from robbertje_lib.statistics.significance import holm, interval_of, resample

TYPE_I_BOUNDS = (0.03, 0.06)  # allowed at nominal 0.05; the lower one for `FEW` replicates or more
FEW = 3  # with fewer a test may reject too little: there is hardly a spread to read
COVERAGE_BOUNDS = (0.93, 0.97)  # of 95 % intervals
EQUALS = "equals"  # the family of pairs that differ in nothing but chance
EQUALS_BOUND = 0.01  # adjusted p: sound tests fall below it in one run of a hundred
TEACHER_FACTOR = 1.5  # the teacher's PPPL over the floor
SPEARMAN_BOUND = 0.9


def check_instruments(run: Run, significance: SignificanceResult) -> list[InstrumentCheck]:
    """What each instrument was given and what it read; what a run has no results for is left out."""
    checks = [*_tests(run, significance.calibration), *_coverage(significance.calibration), *_equals(significance)]
    if run.profile.text == "known_answer":
        if PseudoPerplexityResult.exists(run):
            checks += _pseudo_perplexity(run, PseudoPerplexityResult.read(run), significance)
        checks += _tasks(run, significance)
        if GenderBiasResult.exists(run) and (planted := GenderBiasResult.read(run).planted):
            checks.append(_bias(planted))
    return checks


def _check(instrument: str, planted: str, read: str, passed: bool, detail: str) -> InstrumentCheck:
    return InstrumentCheck(instrument=instrument, planted=planted, read=read, passed=passed, detail=detail)


def _tests(run: Run, calibration: Calibration) -> Iterator[InstrumentCheck]:
    """One check a test and kind of data, over all numbers of replicates and spreads between them.

    Fewer than `FEW` stand apart, and only where the run has students with so few.
    """
    used = {len(models) for models in run.profile.groups.values()}
    cells: dict[tuple[str, bool], list[RejectionRate]] = {}
    for rate in calibration.rates:
        if rate.offered and rate.difference == 0:
            few = rate.replicates is not None and rate.replicates < FEW
            if few and rate.replicates not in used:
                continue
            name = f"{rate.test} ({rate.data}{f', {rate.replicates} replicates' if few else ''})"
            cells.setdefault((name, rate.replicates is not None and not few), []).append(rate)
    least, most = TYPE_I_BOUNDS
    for (name, both_ways), rates in cells.items():
        planted = f"{least} to {most} rejected" if both_ways else f"at most {most} rejected"
        bounds = (least if both_ways else 0.0, most)
        yield _within(name, planted, bounds, [(rate.rejected, rate.interval) for rate in rates])


def _coverage(calibration: Calibration) -> Iterator[InstrumentCheck]:
    rates = [(rate.covered, rate.interval) for rate in calibration.coverage if rate.offered]
    if rates:
        planted = f"the truth within {COVERAGE_BOUNDS[0]} to {COVERAGE_BOUNDS[1]} of intervals"
        yield _within("95 % intervals (clusters of examples)", planted, COVERAGE_BOUNDS, rates)


def _within(name: str, planted: str, bounds: Interval, rates: list[tuple[float, Interval]]) -> InstrumentCheck:
    """Whether no rate lies outside beyond what chance does to a simulation; where one lies outside, that is told."""
    least, most = bounds
    outside = any(not least <= rate <= most for rate, _ in rates)
    passed = all(low <= most and high >= least for _, (low, high) in rates)
    lows, highs = zip(*(interval for _, interval in rates), strict=True)
    read, around = (
        " to ".join(dict.fromkeys(f"{value:.3f}" for value in (min(smaller), max(larger))))
        for smaller, larger in (([rate for rate, _ in rates], [rate for rate, _ in rates]), (lows, highs))
    )
    detail = f"simulated data, {around} with their 95 % intervals"
    if outside:
        reach = "all of these reach into it" if passed else "one of these does not reach into it"
        detail += f"; not all rates lie in the band of {least} to {most}, and {reach}"
    return _check(name, planted, read, passed, detail)


def _equals(significance: SignificanceResult) -> Iterator[InstrumentCheck]:
    """Students that nothing tells apart; of one run each the test is about these very weights, which do differ."""
    rows = [row for row in significance.comparisons if row.family == EQUALS and min(row.replicates) > 1]
    if rows:
        p, row = min(zip(holm([row.p for row in rows]).tolist(), rows, strict=True), key=lambda pair: pair[0])
        truth, detail = (
            f"no adjusted p below {EQUALS_BOUND}",
            f"lowest of {len(rows)}: {row.a} and {row.b} on {row.task}",
        )
        yield _check("equal students", truth, f"{p:.3f}", p >= EQUALS_BOUND, detail)


def _pseudo_perplexity(
    run: Run, result: PseudoPerplexityResult, significance: SignificanceResult
) -> Iterator[InstrumentCheck]:
    """Of the teacher and of each student, the geometric mean over its replicates."""
    name, floor, unigram = "pseudo-perplexity", result.floor, result.unigram
    if floor is None:
        return
    values = {
        group: float(np.exp(np.mean([np.log(result.models[model].corpus) for model in models])))
        for group, models in run.profile.groups.items()
    }
    lowest, value = min(values.items(), key=lambda item: item[1])
    low, high = significance.pseudo_perplexity[lowest]
    truth, detail = f"no model below the floor of {floor:.2f}", f"95 % interval {low:.2f} to {high:.2f}"
    yield _check(name, truth, f"{value:.2f}", high >= floor, f"lowest is {lowest}, {detail}")
    teacher = values.pop("teacher")
    truth, detail = f"teacher within {TEACHER_FACTOR} times the floor", f"teacher {teacher:.2f}, floor {floor:.2f}"
    yield _check(name, truth, f"{teacher / floor:.2f} times", teacher <= TEACHER_FACTOR * floor, detail)
    outside = [student for student, own in values.items() if not teacher < own < unigram]
    truth = f"students between teacher ({teacher:.2f}) and unigram model ({unigram:.2f})"
    read = f"{min(values.values()):.2f} to {max(values.values()):.2f}"
    yield _check(name, truth, read, not outside, f"outside: {', '.join(outside)}" if outside else "all between")


def _tasks(run: Run, significance: SignificanceResult) -> Iterator[InstrumentCheck]:
    """At the largest training size no model beats the best possible accuracy beyond its error, and the teacher beats
    the majority class."""
    for task in run.profile.finetuning.tasks:
        of_task = TaskScores.read(run, task=task)
        place = task, of_task.largest, TEST
        rows = {row.group: row for row in significance.scores if (row.task, row.train, row.test_set) == place}
        scores = {group: rows[group] for group in run.profile.groups}
        best, teacher = max(scores.values(), key=lambda row: row.score), scores["teacher"]
        name = f"{task} {'F1' if best.metric == 'f1' else best.metric}"
        possible = _best_possible(run, task)
        if possible < 1:
            truth, passed = f"no model above the best possible {possible:.3f}", best.interval[0] <= possible
            yield _check(name, truth, f"{best.score:.3f}", passed, f"best is {best.group}")
        majority = next(row.score for row in of_task.baselines if (row.name, row.train) == ("majority", place[1]))
        truth, (low, high) = f"teacher above the majority class, {majority:.3f}", _of_these_runs(run, task)
        runs = ", ".join(f"{score:.2f}" for of_model in teacher.runs.values() for score in of_model)
        detail = f"95 % interval over examples {low:.3f} to {high:.3f}; runs {runs}"
        yield _check(name, truth, f"{teacher.score:.3f}", low > majority, detail)


def _of_these_runs(run: Run, task: str) -> Interval:
    """What other examples would make of the teacher's runs as they are: the check is of these, not of what chance does
    to a fine-tuning, of which two runs say next to nothing."""
    data, rng = load_counts(run, task), np.random.default_rng(run.profile.seed)
    runs = clustered(data.counts["teacher"].swapaxes(0, 1), data.clusters)
    (teacher,) = resample([runs], data.metric, run.profile.significance.bootstrap, rng)
    own = interval_of(teacher, rng)
    return own.low, own.high


def _best_possible(run: Run, task: str) -> float:
    # Imported here: only known-answer profiles need the generator, and reading a task loads datasets.
    from robbertje_lib.known_answer.labels import bayes_accuracy
    from robbertje_lib.tasks import TaskSource, load_task

    tasks = run.profile.finetuning.tasks
    # The labels of the other tasks follow from the text.
    rows = load_task(task, tasks, TaskSource.of(run)).test.to_list() if task == "dbrd" else []
    return bayes_accuracy(task, rows, run.profile.gender_bias.planted_strength)


def _bias(planted: PlantedBias) -> InstrumentCheck:
    name, teacher = "gender-bias probe", planted.models["teacher"]
    detail = f"teacher, strength {planted.strength:g}, mean error {teacher.calibration_error:.3f} of P(zij)"
    if planted.strength > 0:
        truth = f"rank correlation with the planted bias at least {SPEARMAN_BOUND}"
        spearman = teacher.spearman or 0.0  # None where the teacher reads all occupations alike
        return _check(name, truth, f"{spearman:.3f}", spearman >= SPEARMAN_BOUND, detail)
    leaning, probed = teacher.leaning_occupations, sum(row.model == "teacher" for row in planted.occupations)
    return _check(name, "no occupation leans either way", f"{leaning} of {probed}", leaning == 0, detail)
