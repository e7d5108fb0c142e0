"""Two questions before every claim that rests on a task: did training carry over to it, and is the model of use?

Training carried over where a group scores above random weights in its own shape, fine-tuned alike. It is of use where
it scores above the best baseline that needs no network, and above its own answers without fine-tuning. Above means that
the whole interval of the difference, over replicates or fine-tuning runs and clusters of examples, lies above 0: each
gate, asked alone, lets through what is no better in about alpha / 2 of cases. Where any of several would do (sizes of
the training split, tasks), they share that level. One fine-tuning run gives no such interval, and the gate is shut.
"""

from collections.abc import Iterable, Sequence

import numpy as np

from robbertje_lib.conclusions.redrawn import Redrawn
from robbertje_lib.experiment.profile import Profile
from robbertje_lib.experiment.results.finetuning import ZERO_SHOT
from robbertje_lib.experiment.results.pseudo_perplexity import PSEUDO_PERPLEXITY, UNIGRAM
from robbertje_lib.experiment.results.significance import Gate
from robbertje_lib.statistics.significance import Difference, above_test, holm

ONE_TUNING = "one fine-tuning run"  # says nothing of how much such runs differ


def task_gates(
    profile: Profile, redrawn: Redrawn, untuned: Redrawn | None, baseline: str, rng: np.random.Generator
) -> list[Gate]:
    """The gates of the teacher and every student at one size of a task.

    baseline: the best of that size. untuned: of `TaskCounts.without_tuning`, where there is such a thing. It has no
    validation score by which it could be the best, so a group must be above both; the gate names the one that it is
    further from clearing.
    """
    level, gates = 1 - profile.significance.alpha, []
    for group in profile.groups:
        control = profile.control_of(group)
        over_control = redrawn.difference(group, control, rng, level)
        over = {baseline: redrawn.difference(group, baseline, rng, level)}
        if untuned is not None:
            over[ZERO_SHOT + group] = untuned.difference(group, ZERO_SHOT + group, rng, level)
        hardest = min(over, key=lambda name: over[name].low)
        gates.append(_gate(redrawn, group, control, over_control, hardest, over[hardest]))
    return gates


def perplexity_gates(profile: Profile, redrawn: Redrawn, rng: np.random.Generator) -> list[Gate]:
    """Whether the teacher and every student are below the unigram model, in nats per token."""
    gates = []
    for group in profile.groups:
        below = redrawn.difference(UNIGRAM, group, rng, 1 - profile.significance.alpha)
        gates.append(_gate(redrawn, group, None, None, UNIGRAM, below))
    return gates


def _gate(
    redrawn: Redrawn, group: str, control: str | None, over_control: Difference | None, baseline: str, over: Difference
) -> Gate:
    runs = min(len(redrawn.groups[name].scores) for name in (group, control) if name)
    told = control is None or runs > 1  # nothing is fine-tuned for pseudo-perplexity
    useful = told and over.low > 0
    return Gate(
        task=redrawn.data.task,
        train=redrawn.data.train,
        group=group,
        runs=runs,
        control=control,
        above_control=over_control.value if over_control else None,
        above_control_interval=(over_control.low, over_control.high) if over_control else None,
        above_control_p=above_test(over_control, 0.0) if over_control else None,
        carried_over=told and over_control.low > 0 if over_control else useful,
        baseline=baseline,
        above_baseline=over.value,
        above_baseline_interval=(over.low, over.high),
        above_baseline_p=above_test(over, 0.0),
        useful=useful,
    )


def open_size(
    gates: Iterable[Gate], task: str, groups: Iterable[str], alpha: float
) -> tuple[int | None, str, list[str]]:
    """The largest size of the training split at which training carried over to a task in all `groups`.

    As any size may do, each is asked at `alpha` over the number of sizes. None where there is none. Beside it stands
    why it is not the largest size there is, and of which groups; nothing if it is.
    """
    groups, shut = set(groups), {}
    rows = [gate for gate in gates if gate.task == task and gate.group in groups]
    sizes = sorted({gate.train for gate in rows}, reverse=True)
    for train in sizes:
        shut[train] = [gate for gate in rows if gate.train == train and not _carried_over(gate, alpha / len(sizes))]
        if not shut[train]:
            break
    largest = max(shut, default=None)
    if largest is None:
        return None, "no gates", sorted(groups)
    open_at = next((train for train, closed in shut.items() if not closed), None)
    closed = shut[largest]
    return open_at, _reason(task, closed) if closed else "", [gate.group for gate in closed]


def useful_somewhere(gates: Sequence[Gate], tasks: int, alpha: float) -> list[Gate]:
    """Those gates of one group, one a task, at which it is of use, so that not even one is by chance: Holm over tasks.

    tasks: how many the profile has; those that have no gate here are shut.
    """
    adjusted = holm([gate.above_baseline_p for gate in gates] + [1.0] * (tasks - len(gates))).tolist()
    return [gate for gate, p in zip(gates, adjusted, strict=False) if gate.useful and p <= alpha / 2]


def _carried_over(gate: Gate, alpha: float) -> bool:
    return gate.carried_over and (gate.above_control_p is None or gate.above_control_p <= alpha / 2)


def _reason(task: str, shut: Sequence[Gate]) -> str:
    if any(gate.control and gate.runs < 2 for gate in shut):
        return ONE_TUNING
    return "not below the unigram model" if task == PSEUDO_PERPLEXITY else "not above random weights"
