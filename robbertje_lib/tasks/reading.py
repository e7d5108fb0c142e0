"""What the task readers share: files to lines, seeded splits, duplicates."""

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from robbertje_lib.experiment.errors import UserError
from robbertje_lib.experiment.profile import TaskSettings
from robbertje_lib.tasks import SPLITS, Examples, Row, TaskSource


def read_text(path: Path, encoding: str = "utf-8") -> str:
    """The file's text. Raises `UserError` where it cannot be read or decoded."""
    try:
        return path.read_bytes().decode(encoding).removeprefix("\ufeff")
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); fetch it again") from None
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        raise UserError(f"{path}, line {line}: not {encoding} text; expected a {encoding} file") from None


def malformed(path: Path | str, line: int, read: str, expected: str) -> UserError:
    """The error every reader raises for a bad line."""
    return UserError(f"{path}, line {line}: {read}; expected {expected}")


def without_duplicates(rows: list[Row], seen: set[str], key: Callable[[Row], str]) -> list[Row]:
    """The rows whose key is not in `seen`, which grows; of several equal rows the first is kept."""
    kept = []
    for row in rows:
        if key(row) not in seen:
            seen.add(key(row))
            kept.append(row)
    return kept


def stratified_split(rows: list[Row], shares: dict[str, float], seed: int) -> dict[str, list[Row]]:
    """Split rows at random, with the same share of every label in every split, in the rows' own order.

    `shares` sum to 1. The split depends on the rows and the seed alone, never on the sizes a profile asks
    for, so that a larger run's test examples are never a smaller run's training examples.
    """
    rng = np.random.default_rng(seed)
    bounds = np.cumsum(list(shares.values()))[:-1]
    chosen: dict[str, list[int]] = {split: [] for split in shares}
    for label in sorted({row["label"] for row in rows}):
        members = rng.permutation([i for i, row in enumerate(rows) if row["label"] == label])
        parts = np.split(members, np.round(bounds * len(members)).astype(int))
        for split, part in zip(shares, parts, strict=True):
            chosen[split].extend(part.tolist())
    return {split: [rows[i] for i in sorted(indices)] for split, indices in chosen.items()}


def split_by_document(
    rows: list[Row], documents: Sequence[str], shares: dict[str, float], seed: int
) -> dict[str, list[Row]]:
    """Split rows so that no document is in two splits; `documents` names the document (or book) of each row.

    Documents are drawn in random order; each goes to the split that lacks most, by share. Raises
    `UserError` when there are fewer documents than splits.
    """
    sizes = Counter(documents)
    if len(sizes) < len(shares):
        raise UserError(
            f"examples from {len(sizes)} document(s) or file(s) cannot fill {len(shares)} splits; hold out more text"
        )
    total, filled = len(documents), dict.fromkeys(shares, 0)
    home: dict[str, str] = {}
    for document in np.random.default_rng(seed).permutation(sorted(sizes)).tolist():
        empty = [split for split in shares if not filled[split]]
        left = len(sizes) - len(home)
        candidates = empty if len(empty) == left else list(shares)
        home[document] = max(candidates, key=lambda split: shares[split] - filled[split] / total)
        filled[home[document]] += sizes[document]
    splits: dict[str, list[Row]] = {split: [] for split in shares}
    for row, document in zip(rows, documents, strict=True):
        splits[home[document]].append(row)
    return splits


def sequential_split(rows: list[Row], shares: dict[str, float]) -> dict[str, list[Row]]:
    """Split rows in their order; a cluster goes whole to the split that its first row falls in. `shares` sum to 1."""
    ends = np.cumsum(list(shares.values())) * len(rows)
    first: dict[str, int] = {}
    splits: dict[str, list[Row]] = {split: [] for split in shares}
    for number, row in enumerate(rows):
        begins = first.setdefault(row["cluster"], number)
        splits[list(shares)[int(np.searchsorted(ends, begins, side="right"))]].append(row)
    return splits


def known_answer_examples(task: str, labels: tuple[str, ...], settings: TaskSettings, source: TaskSource) -> Examples:
    """The task's examples in known-answer Dutch, as many as the profile asks for.

    Raises `UserError` when the profile leaves a size open: the generator never runs out.
    """
    from robbertje_lib.known_answer.labels import task_examples

    sizes = {split: size for split, size in settings.sizes.items() if size is not None}
    missing = [split for split in SPLITS if split not in sizes]
    if missing:
        raise UserError(f"finetuning.tasks.{task}.{missing[0]}: known_answer needs a size; give a number")
    rows = task_examples(task, sizes, source.seed, bias_strength=source.planted_strength)
    return Examples(labels, rows)
