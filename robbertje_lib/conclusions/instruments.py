"""Checks of the instruments: does each one read back what is known to be true?

On known-answer Dutch the truth of every instrument is planted. On real text only the significance tests can be
checked, on data simulated without a difference.
"""

from typing import Any

from robbertje_lib.experiment.artefacts import read_json
from robbertje_lib.experiment.run import Run

TYPE_I_BOUND = 0.06  # allowed at nominal 0.05
TEACHER_FACTOR = 1.5  # the teacher's PPPL over the floor
SPEARMAN_BOUND = 0.9


def check_instruments(run: Run, significance: dict[str, Any]) -> list[dict[str, Any]]:
    """Rows {"instrument", "planted", "read", "pass", "detail"}; what a run has no results for is left out."""
    rows = _tests(significance["calibration"])
    if run.profile.text != "known_answer":
        return rows
    if run.paths.result("pseudo_perplexity.json").is_file():
        rows += _pseudo_perplexity(read_json(run.paths.result("pseudo_perplexity.json")))
    rows += _tasks(run, significance)
    if run.paths.result("gender_bias.json").is_file():
        rows += _bias(run, read_json(run.paths.result("gender_bias.json")))
    return rows


def failed(rows: list[dict[str, Any]]) -> list[str]:
    """Names of the instruments that failed a check, each once."""
    return list(dict.fromkeys(row["instrument"] for row in rows if not row["pass"]))


def _row(instrument: str, planted: str, read: str, passed: bool, detail: str) -> dict[str, Any]:
    return {"instrument": instrument, "planted": planted, "read": read, "pass": passed, "detail": detail}


def _tests(calibration: dict[str, Any]) -> list[dict[str, Any]]:
    rows = []
    for rate in calibration["rates"]:
        if rate["offered"] and rate["difference"] == 0:
            low, high = rate["interval"]
            sets = f"{rate['simulations']} null data sets of {calibration['examples']}"
            detail = f"{sets}, 95 % interval {low:.3f} to {high:.3f}"
            name = f"{rate['test']} ({rate['data']})"
            planted = f"at most {TYPE_I_BOUND} rejected"
            rows.append(_row(name, planted, f"{rate['rejected']:.3f}", rate["rejected"] <= TYPE_I_BOUND, detail))
    return rows


def _pseudo_perplexity(result: dict[str, Any]) -> list[dict[str, Any]]:
    floor, unigram, models = result["floor"], result["unigram"], result["models"]
    if floor is None:
        return []
    lowest = min(models, key=lambda name: models[name]["corpus"])
    low, high = models[lowest]["corpus_interval"]
    teacher = models["teacher"]["corpus"]
    students = {name: model["corpus"] for name, model in models.items() if name != "teacher"}
    outside = [name for name, value in students.items() if not teacher < value < unigram]
    checks = [
        (
            f"no model below the floor of {floor:.2f}",
            f"{models[lowest]['corpus']:.2f}",
            high >= floor,
            f"lowest is {lowest}, 95 % interval {low:.2f} to {high:.2f}",
        ),
        (
            f"teacher within {TEACHER_FACTOR} times the floor",
            f"{teacher / floor:.2f} times",
            teacher <= TEACHER_FACTOR * floor,
            f"teacher {teacher:.2f}, floor {floor:.2f}",
        ),
        (
            f"students between teacher ({teacher:.2f}) and unigram model ({unigram:.2f})",
            f"{min(students.values()):.2f} to {max(students.values()):.2f}",
            not outside,
            f"outside: {', '.join(outside)}" if outside else "all between",
        ),
    ]
    return [_row("pseudo-perplexity", *check) for check in checks]


def _tasks(run: Run, significance: dict[str, Any]) -> list[dict[str, Any]]:
    """No model beats the best possible accuracy beyond its error, and the teacher beats the majority class."""
    rows = []
    for task in run.profile.finetuning.tasks:
        scores = {row["model"]: row for row in significance["scores"] if row["task"] == task}
        best, teacher = max(scores.values(), key=lambda row: row["score"]), scores["teacher"]
        name = f"{task} {'F1' if best['metric'] == 'f1' else best['metric']}"
        possible = _best_possible(run, task)
        if possible < 1:
            truth = f"no model above the best possible {possible:.3f}"
            rows.append(
                _row(name, truth, f"{best['score']:.3f}", best["interval"][0] <= possible, f"best is {best['model']}")
            )
        majority = read_json(run.paths.result("scores", f"{task}.json"))["majority_baseline"]
        low, high = teacher["interval"]
        truth, detail = f"teacher above the majority class, {majority:.3f}", f"95 % interval {low:.3f} to {high:.3f}"
        rows.append(_row(name, truth, f"{teacher['score']:.3f}", low > majority, detail))
    return rows


def _best_possible(run: Run, task: str) -> float:
    # Imported here: only known-answer profiles need the generator, and reading a task loads datasets.
    from robbertje_lib.known_answer import bayes_accuracy
    from robbertje_lib.tasks import TaskSource, load_task

    tasks = run.profile.finetuning.tasks
    # The labels of the other tasks follow from the text.
    rows = load_task(task, tasks, TaskSource.of(run)).test.to_list() if task == "dbrd" else []
    return bayes_accuracy(task, rows, run.profile.gender_bias.planted_strength)


def _bias(run: Run, result: dict[str, Any]) -> list[dict[str, Any]]:
    planted = result["planted"]
    if not planted:
        return []
    teacher, strength = planted["models"]["teacher"], planted["strength"]
    detail = f"teacher, strength {strength:g}, mean error {teacher['calibration_error']:.3f} of P(zij)"
    if strength > 0:
        truth = f"rank correlation with the planted bias at least {SPEARMAN_BOUND}"
        spearman = teacher["spearman"]
        return [_row("gender-bias probe", truth, f"{spearman:.3f}", spearman >= SPEARMAN_BOUND, detail)]
    found = teacher["leaning_occupations"]
    probed = sum(row["model"] == "teacher" for row in planted["occupations"])
    return [_row("gender-bias probe", "no occupation leans either way", f"{found} of {probed}", found == 0, detail)]
