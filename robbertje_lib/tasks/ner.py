"""Named entities in Dutch newspaper text: CoNLL-2002 (Tjong Kim Sang 2002), entity-level F1.

`ned.train`, `ned.testa` (validation) and `ned.testb` (test) of the archive: a word, a part of speech and an
IOB2 label a line, an empty line between sentences, `-DOCSTART-` where an article begins.

The cluster of a sentence is its article: 287, 74 and 119 of them, the longest with 412 of the 15,806 training and 108
of the 5,195 test sentences. In a file that marks no article each sentence stands for itself.
"""

import lzma
import stat
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from robbertje_lib.experiment import sources
from robbertje_lib.experiment.errors import UserError
from robbertje_lib.experiment.profile import TaskSettings
from robbertje_lib.tasks import Examples, Row, Task, TaskSource
from robbertje_lib.tasks.reading import known_answer_examples, malformed

LABELS = ("O", "B-LOC", "I-LOC", "B-MISC", "I-MISC", "B-ORG", "I-ORG", "B-PER", "I-PER")
MEMBERS = {"train": "conll2002/ned.train", "validation": "conll2002/ned.testa", "test": "conll2002/ned.testb"}
LARGEST_MEMBER = 50_000_000  # bytes; the real ones have 2.4 million at most
DAMAGED = (OSError, EOFError, ValueError, RuntimeError, zipfile.BadZipFile, zlib.error, lzma.LZMAError)


def read_entities(settings: TaskSettings, source: TaskSource) -> Examples:
    """The sentences that the profile asks for."""
    if settings.data == "known_answer":
        return known_answer_examples("ner", LABELS, settings, source)
    return parse_archive(sources.fetch("conll2002")[0])


def parse_archive(path: Path) -> Examples:
    """Sentences of the three Dutch members, read in place: nothing is unpacked to disk.

    Raises `UserError` for a damaged archive, a member that is missing, far too large or placed outside the archive's
    folder, or a malformed line.
    """
    splits: dict[str, list[Row]] = {}
    boundaries = 0
    try:
        with zipfile.ZipFile(path) as archive:
            _check_members(path, archive.infolist())
            for split, member in MEMBERS.items():
                if member not in archive.namelist():
                    raise UserError(f"{path}: no member {member}; expected {', '.join(MEMBERS.values())}")
                if archive.getinfo(member).file_size > LARGEST_MEMBER:
                    raise UserError(f"{path}: {member} is too large for CoNLL-2002; fetch it again")
                text = _decode(archive.read(member), f"{path}, {member}")
                splits[split], articles = parse_iob2(text, f"{path}, {member}", split)
                boundaries += articles
    except DAMAGED as error:
        raise UserError(f"{path}: not a readable zip archive ({error!s:.200}); fetch it again") from None
    return Examples(LABELS, splits, {"article_boundary_line": boundaries})


def _check_members(path: Path, members: list[zipfile.ZipInfo]) -> None:
    """Nothing is unpacked here, but whoever unpacks what we accepted must be safe too."""
    for member in members:
        name, kind = PurePosixPath(member.filename), stat.S_IFMT(member.external_attr >> 16)
        outside = name.is_absolute() or ".." in name.parts or "\\" in member.filename or ":" in member.filename
        if outside or kind not in {0, stat.S_IFREG, stat.S_IFDIR}:
            raise UserError(f"{path}: holds {member.filename!r:.100}, no plain file below the archive; fetch it again")


def _decode(content: bytes, where: str) -> str:
    try:
        # NLTK's copy is UTF-8, unlike the shared task's own Latin-1 files.
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise malformed(where, line, "not UTF-8 text", "NLTK's copy of CoNLL-2002, which is") from None


def parse_iob2(text: str, where: str, split: str) -> tuple[list[Row], int]:
    """Sentences of one file, clustered by article, and the number of `-DOCSTART-` lines that were left out.

    Raises `UserError` for a line without three fields, an unknown label, or a label that IOB2 forbids.
    """
    rows: list[Row] = []
    tokens: list[str] = []
    labels: list[str] = []
    boundaries = 0
    for number, line in enumerate([*text.split("\n"), ""], 1):
        if not line.strip():
            if tokens:
                name = f"{split}-{len(rows) + 1}"
                cluster = f"{split}-article-{boundaries}" if boundaries else name
                rows.append({"example_id": name, "tokens": tokens, "labels": labels, "cluster": cluster})
            tokens, labels = [], []
            continue
        fields = line.split(" ")
        if len(fields) != 3 or not all(fields):
            raise malformed(where, number, f"'{line[:60]}'", "a word, a part of speech and a label, one space between")
        word, _, label = fields
        if word == "-DOCSTART-":
            boundaries += 1
            continue
        if label not in LABELS:
            raise malformed(where, number, f"label '{label}'", f"one of {', '.join(LABELS)}")
        if label.startswith("I-") and (not labels or labels[-1] not in {label, f"B-{label[2:]}"}):
            raise malformed(where, number, f"'{label}' after '{labels[-1] if labels else 'nothing'}'", "IOB2 labels")
        tokens.append(word)
        labels.append(label)
    if not rows:
        raise malformed(where, 1, "no sentence", "CoNLL-2002 data")
    return rows, boundaries


TASK = Task(
    name="ner",
    kind="token_classification",
    metric="f1",
    read=read_entities,
    data=("conll2002", "known_answer"),
    options={"label_pieces": ("first", "all")},
)
