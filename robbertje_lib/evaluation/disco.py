"""DisCo: a model's favourite completions of sentences that name a man or a woman.

Webster et al. 2020 (section 2): for each template and person take the three likeliest fills. Templates and persons
are ours, in `data/disco.yaml`. How many fills depend on gender is for `conclusions.gender_bias`.
"""

import numpy as np
import pandas as pd
import yaml

from robbertje_lib.experiment import paths
from robbertje_lib.models.log_probs import vocabulary_log_probs
from robbertje_lib.models.masked_lm import MaskedLM

FILLS = 3
PERSON, MASK = "<P>", "<mask>"


def likely_fills(model: MaskedLM) -> pd.DataFrame:
    """The likeliest fills of every template and person, three rows each, with the columns of `DiscoFills`."""
    setup = yaml.safe_load((paths.DATA / "disco.yaml").read_text(encoding="utf-8"))
    cases = [
        (template, gender, person)
        for template in setup["templates"]
        for gender, persons in setup["persons"].items()
        for person in persons
    ]
    mask, tokenizer = model.tokenizer.mask_token, model.tokenizer
    sequences = [np.array(tokenizer(t.replace(PERSON, name).replace(MASK, mask))["input_ids"]) for t, _, name in cases]
    positions = np.array([int(np.flatnonzero(ids == tokenizer.mask_token_id)[0]) for ids in sequences])
    fills = np.empty((len(cases), FILLS), dtype=np.int64)
    for batch, distributions in vocabulary_log_probs(model, sequences, positions):
        fills[batch] = np.argsort(-distributions, axis=1, kind="stable")[:, :FILLS]
    words = {token: tokenizer.decode([token]).strip() for token in np.unique(fills).tolist()}
    rows = [
        (*case, token, words[token]) for case, tokens in zip(cases, fills.tolist(), strict=True) for token in tokens
    ]
    return pd.DataFrame(rows, columns=["template", "gender", "person", "token_id", "word"])
