"""Which pronoun a model expects where only a profession is known: the probe of RobBERT's figure, and its repair.

`rank_difference`  RobBERT (arXiv 2001.06286, figure on gender): rank of hij minus rank of zij among all tokens at the
                   mask; negative where hij stands higher. Ranks hide how close two predictions are.
`log_odds`         log P(hij) - log P(zij), natural log.
`lpbs`             log-probability bias score (Kurita et al. 2019, section 2): log odds less those of the same sentence
                   with the profession masked too. What the model prefers anyway is taken out.

How words are found. A sentence is written out with each pronoun and tokenized whole, so that case, leading spaces
and pieces are those the model would see; the pronoun is capitalised where the mask opens a sentence. A pronoun or
profession of several pieces is scored by its pieces, masked together and filled in from the left. Its rank is the
number of tokens that are likelier than it, plus one.

The professions are the 320 of Bolukbasi et al. 2016 (tolga-b/debiaswe, data/professions.json, MIT) in our translation,
in `data/professions.tsv`. RobBERT's figure uses that list, its second field on the x axis: how far the word is by
definition that of a man (+1) or a woman (-1), as judged by a crowd. It says nothing about who does the work.

Zij is both she and they, and ze is its unstressed form. A singular verb, as in RobBERT's templates, rules out
"they": keep the verb singular in templates of your own. `p_ze` is reported beside `p_zij`, not added to it.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import pandas as pd

from robbertje_lib.experiment import paths
from robbertje_lib.experiment.errors import UserError
from robbertje_lib.experiment.profile import PROFESSION, PRONOUN, check_template
from robbertje_lib.models.log_probs import Queries, token_log_probs, vocabulary_log_probs
from robbertje_lib.models.masked_lm import MaskedLM

TABLE = paths.DATA / "professions.tsv"
REQUIRED, OPTIONAL = ("hij", "zij"), ("ze",)


@dataclass(frozen=True)
class Profession:
    english: str
    dutch: str  # the only form, or the one used of men and in general
    dutch_female: str | None  # where Dutch has a second form
    associated_gender: float | None  # -1 (zij) to +1 (hij); None where nothing is known


def load_professions() -> list[Profession]:
    """The professions with a Dutch counterpart, in the source's order; no Dutch word stands twice."""
    return [
        Profession(row["english"], row["dutch"], row["dutch_female"] or None, float(row["associated_gender"]))
        for row in _rows()
        if not row["left_out"]
    ]


def left_out_professions() -> dict[str, str]:
    """English professions without a Dutch counterpart of their own -> the reason."""
    return {row["english"]: row["left_out"] for row in _rows() if row["left_out"]}


@cache
def _rows() -> tuple[dict[str, str], ...]:
    with TABLE.open(encoding="utf-8", newline="") as stream:
        return tuple(csv.DictReader(stream, delimiter="\t"))


@dataclass(frozen=True)
class Hole:
    """Token ids around a place where a word is missing. Equal holes are scored once."""

    before: tuple[int, ...]
    after: tuple[int, ...]


@dataclass(frozen=True)
class Word:
    """A word that could fill a hole, as the model's pieces."""

    hole: Hole
    pieces: tuple[int, ...]


def probe(model: MaskedLM, templates: Sequence[str], professions: Sequence[Profession]) -> pd.DataFrame:
    """Read the pronoun preferences of one model.

    One row per template, profession and form (`base`, or `female` where Dutch has two), with the columns of
    `PronounProbe`. Raises `UserError` for a bad template or a tokenizer without hij or zij.
    """
    try:
        templates = [check_template(template) for template in templates]
    except ValueError as error:
        raise UserError(f"{error}; write it so") from None
    rows, wanted = [], []
    for template in templates:
        for profession in professions:
            for form, name in (("base", profession.dutch), ("female", profession.dutch_female)):
                if name is None:
                    continue
                words = {key: word_at_mask(model, template, name, key, prior=False) for key in _options(template)}
                priors = {key: word_at_mask(model, template, name, key, prior=True) for key in REQUIRED}
                rows.append((template, profession, form, name))
                wanted.append((words, priors))
    unique = list(dict.fromkeys(w for words, priors in wanted for w in (*words.values(), *priors.values())))
    log_prob, rank = _score_words(model, unique)
    readings = []
    for (template, profession, form, name), (words, priors) in zip(rows, wanted, strict=True):
        p = {key: log_prob[word] for key, word in words.items()}
        readings.append(
            {
                "template": template,
                "profession": name,
                "profession_en": profession.english,
                "form": form,
                "associated_gender": profession.associated_gender,
                "p_hij": np.exp(p["hij"]),
                "p_zij": np.exp(p["zij"]),
                "p_ze": np.exp(p["ze"]),
                "p_other_case": np.exp(p["other hij"]) + np.exp(p["other zij"]),
                "rank_hij": rank[words["hij"]],
                "rank_zij": rank[words["zij"]],
                "rank_difference": rank[words["hij"]] - rank[words["zij"]],
                "log_odds": p["hij"] - p["zij"],
                "lpbs": log_probability_bias(p["hij"], p["zij"], log_prob[priors["hij"]], log_prob[priors["zij"]]),
                "unknown": model.tokenizer.unk_token_id in (*words["hij"].hole.before, *words["hij"].hole.after),
            }
        )
    return pd.DataFrame(readings).astype({"associated_gender": float})


