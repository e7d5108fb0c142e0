"""Every comparison of a run, from the stored predictions: no model is loaded, so anyone can re-examine it."""

from dataclasses import dataclass
from functools import cache
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robbertje_lib.experiment.artefacts import read_json, read_parquet, write_json
from robbertje_lib.experiment.errors import UserError
from robbertje_lib.experiment.profile import Profile, Significance
from robbertje_lib.experiment.run import Run
from robbertje_lib.statistics.calibration import calibration_study
from robbertje_lib.statistics.resampling import Metric, bootstrapped_scores, ratio, score
from robbertje_lib.statistics.significance import (
    Difference,
    bootstrap_difference,
    detectable_difference,
    effect_size,
    hierarchical_difference,
    holm,
    mcnemar_exact,
    permutation_test,
)
from robbertje_lib.tasks.metrics import METRICS, example_counts

FAMILIES = {
    "students_vs_teacher": "Every student against the teacher, on every task: does distillation cost anything?",
    "students": "Students of one selection and recipe against each other, on every task: do text and shape matter?",
    "controls": "Students that differ in selection or recipe alone, on every task: does the set-up matter?",
    "pseudo_perplexity": "All of these pairs on the held-out lines, in nats per token.",
}
PSEUDO_PERPLEXITY = "pseudo_perplexity"
CALIBRATION_SEED = 2012


@dataclass(frozen=True)
class TaskCounts:
    """What each model made of each test example of one task."""

    task: str
    metric_name: str
    metric: Metric
    counts: dict[str, NDArray[np.float64]]  # model -> (seeds, examples, k)
    n_tokens: NDArray[np.int64]  # (examples,)

    @property
    def examples(self) -> int:
        return len(self.n_tokens)

    @property
    def one_answer_each(self) -> bool:
        """Whether an example is right or wrong as a whole, as McNemar's test needs."""
        return self.metric_name == "accuracy" and all((c[..., 1] == 1).all() for c in self.counts.values())

    def subset(self, chosen: NDArray[np.bool_]) -> "TaskCounts":
        """The same task on some of its examples; chosen: (examples,) bool."""
        kept = {model: counts[:, chosen] for model, counts in self.counts.items()}
        return TaskCounts(self.task, self.metric_name, self.metric, kept, self.n_tokens[chosen])


def model_pairs(profile: Profile) -> dict[str, list[tuple[str, str]]]:
    """The pairs (a, b) of each family of `FAMILIES`, in the profile's order of models."""
    students = profile.students
    among, controls = [], []
    for a, b in combinations(students, 2):
        first, second = students[a], students[b]
        if (first.selection, first.recipe) == (second.selection, second.recipe):
            among.append((a, b))
        elif (first.arm, first.shape) == (second.arm, second.shape):
            controls.append((a, b))
    to_teacher = [(student, "teacher") for student in students]
    return {"students_vs_teacher": to_teacher, "students": among, "controls": controls}


def load_task(run: Run, task: str) -> TaskCounts:
    """Per-example counts of one task from `predictions/<task>.parquet`, models in the profile's order.

    Accuracy counts (correct, examples), or (correct, words) where labels are lists; F1 counts entities as
    (true positive, false positive, false negative) per sentence. Raises `UserError` where a model, a seed or an
    example is missing, or a prediction is not as long as its gold labels.
    """
    where = f"predictions/{task}.parquet"
    table = read_parquet(run.paths.result("predictions", f"{task}.parquet"))
    metric_name = read_json(run.paths.result("scores", f"{task}.json"))["metric"]
    frame = table.select(["model", "seed", "example_id", "gold", "prediction", "n_tokens"]).to_pandas()
    missing = [model for model in run.profile.models if model not in set(frame["model"])]
    if missing:
        raise UserError(f"{where} has no predictions of {', '.join(missing)}; delete it and run `make reproduce` again")
    counts: dict[str, NDArray[np.float64]] = {}
    reference = None
    for model in run.profile.models:
        seeds = []
        for seed, rows in frame[frame["model"] == model].groupby("seed", sort=True):
            rows = rows.sort_values("example_id")
            names = rows["example_id"].to_numpy()
            reference = rows if reference is None else reference
            if not np.array_equal(names, reference["example_id"].to_numpy()):
                raise UserError(
                    f"{where}: {model}, seed {seed} was tested on other examples than the first model; "
                    "delete it and run `make reproduce` again"
                )
            try:
                seeds.append(example_counts(metric_name, *(_labels(rows[side]) for side in ("gold", "prediction"))))
            except ValueError as error:
                raise UserError(f"{where}: {model}, seed {seed}: {error}; delete it and run again") from None
        counts[model] = np.stack(seeds).astype(np.float64)
    assert reference is not None
    return TaskCounts(task, metric_name, METRICS[metric_name], counts, reference["n_tokens"].to_numpy(np.int64))


