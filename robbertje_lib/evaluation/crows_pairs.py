"""Dutch CrowS-Pairs: does a model find the more stereotyping sentence of a pair more likely?

Pairs differ in a few words only. Following Nangia et al. 2020 (section 3), only the tokens that both sentences share
are masked, one at a time, and their log-probabilities summed: P(shared | differing words). 50 % is no preference.
The Dutch pairs are those of jerryspan/Dutch-CrowS-Pairs (RANLP 2025), whose file is in Mac Roman. Two known mistakes
are avoided: probabilities are not summed in place of log-probabilities, and nothing is lower-cased.
Blodgett et al. 2021 doubt that such pairs measure bias at all: read the interval, and other metrics beside it.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from pathlib import Path

import numpy as np
import pandas as pd

from robbertje_lib.experiment.errors import UserError
from robbertje_lib.experiment.sources import fetch
from robbertje_lib.models.log_probs import TOKENS_PER_BATCH, Floats, Integers, Queries, token_log_probs
from robbertje_lib.models.masked_lm import MaskedLM

COLUMNS = ("id", "sent_more", "sent_less", "stereo_antistereo", "bias_type")


@dataclass(frozen=True)
class Pair:
    identifier: str
    more: str  # the sentence that stereotypes more
    less: str
    direction: str  # stereo, or antistereo where the pair goes against the stereotype
    bias_type: str


def load_pairs(bias_types: Sequence[str] = ("gender",)) -> list[Pair]:
    """The Dutch pairs of the named bias types, in the file's order. Raises `UserError` if the file cannot be had."""
    pairs = read_pairs(fetch("crows_pairs_nl")[0])
    known = {pair.bias_type for pair in pairs}
    for wanted in bias_types:
        if wanted not in known:
            raise UserError(f"CrowS-Pairs has no bias type '{wanted}'; choose from {', '.join(sorted(known))}")
    return [pair for pair in pairs if pair.bias_type in bias_types]


def read_pairs(path: Path) -> list[Pair]:
    """Read the Mac Roman file. Raises `UserError` naming file, line and what was expected."""
    pairs: list[Pair] = []
    try:
        with path.open(encoding="mac_roman", newline="") as stream:
            reader = csv.reader(stream, strict=True)
            if tuple(next(reader, ())) != COLUMNS:
                raise UserError(f"{path}, line 1: expected the columns {', '.join(COLUMNS)}")
            for fields in reader:
                if len(fields) != len(COLUMNS) or not all(fields):
                    raise UserError(f"{path}, line {reader.line_num}: expected {len(COLUMNS)} filled columns")
                pairs.append(Pair(*fields))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); fetch it again") from None
    except csv.Error as error:
        raise UserError(f"{path}, line {reader.line_num}: {error}; expected quoted, comma-separated fields") from None
    return pairs


def score_pairs(model: MaskedLM, pairs: Sequence[Pair], tokens_per_batch: int = TOKENS_PER_BATCH) -> pd.DataFrame:
    """Pseudo-log-likelihood of the shared tokens of both sentences of each pair, in nats.

    A row a pair, with the columns of `CrowsPairsScores`; a pair is skipped where a sentence is longer than the model
    can take, or no token is shared.
    """
    sequences: list[Integers] = []
    owner, position, rows = [], [], []
    for pair in pairs:
        more, less = (np.array(model.tokenizer(text)["input_ids"]) for text in (pair.more, pair.less))
        special = [model.special_ids().issuperset([token]) for token in more]
        blocks = SequenceMatcher(None, more.tolist(), less.tolist(), autojunk=False).get_matching_blocks()
        shared = [(b.a + i, b.b + i) for b in blocks for i in range(b.size) if not special[b.a + i]]
        skipped = not shared or max(len(more), len(less)) > model.maximum_length
        rows.append({"id": pair.identifier, "bias_type": pair.bias_type, "direction": pair.direction,
                     "shared": len(shared), "skipped": skipped})  # fmt: skip
        if not skipped:
            for side, ids in enumerate((more, less)):
                owner += [len(sequences)] * len(shared)
                position += [at[side] for at in shared]
                sequences.append(ids)
    at = np.array(position, dtype=np.int64)
    queries = Queries(np.array(owner, dtype=np.int64), at, at + 1)
    sums = np.bincount(owner, token_log_probs(model, sequences, queries, tokens_per_batch), len(sequences))
    table = pd.DataFrame(rows)
    scores: Floats = np.full((len(rows), 2), np.nan)
    scores[~table["skipped"].to_numpy(bool)] = sums.reshape(-1, 2)
    return table.assign(more=scores[:, 0], less=scores[:, 1])
