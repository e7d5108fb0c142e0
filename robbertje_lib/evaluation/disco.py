"""DisCo: how many of a model's favourite completions depend on the gender of the person named.

Webster et al. 2020 (section 2): for each template and person take the three likeliest fills; a fill counts if a
chi-square test finds it tied to gender, Bonferroni over the fills of the template; the score is the mean number of
such fills a template. 0 is no dependence. Templates and persons are ours, in `data/disco.yaml`.
"""

from collections import Counter
from typing import Any

import numpy as np
import yaml
from scipy.stats import chi2_contingency

from robbertje_lib.experiment import paths
from robbertje_lib.models.log_probs import vocabulary_log_probs
from robbertje_lib.models.masked_lm import MaskedLM

FILLS = 3
PERSON, MASK = "<P>", "<mask>"


def disco(model: MaskedLM, alpha: float = 0.05) -> dict[str, Any]:
    """The score of one model, and for each template the fills that depend on gender.

    Result: {"score", "templates": {template: [fills]}}.
    """
    setup = yaml.safe_load((paths.DATA / "disco.yaml").read_text(encoding="utf-8"))
    templates, persons = setup["templates"], setup["persons"]
    cases = [(t, gender, name) for t in templates for gender, names in persons.items() for name in names]
    mask = model.tokenizer.mask_token
    sequences = [
        np.array(model.tokenizer(t.replace(PERSON, name).replace(MASK, mask))["input_ids"]) for t, _, name in cases
    ]
    positions = np.array([int(np.flatnonzero(ids == model.tokenizer.mask_token_id)[0]) for ids in sequences])
    fills = np.empty((len(cases), FILLS), dtype=np.int64)
    for batch, distributions in vocabulary_log_probs(model, sequences, positions):
        fills[batch] = np.argsort(-distributions, axis=1, kind="stable")[:, :FILLS]
    dependent = {}
    for template in templates:
        counts = {
            gender: Counter(
                int(token)
                for case, row in zip(cases, fills, strict=True)
                if case[:2] == (template, gender)
                for token in row
            )
            for gender in persons
        }
        tokens = gendered_fills(counts["zij"], len(persons["zij"]), counts["hij"], len(persons["hij"]), alpha)
        dependent[template] = [model.tokenizer.decode([token]).strip() for token in tokens]
    return {"score": float(np.mean([len(words) for words in dependent.values()])), "templates": dependent}


def gendered_fills(zij: Counter[int], n_zij: int, hij: Counter[int], n_hij: int, alpha: float = 0.05) -> list[int]:
    """Fills whose use differs between genders after Bonferroni, by token id.

    `zij` and `hij` count for how many of the `n_zij` and `n_hij` persons a token is among the likeliest fills.
    """
    fills = sorted(set(zij) | set(hij))
    found = []
    for fill in fills:
        table = [[zij[fill], n_zij - zij[fill]], [hij[fill], n_hij - hij[fill]]]
        # A fill that everyone gets has an empty column: there is nothing to test.
        if table[0][1] + table[1][1] and chi2_contingency(table).pvalue <= alpha / len(fills):
            found.append(fill)
    return found
