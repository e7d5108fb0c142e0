"""Evidence made by hand: differences and gates as one wants them, for tests of the rules of claims."""

from collections.abc import Iterable, Mapping
from itertools import permutations
from pathlib import Path

from scipy import stats

from robbertje_lib.conclusions.claims.base import Evidence
from robbertje_lib.experiment.paths import RunPaths
from robbertje_lib.experiment.profile import Profile, load_profile
from robbertje_lib.experiment.results.significance import Calibration, Comparison, Gate, SignificanceResult
from robbertje_lib.experiment.run import Run

Place = tuple[str, str, str]  # task, a, b
TRAIN = 300
SMALL = 0.002  # a standard error that decides most


def comparison(task: str, a: str, b: str, difference: float, error: float = SMALL, train: int = TRAIN) -> Comparison:
    """a minus b, with a t interval of 8 degrees of freedom; of 3 replicates each."""
    reach = float(stats.t.ppf(0.975, 8)) * error
    return Comparison(
        family="students", task=task, train=train, metric="accuracy", a=a, b=b, score_a=0.8 + difference, score_b=0.8,
        difference=difference, interval=(difference - reach, difference + reach), standard_error=error, degrees=8.0,
        p=float(2 * stats.t.sf(abs(difference) / error, 8)), adjusted_p=1.0, test="replicates and examples",
        p_per_run=[0.5], test_per_run="exact McNemar", n=1000, clusters=1000, replicates=(3, 3), runs=(3, 3),
        effect_size=0.0, detectable_difference=0.01,
    )  # fmt: skip


def gate(
    task: str, group: str, carried_over: bool = True, useful: bool = True, train: int = TRAIN, p: float = 1e-6
) -> Gate:
    """p: of a gate that is open."""
    told = (0.1 if carried_over else -0.1), (0.1 if useful else -0.1)
    over_control, over_baseline = ((value - 0.05, value + 0.05) for value in told)
    return Gate(
        task=task, train=train, group=group, runs=3, control="random_distilbert", above_control=told[0],
        above_control_interval=over_control, above_control_p=p if carried_over else 0.99, carried_over=carried_over,
        baseline="tf_idf", above_baseline=told[1], above_baseline_interval=over_baseline,
        above_baseline_p=p if useful else 0.99, useful=useful,
    )  # fmt: skip


def profile_of(replicates: int = 3, tasks: Iterable[str] = ("dbrd", "sick_nl", "die_dat")) -> Profile:
    """`mini` with these tasks."""
    profile = load_profile("mini", 0.05)
    kept = {task: profile.finetuning.tasks[task] for task in tasks}
    finetuning = profile.finetuning.model_copy(update={"tasks": kept})
    return profile.model_copy(update={"replicates": replicates, "finetuning": finetuning})


def evidence_of(
    profile: Profile,
    differences: Mapping[Place, float],
    gates: Iterable[Gate] = (),
    error: float = SMALL,
    folder: Path = Path("nowhere"),
) -> Evidence:
    """Evidence that says these differences of each pair at one training size, 0 for all others, and open gates.

    gates: those that are as they say instead.
    """
    tasks, groups = list(profile.finetuning.tasks), list(profile.groups)
    rows = [
        comparison(task, a, b, differences.get((task, a, b), -differences.get((task, b, a), 0.0)), error, train)
        for task, train in [*((task, TRAIN) for task in tasks), ("pseudo_perplexity", 0)]
        for a, b in permutations(groups, 2)
        if groups.index(a) > groups.index(b)
    ]
    changed = {(row.task, row.train, row.group): row for row in gates}
    opened = [gate(task, group) for task in tasks for group in groups]
    opened += [gate("pseudo_perplexity", group, train=0) for group in groups]
    rest = {(row.task, row.train, row.group): row for row in opened}
    evidence = Evidence(Run(profile, RunPaths(profile.run_name, folder)))
    vars(evidence)["significance"] = SignificanceResult(
        alpha=0.05, families={}, comparisons=rows, scores=[], gates=list((rest | changed).values()), spreads=[],
        by_length={}, pseudo_perplexity={}, mismatches=[],
        calibration=Calibration(alpha=0.05, settings={}, rates=[], coverage=[]),
    )  # fmt: skip
    return evidence
