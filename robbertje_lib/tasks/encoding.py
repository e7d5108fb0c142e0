"""Examples to token ids: nothing that does not fit is lost unseen.

A text longer than the model takes is cut as the task says (`keep`), and what was cut is counted. A long
sentence of a token task is instead read in several windows, so that every word gets a prediction.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from robbertje_lib.experiment.errors import UserError
from robbertje_lib.tasks import MASK, Row

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

IGNORED = -100  # the label that the loss leaves out
Ids = list[int]


@dataclass
class Encoded:
    """Model inputs. One row gives one feature, but for long sentences of token tasks, which give several.

    `features` hold `input_ids`, `labels` and, where the tokenizer has them, `token_type_ids`. `rows` is the
    row of each feature; `first_pieces` (token tasks) where each of its words begins; `n_tokens` the length of
    each row before cutting, special tokens included. `counts` says what did not fit.
    """

    features: list[dict[str, Any]] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    first_pieces: list[list[int]] = field(default_factory=list)
    n_tokens: list[int] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)


class Encoder:
    """Encodes rows for one tokenizer and one maximum length (in tokens, special tokens included)."""

    def __init__(
        self, tokenizer: "PreTrainedTokenizerBase", maximum_length: int, keep: str = "head", label_pieces: str = "first"
    ) -> None:
        self.tokenizer, self.keep, self.label_pieces = tokenizer, keep, label_pieces
        self.maximum_length = maximum_length
        self.single = _Frame.of(tokenizer, pair=False)
        self.pair = _Frame.of(tokenizer, pair=True)

    def encode(self, kind: str, rows: Iterable[Row], labels: tuple[str, ...]) -> Encoded:
        """Encode rows of a task; `kind` and the rows' columns as in `robbertje_lib.tasks`."""
        rows, number = list(rows), {label: index for index, label in enumerate(labels)}
        if kind == "token_classification":
            return self._sentences(rows, number)
        result = Encoded(counts=Counter(examples_cut=0, tokens_cut=0))
        texts = self._pieces([row["text"] for row in rows])
        pairs: list[Ids] | list[None] = [None] * len(rows)
        if kind == "pair_classification":
            pairs = self._pieces([row["text_pair"] for row in rows])
        for index, (row, text, pair) in enumerate(zip(rows, texts, pairs, strict=True)):
            frame = self.single if pair is None else self.pair
            whole = len(text) + len(pair or []) + frame.size
            feature = frame.around(*self._fit(text, pair, self.maximum_length - frame.size))
            cut = whole - len(feature["input_ids"])
            result.counts.update(examples_cut=int(cut > 0), tokens_cut=cut)
            result.features.append({**feature, "labels": number[row["label"]]})
            result.rows.append(index)
            result.n_tokens.append(whole)
        return result

    def masked_text(self, text: str) -> Ids:
        """One text as the model reads it, special tokens included, cut around its mask if need be."""
        (pieces,) = self._pieces([text])
        return self.single.around(*self._fit(pieces, None, self.maximum_length - self.single.size))["input_ids"]

    def _pieces(self, texts: list[str]) -> list[Ids]:
        mask = self.tokenizer.mask_token
        if mask is None and any(MASK in text for text in texts):
            raise UserError(f"{self.tokenizer.name_or_path}: no mask token; choose a masked language model")
        texts = [text.replace(MASK, mask) if MASK in text else text for text in texts]
        return self.tokenizer(texts, add_special_tokens=False, return_attention_mask=False, verbose=False)["input_ids"]

    def _fit(self, text: Ids, pair: Ids | None, room: int) -> tuple[Ids, Ids | None]:
        """Cut a text to `room` tokens, or both of a pair, the longer one first."""
        if pair is None:
            return self._cut(text, room, self._focus(text, [])), None
        room_pair = min(len(pair), max(room // 2, room - len(text)))
        focus = self._focus(text, pair)
        return self._cut(text, room - room_pair, focus), self._cut(pair, room_pair, focus)

    def _focus(self, text: Ids, pair: Ids) -> int:
        """The piece that `keep: mask` may not lose: the mask or, in a pair, the first difference."""
        mask = self.tokenizer.mask_token_id
        if mask in text:
            return text.index(mask)
        return next((i for i, (a, b) in enumerate(zip(text, pair, strict=False)) if a != b), 0)

    def _cut(self, ids: Ids, room: int, focus: int) -> Ids:
        if len(ids) <= room:
            return ids
        if self.keep == "both":
            return ids[: room - room // 2] + ids[len(ids) - room // 2 :]
        starts = {"head": 0, "tail": len(ids) - room, "mask": min(max(focus - room // 2, 0), len(ids) - room)}
        start = starts[self.keep]
        return ids[start : start + room]

    def _sentences(self, rows: list[Row], number: dict[str, int]) -> Encoded:
        result = Encoded(counts=Counter(sentences_in_windows=0, windows=0, words_cut=0, tokens_cut=0, words_unknown=0))
        room = self.maximum_length - self.single.size
        # Words are encoded one by one, once each: the first of a sentence as it stands, the others after a space.
        words = {(token, place > 0) for row in rows for place, token in enumerate(row["tokens"])}
        listed = sorted(words)
        encoded = self._pieces([" " * spaced + token for token, spaced in listed]) if listed else []
        pieces = dict(zip(listed, encoded, strict=True))
        for index, row in enumerate(rows):
            sentence = [pieces[token, place > 0] for place, token in enumerate(row["tokens"])]
            # A word of characters the tokenizer drops altogether still needs a place to be labelled at.
            result.counts["words_unknown"] += sum(not word for word in sentence)
            sentence = [word or [self.tokenizer.unk_token_id] for word in sentence]
            result.n_tokens.append(sum(map(len, sentence)) + self.single.size)
            result.counts["words_cut"] += sum(len(word) > room for word in sentence)
            result.counts["tokens_cut"] += sum(max(len(word) - room, 0) for word in sentence)
            windows = _windows([word[:room] for word in sentence], room)
            result.counts.update(sentences_in_windows=int(len(windows) > 1), windows=len(windows))
            left = [number[label] for label in row["labels"]]
            for window in windows:
                self._add_window(result, index, window, left[: len(window)])
                left = left[len(window) :]
        return result

    def _add_window(self, result: Encoded, index: int, words: list[Ids], labels: list[int]) -> None:
        feature = self.single.around([piece for word in words for piece in word], None)
        targets, firsts = [IGNORED] * len(feature["input_ids"]), []
        at = len(self.single.before)
        for word, label in zip(words, labels, strict=True):
            firsts.append(at)
            labelled = len(word) if self.label_pieces == "all" else 1
            targets[at : at + labelled] = [label] * labelled
            at += len(word)
        result.features.append({**feature, "labels": targets})
        result.rows.append(index)
        result.first_pieces.append(firsts)


def _windows(words: list[Ids], room: int) -> list[list[Ids]]:
    """The words in as few consecutive windows of at most `room` pieces as filling them in turn gives."""
    windows: list[list[Ids]] = [[]]
    left = room
    for word in words:
        if len(word) > left:
            windows.append([])
            left = room
        windows[-1].append(word)
        left -= len(word)
    return windows


@dataclass(frozen=True)
class _Frame:
    """The special tokens that a tokenizer puts around one text or a pair, and the type of each segment."""

    before: Ids
    between: Ids
    after: Ids
    types: tuple[Ids, Ids, Ids, Ids, Ids] | None  # before, first, between, second, after

    @classmethod
    def of(cls, tokenizer: "PreTrainedTokenizerBase", pair: bool) -> "_Frame":
        """Read the frame off an example, which works for every family of models."""
        probe = tokenizer("a", "a", return_token_type_ids=True) if pair else tokenizer("a", return_token_type_ids=True)
        ids, types, marks = probe["input_ids"], probe["token_type_ids"], probe.sequence_ids(0)
        first, last = marks.index(0), len(marks) - marks[::-1].index(0)
        second, end = (marks.index(1), len(marks) - marks[::-1].index(1)) if pair else (last, last)
        parts = [slice(0, first), slice(first, last), slice(last, second), slice(second, end), slice(end, None)]
        wanted = "token_type_ids" in tokenizer.model_input_names
        split = tuple(types[part] for part in parts) if wanted else None
        return cls(ids[parts[0]], ids[parts[2]], ids[parts[4]], split)  # type: ignore[arg-type]

    @property
    def size(self) -> int:
        return len(self.before) + len(self.between) + len(self.after)

    def around(self, text: Ids, pair: Ids | None) -> dict[str, Ids]:
        """The model inputs for pieces already cut to fit."""
        feature = {"input_ids": [*self.before, *text, *self.between, *(pair or []), *self.after]}
        if self.types is not None:
            before, first, between, second, after = self.types
            middle = [*first[:1] * len(text), *between, *second[:1] * len(pair or [])]
            feature["token_type_ids"] = [*before, *middle, *after]
        return feature
