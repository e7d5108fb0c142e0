"""Every comparison of a run, from the stored predictions: no model is loaded, so anyone can re-examine it."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from robbertje_lib.conclusions.counts import PSEUDO_PERPLEXITY, TaskCounts, load_counts, pseudo_perplexity_counts
from robbertje_lib.conclusions.gates import perplexity_gates, task_gates
from robbertje_lib.conclusions.redrawn import Redrawn
from robbertje_lib.corpus.arms import get_arm
from robbertje_lib.experiment.profile import Profile, Significance, Student
from robbertje_lib.experiment.results.base import Interval
from robbertje_lib.experiment.results.claims import FormLoss
from robbertje_lib.experiment.results.efficiency import FormLosses
from robbertje_lib.experiment.results.finetuning import TEST, TaskScores
from robbertje_lib.experiment.results.significance import (
    BinScore,
    Calibration,
    Comparison,
    Gate,
    LengthBin,
    LengthScores,
    Mismatch,
    RunSpread,
    Score,
    SignificanceResult,
)
from robbertje_lib.experiment.run import Run
from robbertje_lib.statistics import calibration
from robbertje_lib.statistics.resampling import (
    bootstrapped_scores,
    clustered,
    percentile_interval,
    ratio,
    scores_by_unit,
)
from robbertje_lib.statistics.significance import (
    detectable_difference,
    effect_size,
    holm,
    mcnemar_exact,
    permutation_test,
)

FAMILIES = {
    "students_vs_teacher": "Every student against the teacher, on every task: does distillation cost anything?",
    "students": "Students that share a recipe, and a selection of text, on every task: do text and shape matter?",
    "same_arm": "Students that differ in selection or recipe alone, on every task: does the set-up matter?",
    "equals": "Students that differ in nothing but chance, on every task: what is found where there is nothing?",
    PSEUDO_PERPLEXITY: "All of these pairs on the held-out lines, in nats per token.",
}
BINS = 4  # of test examples by their length
RESAMPLES = 1000  # of a score by length, and of what a form loses


def group_pairs(profile: Profile) -> dict[str, list[tuple[str, str]]]:
    """The pairs (a, b) of each family of `FAMILIES`, in the profile's order; each pair in one family."""
    pairs: dict[str, list[tuple[str, str]]] = {family: [] for family in FAMILIES if family != PSEUDO_PERPLEXITY}
    pairs["students_vs_teacher"] = [(student, "teacher") for student in profile.students]
    for (a, first), (b, second) in combinations(profile.students.items(), 2):
        if _equal(profile, first, second):
            pairs["equals"].append((a, b))
        elif first.recipe == second.recipe and _selections(first) & _selections(second):
            pairs["students"].append((a, b))
        elif (first.arm, first.shape) == (second.arm, second.shape):
            pairs["same_arm"].append((a, b))
    return pairs


def _selections(student: Student) -> set[str]:
    """The selections whose lines a student saw: the head of an arm that takes documents in order holds the same."""
    return {student.selection, "same_lines"} if get_arm(student.arm).sequential else {student.selection}


def _equal(profile: Profile, first: Student, second: Student) -> bool:
    """Whether two students saw the same lines, joined alike, in an order drawn anew every epoch, and share the rest."""
    if first.released or second.released or "same_lines" not in _selections(first) & _selections(second):
        return False
    rest = [student.model_dump(exclude={"arm", "selection", "replicates"}) for student in (first, second)]
    merges = [get_arm(student.arm).merges for student in (first, second)]
    order_drawn = profile.recipes[first.recipe].order == "random"
    return rest[0] == rest[1] and (first.arm == second.arm or (not any(merges) and order_drawn))


@dataclass
class _Found:
    """What the tasks come to, as it is gathered."""

    comparisons: list[Comparison] = field(default_factory=list)
    scores: list[Score] = field(default_factory=list)
    gates: list[Gate] = field(default_factory=list)
    spreads: list[RunSpread] = field(default_factory=list)
    by_length: dict[str, LengthScores] = field(default_factory=dict)
    mismatches: list[Mismatch] = field(default_factory=list)


