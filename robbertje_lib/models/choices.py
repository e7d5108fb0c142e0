"""Choices that only the machine at hand can make, such as the number type of training: timed once, and kept."""

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median

import torch

from robbertje_lib.experiment import artefacts, provenance
from robbertje_lib.experiment.errors import UserError
from robbertje_lib.experiment.results.base import Record, ResultFile

SECONDS = 1.5  # of timing, unless so many rounds take longer
ROUNDS = 3
HOPELESS = 8.0  # times slower in the first round: not tried again


class Choice(Record):
    """Which of several options was taken, and why."""

    name: str
    reason: str  # one line, with what was measured


class KeptChoice(ResultFile):
    """A choice in the file that keeps it for the machine it was made on."""

    machine: str
    choice: Choice


def fastest(options: Mapping[str, Callable[[], object]], kept: Path | None = None, *, gain: float = 1.1) -> Choice:
    """The option that is fastest here, timed turn by turn: the first unless another is `gain` times as fast.

    Two options that take nearly the same time would change places with every gust of load, and results with them.
    `gain` is the room between: a choice turns out otherwise only where an advantage is just that large.

    Kept in the file `kept` (JSON, whole or not at all, first writer wins), and what is kept there for this processor
    and PyTorch decides again without timing: a load peak must neither refuse a resume nor give two models of a run
    two kernels. Raises `UserError` if that file is damaged or names none of the options.
    """
    names = list(options)
    if kept and kept.exists():
        known = KeptChoice.load(kept)
        if known.machine == machine():
            if known.choice.name not in options:
                raise UserError(f"{kept} says '{known.choice.name}', not one of {', '.join(names)}; delete it")
            return known.choice
        artefacts.remove(kept)  # of another processor; what it had begun says so itself
    if len(names) == 1:
        return Choice(name=names[0], reason="there is no other way here")
    shares = _shares_of_first(options)
    rival = min(names[1:], key=lambda name: shares[name])
    share, taken = shares[rival], shares[rival] * gain <= 1
    told = f"1/{1 / share:.2f} of" if share < 1 else f"{share:.2f} times"
    reason = f"{rival} takes {told} {names[0]}'s time"
    if share < 1 and not taken:
        reason += f", and no less than 1/{gain:.2f}"
    choice = Choice(name=rival if taken else names[0], reason=reason)
    return _keep(kept, choice) if kept else choice


def machine() -> str:
    """What a choice holds for: processor, the instructions that PyTorch and oneDNN may use of it, PyTorch's version."""
    limit = os.environ.get("ONEDNN_MAX_CPU_ISA")
    abilities = torch.backends.cpu.get_cpu_capability() + (f", oneDNN up to {limit}" if limit else "")
    return f"{provenance.hardware().processor} ({abilities}), torch {torch.__version__}"


def _shares_of_first(options: Mapping[str, Callable[[], object]]) -> dict[str, float]:
    """Each option's time as a share of the first's: the median over rounds, in which all take a turn.

    Options may do other work each turn, as long as all do the same in a round.
    """
    seconds: dict[str, list[float]] = {name: [] for name in options}
    first, *others = options
    over = time.perf_counter() + SECONDS
    running, rounds = list(options), 0
    while rounds <= ROUNDS or time.perf_counter() < over:  # the first round warms up
        for name in running if rounds % 2 else reversed(running):
            started = time.perf_counter()
            options[name]()
            seconds[name].append(time.perf_counter() - started)
        if rounds == 0:
            running = [name for name in running if name == first or seconds[name][0] < HOPELESS * seconds[first][0]]
        rounds += 1
    shares = {first: 1.0}
    for name in others:
        turns = slice(1, None) if name in running else slice(1)
        shares[name] = median(
            own / of_first for own, of_first in zip(seconds[name][turns], seconds[first][turns], strict=True)
        )
    return shares


def _keep(kept: Path, choice: Choice) -> Choice:
    """Write the choice, unless another process has been first: then that one's."""
    own = kept.with_name(f".{kept.name}.{os.getpid()}")
    KeptChoice(machine=machine(), choice=choice).save(own)
    try:
        os.link(own, kept)  # unlike a rename, it never replaces
    except FileExistsError:
        pass
    except OSError:  # a file system without links
        own.replace(kept)
    finally:
        artefacts.remove(own)
    return KeptChoice.load(kept).choice
