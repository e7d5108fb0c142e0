"""Every comparison of a run, from the stored predictions: no model is loaded, so anyone can re-examine it."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from robbertje_lib.conclusions.counts import (
    PSEUDO_PERPLEXITY,
    TaskCounts,
    load_counts,
    load_line_counts,
    pseudo_perplexity_counts,
)
from robbertje_lib.experiment.profile import Profile, Significance
from robbertje_lib.experiment.results.base import Interval
from robbertje_lib.experiment.results.claims import FormLoss
from robbertje_lib.experiment.results.efficiency import FormLosses
from robbertje_lib.experiment.results.finetuning import TaskScores
from robbertje_lib.experiment.results.significance import (
    BinScore,
    Calibration,
    Comparison,
    LengthBin,
    LengthScores,
    Mismatch,
    Score,
    SignificanceResult,
)
from robbertje_lib.experiment.run import Run
from robbertje_lib.statistics import calibration
from robbertje_lib.statistics.resampling import (
    Metric,
    bootstrapped_scores,
    percentile_interval,
    ratio,
    scores_by_seed,
)
from robbertje_lib.statistics.significance import (
    Difference,
    Resampled,
    bootstrap_difference,
    detectable_difference,
    effect_size,
    hierarchical_difference,
    holm,
    mcnemar_exact,
    permutation_test,
    resample,
)

FAMILIES = {
    "students_vs_teacher": "Every student against the teacher, on every task: does distillation cost anything?",
    "students": "Students of one selection and recipe against each other, on every task: do text and shape matter?",
    "controls": "Students that differ in selection or recipe alone, on every task: does the set-up matter?",
    PSEUDO_PERPLEXITY: "All of these pairs on the held-out lines, in nats per token.",
}
CALIBRATION_SEED = 2012
BINS = 4  # of test examples by their length
RESAMPLES = 1000  # of a score by length, and of what a form loses


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


@dataclass(frozen=True)
class Replicates:
    """Scores of all models on the same redrawn test examples, from which every pair's interval follows."""

    data: TaskCounts
    models: dict[str, Resampled]

    @classmethod
    def draw(cls, data: TaskCounts, resamples: int, rng: np.random.Generator) -> "Replicates":
        drawn = resample(list(data.counts.values()), data.metric, resamples, rng)
        return cls(data, dict(zip(data.counts, drawn, strict=True)))

    def difference(self, a: str, b: str, rng: np.random.Generator, level: float) -> Difference:
        """a - b over seeds and examples, or over examples alone where there is one seed."""
        return _difference(self.models[a], self.models[b], rng, level)

    def interval(self, model: str, rng: np.random.Generator, level: float) -> Difference:
        """The score of one model, as its difference from a constant 0."""
        own = self.models[model]
        zero = replace(own, scores=np.zeros_like(own.scores), drawn=np.zeros_like(own.drawn))
        return _difference(own, zero, rng, level)


def _difference(a: Resampled, b: Resampled, rng: np.random.Generator, level: float) -> Difference:
    if min(len(a.scores), len(b.scores)) == 1:
        return bootstrap_difference(a, b, level)
    return hierarchical_difference(a, b, rng, level)


def compare_models(run: Run) -> SignificanceResult:
    """Compare the models of a run on every task and write `results/significance.json`.

    With several seeds the test is the hierarchical bootstrap, which speaks of other seeds and other examples;
    `p_per_seed` then holds the paired test of each seed alone. With one seed that paired test decides: exact
    McNemar for accuracy per example, else approximate randomisation. p values are adjusted by Holm within a
    family. Raises `UserError` where a result file is missing or does not fit the profile.
    """
    settings, seed = run.profile.significance, run.profile.seed
    tasks = list(run.profile.finetuning.tasks)
    comparisons: list[Comparison] = []
    scores: list[Score] = []
    mismatches: list[Mismatch] = []
    by_length = {}
    for number, task in enumerate(tasks):
        rng = np.random.default_rng([seed, number])
        data = load_counts(run, task)
        replicates = Replicates.draw(data, settings.bootstrap, rng)
        for family, pairs in model_pairs(run.profile).items():
            comparisons += [_compare(family, replicates, a, b, settings, rng) for a, b in pairs]
        scores += [_score(replicates, model, settings, rng) for model in data.counts]
        mismatches += _mismatches(run, replicates)
        by_length[task] = score_by_length(data, seed)
    rng = np.random.default_rng([seed, len(tasks)])
    lines = load_line_counts(run)
    replicates = Replicates.draw(pseudo_perplexity_counts(run, lines), settings.bootstrap, rng)
    for pairs in model_pairs(run.profile).values():
        comparisons += [_compare(PSEUDO_PERPLEXITY, replicates, a, b, settings, rng) for a, b in pairs]
    result = SignificanceResult(
        alpha=settings.alpha,
        families=FAMILIES,
        comparisons=_adjusted(comparisons),
        scores=scores,
        by_length=by_length,
        pseudo_perplexity={model: _perplexity_interval(run, counts) for model, counts in lines.items()},
        mismatches=mismatches,
        calibration=shipped_study(settings.alpha),
    )
    result.write(run)
    return result


def _adjusted(comparisons: list[Comparison]) -> list[Comparison]:
    """p values adjusted by Holm within each family."""
    adjusted = {f: iter(holm([row.p for row in comparisons if row.family == f]).tolist()) for f in FAMILIES}
    return [row.model_copy(update={"adjusted_p": next(adjusted[row.family])}) for row in comparisons]