def compare_models(run: Run) -> SignificanceResult:
    """Compare the groups of a run on every task and write `results/significance.json`.

    What differs by chance stands at the highest random level of a test: replicates of a student, or the fine-tuning
    seeds of what is there once, above clusters of examples; `p_per_run` then holds the paired test of single runs.
    Where each side is one run that paired test decides: exact McNemar where every example stands for itself and is
    right or wrong, else approximate randomisation, which takes long: of several runs, at the largest size alone. p
    values are adjusted by Holm within a family, of the largest training size of every task, of the next, and so on.
    Raises `UserError` where a result file is missing or does not fit the profile.
    """
    profile, found = run.profile, _Found()
    for number, task in enumerate(profile.finetuning.tasks):
        _compare_on_task(run, task, np.random.default_rng([profile.seed, number]), found)
    rng = np.random.default_rng([profile.seed, len(profile.finetuning.tasks)])
    lines = Redrawn.draw(pseudo_perplexity_counts(run), profile.significance.bootstrap, rng)
    for pairs in group_pairs(profile).values():
        rows = [_compare(PSEUDO_PERPLEXITY, lines, a, b, profile.significance, rng) for a, b in pairs]
        found.comparisons += rows
    found.gates += perplexity_gates(profile, lines, rng)
    found.spreads += [_spread(lines.data, group) for group in profile.groups]
    result = SignificanceResult(
        alpha=profile.significance.alpha,
        families=FAMILIES,
        comparisons=_adjusted(found.comparisons),
        scores=found.scores,
        gates=found.gates,
        spreads=found.spreads,
        by_length=found.by_length,
        pseudo_perplexity={group: _perplexity_interval(lines, group, rng) for group in lines.groups},
        mismatches=found.mismatches,
        calibration=shipped_study(),
    )
    result.write(run)
    return result


def _compare_on_task(run: Run, task: str, rng: np.random.Generator, found: _Found) -> None:
    profile, settings, told = run.profile, run.profile.significance, TaskScores.read(run, task=task)
    for train in reversed(told.sizes):
        data = load_counts(run, task, train)
        redrawn, untuned = Redrawn.draw(data, settings.bootstrap, rng), data.without_tuning()
        asked = Redrawn.draw(untuned, settings.bootstrap, rng) if untuned else None
        largest = train == told.largest
        for family, pairs in group_pairs(profile).items():
            found.comparisons += [_compare(family, redrawn, a, b, settings, rng, each_run=largest) for a, b in pairs]
        found.gates += task_gates(profile, redrawn, asked, told.best_baseline(train), rng)
        found.spreads += [_spread(data, group) for group in profile.groups]
        found.scores += _scores(redrawn, list(redrawn.groups), settings, rng)
        found.mismatches += _mismatches(data, told)
        if largest:
            found.by_length[task] = score_by_length(data, list(profile.groups), profile.seed)
            answers = [group for group in asked.groups if group not in redrawn.groups] if asked else []
            found.scores += _scores(asked, answers, settings, rng) if asked else []
    for test_set in told.further_tests:
        further = Redrawn.draw(load_counts(run, task, test_set=test_set), settings.bootstrap, rng)
        found.scores += _scores(further, list(further.groups), settings, rng)
        found.mismatches += _mismatches(further.data, told)


def _adjusted(comparisons: list[Comparison]) -> list[Comparison]:
    """p values adjusted by Holm within each family, and within the rank of the training size on its task."""
    sizes: dict[str, set[int]] = defaultdict(set)
    for row in comparisons:
        sizes[row.task].add(row.train)
    keys = [(row.family, sum(size > row.train for size in sizes[row.task])) for row in comparisons]
    families: dict[tuple[str, int], list[float]] = defaultdict(list)
    for row, key in zip(comparisons, keys, strict=True):
        families[key].append(row.p)
    adjusted = {key: iter(holm(values).tolist()) for key, values in families.items()}
    return [r.model_copy(update={"adjusted_p": next(adjusted[key])}) for r, key in zip(comparisons, keys, strict=True)]


def _perplexity_interval(lines: Redrawn, group: str, rng: np.random.Generator) -> Interval:
    """The 95 % interval of a `corpus` pseudo-perplexity, of replicates the geometric mean's."""
    own = lines.interval(group, rng, 0.95)
    return float(np.exp(own.low)), float(np.exp(own.high))


def shipped_study() -> Calibration:
    """The calibration study that every run carries: it is about the tests, so its data never change."""
    rates, coverage, settings = calibration.shipped()
    return Calibration(alpha=calibration.ALPHA, settings=settings, rates=rates, coverage=coverage)


def _compare(
    family: str,
    redrawn: Redrawn,
    a: str,
    b: str,
    settings: Significance,
    rng: np.random.Generator,
    each_run: bool = True,
) -> Comparison:
    """a minus b. each_run: whether single runs are tested too where that takes permutations."""
    data = redrawn.data
    difference = redrawn.difference(a, b, rng, 1 - settings.alpha)
    units = [len(redrawn.groups[group].scores) for group in (a, b)]
    decides = max(units) == 1  # of one run each
    paired = _paired(redrawn, a, b, settings, rng) if each_run or decides or data.one_answer_each else []
    means = [float(redrawn.groups[group].scores.mean()) for group in (a, b)]
    p = paired[0] if decides else difference.p
    name = "exact McNemar" if data.one_answer_each else "permutation"
    return Comparison(
        family=family,
        task=data.task,
        train=data.train,
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
        test=f"{name} of one run" if decides else _levels(redrawn, a, b),
        p_per_run=paired,
        test_per_run=name,
        n=data.examples,
        clusters=redrawn.clusters,
        replicates=(data.replicates(a), data.replicates(b)),
        runs=(_runs(data, a), _runs(data, b)),
        effect_size=effect_size(*means) if data.task != PSEUDO_PERPLEXITY else None,
        detectable_difference=detectable_difference(difference, settings.alpha),
    )


