"""Errors a user can act on: one line that says what is wrong and what to do."""

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(Exception):
    """Bad input, reported without a traceback. The message is one line: what is wrong, then what to do."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))


def did_you_mean(word: str, options: Iterable[str]) -> str:
    """A suggestion to append to an error: the nearest of `options`, or all of them if none is near."""
    options = sorted(options)
    near = get_close_matches(word, options, n=1, cutoff=0.5)
    if near:
        return f"did you mean '{near[0]}'?"
    return f"choose from: {', '.join(options)}" if options else "none are defined"
