"""Which pronoun, *die* or *dat*? Built from the run's held-out documents, with the pronoun hidden.

`masked` (default): the pronoun becomes the mask and the model names it. `pair`: the RobBERT paper's form, the
sentence as it was and the sentence with the other pronoun in random order; the model says which is original.
Neither form shows how the pronoun was written: the mask hides its capitals, and in a pair both pronouns are
written alike and put into the very same string. The RobBERT code turned `Die` into `dat` and re-spaced the
changed sentence only, so that capitals and spacing gave the answer away.

Splits are disjoint by document. The zero-shot scores need no fine-tuning: the masked language model chooses
between the two pronouns itself.
"""

import re
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from robbertje_lib.experiment.artefacts import open_store
from robbertje_lib.experiment.errors import UserError
from robbertje_lib.experiment.profile import TaskSettings
from robbertje_lib.tasks import MASK, Examples, Row, Task, TaskSource
from robbertje_lib.tasks.encoding import Encoder
from robbertje_lib.tasks.reading import known_answer_examples, split_by_document

if TYPE_CHECKING:
    from robbertje_lib.models.masked_lm import MaskedLM

LABELS = ("dat", "die")
PAIR_LABELS = ("first", "second")  # where the original stands
OTHER = {"die": "dat", "dat": "die"}
# Whole words only: neither "datum" nor "die-hard", "dat's" or a page reference such as "dat1".
PRONOUN = re.compile(r"(?<![\w'’-])(die|dat)(?![\w'’-])", re.IGNORECASE)
SHARES = {"train": 0.7, "validation": 0.1, "test": 0.2}  # where the profile leaves the sizes open
MISS_RANK = 2048  # RobBERT searched this many fill-ins for one of the two pronouns


def read_pronouns(settings: TaskSettings, source: TaskSource) -> Examples:
    """The pronouns of the held-out documents, or of known-answer Dutch."""
    form = TASK.option(settings, "form")
    if settings.data == "known_answer":
        if form == "pair":
            raise UserError("finetuning.tasks.die_dat.options.form: known_answer has only 'masked'; drop the option")
        return known_answer_examples("die_dat", LABELS, settings, source)
    if not source.held_out.exists():
        raise UserError(f"{source.held_out} is missing; run the notebook 10_corpus first")
    lines = open_store(source.held_out)
    rows, documents, dropped = occurrences(lines["text"], lines["document_id"])
    if form == "pair":
        rows = as_pairs(rows, source.seed)
    sizes = {split: size for split, size in settings.sizes.items() if size is not None}
    total = sum(sizes.values())
    shares = {split: size / total for split, size in sizes.items()} if len(sizes) == len(SHARES) else SHARES
    splits = split_by_document(rows, documents, shares, source.seed)
    return Examples(PAIR_LABELS if form == "pair" else LABELS, splits, dropped)


def occurrences(texts: list[str], document_ids: list[str]) -> tuple[list[Row], list[str], dict[str, int]]:
    """One row for every die or dat, its document, and how many were left out, by reason.

    Rows have `text` (the line with this one pronoun masked), `label`, and `pronoun` as it was written.
    """
    rows: list[Row] = []
    documents: list[str] = []
    dropped: Counter[str] = Counter(odd_capitals=0, cut_by_line_end=0, line_holds_mask=0)
    for number, (text, document) in enumerate(zip(texts, document_ids, strict=True)):
        for match in PRONOUN.finditer(text):
            pronoun = match.group()
            if MASK in text:
                dropped["line_holds_mask"] += 1
            elif pronoun not in {pronoun.lower(), pronoun.upper(), pronoun.capitalize()}:
                dropped["odd_capitals"] += 1
            elif match.end() == len(text) or (match.start() == 0 and pronoun.islower()):
                # A line too long for the model was cut between tokens, so this may be half of a longer word.
                dropped["cut_by_line_end"] += 1
            else:
                masked = text[: match.start()] + MASK + text[match.end() :]
                row = {"example_id": f"{number}-{match.start()}", "text": masked, "pronoun": pronoun}
                rows.append({**row, "label": pronoun.lower()})
                documents.append(document)
    return rows, documents, dict(dropped)


def as_pairs(rows: list[Row], seed: int) -> list[Row]:
    """The two-sentence form: original and changed sentence, in an order that is a fair coin's."""
    places = (np.random.default_rng(seed).random(len(rows)) < 0.5).astype(int).tolist()
    pairs = []
    for row, place in zip(rows, places, strict=True):  # of the original: 0 is first, 1 second
        forms = [row["pronoun"], like(OTHER[row["label"]], row["pronoun"])]
        first, second = (row["text"].replace(MASK, form) for form in (forms[::-1] if place else forms))
        label = PAIR_LABELS[place]
        pairs.append({**row, "text": first, "text_pair": second, "label": label, "masked": row["text"]})
    return pairs


def like(word: str, written: str) -> str:
    """`word` with the capitals of `written`: like("dat", "Die") is "Dat"."""
    return word.upper() if written.isupper() else word.capitalize() if written[0].isupper() else word


def zero_shot(model: "MaskedLM", rows: list[Row]) -> dict[str, float]:
    """Scores of the pre-trained model itself on the rows, without fine-tuning.

    For each lower-case pronoun the likelier of ` die` and ` dat` at the mask is the answer.
    `zero_shot_accuracy` is the share that is right; `zero_shot_accuracy_robbert` follows the RobBERT code,
    where a mask with neither among its 2048 likeliest fill-ins (`zero_shot_misses`) is an error. Capitalised
    pronouns are other tokens and are not asked for (`zero_shot_skipped`). All are counts or shares (0 to 1);
    empty when the tokenizer cuts one of the pronouns into pieces.
    """
    from robbertje_lib.models.log_probs import vocabulary_log_probs  # not above: `make plan` reads every task

    pieces = model.tokenizer([f" {label}" for label in LABELS], add_special_tokens=False)["input_ids"]
    if any(len(piece) != 1 for piece in pieces):
        return {}
    candidates = [piece[0] for piece in pieces]
    asked = [row for row in rows if row.get("pronoun", row["label"]) in LABELS]
    answers = np.array([LABELS.index(row.get("pronoun", row["label"])) for row in asked])
    encoder = Encoder(model.tokenizer, model.maximum_length, keep="mask")
    sequences = [np.array(encoder.masked_text(str(row.get("masked", row["text"])))) for row in asked]
    places = np.array([ids.tolist().index(model.tokenizer.mask_token_id) for ids in sequences])
    right, ranked = np.zeros((2, len(asked)), bool)
    for batch, log_probs in vocabulary_log_probs(model, sequences, places):
        both = log_probs[:, candidates]
        right[batch] = both.argmax(1) == answers[batch]
        # How many other entries the model puts before the likelier pronoun.
        ranked[batch] = (log_probs > both.max(1, keepdims=True)).sum(1) < MISS_RANK
    return {
        "zero_shot_accuracy": float(right.mean()) if asked else 0.0,
        "zero_shot_accuracy_robbert": float((right & ranked).mean()) if asked else 0.0,
        "zero_shot_n": len(asked),
        "zero_shot_misses": int((~ranked).sum()),
        "zero_shot_skipped": len(rows) - len(asked),
    }


TASK = Task(
    name="die_dat",
    kind=lambda settings: "pair_classification" if settings.options.get("form") == "pair" else "text_classification",
    metric="accuracy",
    read=read_pronouns,
    data=("held_out", "known_answer"),
    options={"form": ("masked", "pair")},
    keep="mask",
    extra_metrics=zero_shot,
)
