"""Two questions before every claim that rests on a task: did training carry over to it, and is the model of use?

Training carried over where a group scores above random weights in its own shape, fine-tuned alike. It is of use where
it scores above the best baseline that needs no network, and above its own answers without fine-tuning. Above means that
the whole interval of the difference, over replicates, seeds and clusters of examples, lies above 0: each gate lets
through what is no better in about alpha / 2 of cases.
"""

from collections.abc import Iterable

import numpy as np

from robbertje_lib.conclusions.redrawn import Redrawn
from robbertje_lib.experiment.profile import Profile
from robbertje_lib.experiment.results.finetuning import ZERO_SHOT
from robbertje_lib.experiment.results.pseudo_perplexity import PSEUDO_PERPLEXITY, UNIGRAM
from robbertje_lib.experiment.results.significance import Gate
from robbertje_lib.statistics.significance import Difference


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
    useful = over.low > 0
    return Gate(
        task=redrawn.data.task,
        train=redrawn.data.train,
        group=group,
        control=control,
        above_control=over_control.value if over_control else None,
        above_control_interval=(over_control.low, over_control.high) if over_control else None,
        carried_over=over_control.low > 0 if over_control else useful,
        baseline=baseline,
        above_baseline=over.value,
        above_baseline_interval=(over.low, over.high),
        useful=useful,
    )


def open_size(gates: Iterable[Gate], task: str, groups: Iterable[str]) -> tuple[int | None, str, list[str]]:
    """The largest size of the training split at which training carried over to a task in all `groups`.

    None where there is none. Beside it stands why it is not the largest size there is, and of which groups; nothing if
    it is.
    """
    groups, shut = set(groups), {}
    rows = [gate for gate in gates if gate.task == task and gate.group in groups]
    for train in sorted({gate.train for gate in rows}, reverse=True):
        shut[train] = [gate for gate in rows if gate.train == train and not gate.carried_over]
        if not shut[train]:
            break
    largest = max(shut, default=None)
    if largest is None:
        return None, "no gates", sorted(groups)
    open_at = next((train for train, closed in shut.items() if not closed), None)
    below = "not below the unigram model" if task == PSEUDO_PERPLEXITY else "not above random weights"
    return open_at, below if shut[largest] else "", [gate.group for gate in shut[largest]]
