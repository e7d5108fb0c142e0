"""The held-out lines that models are scored and timed on; too long for a model, they are cut in overlapping windows."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import Any

import numpy as np

from robbertje_lib.corpus.lines import Line
from robbertje_lib.experiment.artefacts import open_store
from robbertje_lib.experiment.errors import UserError
from robbertje_lib.experiment.run import Run
from robbertje_lib.models.length_batches import Integers
from robbertje_lib.models.masked_lm import MaskedLM


def held_out_lines(run: Run, count: int) -> list[Line]:
    """`count` lines (or all there are) drawn with the profile's seed from the held-out store, in document order.

    Whole lines: what the store has in several rows, as it is longer than the run's own models take, is joined again.
    """
    if not run.paths.held_out.is_dir():
        raise UserError(f"no held-out lines in {run.paths.held_out}; run notebook 10_corpus first")
    store = open_store(run.paths.held_out)
    columns = zip(*(store[name].to_pylist() for name in ("line", "text", "document_id")), strict=True)
    rows = [list(group) for _, group in groupby(columns, key=itemgetter(0))]
    drawn = np.random.default_rng(run.profile.seed).choice(len(rows), min(count, len(rows)), replace=False)
    return [Line("".join(text for _, text, _ in rows[i]), rows[i][0][2]) for i in np.sort(drawn)]


@dataclass(frozen=True)
class Windows:
    """Sequences a model can take, and for every token to score: where it stands, in its window and its line.

    `word_index` numbers the words of a line; a token that belongs to no word (a lone space) has its own.
    """

    sequences: list[Integers]
    windowed: int  # lines longer than the model can take
    dropped: dict[str, int]  # lines without a token to score, by reason
    window: Integers
    position: Integers
    word_end: Integers  # position after the last piece of the token's word, within the window
    line: Integers
    line_position: Integers  # specials not counted
    token_id: Integers
    word_index: Integers


def cut_lines(model: MaskedLM, lines: Sequence[str]) -> Windows:
    """Every token of `lines` but the special ones, in the window where it has most context.

    Raises `UserError` if there is none.
    """
    special = np.array(sorted(model.special_ids()))
    sequences: list[Integers] = []
    columns: list[list[Integers]] = []
    windowed = 0
    dropped: Counter[str] = Counter()
    # The warning about long lines does not apply: they are cut into windows below.
    encoded: Any = model.tokenizer(list(lines), return_special_tokens_mask=True, verbose=False) if lines else None
    for number in range(len(lines)):
        added = np.array(encoded["special_tokens_mask"][number])
        ids = np.array(encoded["input_ids"][number], dtype=np.int64)
        real = np.flatnonzero(added == 0)
        scored = real[~np.isin(ids[real], special)]
        if not len(scored):
            dropped["empty"] += 1
            continue
        head, tail = ids[: real[0]], ids[real[-1] + 1 :]
        words = _word_indices(encoded.word_ids(number), real)
        ends = np.searchsorted(words, words, side="right")  # words are numbered in reading order
        room = model.maximum_length - len(head) - len(tail)
        starts = window_starts(len(real), room)
        windowed += len(starts) > 1
        owner = most_central(len(real), starts, room)
        at = scored - len(head)
        columns.append(
            [
                len(sequences) + owner[at],
                len(head) + at - starts[owner[at]],
                len(head) + np.minimum(ends[at] - starts[owner[at]], room),
                np.full(len(at), number),
                at,
                ids[scored],
                words[at],
            ]
        )
        sequences += [np.concatenate([head, ids[real][s : s + room], tail]) for s in starts]
    if not columns:
        raise UserError(f"none of {len(lines)} lines holds a token to score; check the held-out text")
    return Windows(sequences, windowed, dict(dropped), *map(np.concatenate, zip(*columns, strict=True)))


def _word_indices(word_ids: Sequence[int | None], real: Integers) -> Integers:
    """Numbers of the words the real tokens belong to, rising; a token of no word counts as a word."""
    ids = [word_ids[i] for i in real]
    new = [i == 0 or ids[i] is None or ids[i] != ids[i - 1] for i in range(len(ids))]
    return np.cumsum(new) - 1


def window_starts(tokens: int, room: int) -> Integers:
    """Where windows of `room` tokens begin: one if all fits, else half overlapping, the last one flush with the end."""
    if tokens <= room:
        return np.zeros(1, dtype=np.int64)
    return np.unique(np.append(np.arange(0, tokens - room, max(1, room // 2)), tokens - room))


def most_central(tokens: int, starts: Integers, room: int) -> Integers:
    """For each token the window in whose middle it stands most nearly, so that it has context on both sides."""
    at = np.arange(tokens)[:, None]
    distance = np.abs(at - (starts + (room - 1) / 2))
    distance[(at < starts) | (at >= starts + room)] = np.inf
    return distance.argmin(1)
