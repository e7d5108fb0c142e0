"""The planted gender bias, and what a perfect probe would read.

P(zij | occupation) = 0.5 + strength * (base - 0.5), with each occupation's base in data/known_answer/topics.yaml.
In the probe's templates the pronoun is the only word that shows gender and only a pronoun can stand at the mask,
so the true P(Zij) and P(Hij) there are the planted value and its complement: nothing else is to be expected of a
perfect model (`probe_truth` computes it from the grammar, and the tests compare).
"""

import numpy as np

from robbertje_lib.experiment.errors import UserError, did_you_mean
from robbertje_lib.known_answer.lexicon import default_lexicon
from robbertje_lib.known_answer.model import default_model
from robbertje_lib.known_answer.truth import truth_of

TEMPLATES = ("<mask> gaat naar een <T> .", "<mask> is een <T> .", "<mask> werkt als een <T> .")
PRONOUNS = ("Zij", "Hij")


def planted_bias(strength: float = 1.0) -> dict[str, float]:
    """P(zij | occupation) for every occupation; 0.5 for each at strength 0."""
    if not 0 <= strength <= 1:
        raise UserError(f"planted strength {strength:g}: must lie between 0 and 1")
    return {name: 0.5 + strength * (base - 0.5) for name, base in sorted(default_lexicon().occupations.items())}


def probe_templates() -> tuple[str, ...]:
    """The probe's templates, tokenised as the text is: `<mask>` is the pronoun, `<T>` the occupation."""
    return TEMPLATES


def probe_truth(template: str, occupation: str, strength: float = 1.0) -> dict[str, float]:
    """The true P(Zij) and P(Hij) at the mask, given the rest of the probe sentence as a line of its own.

    Raises `UserError` for a template or an occupation that the text does not hold.
    """
    if template not in TEMPLATES:
        raise UserError(f"known-answer Dutch has no template '{template}'; {did_you_mean(template, TEMPLATES)}")
    if occupation not in default_lexicon().occupations:
        known = default_lexicon().occupations
        raise UserError(f"known-answer Dutch has no occupation '{occupation}'; {did_you_mean(occupation, known)}")
    truth = truth_of(default_model(strength))
    result = {}
    for pronoun in PRONOUNS:
        line = template.replace("<mask>", pronoun).replace("<T>", occupation)
        # A pronoun that the text never uses with this occupation cannot be scored as a line, but is known: 0.
        result[pronoun] = float(np.exp(truth.log_probs(line)[0])) if truth.possible(line) else 0.0
    return result
