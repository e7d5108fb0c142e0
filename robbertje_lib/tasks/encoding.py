"""Examples to token ids: nothing that does not fit is lost unseen.

A text longer than the model takes is cut as the task says (`keep`), and what was cut is counted. A long
sentence of a token task is instead read in several windows, so that every word gets a prediction.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from robbertje_lib.experiment.errors import UserError
from robbertje_lib.tasks import MASK, Row

if TYPE_CHECKING:
    from transformers import BatchEncoding, PreTrainedTokenizerBase

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

    def encode(self, kind: str, rows: Iterable[Row], labels: tuple[str, ...]) -> Encoded:
        """Encode rows of a task; `kind` and the rows' columns as in `robbertje_lib.tasks`."""
        rows, number = list(rows), {label: index for index, label in enumerate(labels)}
        if kind == "token_classification":
            return self._sentences(rows, number)
        result = Encoded(rows=list(range(len(rows))), counts=Counter(examples_cut=0, tokens_cut=0))
        pairs = [row["text_pair"] for row in rows] if kind == "pair_classification" else None
        fitted = self._fitted([row["text"] for row in rows], pairs)
        for row, (whole, feature) in zip(rows, fitted, strict=True):
            cut = whole - len(feature["input_ids"])
            result.counts.update(examples_cut=int(cut > 0), tokens_cut=cut)
            result.features.append({**feature, "labels": number[row["label"]]})
            result.n_tokens.append(whole)
        return result

    def masked_text(self, text: str) -> Ids:
        """One text as the model reads it, special tokens included, cut around its mask if need be."""
        ((_, feature),) = self._fitted([text])
        return feature["input_ids"]

    def _tokens(self, texts: list[str], pairs: list[str] | None = None, special: bool = True) -> "BatchEncoding":
        mask = self.tokenizer.mask_token
        if mask is None and any(MASK in text for text in [*texts, *(pairs or [])]):
            raise UserError(f"{self.tokenizer.name_or_path}: no mask token; choose a masked language model")
        filled = [side and [text.replace(MASK, mask or MASK) for text in side] for side in (texts, pairs)]
        return self.tokenizer(*filled, add_special_tokens=special, return_attention_mask=False, verbose=False)

    def _fitted(self, texts: list[str], pairs: list[str] | None = None) -> Iterator[tuple[int, dict[str, Ids]]]:
        """Each text's length in tokens, and the model inputs once it is cut; of a pair the longer side is cut first."""
        encoded = self._tokens(texts, pairs)
        for index, ids in enumerate(encoded["input_ids"]):
            sides = encoded.sequence_ids(index)
            text, pair = ([at for at, side in enumerate(sides) if side == wanted] for wanted in (0, 1))
            room = self.maximum_length - sides.count(None)
            room_pair = min(len(pair), max(room // 2, room - len(text)))
            focus = self._focus([ids[at] for at in text], [ids[at] for at in pair])
            kept = {*self._cut(text, room - room_pair, focus), *self._cut(pair, room_pair, focus)}
            places = [at for at, side in enumerate(sides) if side is None or at in kept]
            yield len(ids), {name: [values[index][at] for at in places] for name, values in encoded.items()}

    def _focus(self, text: Ids, pair: Ids) -> int:
        """The piece that `keep: mask` may not lose: the mask or, in a pair, the first difference."""
        mask = self.tokenizer.mask_token_id
        if mask in text:
            return text.index(mask)
        return next((i for i, (a, b) in enumerate(zip(text, pair, strict=False)) if a != b), 0)

    def _cut(self, places: list[int], room: int, focus: int) -> list[int]:
        if len(places) <= room:
            return places
        spare = len(places) - room
        if self.keep == "both":
            return places[: room - room // 2] + places[len(places) - room // 2 :]
        start = {"head": 0, "tail": spare, "mask": min(max(focus - room // 2, 0), spare)}[self.keep]
        return places[start : start + room]

    def _sentences(self, rows: list[Row], number: dict[str, int]) -> Encoded:
        result = Encoded(counts=Counter(sentences_in_windows=0, windows=0, words_cut=0, tokens_cut=0, words_unknown=0))
        _, before, after = self._frame
        room = self.maximum_length - before - after
        # Words are encoded one by one, once each: the first of a sentence as it stands, the others after a space.
        words = {(token, place > 0) for row in rows for place, token in enumerate(row["tokens"])}
        listed = sorted(words)
        encoded = (
            self._tokens([" " * spaced + token for token, spaced in listed], special=False)["input_ids"]
            if listed
            else []
        )
        pieces = dict(zip(listed, encoded, strict=True))
        for index, row in enumerate(rows):
            sentence = [pieces[token, place > 0] for place, token in enumerate(row["tokens"])]
            # A word of characters the tokenizer drops altogether still needs a place to be labelled at.
            result.counts["words_unknown"] += sum(not word for word in sentence)
            sentence = [word or [self.tokenizer.unk_token_id] for word in sentence]
            result.n_tokens.append(sum(map(len, sentence)) + before + after)
            result.counts["words_cut"] += sum(len(word) > room for word in sentence)
            result.counts["tokens_cut"] += sum(max(len(word) - room, 0) for word in sentence)
            windows = _windows([word[:room] for word in sentence], room)
            result.counts.update(sentences_in_windows=int(len(windows) > 1), windows=len(windows))
            left = [number[label] for label in row["labels"]]
            for window in windows:
                self._add_window(result, index, window, left[: len(window)])
                left = left[len(window) :]
        return result

    @cached_property
    def _frame(self) -> tuple["BatchEncoding", int, int]:
        """A text between its special tokens, and how many of these stand before and after it."""
        probe = self.tokenizer("a", return_attention_mask=False)
        sides = probe.sequence_ids(0)
        return probe, sides.index(0), sides[::-1].index(0)

    def _add_window(self, result: Encoded, index: int, words: list[Ids], labels: list[int]) -> None:
        probe, before, after = self._frame
        pieces: Ids = []
        targets: list[int] = []
        firsts: list[int] = []
        for word, label in zip(words, labels, strict=True):
            firsts.append(before + len(pieces))
            labelled = len(word) if self.label_pieces == "all" else 1
            targets += [label] * labelled + [IGNORED] * (len(word) - labelled)
            pieces += word
        inner = {"input_ids": pieces}
        feature = {
            name: [*values[:before], *inner.get(name, [values[before]] * len(pieces)), *values[len(values) - after :]]
            for name, values in probe.items()
        }
        result.features.append({**feature, "labels": [IGNORED] * before + targets + [IGNORED] * after})
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
