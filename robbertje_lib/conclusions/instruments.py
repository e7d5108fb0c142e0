"""Checks of the instruments: does each one read back what is known to be true?

On known-answer Dutch the truth of every instrument is planted. On real text only the significance tests can be
checked, on data simulated without a difference.
"""

from collections.abc import Iterator

from robbertje_lib.experiment.results.claims import InstrumentCheck
from robbertje_lib.experiment.results.finetuning import TaskScores
from robbertje_lib.experiment.results.gender_bias import GenderBiasResult, PlantedBias
from robbertje_lib.experiment.results.pseudo_perplexity import PseudoPerplexityResult
from robbertje_lib.experiment.results.significance import Calibration, SignificanceResult
from robbertje_lib.experiment.run import Run

TYPE_I_BOUND = 0.06  # allowed at nominal 0.05
TEACHER_FACTOR = 1.5  # the teacher's PPPL over the floor
SPEARMAN_BOUND = 0.9


def check_instruments(run: Run, significance: SignificanceResult) -> list[InstrumentCheck]:
    """What each instrument was given and what it read; what a run has no results for is left out."""
    checks = [*_tests(significance.calibration)]
    if run.profile.text == "known_answer":
        if PseudoPerplexityResult.exists(run):
            checks += _pseudo_perplexity(PseudoPerplexityResult.read(run), significance)
        checks += _tasks(run, significance)
        if GenderBiasResult.exists(run) and (planted := GenderBiasResult.read(run).planted):
            checks.append(_bias(planted))
    return checks


def failed(checks: list[InstrumentCheck]) -> list[str]:
    """Names of the instruments that failed a check, each once."""
    return list(dict.fromkeys(check.instrument for check in checks if not check.passed))


def _check(instrument: str, planted: str, read: str, passed: bool, detail: str) -> InstrumentCheck:
    return InstrumentCheck(instrument=instrument, planted=planted, read=read, passed=passed, detail=detail)


def _tests(calibration: Calibration) -> Iterator[InstrumentCheck]:
    for rate in calibration.rates:
        if rate.offered and rate.difference == 0:
            low, high = rate.interval
            sets = f"{rate.simulations} null data sets of {calibration.examples}"
            detail = f"{sets}, 95 % interval {low:.3f} to {high:.3f}"
            planted, passed = f"at most {TYPE_I_BOUND} rejected", rate.rejected <= TYPE_I_BOUND
            yield _check(f"{rate.test} ({rate.data})", planted, f"{rate.rejected:.3f}", passed, detail)


def _pseudo_perplexity(result: PseudoPerplexityResult, significance: SignificanceResult) -> Iterator[InstrumentCheck]:
    name, floor, unigram = "pseudo-perplexity", result.floor, result.unigram
    if floor is None:
        return
    students = {model: of.corpus for model, of in result.models.items() if model != "teacher"}
    teacher = result.models["teacher"].corpus
    lowest, value = min({"teacher": teacher, **students}.items(), key=lambda item: item[1])
    low, high = significance.pseudo_perplexity[lowest]
    truth, detail = f"no model below the floor of {floor:.2f}", f"95 % interval {low:.2f} to {high:.2f}"
    yield _check(name, truth, f"{value:.2f}", high >= floor, f"lowest is {lowest}, {detail}")
    truth, detail = f"teacher within {TEACHER_FACTOR} times the floor", f"teacher {teacher:.2f}, floor {floor:.2f}"
    yield _check(name, truth, f"{teacher / floor:.2f} times", teacher <= TEACHER_FACTOR * floor, detail)
    outside = [model for model, student in students.items() if not teacher < student < unigram]
    truth = f"students between teacher ({teacher:.2f}) and unigram model ({unigram:.2f})"
    read = f"{min(students.values()):.2f} to {max(students.values()):.2f}"
    yield _check(name, truth, read, not outside, f"outside: {', '.join(outside)}" if outside else "all between")


def _tasks(run: Run, significance: SignificanceResult) -> Iterator[InstrumentCheck]:
    """No model beats the best possible accuracy beyond its error, and the teacher beats the majority class."""
    for task in run.profile.finetuning.tasks:
        scores = {row.model: row for row in significance.scores if row.task == task}
        best, teacher = max(scores.values(), key=lambda row: row.score), scores["teacher"]
        name = f"{task} {'F1' if best.metric == 'f1' else best.metric}"
        possible = _best_possible(run, task)
        if possible < 1:
            truth, passed = f"no model above the best possible {possible:.3f}", best.interval[0] <= possible
            yield _check(name, truth, f"{best.score:.3f}", passed, f"best is {best.model}")
        majority = TaskScores.read(run, task=task).majority_baseline
        low, high = teacher.interval
        truth, detail = f"teacher above the majority class, {majority:.3f}", f"95 % interval {low:.3f} to {high:.3f}"
        yield _check(name, truth, f"{teacher.score:.3f}", low > majority, detail)


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