def _labels(column: Any) -> list[Any]:
    """A label an example as it is; a sentence's labels, which pandas reads as an array, as a list."""
    return [list(value) if isinstance(value, np.ndarray) else value for value in column]


def load_pseudo_perplexity(run: Run) -> TaskCounts:
    """Counts (nats, tokens) per held-out line and model; a model has no seeds here, as it was distilled once."""
    table = read_parquet(run.paths.result("pseudo_perplexity.parquet"))
    lines = table.group_by(["model", "line"]).aggregate([("log_prob", "sum"), ("log_prob", "count")]).to_pandas()
    counts: dict[str, NDArray[np.float64]] = {}
    tokens = None
    for model in run.profile.models:
        rows = lines[lines["model"] == model].sort_values("line")
        counts[model] = np.stack([-rows["log_prob_sum"], rows["log_prob_count"]], axis=1).astype(np.float64)[np.newaxis]
        tokens = rows["log_prob_count"].to_numpy(np.int64) if tokens is None else tokens
        if not np.array_equal(counts[model][0, :, 1], tokens):
            raise UserError(
                f"pseudo_perplexity.parquet: {model} was scored on other tokens than the first model; "
                "delete it and run `make reproduce` again"
            )
    assert tokens is not None
    return TaskCounts(PSEUDO_PERPLEXITY, "nats_per_token", ratio, counts, tokens)


@dataclass(frozen=True)
class Replicates:
    """Scores of all models on the same redrawn test examples, from which every pair's interval follows."""

    data: TaskCounts
    scores: dict[str, NDArray[np.floating]]  # model -> (seeds,)
    drawn: dict[str, NDArray[np.floating]]  # model -> (resamples, seeds)

    @classmethod
    def draw(cls, data: TaskCounts, resamples: int, rng: np.random.Generator) -> "Replicates":
        stacked = bootstrapped_scores(np.concatenate(list(data.counts.values())), data.metric, resamples, rng)
        ends = np.cumsum([len(counts) for counts in data.counts.values()])[:-1]
        drawn = dict(zip(data.counts, np.split(stacked, ends, axis=1), strict=True))
        return cls(data, {m: score(counts, data.metric) for m, counts in data.counts.items()}, drawn)

    def difference(self, a: str, b: str, rng: np.random.Generator, level: float = 0.95) -> Difference:
        """a - b over seeds and examples, or over examples alone where there is one seed."""
        return _difference(
            (self.scores[a], self.drawn[a]), (self.scores[b], self.drawn[b]), self.data.examples, rng, level
        )

    def interval(self, model: str, rng: np.random.Generator, level: float = 0.95) -> Difference:
        """The score of one model, as its difference from a constant 0."""
        own = self.scores[model], self.drawn[model]
        return _difference(own, (np.zeros_like(own[0]), np.zeros_like(own[1])), self.data.examples, rng, level)


def _difference(
    a: tuple[NDArray[np.floating], NDArray[np.floating]],
    b: tuple[NDArray[np.floating], NDArray[np.floating]],
    examples: int,
    rng: np.random.Generator,
    level: float,
) -> Difference:
    if min(len(a[0]), len(b[0])) == 1:
        return bootstrap_difference(a[0], b[0], a[1], b[1], examples, level)
    return hierarchical_difference(a[0], b[0], a[1], b[1], examples, rng, level)


