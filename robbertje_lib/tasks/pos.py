"""Parts of speech: UD LassySmall, 17 universal tags, accuracy over words.

Releases before 2.0 call the coordinating conjunction `CONJ`; it is read as `CCONJ`, its name since.

Words are the treebank's syntactic words: a contracted surface token (`2-3`) gives way to its parts, which
carry the tags, and empty nodes (`8.1`) of the enhanced graph are no words at all. Both are counted.

The cluster of a sentence is its document, which its name tells (`wiki-135.p.9.s.2`).

Of all releases at hand only r1.4 has a training split, which holds most sentences of later releases' test splits; what
it shares with its own development and test splits is left out. Models are tested on two further sets: LassySmall r2.16
(development and test files) without what r1.4 trains or validates on, nearly all of it from documents that r1.4 lacks;
and Alpino r2.16, a treebank of other text, 297 of whose 1,314 sentences are of one document. Releases tag the same
words differently: r2.16 has no `PART` (`te`, `om` and `als` are `ADP` and `SCONJ`), possessives are `PRON` instead of
`DET`, ordinals `ADJ` instead of `NUM`, words within names `PROPN`, `worden` often `VERB` instead of `AUX`. Of the words
in sentences that both hold, 6.5 % differ. No tag is changed for this, since no rule undoes it all: a perfect tagger by
r1.4 would reach about .935 there. Compare models within a set, never the scores of two sets.
"""

import re
from collections import Counter
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
# `# wiki-135.p.9.s.2.xml` in r1.4; later `# sent_id = ` and, in Alpino, FOLDER\\ before the name.
DOCUMENT = re.compile(r"(?m)^#(?: sent_id =)? (?:[\w-]+\\)?([\w-]+)\.p\.\d+\.s\.\S+")
FILES = {"train": "-ud-train.conllu", "validation": "-ud-dev.conllu", "test": "-ud-test.conllu"}


def read_tags(settings: TaskSettings, source: TaskSource) -> Examples:
    """The sentences that the profile asks for."""
    if settings.data == "known_answer":
        return known_answer_examples("pos", LABELS, settings, source)
    files = sources.fetch(settings.data)
    splits: dict[str, list[Row]] = {}
    dropped: Counter[str] = Counter()
    for split in SPLITS:
        path = next((file for file in files if file.name.endswith(FILES[split])), None)
        if path is None:
            raise UserError(f"{settings.data} has no file *{FILES[split]}; choose a release that has all three")
        splits[split], left_out = parse_conllu(path, split)
        dropped.update(left_out)
    train, validation, test = splits.values()
    judged = _all_words(validation) | _all_words(test)
    splits["train"] = [row for row in train if _words(row) not in judged]
    dropped["train_in_validation_or_test"] = len(train) - len(splits["train"])
    further: dict[str, list[Row]] = {}
    known = _all_words(splits["train"]) | _all_words(validation)
    for release in TASK.further.get(settings.data, ()):
        rows: list[Row] = []
        for path in sources.fetch(release):
            more, left_out = parse_conllu(path, f"{release}-{path.stem.rpartition('-')[2]}")
            rows += more
            dropped.update(left_out)
        further[release] = [row for row in rows if _words(row) not in known]
        dropped[f"{release}_in_train_or_validation"] = len(rows) - len(further[release])
    return Examples(LABELS, splits, dict(dropped), further)


def _all_words(rows: list[Row]) -> set[str]:
    return {_words(row) for row in rows}


def _words(row: Row) -> str:
    return "".join(row["tokens"]).lower()


def parse_conllu(path: Path, split: str) -> tuple[list[Row], dict[str, int]]:
    """Sentences of one CoNLL-U file, and how many contracted tokens and empty nodes were left out.

    Their cluster is the document, or where no comment names it the sentence itself. Raises `UserError` with file and
    line for a malformed file.
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
    document = DOCUMENT.search(block)
    return {
        "example_id": example_id,
        "tokens": tokens,
        "labels": labels,
        "cluster": document[1] if document else example_id,
    }


TASK = Task(
    name="pos",
    kind="token_classification",
    metric="accuracy",
    read=read_tags,
    data=("lassysmall-r1.4", "lassysmall-r2.5", "known_answer"),
    options={"label_pieces": ("first", "all")},
    further={"lassysmall-r1.4": ("lassysmall-r2.16", "alpino-r2.16")},
)
