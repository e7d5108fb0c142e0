"""What a model loses in another form, such as ONNX with int8 weights: the same masked tokens, asked of every form."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from robbertje_lib.evaluation.windows import cut_lines
from robbertje_lib.models.length_batches import Integers
from robbertje_lib.models.log_probs import Floats, Queries, log_probs_of, predictions
from robbertje_lib.models.masked_lm import MaskedLM

TOKENS_A_LINE = 2  # masked on average, each in a copy of its line


@dataclass(frozen=True)
class FormScores:
    """One form's answers for masked tokens, and what sets them apart from the first form's (None for that one)."""

    line: Integers  # of each masked token: (masked,)
    nats: Floats  # negative log-probability of the token: (masked,)
    top1_agreement: float | None  # share of masked tokens with the same best guess
    largest_logit_difference: float | None

    def table(self, model: str, form: str) -> pa.Table:
        """A row a line that has a masked token, under the names of model and form."""
        lines, index = np.unique(self.line, return_inverse=True)
        return pa.table(
            {
                "model": [model] * len(lines),
                "form": [form] * len(lines),
                "line": lines,
                "masked_tokens": np.bincount(index),
                "nats": np.bincount(index, self.nats),
            }
        )


def score_forms(forms: Mapping[str, MaskedLM], lines: Sequence[str], seed: int) -> dict[str, FormScores]:
    """Mask tokens of `lines` one at a time, the same for every form, and compare each form with the first one.

    Drawn with `seed` from all tokens alike, so that the mean over them estimates the log of the corpus'
    pseudo-perplexity. Raises `UserError` if no line holds a token.
    """
    first, model = next(iter(forms.items()))
    tokens = cut_lines(model, lines)
    wanted = min(TOKENS_A_LINE * len(lines), len(tokens.line))
    drawn = np.sort(np.random.default_rng(seed).choice(len(tokens.line), wanted, replace=False))
    position = tokens.position[drawn]
    queries = Queries(tokens.window[drawn], position, position + 1)
    nats = {form: np.empty(wanted) for form in forms}
    same, largest = dict.fromkeys(forms, 0), dict.fromkeys(forms, 0.0)
    answers = (predictions(model, tokens.sequences, queries) for model in forms.values())
    for batches in zip(*answers, strict=True):
        reference = batches[0][1].cpu()
        for form, (batch, logits, targets) in zip(forms, batches, strict=True):
            nats[form][batch] = -log_probs_of(logits, targets)
            same[form] += int((logits.cpu().argmax(1) == reference.argmax(1)).sum())
            largest[form] = max(largest[form], float((logits.cpu() - reference).abs().max()))
    return {
        form: FormScores(
            tokens.line[drawn],
            nats[form],
            None if form == first else same[form] / wanted,
            None if form == first else largest[form],
        )
        for form in forms
    }
