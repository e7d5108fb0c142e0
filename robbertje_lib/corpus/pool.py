"""The pool: every document that the profile's sources give, cleaned and cut into lines, and the part that is held out.

Text stays in memory while the arms are cut: some 100 MB for `mini`, about 10 GB at the paper's three gigabytes.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from robbertje_lib.corpus import readers
from robbertje_lib.corpus.lines import DOCUMENTS, FILES, SplitDocument, random_stream
from robbertje_lib.corpus.sentences import sentence_fault, split_sentences
from robbertje_lib.experiment.errors import UserError
from robbertje_lib.experiment.results.corpus import SourceRead
from robbertje_lib.experiment.run import Run
from robbertje_lib.experiment.sources import KNOWN_ANSWER
from robbertje_lib.known_answer.documents import generate_documents

# Text to choose from, as a multiple of an arm: with none to spare, the head of every arm would be the same text.
POOL = 4
POOR_SCAN = 0.2  # share of sentences with scanning errors above which a document is left out


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

    Each source gives an equal share, or all it has. Raises `UserError` if nothing is left after cleaning.
    """
    settings, seed = run.profile.corpus, run.profile.seed
    pool = Pool([])
    share = POOL * settings.arm_megabytes * 1e6 / (1 - settings.held_out_fraction) / len(settings.sources)
    seen: set[str] = set()
    for index, source in enumerate(settings.sources):
        read = Counter(files_read=0, files=0, documents=0, lines=0, bytes=0)
        for document in _documents(run, source, share, random_stream(seed, FILES, index), pool.dropped, read):
            if lines := _clean(document, seen, pool.dropped):
                pool.documents.append(SplitDocument(document.id, source, tuple(lines)))
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
            yield readers.Document(known.id, source, tuple(sentence.text for sentence in known.sentences))
        return
    if source.startswith(readers.HUB):
        yield from readers.read_hub(source, int(rng.integers(2**32)), dropped)
        return
    paths = readers.source_files(source, dropped)
    read["files"] = len(paths)
    for index in rng.permutation(len(paths)):
        read["files_read"] += 1
        yield from readers.read_file(source, paths[index], dropped)


def _clean(document: readers.Document, seen: set[str], dropped: Counter[str]) -> list[str]:
    """A document's lines: split, tidied, freed of faults and of lines that `seen` has."""
    if document.source == KNOWN_ANSWER:
        return list(document.paragraphs)  # repetition is part of what its probabilities say
    curated = document.source in readers.TEXT_GROUPS
    scanned = document.source == "manifestos"
    name = document.source if curated else "hub" if document.source.startswith(readers.HUB) else "own text"
    faults: Counter[str] = Counter()
    lines = []
    sentences = [s for p in document.paragraphs for s in split_sentences(" ".join(p.split()))]
    for sentence in sentences:
        if curated and (fault := sentence_fault(sentence, scanned)):
            faults[f"{name}: {fault} (sentences)"] += 1
        elif sentence in seen:
            faults[f"{name}: said before (sentences)"] += 1
        else:
            lines.append(sentence)
    if scanned and faults[f"{name}: scanning errors (sentences)"] > POOR_SCAN * len(sentences):
        dropped[f"{name}: poorly scanned (documents)"] += 1
        return []
    dropped.update(faults)
    lines = list(dict.fromkeys(lines))
    seen.update(lines)
    return lines


def split_pool(pool: Pool, held_out_fraction: float, seed: int) -> Split:
    """Shuffle the documents and hold out whole ones until `held_out_fraction` of the bytes is reached.

    The order of both parts is random, so that sources are interleaved. Raises `UserError` if one would be empty.
    """
    order = random_stream(seed, DOCUMENTS).permutation(len(pool.documents))
    documents = [pool.documents[i] for i in order]
    wanted = held_out_fraction * sum(d.bytes for d in documents)
    size, count = 0, 0
    while size < wanted:
        size += documents[count].bytes
        count += 1
    if count in {0, len(documents)}:
        raise UserError(
            f"the corpus has {len(documents)} document(s), too few to hold some out; "
            "add text, or lower corpus.held_out_fraction"
        )
    return Split(training=documents[count:], held_out=documents[:count])
