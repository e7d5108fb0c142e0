"""Documents, from whatever a profile names: a group of `sources`, known-answer Dutch, a dataset of the hub, or a user's
folder or file.

A user's own text is `.txt` (a blank line between documents, one paragraph a line) or `.jsonl` (one
`{"id": ..., "text": ...}` a line, one paragraph a line in `text`), plain or compressed.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from fsspec.core import OpenFile, get_compression
from fsspec.implementations.local import LocalFileSystem
from fsspec.utils import compressions

from robbertje_lib.corpus import manifestos, novels
from robbertje_lib.experiment import sources
from robbertje_lib.experiment.errors import UserError, did_you_mean
from robbertje_lib.experiment.profile import HubDataset

HUB = "hub:"  # begins the name of a source that is a dataset
SHUFFLED = 10_000  # documents of a dataset that are shuffled at a time; its files are shuffled whole
# Groups of `sources` that are running text, and how to read one file of each.
TEXT_GROUPS: dict[str, Callable[[Path, Counter[str]], Iterator[list[str]]]] = {
    "novels": novels.read_novel,
    "manifestos": manifestos.read_manifesto,
}
COMPRESSED = (".gz", ".bz2", ".xz", ".zst")


@dataclass(frozen=True)
class Document:
    """Text that belongs together, a line of the source a paragraph; `id` is unique within a corpus.

    `file`: the book, the manifesto or the file of the user's folder that it is part of. A document of known-answer
    Dutch, of a dataset, or of a file that is named by itself is part of nothing: its own id stands there. In
    known-answer Dutch a paragraph is one sentence, its words parted by single spaces.
    """

    id: str
    source: str
    file: str
    paragraphs: tuple[str, ...]


def source_files(name: str, dropped: Counter[str]) -> list[Path]:
    """The files behind a source in a fixed order: of a manifest group, a folder (with its subfolders) or a file.

    Files of other kinds in a folder are left out, and counted in `dropped`. Raises `UserError` if nothing is left.
    """
    if name in TEXT_GROUPS:
        return sources.fetch(name)
    path = Path(name).expanduser()
    if path.is_file():
        if _kind(path) is None:
            raise UserError(
                f"corpus.sources: '{name}' is not .txt or .jsonl, plain or {', '.join(COMPRESSED)}; convert it"
            )
        return [path]
    if path.is_dir():
        every = [p for p in path.rglob("*") if p.is_file()]
        files = sorted(p for p in every if _kind(p) is not None)
        if not files:
            raise UserError(f"corpus.sources: the folder '{name}' holds no .txt or .jsonl files; add one")
        if len(files) < len(every):
            dropped["own text: neither .txt nor .jsonl (files)"] += len(every) - len(files)
        return files
    hint = did_you_mean(name, [*TEXT_GROUPS, sources.KNOWN_ANSWER])
    raise UserError(f"corpus.sources: no source, file or folder '{name}'; {hint}")


def read_file(name: str, path: Path, dropped: Counter[str]) -> Iterator[Document]:
    """Yield the documents of one of `source_files(name)`; count in `dropped` what is left out, by reason.

    Text is read as a stream. Raises `UserError` with file, line and what was expected if the file is malformed.
    """
    if name in TEXT_GROUPS:
        stem = path.parent.parent.name if name == "novels" else path.stem  # a novel's title is its repository's name
        file = f"{name}/{stem}"
        for number, paragraphs in enumerate(TEXT_GROUPS[name](path, dropped), 1):
            yield Document(f"{file}#{number}", name, file, tuple(paragraphs))
        return
    reader = _read_jsonl if _kind(path) == ".jsonl" else _read_txt
    root = Path(name).expanduser()
    file = (path.relative_to(root) if root.is_dir() else Path(path.name)).as_posix()  # names recur in subfolders
    for identifier, paragraphs in reader(path):
        if paragraphs:
            own = f"{file}#{identifier}"
            yield Document(own, name, file if root.is_dir() else own, tuple(paragraphs))
        else:
            dropped["own text: empty (documents)"] += 1


def read_hub(name: str, seed: int, dropped: Counter[str]) -> Iterator[Document]:
    """Yield the documents of a dataset, its column `text`, one paragraph a line, in an order drawn with `seed`.

    Streamed: only what is asked for is downloaded. No code of the dataset's is run, so that those which need a
    loading script are refused. Raises `UserError` if it cannot be read or has no such column.
    """
    from datasets import load_dataset  # takes a second to import

    source = HubDataset.parse(name)
    try:
        rows = load_dataset(source.name, source.config, revision=source.revision, split="train", streaming=True)
        for number, row in enumerate(rows.shuffle(seed=seed, buffer_size=SHUFFLED)):
            if not isinstance(row.get("text"), str):
                raise UserError(
                    f"corpus.sources: '{name}' has no text in a column 'text' (but {', '.join(row)}); "
                    "save its text as .jsonl files and name their folder"
                )
            if paragraphs := tuple(p for p in map(str.strip, row["text"].replace("\0", "").split("\n")) if p):
                yield Document(f"{name}#{number}", name, f"{name}#{number}", paragraphs)
            else:
                dropped["hub: empty (documents)"] += 1
    except (OSError, ValueError, RuntimeError) as error:
        raise UserError(
            f"corpus.sources: '{name}' cannot be read ({str(error) or type(error).__name__:.200}); "
            "check name, revision and network, or name a folder with text of your own"
        ) from None


def _kind(path: Path) -> str | None:
    name = path.with_suffix("") if path.suffix in COMPRESSED else path
    return name.suffix if name.suffix in {".txt", ".jsonl"} else None


def _read_txt(path: Path) -> Iterator[tuple[str, list[str]]]:
    paragraphs: list[str] = []
    number = 0
    for _, line in _lines(path):
        if line:
            paragraphs.append(line)
        elif paragraphs:
            number += 1
            yield str(number), paragraphs
            paragraphs = []
    if paragraphs:
        yield str(number + 1), paragraphs


def _read_jsonl(path: Path) -> Iterator[tuple[str, list[str]]]:
    seen: set[str] = set()
    for number, line in _lines(path):
        if not line:
            continue
        try:
            record = json.loads(line)
            identifier, text = str(record["id"]), record["text"]
            if not isinstance(text, str):
                raise TypeError
            (identifier + text).encode()  # half a surrogate pair is no text, though JSON can spell it
        except (ValueError, KeyError, TypeError, RecursionError):
            raise UserError(
                f'{path}, line {number}: expected {{"id": "...", "text": "..."}}; correct the line'
            ) from None
        if identifier in seen:
            raise UserError(
                f"{path}, line {number}: the id '{identifier[:60]}' occurs twice; give each document its own"
            )
        seen.add(identifier)
        yield identifier, [p for p in map(str.strip, text.split("\n")) if p]


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Numbered lines, stripped, decompressed on the way."""
    if path.suffix == ".zst" and "zst" not in compressions:  # Python has it from 3.14 on
        raise UserError(f"{path}: reading .zst takes `pip install backports.zstd`, or compress the file with gzip")
    number = 0
    try:
        with OpenFile(LocalFileSystem(), str(path), compression=get_compression(str(path), "infer")) as stream:
            for raw in stream:
                number += 1
                yield number, raw.decode("utf-8-sig" if number == 1 else "utf-8").strip().replace("\0", "")
    except UnicodeDecodeError:
        raise UserError(f"{path}, line {number}: expected UTF-8 text; convert the file") from None
    except Exception as error:  # each decompressor raises errors of its own
        raise UserError(
            f"{path}, after line {number}: cannot be read ({error}); expected a whole {path.suffix} file"
        ) from None
