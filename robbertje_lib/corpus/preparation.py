"""The corpus: documents, a held-out part, and the three arms (RobBERTje, section on pre-training data).

The paper compares OSCAR with its lines shuffled, the same documents in order, and those with the next line of a
document merged into the current one with probability 0.5. Each arm took the first gigabyte of its own file, so
arms hold different text (selection `head`); `same_lines` is the controlled experiment, in which all hold the same.

Text stays in memory while the arms are cut: some 100 MB for `mini`, about 10 GB at the paper's three gigabytes.
Tokens are made in chunks and kept as Arrow, at 4 bytes each.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import datasets
import numpy as np
import pandas as pd
import pyarrow as pa
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from robbertje_lib.corpus import readers
from robbertje_lib.corpus.sentences import sentence_fault, split_sentences
from robbertje_lib.corpus.tokenization import tokenize_lines, train_tokenizer
from robbertje_lib.experiment import profile
from robbertje_lib.experiment.artefacts import atomic_path, read_json, write_json
from robbertje_lib.experiment.errors import UserError
from robbertje_lib.experiment.run import Run
from robbertje_lib.experiment.sources import KNOWN_ANSWER
from robbertje_lib.known_answer import generate_documents

# Text to choose from, as a multiple of an arm: with none to spare, the head of every arm would be the same text.
POOL = 4
POOR_SCAN = 0.2  # share of sentences with scanning errors above which a document is left out
CHUNK = 20_000  # lines tokenized at once
HISTOGRAM_BINS = 16
# What each random stream is for; streams of one profile seed are independent.
FILES, DOCUMENTS, SHUFFLE, MERGE, SAMPLE = range(5)


@dataclass(frozen=True)
class SplitDocument:
    """A document as lines, one sentence each, in order."""

    id: str
    source: str
    lines: tuple[str, ...]

    @property
    def bytes(self) -> int:
        """Size in UTF-8, newlines included."""
        return sum(map(_bytes, self.lines))


class Line(NamedTuple):
    text: str
    document: str


@dataclass
class Pool:
    """Every document read, what was left out by reason, and per source how many files were read of how many."""

    documents: list[SplitDocument]
    dropped: Counter[str] = field(default_factory=Counter)
    read: dict[str, dict[str, int]] = field(default_factory=dict)

    def table(self) -> pd.DataFrame:
        """Files, documents, lines and megabytes per source."""
        rows = []
        for source, files in self.read.items():
            own = [d for d in self.documents if d.source == source]
            size = sum(d.bytes for d in own) / 1e6
            rows.append(
                {"source": source, **files, "lines": sum(len(d.lines) for d in own), "megabytes": round(size, 2)}
            )
        return pd.DataFrame(rows).set_index("source")

    def dropped_table(self) -> pd.DataFrame:
        """How much was left out, by reason, most first."""
        return pd.DataFrame(self.dropped.most_common(), columns=["reason", "count"]).set_index("reason")


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
        files = Counter(files_read=0, files=0, documents=0)
        size = 0
        rng = np.random.default_rng([seed, FILES, index])
        for document in _documents(run, source, share, rng, pool.dropped, files):
            lines = _clean(document, seen, pool.dropped)
            if lines:
                pool.documents.append(SplitDocument(document.id, source, tuple(lines)))
                files["documents"] += 1
                size += pool.documents[-1].bytes
                if size >= share:
                    break
        pool.read[source] = dict(files)
    if not pool.documents:
        raise UserError(f"the corpus is empty: {', '.join(settings.sources)} gave no sentences; check corpus.sources")
    return pool


def _documents(
    run: Run, source: str, size: float, rng: np.random.Generator, dropped: Counter[str], files: Counter[str]
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
    files["files"] = len(paths)
    for index in rng.permutation(len(paths)):
        files["files_read"] += 1
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
    order = np.random.default_rng([seed, DOCUMENTS]).permutation(len(pool.documents))
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


def document_lines(documents: Iterable[SplitDocument]) -> Iterator[Line]:
    """Every line, in order."""
    return (Line(text, document.id) for document in documents for text in document.lines)


def merge_lines(documents: Iterable[SplitDocument], probability: float, seed: int) -> Iterator[Line]:
    """One sequential pass: each next line of the same document joins the current one with `probability`.

    Runs of lines are therefore geometric, 1/(1 - probability) lines long on average in long documents. Joined by a
    space; documents never mix. The paper's own code is not public; this is its README's description.
    """
    rng = np.random.default_rng([seed, MERGE])
    for document in documents:
        run: list[str] = []
        joins = rng.random(len(document.lines)) < probability
        for text, join in zip(document.lines, joins, strict=True):
            if run and not join:
                yield Line(" ".join(run), document.id)
                run = []
            run.append(text)
        if run:
            yield Line(" ".join(run), document.id)


def shuffle_lines(lines: Sequence[Line], seed: int) -> list[Line]:
    """The lines in random order, whatever document they come from."""
    return [lines[i] for i in np.random.default_rng([seed, SHUFFLE]).permutation(len(lines))]


def head(lines: Iterable[Line], size: float) -> list[Line]:
    """The first whole lines that fit in `size` bytes of UTF-8, newlines included; at least one."""
    kept: list[Line] = []
    total = 0
    for line in lines:
        total += _bytes(line.text)
        if kept and total > size:
            break
        kept.append(line)
    return kept


def make_arms(documents: list[SplitDocument], settings: profile.Corpus, seed: int) -> dict[tuple[str, str], list[Line]]:
    """The lines of every (selection, arm) of the profile. An arm takes all there is if that is less than its size."""
    size = settings.arm_megabytes * 1e6
    ordered = list(document_lines(documents))
    arms: dict[tuple[str, str], list[Line]] = {}
    for selection in settings.selections:
        if selection == "head":
            arms[selection, "non_shuffled"] = head(ordered, size)
            arms[selection, "shuffled"] = head(shuffle_lines(ordered, seed), size)
            arms[selection, "merged"] = head(merge_lines(documents, settings.merge_probability, seed), size)
        else:
            base = head(ordered, size)
            arms[selection, "non_shuffled"] = base
            arms[selection, "shuffled"] = shuffle_lines(base, seed)
            arms[selection, "merged"] = list(merge_lines(_regroup(base), settings.merge_probability, seed))
    return arms


def _regroup(lines: Sequence[Line]) -> list[SplitDocument]:
    grouped: dict[str, list[str]] = {}
    for line in lines:
        grouped.setdefault(line.document, []).append(line.text)
    return [SplitDocument(document, "", tuple(texts)) for document, texts in grouped.items()]


def write_tokenizer(run: Run, documents: Iterable[SplitDocument]) -> PreTrainedTokenizerFast:
    """Train the profile's tokenizer on `documents`, or take the released teacher's; save it for every later stage."""
    settings, teacher = run.profile.tokenizer, run.profile.teacher
    if isinstance(teacher, profile.HubTeacher):
        try:
            tokenizer = AutoTokenizer.from_pretrained(teacher.hub, revision=teacher.revision, trust_remote_code=False)
        except (OSError, ValueError) as error:
            raise UserError(
                f"the tokenizer of {teacher.hub} cannot be had ({error}); connect to the internet"
            ) from None
        if not isinstance(tokenizer, PreTrainedTokenizerFast):
            raise UserError(f"{teacher.hub} has no fast tokenizer, which token positions need; name another teacher")
        tokenizer.model_max_length = settings.maximum_length  # the released tokenizers name none
    else:
        tokenizer = train_tokenizer((text for document in documents for text in document.lines), settings)
    with atomic_path(run.paths.tokenizer) as folder:
        tokenizer.save_pretrained(folder)
    return tokenizer


def write_corpus(
    run: Run, pool: Pool, split: Split, arms: dict[tuple[str, str], list[Line]], tokenizer: PreTrainedTokenizerFast
) -> pd.DataFrame:
    """Tokenize and store the held-out part and every arm, then write `results/corpus/<arm>.json`.

    Returns one row per arm and for the held-out part: documents, lines, tokens, megabytes, mean tokens per sequence.
    """
    sources = {document.id: document.source for document in split.held_out}
    rows = {("", "held_out"): _store(run, run.paths.held_out, list(document_lines(split.held_out)), tokenizer, sources)}
    for (selection, arm), lines in arms.items():
        rows[selection, arm] = _store(run, run.paths.corpus(selection, arm), lines, tokenizer)
    held_out = rows["", "held_out"]
    for arm in dict.fromkeys(arm for _, arm in arms):
        selections = {selection: rows[selection, arm] for selection, other in arms if other == arm}
        first = next(lines for (_, other), lines in arms.items() if other == arm)
        content = {
            "arm": arm,
            "asked_bytes": int(run.profile.corpus.arm_megabytes * 1e6),
            "read": pool.read,
            "dropped": dict(pool.dropped),
            "split": {f"{s}: longer than maximum_length (lines)": row["split_lines"] for s, row in selections.items()},
            "selections": selections,
            "held_out": {key: held_out[key] for key in ("documents", "lines", "tokens", "bytes", "sha256")},
            "sample_lines": sample_lines(first, run.profile.corpus.sample_lines, run.profile.seed),
        }
        write_json(run.paths.result("corpus", f"{arm}.json"), content)
    shown = ["documents", "lines", "sequences", "tokens", "bytes", "split_lines", "unknown_tokens", "mean_tokens"]
    index = pd.MultiIndex.from_tuples(list(rows), names=["selection", "arm"])
    return pd.DataFrame([[row[column] for column in shown] for row in rows.values()], index, shown).round(1)


def build_corpus(run: Run) -> pd.DataFrame:
    """Everything of `10_corpus` in one call."""
    pool = read_pool(run)
    split = split_pool(pool, run.profile.corpus.held_out_fraction, run.profile.seed)
    arms = make_arms(split.training, run.profile.corpus, run.profile.seed)
    return write_corpus(run, pool, split, arms, write_tokenizer(run, split.training))


def sample_lines(lines: Sequence[Line], count: int, seed: int) -> list[str]:
    """`count` random lines (all, if fewer), in their order."""
    chosen = np.random.default_rng([seed, SAMPLE]).choice(len(lines), min(count, len(lines)), replace=False)
    return [lines[i].text for i in sorted(chosen)]


def length_table(run: Run) -> pd.DataFrame:
    """Share of each stored arm's sequences by length in tokens, `<s>` and `</s>` included; empty bins are left out."""
    columns = {}
    for selection, arm in run.profile.arms:
        histogram = read_json(run.paths.result("corpus", f"{arm}.json"))["selections"][selection]["length_histogram"]
        edges, counts = histogram["edges"], np.array(histogram["counts"])
        bins = [f"{low} to {high - 1}" for low, high in pairwise(edges)]
        columns[selection, arm] = pd.Series(counts / counts.sum(), index=bins)
    table = pd.DataFrame(columns).rename_axis("tokens")
    return table[table.sum(axis=1) > 0].round(3)