def _runs(data: TaskCounts, group: str) -> int:
    return int(np.prod(data.counts[group].shape[:2]))


def _levels(redrawn: Redrawn, a: str, b: str) -> str:
    """What of a comparison is random, from the top, such as "replicates and examples"."""
    names = {
        "replicates" if redrawn.data.replicates(group) > 1 else "fine-tuning seeds": None
        for group in (a, b)
        if len(redrawn.groups[group].scores) > 1
    }
    of_examples = "examples" if redrawn.clusters == redrawn.data.examples else "clusters of examples"
    return f"{', '.join(sorted(names, reverse=True))} and {of_examples}"


def _paired(redrawn: Redrawn, a: str, b: str, settings: Significance, rng: np.random.Generator) -> list[float]:
    """p of the paired test of single runs, one of each, as many as both have."""
    first, second = (_each_run(redrawn.by_cluster[group]) for group in (a, b))
    pairs = zip(first, second, strict=False)
    if redrawn.data.one_answer_each:
        return [mcnemar_exact(x[:, 0], y[:, 0]) for x, y in pairs]
    return [permutation_test(x, y, redrawn.data.metric, settings.permutations, rng) for x, y in pairs]


def _each_run(counts: NDArray[np.floating]) -> NDArray[np.floating]:
    """(units, seeds, clusters, k) -> (runs, clusters, k)."""
    return counts.reshape(-1, *counts.shape[2:])


def _scores(
    redrawn: Redrawn, groups: Iterable[str], settings: Significance, rng: np.random.Generator
) -> Iterator[Score]:
    data = redrawn.data
    for group in groups:
        own = redrawn.interval(group, rng, 1 - settings.alpha)
        yield Score(
            task=data.task,
            train=data.train,
            test_set=data.test_set,
            metric=data.metric_name,
            group=group,
            score=own.value,
            interval=(max(0.0, own.low), min(1.0, own.high)),
            runs=data.scores(group),
            n=data.examples,
            clusters=redrawn.clusters,
        )


def _spread(data: TaskCounts, group: str) -> RunSpread:
    """Standard deviations of what chance alone makes differ; seeds are pooled over replicates."""
    scores = np.array(list(data.scores(group).values()))  # (replicates, seeds)
    replicates, seeds = scores.shape
    return RunSpread(
        task=data.task,
        train=data.train,
        group=group,
        of_replicates=float(scores.mean(axis=1).std(ddof=1)) if replicates > 1 else None,
        of_seeds=float(np.sqrt(scores.var(axis=1, ddof=1).mean())) if seeds > 1 else None,
    )


def _mismatches(data: TaskCounts, told: TaskScores) -> Iterator[Mismatch]:
    """Scores that fine-tuning reported and that the stored predictions do not give; there should be none."""
    of_test = data.test_set == TEST
    reported = {
        (run.model, run.seed): run.metrics.get(data.metric_name) if of_test else run.further.get(data.test_set)
        for run in told.runs
        if run.train == data.train
    }
    reported |= {
        (row.name, 0): row.score if of_test else row.further.get(data.test_set)
        for row in told.baselines
        if row.train == data.train
    }
    for group, models in data.models.items():
        for model, values in data.scores(group).items():
            for seed, value in zip(models[model], values, strict=True):
                score = reported.get((model, seed))
                if score is None or abs(score - value) > 1e-6:
                    yield Mismatch(
                        task=data.task, model=model, seed=seed, train=data.train, reported=score, recomputed=value
                    )


def score_by_length(data: TaskCounts, groups: Iterable[str], seed: int) -> LengthScores:
    """Per bin and group the score, averaged over its units, with its 95 % bootstrap interval over clusters."""
    bins = _length_bins(data.n_tokens)
    lengths = [data.n_tokens[chosen] for chosen in bins]
    parts = [data.subset(chosen) for chosen in bins]
    return LengthScores(
        metric=data.metric_name,
        bins=[LengthBin(low=int(of.min()), high=int(of.max()), n=len(of)) for of in lengths],
        groups={group: [_bin_score(part, group, seed) for part in parts] for group in groups},
    )


def _length_bins(lengths: NDArray[np.int64]) -> list[NDArray[np.bool_]]:
    """Masks of (examples,): at most four bins at the quartiles of the lengths; equal lengths share a bin."""
    edges = np.unique(np.quantile(lengths, np.linspace(0, 1, BINS + 1)[1:-1], method="lower"))
    place = np.searchsorted(edges, lengths, side="left")
    return [place == number for number in np.unique(place)]


def _bin_score(data: TaskCounts, group: str, seed: int) -> BinScore:
    counts = clustered(data.counts[group], data.clusters)
    drawn = bootstrapped_scores(counts, data.metric, RESAMPLES, np.random.default_rng(seed)).mean(axis=1)
    return BinScore(score=float(scores_by_unit(counts, data.metric).mean()), interval=percentile_interval(drawn))


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
