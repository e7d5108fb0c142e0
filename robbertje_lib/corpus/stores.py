"""Token stores: lines as tokens on disk, a row a sequence, made in chunks and kept as Arrow at 4 bytes a token."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
from transformers import PreTrainedTokenizerFast

from robbertje_lib.corpus.lines import Line
from robbertje_lib.corpus.tokenization import tokenize_lines
from robbertje_lib.experiment.artefacts import atomic_path
from robbertje_lib.experiment.results.corpus import LengthHistogram, StoreFigures

CHUNK = 20_000  # lines tokenized at once
HISTOGRAM_BINS = 16


def write_store(
    path: Path, lines: Sequence[Line], tokenizer: PreTrainedTokenizerFast, sources: Mapping[str, str] | None = None
) -> StoreFigures:
    """Write `lines` to the folder `path`, whole or not at all; the same lines give the same bytes.

    Columns: text, document_id, input_ids (int32, `<s>` and `</s>` included), n_tokens (int32); with `sources`
    (document -> source), source. A line longer than the model can take becomes several rows.
    """
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
    datasets.disable_progress_bars()
    with atomic_path(path) as folder:
        # A fingerprint of the content: by default it is random, and no two runs would write the same files.
        datasets.Dataset(datasets.table.InMemoryTable(table), fingerprint=digest.hexdigest()[:16]).save_to_disk(folder)
    lengths = table["n_tokens"].to_numpy()
    return StoreFigures(
        documents=len({line.document for line in lines}),
        lines=len(lines),
        sequences=len(table),
        tokens=int(lengths.sum()),
        bytes=sum(line.bytes for line in lines),
        mean_tokens=float(lengths.mean()),
        split_lines=counts["split_lines"],
        unknown_tokens=counts["unknown_tokens"],
        length_histogram=_histogram(lengths, tokenizer.model_max_length),
        sha256=digest.hexdigest(),
    )


def _histogram(lengths: np.ndarray, longest: int) -> LengthHistogram:
    step = -(-longest // HISTOGRAM_BINS)
    edges = np.arange(0, longest + step + 1, step)
    return LengthHistogram(edges=edges.tolist(), counts=np.histogram(lengths, edges)[0].tolist())
