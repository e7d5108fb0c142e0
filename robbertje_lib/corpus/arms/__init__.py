"""The arms: ways to order the same text, one module each, with one object `ARM`.

An arm of your own is one new file in this folder, here `reversed.py`, and its name in the profile's `corpus.arms`:

    from collections.abc import Iterator, Sequence
    import numpy as np
    from robbertje_lib.corpus.arms import Arm
    from robbertje_lib.corpus.lines import Line, SplitDocument, document_lines
    from robbertje_lib.experiment.profile import Corpus

    def lines(
        documents: Sequence[SplitDocument], settings: Corpus, generator: np.random.Generator
    ) -> Iterator[Line]:
        return (line for document in documents for line in reversed(list(document_lines([document]))))

    ARM = Arm(name="reversed", description="documents one after the other, each from its end", lines=lines)

Every arm is taken in every selection of the profile. Each of the paper's took the first gigabyte of a file of its own,
so that they hold different text (selection `head`); `same_lines` is the controlled experiment: all hold the same.

On the same lines, a student of `shuffled` and one of `non_shuffled` are equals as long as their recipe draws the order
of the lines anew every epoch (`order: random`): no order of the store reaches them, and they differ by chance alone.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from robbertje_lib.corpus.lines import Line, SplitDocument, document_lines, group_lines, head, random_stream
from robbertje_lib.experiment import profile
from robbertje_lib.experiment.errors import UserError, did_you_mean
from robbertje_lib.experiment.members import members

LinesOf = Callable[[Sequence[SplitDocument], profile.Corpus, np.random.Generator], Iterable[Line]]


@dataclass(frozen=True)
class Arm:
    """A way to order text. `lines(documents, settings, generator)` gives the lines, in order.

    `description` completes "the text is ...", for people. An arm that `merges` does so by `corpus.merge_probability`. A
    `sequential` one takes documents in order, so that it holds the same lines in every selection, but for the last.
    `stream` fixes the arm's random numbers; by default they come from its name.
    """

    name: str
    description: str
    lines: LinesOf
    merges: bool = False
    sequential: bool = False
    stream: int | None = None

    def select(
        self, documents: Sequence[SplitDocument], settings: profile.Corpus, selection: str, seed: int
    ) -> list[Line]:
        """The arm's lines in a selection; all there are if that is less than the profile's size."""
        size = settings.arm_megabytes * 1e6
        if selection == "same_lines":
            documents, size = group_lines(head(document_lines(documents), size)), math.inf
        stream = self.name.encode() if self.stream is None else [self.stream]
        return head(self.lines(documents, settings, random_stream(seed, *stream)), size)


def all_arms() -> dict[str, Arm]:
    """Every arm in this folder, by name. Raises `UserError` when a file and its arm differ in name."""
    return members(__name__, __path__, "arm")


def get_arm(name: str, where: str = "corpus.arms") -> Arm:
    """The arm called `name`. Raises `UserError`, which begins with `where`, naming the nearest one if there is none."""
    arms = all_arms()
    if name not in arms:
        raise UserError(f"{where}: no arm '{name}': {did_you_mean(name, arms)}")
    return arms[name]


def check_arms(chosen: profile.Profile) -> None:
    """Raise `UserError` if a profile lists an arm that there is not, has a student of one, or has a student twice.

    A student of a sequential arm in `same_lines` is the one in `head`, trained again.
    """
    for name in chosen.corpus.arms:
        get_arm(name)
    for name, student in chosen.students.items():
        sequential = get_arm(student.arm, f"students.{name}.arm").sequential
        if sequential and student.selection == "same_lines":
            for other, of_head in chosen.students.items():
                if of_head.one() == {**student.one(), "selection": "head"}:
                    raise UserError(
                        f"students.{name}: trained on the lines of '{other}', which serves both selections as "
                        f"{student.arm} takes documents in order; leave {name} out"
                    )


def make_arms(
    documents: Sequence[SplitDocument], settings: profile.Corpus, seed: int
) -> dict[tuple[str, str], list[Line]]:
    """The lines of every (selection, arm) of the profile."""
    return {
        (selection, name): get_arm(name).select(documents, settings, selection, seed)
        for selection in settings.selections
        for name in settings.arms
    }