def compare_models(run: Run) -> dict[str, Any]:
    """Compare the models of a run on every task and write `results/significance.json`.

    With several seeds the test is the hierarchical bootstrap, which speaks of other seeds and other examples;
    `p_per_seed` then holds the paired test of each seed alone. With one seed that paired test decides: exact
    McNemar for accuracy per example, else approximate randomisation. p values are adjusted by Holm within a
    family. Raises `UserError` where a result file is missing or does not fit the profile.
    """
    settings = run.profile.significance
    comparisons, scores, mismatches = [], [], []
    for number, task in enumerate([*run.profile.finetuning.tasks, PSEUDO_PERPLEXITY]):
        rng = np.random.default_rng([run.profile.seed, number])
        data = load_pseudo_perplexity(run) if task == PSEUDO_PERPLEXITY else load_task(run, task)
        replicates = Replicates.draw(data, settings.bootstrap, rng)
        for family, pairs in model_pairs(run.profile).items():
            name = PSEUDO_PERPLEXITY if task == PSEUDO_PERPLEXITY else family
            comparisons += [_compare(name, replicates, a, b, settings, rng) for a, b in pairs]
        if task != PSEUDO_PERPLEXITY:
            scores += [_summary(replicates, model, settings, rng) for model in data.counts]
            mismatches += _mismatches(run, replicates)
    for family in FAMILIES:
        members = [row for row in comparisons if row["family"] == family]
        for row, adjusted in zip(members, holm([row["p"] for row in members]), strict=True):
            row["adjusted_p"] = float(adjusted)
    result = {
        "alpha": settings.alpha,
        "families": FAMILIES,
        "comparisons": comparisons,
        "scores": scores,
        "mismatches": mismatches,
        "calibration": shipped_study(settings.alpha),
    }
    write_json(run.paths.result("significance.json"), result)
    return result


@cache
def shipped_study(alpha: float) -> dict[str, Any]:
    """The calibration study that every run carries: it is about the tests, so its data never change."""
    return calibration_study(CALIBRATION_SEED, alpha=alpha)


def _compare(
    family: str, replicates: Replicates, a: str, b: str, settings: Significance, rng: np.random.Generator
) -> dict[str, Any]:
    data = replicates.data
    found = replicates.difference(a, b, rng, 1 - settings.alpha)
    seeds = min(len(data.counts[a]), len(data.counts[b]))
    paired = [
        _paired_p(data, data.counts[a][seed], data.counts[b][seed], settings.permutations, rng) for seed in range(seeds)
    ]
    paired_name = "exact McNemar" if data.one_answer_each else "permutation"
    means = float(replicates.scores[a].mean()), float(replicates.scores[b].mean())
    return {
        "family": family,
        "task": data.task,
        "metric": data.metric_name,
        "a": a,
        "b": b,
        "score_a": means[0],
        "score_b": means[1],
        "difference": found.value,
        "interval": [found.low, found.high],
        "standard_error": found.standard_error,
        "degrees": found.degrees,
        "p": found.p if seeds > 1 else paired[0],
        "test": "hierarchical bootstrap" if seeds > 1 else paired_name,
        "p_per_seed": paired,
        "test_per_seed": paired_name,
        "n": data.examples,
        "seeds": seeds,
        "effect_size": effect_size(*means) if data.task != PSEUDO_PERPLEXITY else None,
        "detectable_difference": detectable_difference(found, settings.alpha),
    }


def _paired_p(
    data: TaskCounts,
    a: NDArray[np.float64],
    b: NDArray[np.float64],
    permutations: int,
    rng: np.random.Generator,
) -> float:
    if data.one_answer_each:
        return mcnemar_exact(a[:, 0], b[:, 0])
    return permutation_test(a, b, data.metric, permutations, rng)


def _summary(replicates: Replicates, model: str, settings: Significance, rng: np.random.Generator) -> dict[str, Any]:
    found = replicates.interval(model, rng, 1 - settings.alpha)
    return {
        "task": replicates.data.task,
        "metric": replicates.data.metric_name,
        "model": model,
        "score": found.value,
        "interval": [max(0.0, found.low), min(1.0, found.high)],
        "seeds": [float(value) for value in replicates.scores[model]],
        "n": replicates.data.examples,
    }


def _mismatches(run: Run, replicates: Replicates) -> list[dict[str, Any]]:
    """Scores that fine-tuning reported and that the stored predictions do not give; there should be none."""
    data = replicates.data
    runs = read_json(run.paths.result("scores", f"{data.task}.json"))["runs"]
    found = []
    for model, recomputed in replicates.scores.items():
        own = sorted((r for r in runs if r["model"] == model), key=lambda r: r["seed"])
        for reported, value in zip(own, recomputed, strict=True):
            told = reported["metrics"].get(data.metric_name)
            if told is None or abs(told - value) > 1e-6:
                where = {"task": data.task, "model": model, "seed": reported["seed"]}
                found.append({**where, "reported": told, "recomputed": float(value)})
    return found
