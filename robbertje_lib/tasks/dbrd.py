"""Sentiment of book reviews: the Dutch Book Reviews Dataset, or Bol.com reviews where the hub is out of reach.

`hub`: `benjaminvdb/dbrd` at a fixed revision, 20,028 training and 2,224 test reviews. Its validation split
is drawn from the training reviews and removed from them; the RobBERT scripts evaluated on reviews that were
also trained on. `bol_reviews`: 3,000 reviews of books on bol.com from the `pattern` library, half of them
negative, which has no test split: 70/10/20 % at random, stratified by label.
"""

import csv
import html
import io
from pathlib import Path
from typing import TYPE_CHECKING

from robbertje_lib.experiment import sources
from robbertje_lib.experiment.errors import UserError
from robbertje_lib.experiment.profile import TaskSettings
from robbertje_lib.tasks import Examples, Row, Task, TaskSource
from robbertje_lib.tasks.reading import (
    known_answer_examples,
    malformed,
    read_text,
    stratified_split,
    without_duplicates,
)

if TYPE_CHECKING:
    from datasets import Dataset


HUB = "benjaminvdb/dbrd"
REVISION = "cb7fa0318d6b21d654d734a5a13fa52bd1033fc6"
LABELS = ("negative", "positive")
BOL_LABELS = {"-1": "negative", "1": "positive"}
BOL_SHARES = {"train": 0.7, "validation": 0.1, "test": 0.2}
HUB_VALIDATION = 0.025  # of the training reviews: about 500, as in the paper's runs


def read_reviews(settings: TaskSettings, source: TaskSource) -> Examples:
    """The reviews that the profile asks for."""
    if settings.data == "known_answer":
        return known_answer_examples("dbrd", LABELS, settings, source)
    if settings.data == "hub":
        return split_hub(*load_hub(), source.seed)
    return split_bol(parse_bol(sources.fetch("bol_reviews")[0]), source.seed)


def parse_bol(path: Path) -> list[Row]:
    """Reviews from the CSV file: a quoted -1 or 1, then the quoted text with HTML entities.

    Raises `UserError` with file and line for anything else.
    """
    reader = csv.reader(io.StringIO(read_text(path), newline=""), strict=True)
    rows: list[Row] = []
    try:
        for fields in reader:
            if len(fields) != 2 or fields[0] not in BOL_LABELS:
                raise malformed(path, reader.line_num, str(fields)[:60], 'two fields, "-1" or "1" and the review')
            text = " ".join(html.unescape(fields[1]).split())
            if not text:
                raise malformed(path, reader.line_num, "an empty review", "some text")
            rows.append({"example_id": f"bol-{len(rows) + 1}", "text": text, "label": BOL_LABELS[fields[0]]})
    except csv.Error as error:
        raise malformed(path, reader.line_num, str(error), "quoted, comma-separated fields") from None
    if not rows:
        raise malformed(path, 1, "the file is empty", "reviews")
    return rows


def split_bol(rows: list[Row], seed: int) -> Examples:
    """Train, validation and test reviews, after exact duplicates are removed."""
    unique = without_duplicates(rows, set(), _spaced)
    return Examples(LABELS, stratified_split(unique, BOL_SHARES, seed), {"duplicate": len(rows) - len(unique)})


def load_hub() -> tuple[list[Row], list[Row]]:
    """Training and test reviews of DBRD. Raises `UserError` when the hub cannot be reached."""
    from datasets import load_dataset

    try:
        loaded = load_dataset(HUB, revision=REVISION)
    except (OSError, ValueError, RuntimeError) as error:
        raise UserError(
            f"dataset {HUB} could not be loaded ({str(error) or type(error).__name__:.200}); "
            "go online, or set `data: bol_reviews` for dbrd in the profile"
        ) from None
    for split in ("train", "test"):
        if split not in loaded:
            raise UserError(f"dataset {HUB}: no split '{split}'; expected train and test at revision {REVISION[:10]}")
    return hub_rows(loaded["train"], "train"), hub_rows(loaded["test"], "test")


def split_hub(train: list[Row], test: list[Row], seed: int) -> Examples:
    """DBRD's own test split, and a validation split taken out of train, after exact duplicates are removed.

    A training review that equals a test review is dropped, never the test review: the published test split
    stays whole.
    """
    seen: set[str] = set()
    unique_test = without_duplicates(test, seen, _spaced)
    unique_train = without_duplicates(train, seen, _spaced)
    shares = {"train": 1 - HUB_VALIDATION, "validation": HUB_VALIDATION}
    dropped = {"duplicate": len(train) + len(test) - len(unique_train) - len(unique_test)}
    return Examples(LABELS, {**stratified_split(unique_train, shares, seed), "test": unique_test}, dropped)


def hub_rows(reviews: "Dataset", split: str) -> list[Row]:
    """Rows of one split of DBRD. Raises `UserError` for other columns, an empty review or an unknown label."""
    if not {"text", "label"} <= set(reviews.column_names):
        raise UserError(f"dataset {HUB}, {split}: columns {reviews.column_names}; expected text and label")
    rows: list[Row] = []
    for number, review in enumerate(reviews, 1):
        text, label = review["text"], review["label"]
        if label not in range(len(LABELS)) or not isinstance(text, str) or not text.strip():
            read = f"label {label!r}, text {text!r:.40}"
            raise UserError(f"dataset {HUB}, {split}, review {number}: {read}; expected some text and the label 0 or 1")
        rows.append({"example_id": f"dbrd-{split}-{number}", "text": text, "label": LABELS[label]})
    return rows


def _spaced(row: Row) -> str:
    return " ".join(row["text"].split())


TASK = Task(
    name="dbrd",
    kind="text_classification",
    metric="accuracy",
    read=read_reviews,
    data=("hub", "bol_reviews", "known_answer"),
    options={"keep": ("head", "tail", "both")},
)
