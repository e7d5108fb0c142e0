"""Parts of speech: UD LassySmall, 17 universal tags, accuracy over words.

Releases before 2.0 call the coordinating conjunction `CONJ`; it is read as `CCONJ`, its name since.

Words are the treebank's syntactic words: a contracted surface token (`2-3`) gives way to its parts, which
carry the tags, and empty nodes (`8.1`) of the enhanced graph are no words at all. Both are counted.
"""

from pathlib import Path

import conllu
from conllu.exceptions import ParseException

from robbertje_lib.experiment import sources
from robbertje_lib.experiment.errors import UserError
from robbertje_lib.experiment.profile import TaskSettings
from robbertje_lib.tasks import SPLITS, Examples, Row, Task, TaskSource
from robbertje_lib.tasks.reading import known_answer_examples, malformed, read_text

# https://universaldependencies.org/u/pos/
LABELS = (
    *("ADJ", "ADP", "ADV", "AUX", "CCONJ", "DET", "INTJ", "NOUN", "NUM"),
    *("PART", "PRON", "PROPN", "PUNCT", "SCONJ", "SYM", "VERB", "X"),
)
RENAMED = {"CONJ": "CCONJ"}
FILES = {"train": "-ud-train.conllu", "validation": "-ud-dev.conllu", "test": "-ud-test.conllu"}


def read_tags(settings: TaskSettings, source: TaskSource) -> Examples:
    """The sentences that the profile asks for."""
    if settings.data == "known_answer":
        return known_answer_examples("pos", LABELS, settings, source)
    files = sources.fetch(settings.data)
    splits: dict[str, list[Row]] = {}
    dropped = {"contracted_token": 0, "empty_node": 0}
    for split in SPLITS:
        path = next((file for file in files if file.name.endswith(FILES[split])), None)
        if path is None:
            raise UserError(f"{settings.data} has no file *{FILES[split]}; choose a release that has all three")
        splits[split], left_out = parse_conllu(path, split)
        dropped = {reason: count + left_out[reason] for reason, count in dropped.items()}
    return Examples(LABELS, splits, dropped)


def parse_conllu(path: Path, split: str) -> tuple[list[Row], dict[str, int]]:
    """Sentences of one CoNLL-U file, and how many contracted tokens and empty nodes were left out.

    Raises `UserError` with file and line for a malformed file.
    """
    rows: list[Row] = []
    dropped = {"contracted_token": 0, "empty_node": 0}
    line = 1
    for block in read_text(path).split("\n\n"):
        if any(text and not text.startswith("#") for text in block.split("\n")):
            rows.append(_sentence(block, path, line, f"{split}-{len(rows) + 1}", dropped))
        line += block.count("\n") + 2
    if not rows:
        raise malformed(path, 1, "no sentence", "CoNLL-U")
    return rows, dropped


def _sentence(block: str, path: Path, first: int, example_id: str, dropped: dict[str, int]) -> Row:
    tokens: list[str] = []
    labels: list[str] = []
    for number, text in enumerate(block.split("\n"), first):
        if not text or text.startswith("#"):
            continue
        # conllu also accepts columns separated by two spaces, and lines with some columns missing.
        if text.count("\t") != 9:
            raise malformed(path, number, f"{text.count(chr(9)) + 1} columns", "10, separated by tabs")
        try:
            (word,) = conllu.parse(text)[0]
        except (ParseException, ValueError, IndexError) as error:  # the last two where it takes the line for none
            raise malformed(path, number, f"{text[:60]!r} ({error})", "a CoNLL-U word") from None
        if not isinstance(word["id"], int):
            dropped["empty_node" if word["id"][1] == "." else "contracted_token"] += 1
            continue
        if word["id"] != len(tokens) + 1:
            raise malformed(path, number, f"word {word['id']}", f"word {len(tokens) + 1}")
        label = RENAMED.get(word["upos"], word["upos"])
        if label not in LABELS:
            raise malformed(path, number, f"tag '{label}'", f"one of {', '.join(LABELS)}")
        tokens.append(word["form"])
        labels.append(label)
    return {"example_id": example_id, "tokens": tokens, "labels": labels}


TASK = Task(
    name="pos",
    kind="token_classification",
    metric="accuracy",
    read=read_tags,
    data=("lassysmall-r1.4", "lassysmall-r2.5", "known_answer"),
    options={"label_pieces": ("first", "all")},
)
