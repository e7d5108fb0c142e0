"""Which pronoun, *die* or *dat*? Built from the run's held-out documents or from Europarl, with the pronoun hidden.

`masked` (default): the pronoun becomes the mask and the model names it. `pair`: the RobBERT paper's form, the
sentence as it was and the sentence with the other pronoun in random order; the model says which is original.
Neither form shows how the pronoun was written: the mask hides its capitals, and in a pair both pronouns are
written alike and put into the very same string. The RobBERT code turned `Die` into `dat` and re-spaced the
changed sentence only, so that capitals and spacing gave the answer away.

`held_out`: splits are disjoint by book (or other file), and the cluster of a row is its document. `europarl`: the Dutch
side of Europarl v7, Dutch-English, the RobBERT paper's data, which the user downloads, unpacks and names (`options:
{file: ./europarl-v7.nl-en.nl}`); no hash of it is known, so the record of the stage keeps the hash of what was read. As
in the paper, the first 10,000 examples are split in their order, 70 % for training; of the other 30 % we validate on a
third. The file marks no document or speaker: a cluster is a block of 50 consecutive lines, and none is in two splits.

The zero-shot scores need no fine-tuning: the masked language model chooses between the two pronouns itself.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from robbertje_lib.experiment.artefacts import open_store
from robbertje_lib.experiment.errors import UserError
from robbertje_lib.experiment.profile import TaskSettings
from robbertje_lib.tasks import MASK, Examples, Row, Task, TaskSource, ZeroShot
from robbertje_lib.tasks.reading import known_answer_examples, malformed, sequential_split, split_by_document

if TYPE_CHECKING:
    from robbertje_lib.models.masked_lm import MaskedLM
    from robbertje_lib.tasks.fill_ins import FillIns

LABELS = ("dat", "die")
PAIR_LABELS = ("first", "second")  # where the original stands
OTHER = {"die": "dat", "dat": "die"}
# Whole words only: neither "datum" nor "die-hard", "dat's" or a page reference such as "dat1".
PRONOUN = re.compile(r"(?<![\w'’-])(die|dat)(?![\w'’-])", re.IGNORECASE)
SHARES = {"train": 0.7, "validation": 0.1, "test": 0.2}  # where the profile leaves the sizes open
EUROPARL = "https://www.statmt.org/europarl/v7/nl-en.tgz"
DUTCH_SIDE = "europarl-v7.nl-en.nl"
EUROPARL_EXAMPLES = 10_000  # where the profile leaves the sizes open
BLOCK = 50  # lines of Europarl
MISS_RANK = 2048  # RobBERT searched this many fill-ins for one of the two pronouns


def read_pronouns(settings: TaskSettings, source: TaskSource) -> Examples:
    """The pronouns of the held-out documents, of Europarl, or of known-answer Dutch."""
    form, file = TASK.option(settings, "form"), TASK.option(settings, "file")
    if (settings.data == "europarl") != bool(file):
        unpack = f"is missing; give the path of {DUTCH_SIDE}, unpacked from {EUROPARL}"
        wanted = "is for europarl alone; drop it" if file else unpack
        raise UserError(f"finetuning.tasks.die_dat.options.file {wanted}")
    if settings.data == "known_answer":
        if form == "pair":
            raise UserError("finetuning.tasks.die_dat.options.form: known_answer has only 'masked'; drop the option")
        return known_answer_examples("die_dat", LABELS, settings, source)
    sizes = {split: size for split, size in settings.sizes.items() if size is not None}
    total = sum(sizes.values()) if len(sizes) == len(SHARES) else 0
    shares = {split: size / total for split, size in sizes.items()} if total else SHARES
    if settings.data == "europarl":
        lines = ((line, f"block-{number // BLOCK}") for number, line in enumerate(europarl_lines(Path(file))))
        rows, _, dropped = occurrences(lines, whole=True, most=total or EUROPARL_EXAMPLES)
        splits = sequential_split(rows, shares)
    else:
        if not source.held_out.exists():
            raise UserError(f"{source.held_out} is missing; run the notebook 10_corpus first")
        store = open_store(source.held_out)
        texts, owners, files = (store[name].to_pylist() for name in ("text", "document_id", "file"))
        rows, numbers, dropped = occurrences(zip(texts, owners, strict=True))
        splits = split_by_document(rows, [files[number] for number in numbers], shares, source.seed)
    if form == "pair":
        splits = {split: as_pairs(part, [source.seed, n]) for n, (split, part) in enumerate(splits.items())}
    return Examples(PAIR_LABELS if form == "pair" else LABELS, splits, dropped)


def europarl_lines(path: Path) -> Iterator[str]:
    """The lines of Europarl's Dutch side. Raises `UserError` for a file that is not text."""
    number = 0
    try:
        with path.open("rb") as lines:
            for line in lines:
                number += 1
                yield line.decode("utf-8").removesuffix("\n")
    except UnicodeDecodeError:
        raise malformed(path, number, "not UTF-8 text", f"{DUTCH_SIDE}, unpacked from {EUROPARL}") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); unpack it anew from {EUROPARL}") from None


