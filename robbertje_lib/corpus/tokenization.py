"""Text to tokens: a tokenizer in RoBERTa's layout, lines cut to what a model can take, and token stores on disk.

RobBERT v2 uses a byte-level BPE of 40,000 entries (arXiv 2001.06286, section 3). The `word` kind exists for
known-answer Dutch, where a token has to be a word so that its true probability is known.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from tokenizers import AddedToken, Regex, decoders, models, pre_tokenizers, processors, trainers
from tokenizers import Tokenizer as Backend
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from robbertje_lib.corpus.lines import Line, SplitDocument
from robbertje_lib.experiment import profile
from robbertje_lib.experiment.artefacts import atomic_path
from robbertje_lib.experiment.errors import UserError
from robbertje_lib.experiment.results.corpus import LengthHistogram, StoreFigures
from robbertje_lib.experiment.run import Run

SPECIALS = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")  # ids 0 to 4, as in RoBERTa
LINES_PER_BATCH = 10_000
CHUNK = 20_000  # lines of a store tokenized at once
HISTOGRAM_BINS = 16


@dataclass
class TokenizedLines:
    """Columns of equal length, one row per sequence, and what happened on the way."""

    line: list[int] = field(default_factory=list)  # index of the line a row comes from
    text: list[str] = field(default_factory=list)  # the part of that line the row holds
    input_ids: list[list[int]] = field(default_factory=list)  # with `<s>` and `</s>`
    n_tokens: list[int] = field(default_factory=list)  # len(input_ids)
    counts: Counter[str] = field(default_factory=Counter)  # lines, split_lines, unknown_tokens


def train_tokenizer(lines: Iterable[str], settings: profile.Tokenizer) -> PreTrainedTokenizerFast:
    """Train a tokenizer on `lines`; the same lines give the same tokenizer.

    `word` splits at single spaces and newlines and keeps the most frequent words; `bpe` is RoBERTa's byte-level BPE.
    Raises `UserError` if there is nothing to learn from.
    """
    # Like RoBERTa's, the mask swallows the space before it: what it stands for then starts with that space.
    specials = [AddedToken(s, lstrip=s == "<mask>", normalized=False, special=True) for s in SPECIALS]
    if settings.kind == "bpe":
        backend = Backend(models.BPE())
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        backend.decoder = decoders.ByteLevel()
        trainer: trainers.BpeTrainer | trainers.WordLevelTrainer = trainers.BpeTrainer(
            vocab_size=settings.vocabulary,
            min_frequency=2,
            special_tokens=specials,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
    else:
        backend = Backend(models.WordLevel(unk_token="<unk>"))
        backend.pre_tokenizer = pre_tokenizers.Split(Regex("[ \n]"), "removed")
        # No decoder: words are then joined by single spaces, the inverse of the split.
        trainer = trainers.WordLevelTrainer(
            vocab_size=settings.vocabulary, special_tokens=specials, show_progress=False
        )
    backend.train_from_iterator(lines, trainer)
    if backend.get_vocab_size() == len(SPECIALS) + (256 if settings.kind == "bpe" else 0):
        raise UserError("tokenizer: no text to train on; check corpus.sources")
    backend.post_processor = processors.RobertaProcessing(
        sep=("</s>", 2), cls_token=("<s>", 0), trim_offsets=True, add_prefix_space=False
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token="<s>",
        eos_token="</s>",
        cls_token="<s>",
        sep_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        mask_token="<mask>",
        model_max_length=settings.maximum_length,
        clean_up_tokenization_spaces=False,
    )


def tokenize_lines(lines: Sequence[str], tokenizer: PreTrainedTokenizerFast) -> TokenizedLines:
    """Tokenize `lines`; one longer than the tokenizer's `model_max_length` becomes several rows.

    The pieces are full but for the last, each between its own `<s>` and `</s>`, as in the code that made the
    released models (Hugging Face distillation scripts, `lm_seqs_dataset.py`). Nothing is dropped.
    """
    result = TokenizedLines(counts=Counter(lines=len(lines), split_lines=0, unknown_tokens=0))
    backend, room = tokenizer.backend_tokenizer, tokenizer.model_max_length - 2
    first, last, unknown = tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.unk_token_id
    for start in range(0, len(lines), LINES_PER_BATCH):
        batch = list(lines[start : start + LINES_PER_BATCH])
        for index, (text, encoding) in enumerate(
            zip(batch, backend.encode_batch(batch, add_special_tokens=False), strict=True), start
        ):
            ids = encoding.ids
            result.counts["unknown_tokens"] += ids.count(unknown)
            result.counts["split_lines"] += len(ids) > room
            begin = 0
            for at in range(0, max(len(ids), 1), room):
                piece = ids[at : at + room]
                end = encoding.offsets[at + room - 1][1] if at + room < len(ids) else len(text)
                result.line.append(index)
                result.text.append(text[begin:end])
                result.input_ids.append([first, *piece, last])
                result.n_tokens.append(len(piece) + 2)
                begin = end
    return result


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


def write_store(
    path: Path, lines: Sequence[Line], tokenizer: PreTrainedTokenizerFast, owners: Iterable[SplitDocument] = ()
) -> StoreFigures:
    """Write `lines` to the folder `path`, whole or not at all; the same lines give the same bytes.

    Columns: text, document_id, input_ids (int32, `<s>` and `</s>` included), n_tokens (int32); with `owners`, the
    documents of the lines, also source, file, and line (int32, its number). A line longer than the model can take
    becomes several rows.
    """
    by_id = {document.id: document for document in owners}
    counts: Counter[str] = Counter()
    digest = hashlib.sha256()
    chunks = []
    for start in range(0, len(lines), CHUNK):
        chunk = lines[start : start + CHUNK]
        tokens = tokenize_lines([line.text for line in chunk], tokenizer)
        counts.update(tokens.counts)
        documents = [chunk[i].document for i in tokens.line]
        columns = {
            "text": pa.array(tokens.text, pa.string()),
            "document_id": pa.array(documents, pa.string()),
            "input_ids": pa.array(tokens.input_ids, pa.list_(pa.int32())),
            "n_tokens": pa.array(tokens.n_tokens, pa.int32()),
        }
        if by_id:
            columns["source"] = pa.array([by_id[name].source for name in documents], pa.string())
            columns["file"] = pa.array([by_id[name].file for name in documents], pa.string())
            columns["line"] = pa.array(np.array(tokens.line) + start, pa.int32())
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


def _histogram(lengths: NDArray[np.int32], longest: int) -> LengthHistogram:
    step = -(-longest // HISTOGRAM_BINS)
    edges = np.arange(0, longest + step + 1, step)
    return LengthHistogram(edges=edges.tolist(), counts=np.histogram(lengths, edges)[0].tolist())
