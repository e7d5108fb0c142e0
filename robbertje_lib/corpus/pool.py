"""The pool: every document that the profile's sources give, cleaned and cut into lines, and the part that is held out.

Text stays in memory while the arms are cut: some 100 MB for `mini`, about 10 GB at the paper's three gigabytes.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain

import numpy as np

from robbertje_lib.corpus import readers
from robbertje_lib.corpus.lines import DOCUMENTS, FILES, SplitDocument, line_bytes, random_stream
from robbertje_lib.corpus.sentences import sentence_fault, split_sentences
from robbertje_lib.experiment.errors import UserError
from robbertje_lib.experiment.results.corpus import SourceRead
from robbertje_lib.experiment.run import Run
from robbertje_lib.experiment.sources import KNOWN_ANSWER
from robbertje_lib.known_answer.documents import generate_documents

# Text to choose from, as a multiple of an arm: with none to spare, the head of every arm would be the same text.
POOL = 4
FIRST_TURN = 0.05  # share of a source's text that one file gives before every other had its turn
POOR_SCAN = 0.2  # share of lines with scanning errors above which a document is left out


@dataclass
class Pool:
    """Every document, what was left out by reason, and what was read of each source."""

    documents: list[SplitDocument]
    dropped: Counter[str] = field(default_factory=Counter)
    read: dict[str, SourceRead] = field(default_factory=dict)


@dataclass(frozen=True)
class Split:
    training: list[SplitDocument]
    held_out: list[SplitDocument]


def read_pool(run: Run) -> Pool:
    """Read the profile's sources, file by file in random order, until there is text enough for the arms.

    Each source gives an equal share, or all it has. A file gives a twentieth of that first, and its rest once every
    other had its turn: few files would leave none to hold out whole. Raises `UserError` if nothing is left after
    cleaning.
    """
    settings, seed = run.profile.corpus, run.profile.seed
    pool = Pool([])
    share = POOL * settings.arm_megabytes * 1e6 / (1 - settings.held_out_fraction) / len(settings.sources)
    seen: set[str] = set()
    for index, source in enumerate(settings.sources):
        read = Counter(files_read=0, files=0, documents=0, lines=0, bytes=0)
        for document in _documents(run, source, share, random_stream(seed, FILES, index), pool.dropped, read):
            if lines := _clean(document, settings.lines, seen, pool.dropped):
                pool.documents.append(SplitDocument(document.id, source, document.file, tuple(lines)))
                read.update(documents=1, lines=len(lines), bytes=pool.documents[-1].bytes)
                if read["bytes"] >= share:
                    break
        pool.read[source] = SourceRead(**read)
    if not pool.documents:
        raise UserError(f"the corpus is empty: {', '.join(settings.sources)} gave no sentences; check corpus.sources")
    return pool


def _documents(
    run: Run, source: str, size: float, rng: np.random.Generator, dropped: Counter[str], read: Counter[str]
) -> Iterator[readers.Document]:
    if source == KNOWN_ANSWER:
        strength = run.profile.gender_bias.planted_strength
        for known in generate_documents(run.profile.seed, size / 1e6, strength):
            yield readers.Document(known.id, source, known.id, tuple(sentence.text for sentence in known.sentences))
        return
    if source.startswith(readers.HUB):
        yield from readers.read_hub(source, int(rng.integers(2**32)), dropped)
        return
    paths = readers.source_files(source, dropped)
    read["files"] = len(paths)
    begun = []
    for index in rng.permutation(len(paths)):
        read["files_read"] += 1
        documents, taken = readers.read_file(source, paths[index], dropped), 0
        for document in documents:
            yield document
            taken += sum(map(line_bytes, document.paragraphs))
            if taken >= FIRST_TURN * size:
                begun.append(documents)
                break
    yield from chain.from_iterable(begun)


def _clean(document: readers.Document, cut: str, seen: set[str], dropped: Counter[str]) -> list[str]:
    """A document's lines (`cut` is `corpus.lines`): tidied, freed of faults and of lines that `seen` has."""
    if document.source == KNOWN_ANSWER:
        return list(document.paragraphs)  # repetition is part of what its probabilities say
    curated = document.source in readers.TEXT_GROUPS
    scanned = document.source == "manifestos"
    name = document.source if curated else "hub" if document.source.startswith(readers.HUB) else "own text"
    faults: Counter[str] = Counter()
    lines = []
    paragraphs, unit = [" ".join(p.split()) for p in document.paragraphs], "lines" if cut == "source" else "sentences"
    found = paragraphs if cut == "source" else [s for p in paragraphs for s in split_sentences(p)]
    for line in found:
        if curated and (fault := sentence_fault(line, scanned)):
            faults[f"{name}: {fault} ({unit})"] += 1
        elif line in seen:
            faults[f"{name}: said before ({unit})"] += 1
        else:
            lines.append(line)
    if scanned and faults[f"{name}: scanning errors ({unit})"] > POOR_SCAN * len(found):
        dropped[f"{name}: poorly scanned (documents)"] += 1
        return []
    dropped.update(faults)
    lines = list(dict.fromkeys(lines))
    seen.update(lines)
    return lines


def split_pool(pool: Pool, held_out_fraction: float, seed: int) -> Split:
    """Hold out whole files, drawn at random, until `held_out_fraction` of the bytes is reached.

    A file that would make it twice as much, or more, stays in training, and of files that are all so large the smallest
    is held out. By file, not by document: a chapter has the names and the topic of the rest of its book. The documents
    of both parts are in random order, so that sources are interleaved. Raises `UserError` for a single file.
    """
    rng = random_stream(seed, DOCUMENTS)
    documents = [pool.documents[i] for i in rng.permutation(len(pool.documents))]
    sizes: Counter[str] = Counter()
    for document in pool.documents:
        sizes[document.file] += document.bytes
    if len(sizes) < 2:
        raise UserError(
            f"the corpus is one file, {next(iter(sizes))}, so that none can be held out whole; "
            "add a file to corpus.sources, or cut this one in two"
        )
    wanted, size, held_out = held_out_fraction * sizes.total(), 0, set()
    for file in rng.permutation(list(sizes)).tolist():
        if size < wanted and size + sizes[file] < 2 * wanted:
            held_out.add(file)
            size += sizes[file]
    held_out = held_out or {min(sizes, key=sizes.__getitem__)}
    return Split(
        training=[document for document in documents if document.file not in held_out],
        held_out=[document for document in documents if document.file in held_out],
    )