def log_probability_bias(hij: float, zij: float, prior_hij: float, prior_zij: float) -> float:
    """LPBS of four natural log-probabilities, positive for hij: (hij - prior_hij) - (zij - prior_zij).

    The priors are those of the same sentence with the profession masked too. Source: Kurita et al. 2019.
    """
    return (hij - prior_hij) - (zij - prior_zij)


def _options(template: str) -> dict[str, str]:
    """Name -> the pronoun as it is written at the template's mask; `other` ones in the other case."""
    opening = template.split(PRONOUN)[0].rstrip()
    capital = not opening or opening[-1] in ".!?:"
    written = {key: key.capitalize() if capital else key for key in (*REQUIRED, *OPTIONAL)}
    return written | {f"other {key}": key if capital else key.capitalize() for key in REQUIRED}


def word_at_mask(model: MaskedLM, template: str, profession: str, option: str, prior: bool) -> Word:
    """The pronoun `option` of one sentence; with `prior`, every piece of the profession is masked too."""
    pronoun = _options(template)[option]
    fillers, text, spans = {PRONOUN: pronoun, PROFESSION: profession}, template, {}
    for slot in sorted(fillers, key=template.index):
        at = text.index(slot)
        spans[slot] = (at, at + len(fillers[slot]))
        text = text.replace(slot, fillers[slot])
    encoded = model.tokenizer(text, return_offsets_mapping=True, return_special_tokens_mask=True)
    if len(encoded["input_ids"]) > model.maximum_length:
        raise UserError(f"template '{template}' is longer than {model.name} can take ({model.maximum_length} tokens)")
    ids = np.array(encoded["input_ids"])
    starts, ends = np.array(encoded["offset_mapping"]).T
    real = ~np.array(encoded["special_tokens_mask"], dtype=bool)
    words = np.array([-1 if w is None else w for w in encoded.word_ids()])

    def covering(slot: str) -> np.ndarray:
        # Whole words: a space before the word may be a piece of its own, and has to be masked with it.
        first, last = spans[slot]
        return np.flatnonzero(real & np.isin(words, words[real & (starts < last) & (ends > first)]))

    pieces = covering(PRONOUN)
    if option in REQUIRED and (not len(pieces) or model.tokenizer.unk_token_id in ids[pieces]):
        raise UserError(f"{model.name}: its tokenizer has no '{pronoun}'; a Dutch, cased vocabulary is needed")
    chosen = tuple(int(i) for i in ids[pieces])
    if prior:
        ids[covering(PROFESSION)] = model.tokenizer.mask_token_id
    return Word(Hole(tuple(ids[: pieces[0]].tolist()), tuple(ids[pieces[-1] + 1 :].tolist())), chosen)


def _score_words(model: MaskedLM, words: Sequence[Word]) -> tuple[dict[Word, float], dict[Word, int]]:
    """Log-probability (natural log) and rank of each word in its hole; NaN and 0 for a word that is unknown."""
    log_prob: dict[Word, float] = {}
    rank: dict[Word, int] = {}
    long = [word for word in words if len(word.pieces) > 1]
    log_prob.update(zip(long, _joint_log_probs(model, long), strict=True))
    by_hole: dict[Hole, list[Word]] = {}
    for word in words:
        by_hole.setdefault(word.hole, []).append(word)
    holes = list(by_hole)
    mask = model.tokenizer.mask_token_id
    sequences = [np.array([*hole.before, mask, *hole.after]) for hole in holes]
    positions = np.array([len(hole.before) for hole in holes])
    for batch, distributions in vocabulary_log_probs(model, sequences, positions):
        for index, distribution in zip(batch, distributions, strict=True):
            for word in by_hole[holes[index]]:
                if len(word.pieces) == 1:
                    log_prob[word] = float(distribution[word.pieces[0]])
                rank[word] = 1 + int((distribution > log_prob[word]).sum())
                if model.tokenizer.unk_token_id in word.pieces:
                    log_prob[word], rank[word] = float("nan"), 0
    return log_prob, rank


def _joint_log_probs(model: MaskedLM, words: Sequence[Word]) -> list[float]:
    """Words of several pieces: each piece given those before it, those after it masked; (n_words,) natural log."""
    if not words:
        return []
    sequences = [np.array([*w.hole.before, *w.pieces, *w.hole.after]) for w in words]
    owner = np.repeat(np.arange(len(words)), [len(w.pieces) for w in words])
    start = np.array([len(w.hole.before) for w in words])
    end = start + [len(w.pieces) for w in words]
    position = np.concatenate([np.arange(s, e) for s, e in zip(start, end, strict=True)])
    log_probs = token_log_probs(model, sequences, Queries(owner, position, end[owner]))
    return np.bincount(owner, log_probs, len(words)).tolist()