def sample_table(run: Run) -> pd.DataFrame:
    """The random lines of each arm that its result file keeps."""
    arms = dict.fromkeys(arm for _, arm in run.profile.arms)
    samples = {arm: read_json(run.paths.result("corpus", f"{arm}.json"))["sample_lines"] for arm in arms}
    return pd.DataFrame([(arm, line) for arm, lines in samples.items() for line in lines], columns=["arm", "line"])


def _store(
    run: Run, path: Path, lines: list[Line], tokenizer: PreTrainedTokenizerFast, sources: dict[str, str] | None = None
) -> dict[str, Any]:
    """Write a token store (one row a sequence) and return its figures."""
    counts: Counter[str] = Counter()
    digest = hashlib.sha256()
    chunks = []
    for start in range(0, len(lines), CHUNK):
        chunk = lines[start : start + CHUNK]
        tokens = tokenize_lines([line.text for line in chunk], tokenizer)
        counts.update(tokens.counts)
        owners = [chunk[i].document for i in tokens.line]
        columns = {
            "text": pa.array(tokens.text, pa.string()),
            "document_id": pa.array(owners, pa.string()),
            "input_ids": pa.array(tokens.input_ids, pa.list_(pa.int32())),
            "n_tokens": pa.array(tokens.n_tokens, pa.int32()),
        }
        if sources:
            columns["source"] = pa.array([sources[owner] for owner in owners], pa.string())
        chunks.append(pa.table(columns))
        for line in chunk:
            digest.update(line.text.encode() + b"\n")
    table = pa.concat_tables(chunks)
    lengths = table["n_tokens"].to_numpy()
    longest = run.profile.tokenizer.maximum_length
    step = -(-longest // HISTOGRAM_BINS)
    edges = np.arange(0, longest + step + 1, step)
    datasets.disable_progress_bars()
    with atomic_path(path) as folder:
        # A fingerprint of the content: by default it is random, and no two runs would write the same files.
        datasets.Dataset(datasets.table.InMemoryTable(table), fingerprint=digest.hexdigest()[:16]).save_to_disk(folder)
    return {
        "documents": len({line.document for line in lines}),
        "lines": len(lines),
        "sequences": len(table),
        "tokens": int(lengths.sum()),
        "bytes": sum(_bytes(line.text) for line in lines),
        "mean_tokens": float(lengths.mean()),
        "split_lines": counts["split_lines"],
        "unknown_tokens": counts["unknown_tokens"],
        "length_histogram": {"edges": edges.tolist(), "counts": np.histogram(lengths, edges)[0].tolist()},
        "sha256": digest.hexdigest(),
    }


def _bytes(line: str) -> int:
    return (len(line) if line.isascii() else len(line.encode())) + 1