def _perplexity_interval(run: Run, counts: NDArray[np.float64]) -> Interval:
    """The 95 % bootstrap interval over lines of a `corpus` pseudo-perplexity; counts: (lines, 2)."""
    rng = np.random.default_rng(run.profile.seed)
    drawn = bootstrapped_scores(counts, ratio, run.profile.pseudo_perplexity.bootstrap, rng)
    low, high = np.exp(percentile_interval(drawn)).tolist()
    return low, high


@cache
def shipped_study(alpha: float) -> Calibration:
    """The calibration study that every run carries: it is about the tests, so its data never change."""
    return Calibration(
        alpha=alpha,
        examples=calibration.EXAMPLES,
        seeds=calibration.SEEDS,
        margin=calibration.MARGIN,
        rates=calibration.calibration_study(CALIBRATION_SEED, alpha=alpha),
    )


def _compare(
    family: str, replicates: Replicates, a: str, b: str, settings: Significance, rng: np.random.Generator
) -> Comparison:
    data = replicates.data
    difference = replicates.difference(a, b, rng, 1 - settings.alpha)
    of_seeds = list(zip(data.counts[a], data.counts[b], strict=False))  # as many as both have
    if data.one_answer_each:
        paired_name, paired = "exact McNemar", [mcnemar_exact(x[:, 0], y[:, 0]) for x, y in of_seeds]
    else:
        paired_name = "permutation"
        paired = [permutation_test(x, y, data.metric, settings.permutations, rng) for x, y in of_seeds]
    seeds = len(of_seeds)
    means = float(replicates.models[a].scores.mean()), float(replicates.models[b].scores.mean())
    p = difference.p if seeds > 1 else paired[0]
    return Comparison(
        family=family,
        task=data.task,
        metric=data.metric_name,
        a=a,
        b=b,
        score_a=means[0],
        score_b=means[1],
        difference=difference.value,
        interval=(difference.low, difference.high),
        standard_error=difference.standard_error,
        degrees=difference.degrees,
        p=p,
        adjusted_p=p,  # until the whole family is there
        test="hierarchical bootstrap" if seeds > 1 else paired_name,
        p_per_seed=paired,
        test_per_seed=paired_name,
        n=data.examples,
        seeds=seeds,
        effect_size=effect_size(*means) if data.task != PSEUDO_PERPLEXITY else None,
        detectable_difference=detectable_difference(difference, settings.alpha),
    )


def _score(replicates: Replicates, model: str, settings: Significance, rng: np.random.Generator) -> Score:
    own = replicates.interval(model, rng, 1 - settings.alpha)
    return Score(
        task=replicates.data.task,
        metric=replicates.data.metric_name,
        model=model,
        score=own.value,
        interval=(max(0.0, own.low), min(1.0, own.high)),
        seeds=replicates.models[model].scores.tolist(),
        n=replicates.data.examples,
    )


def _mismatches(run: Run, replicates: Replicates) -> Iterator[Mismatch]:
    """Scores that fine-tuning reported and that the stored predictions do not give; there should be none."""
    data = replicates.data
    runs = TaskScores.read(run, task=data.task).runs
    for model, recomputed in replicates.models.items():
        own = sorted((r for r in runs if r.model == model), key=lambda r: r.seed)
        for reported, value in zip(own, recomputed.scores.tolist(), strict=True):
            told = reported.metrics.get(data.metric_name)
            if told is None or abs(told - value) > 1e-6:
                yield Mismatch(task=data.task, model=model, seed=reported.seed, reported=told, recomputed=value)


def score_by_length(data: TaskCounts, seed: int) -> LengthScores:
    """Per bin and model the score averaged over seeds, with its 95 % bootstrap interval over examples."""
    data = data.subset(data.stored)
    bins = _length_bins(data.n_tokens)
    lengths = [data.n_tokens[chosen] for chosen in bins]
    return LengthScores(
        metric=data.metric_name,
        bins=[LengthBin(low=int(of.min()), high=int(of.max()), n=len(of)) for of in lengths],
        models={
            model: [_bin_score(counts[:, chosen], data.metric, seed) for chosen in bins]
            for model, counts in data.counts.items()
        },
    )


def _length_bins(lengths: NDArray[np.int64]) -> list[NDArray[np.bool_]]:
    """Masks of (examples,): at most four bins at the quartiles of the lengths; equal lengths share a bin."""
    edges = np.unique(np.quantile(lengths, np.linspace(0, 1, BINS + 1)[1:-1], method="lower"))
    place = np.searchsorted(edges, lengths, side="left")
    return [place == number for number in np.unique(place)]


def _bin_score(counts: NDArray[np.float64], metric: Metric, seed: int) -> BinScore:
    drawn = bootstrapped_scores(counts, metric, RESAMPLES, np.random.default_rng(seed)).mean(axis=1)
    return BinScore(score=float(scores_by_seed(counts, metric).mean()), interval=percentile_interval(drawn))


def compare_forms(run: Run) -> list[FormLoss]:
    """Each form of each model minus torch, with its 95 % bootstrap interval over lines; empty without such losses."""
    if not FormLosses.exists(run):
        return []
    losses = []
    for model, rows in FormLosses.read(run).to_pandas().groupby("model", sort=False):
        nats = rows.pivot(index="line", columns="form", values="nats")
        masked = rows.drop_duplicates("line").set_index("line")["masked_tokens"].loc[nats.index]
        for form in rows["form"].drop_duplicates():
            if form != "torch":
                counts = np.column_stack([nats[form] - nats["torch"], masked])
                drawn = bootstrapped_scores(counts, ratio, RESAMPLES, np.random.default_rng(run.profile.seed))
                mean, interval = float(ratio(counts.sum(axis=0))), percentile_interval(drawn)
                losses.append(FormLoss(model=str(model), form=form, difference=mean, interval=interval))
    return losses
