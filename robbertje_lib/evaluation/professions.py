"""Professions in Dutch, with the gender their English names carry.

The 320 professions of Bolukbasi et al. 2016 (tolga-b/debiaswe, data/professions.json, MIT) in our translation, in
`data/professions.tsv`. RobBERT's figure uses that list, its second field on the x axis: how far the word is
by definition that of a man (+1) or a woman (-1), as judged by a crowd. It says nothing about who does the work.
"""

import csv
from dataclasses import dataclass
from functools import cache

from robbertje_lib.experiment import paths

TABLE = paths.DATA / "professions.tsv"


@dataclass(frozen=True)
class Profession:
    english: str
    dutch: str  # the only form, or the one used of men and in general
    dutch_female: str | None  # where Dutch has a second form
    associated_gender: float | None  # -1 (zij) to +1 (hij); None where nothing is known


def load_professions() -> list[Profession]:
    """The professions with a Dutch counterpart, in the source's order; no Dutch word stands twice."""
    return [
        Profession(row["english"], row["dutch"], row["dutch_female"] or None, float(row["associated_gender"]))
        for row in _rows()
        if not row["left_out"]
    ]


def left_out_professions() -> dict[str, str]:
    """English professions without a Dutch counterpart of their own -> the reason."""
    return {row["english"]: row["left_out"] for row in _rows() if row["left_out"]}


@cache
def _rows() -> tuple[dict[str, str], ...]:
    with TABLE.open(encoding="utf-8", newline="") as stream:
        return tuple(csv.DictReader(stream, delimiter="\t"))