def occurrences(
    lines: Iterable[tuple[str, str]], whole: bool = False, most: int | None = None
) -> tuple[list[Row], list[int], dict[str, int]]:
    """One row for every die or dat, the number of its line, and how many were left out, by reason.

    `lines` are texts with their clusters; `whole` says that none was cut between tokens; the first `most` rows are
    taken. Rows have `text` (the line with this one pronoun masked), `label`, `cluster`, and `pronoun` as written.
    """
    rows: list[Row] = []
    numbers: list[int] = []
    dropped: Counter[str] = Counter(odd_capitals=0, cut_by_line_end=0, line_holds_mask=0)
    for number, (text, cluster) in enumerate(lines):
        for match in PRONOUN.finditer(text):
            pronoun = match.group()
            if MASK in text:
                dropped["line_holds_mask"] += 1
            elif pronoun not in {pronoun.lower(), pronoun.upper(), pronoun.capitalize()}:
                dropped["odd_capitals"] += 1
            elif not whole and (match.end() == len(text) or (match.start() == 0 and pronoun.islower())):
                # A line too long for the model was cut between tokens, so this may be half of a longer word.
                dropped["cut_by_line_end"] += 1
            else:
                masked = text[: match.start()] + MASK + text[match.end() :]
                row = {"example_id": f"{number}-{match.start()}", "text": masked, "pronoun": pronoun}
                rows.append({**row, "label": pronoun.lower(), "cluster": cluster})
                numbers.append(number)
                if len(rows) == most:
                    return rows, numbers, dict(dropped)
    return rows, numbers, dict(dropped)


def as_pairs(rows: list[Row], seed: int | list[int]) -> list[Row]:
    """The two-sentence form: original and changed sentence, in an order that is a fair coin's."""
    places = (np.random.default_rng(seed).random(len(rows)) < 0.5).astype(int).tolist()
    pairs = []
    for row, place in zip(rows, places, strict=True):  # of the original: 0 is first, 1 second
        forms = [row["pronoun"], like(OTHER[row["label"]], row["pronoun"])]
        first, second = (row["text"].replace(MASK, form) for form in (forms[::-1] if place else forms))
        label = PAIR_LABELS[place]
        pairs.append({**row, "text": first, "text_pair": second, "label": label, "masked": row["text"]})
    return pairs


def like(word: str, written: str) -> str:
    """`word` with the capitals of `written`: like("dat", "Die") is "Dat"."""
    return word.upper() if written.isupper() else word.capitalize() if written[0].isupper() else word


def zero_shot(model: "MaskedLM", rows: list[Row]) -> ZeroShot:
    """The pre-trained model's own answer to each row: the likelier of the two pronouns at the mask.

    Both are asked for as the pronoun was written, at the start of a line without a space before. None where the
    tokenizer cuts one of the two into pieces, as it does most capitals.
    """
    filled = _fill_ins(model, rows)
    answers = zip(rows, filled.best, strict=True)
    return ZeroShot(
        [None if given is None else _label(row, LABELS[given]) for row, given in answers], _metrics(rows, filled)
    )


def _metrics(rows: list[Row], filled: "FillIns") -> dict[str, float]:
    """Scores of the pre-trained model's own answers.

    `zero_shot_accuracy` is the share of right answers among those that could be asked for (`zero_shot_n`; the others
    are `zero_shot_skipped`). `zero_shot_accuracy_robbert` follows the RobBERT code: lower-case pronouns alone
    (`zero_shot_n_robbert`), of which those with neither pronoun among the 2048 likeliest fill-ins
    (`zero_shot_misses`) are errors. Counts, or shares from 0 to 1; empty where nothing could be asked.
    """
    answers = zip(map(_written, rows), filled.best, filled.rank, strict=True)
    asked = [(w, LABELS[given] == w.lower(), rank < MISS_RANK) for w, given, rank in answers if given is not None]
    lower = [(right, near) for written, right, near in asked if written.islower()]
    if not asked:
        return {}
    return {
        "zero_shot_accuracy": sum(right for _, right, _ in asked) / len(asked),
        "zero_shot_n": len(asked),
        "zero_shot_skipped": len(rows) - len(asked),
        "zero_shot_accuracy_robbert": sum(right and near for right, near in lower) / max(len(lower), 1),
        "zero_shot_n_robbert": len(lower),
        "zero_shot_misses": sum(not near for _, near in lower),
    }


def _fill_ins(model: "MaskedLM", rows: list[Row]) -> "FillIns":
    from robbertje_lib.tasks.fill_ins import fill_ins  # not above: `make plan` reads every task

    asked = []
    for row in rows:
        text = str(row.get("masked", row["text"]))
        space = "" if text.startswith(MASK) else " "
        asked.append((text, tuple(space + like(label, _written(row)) for label in LABELS)))
    return fill_ins(model, asked)


def _written(row: Row) -> str:
    return str(row.get("pronoun", row["label"]))


def _label(row: Row, pronoun: str) -> str:
    """The label that answers a row with this pronoun: itself, or its place in a pair."""
    if "masked" not in row:
        return pronoun
    first, second = PAIR_LABELS
    return first if row["text"] == str(row["masked"]).replace(MASK, like(pronoun, _written(row))) else second


TASK = Task(
    name="die_dat",
    kind=lambda settings: "pair_classification" if settings.options.get("form") == "pair" else "text_classification",
    metric="accuracy",
    read=read_pronouns,
    data=("held_out", "europarl", "known_answer"),
    options={"form": ("masked", "pair"), "file": ()},
    keep="mask",
    zero_shot=zero_shot,
)
