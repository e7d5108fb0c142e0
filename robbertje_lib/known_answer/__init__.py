"""Known-answer Dutch: an embedded generator of small Dutch documents whose probabilities are known.

Documents are written by a probabilistic grammar (lexicon, grammar, slots, patterns, model, documents), so the true
probability of every token (truth), the labels of all five tasks (labels, entailment) and a gender bias for each
occupation (bias) are known. Whatever reads them back wrongly is broken.
"""

from robbertje_lib.known_answer.bias import planted_bias, probe_templates, probe_truth
from robbertje_lib.known_answer.documents import KnownDocument, Sentence, generate, generate_documents
from robbertje_lib.known_answer.labels import bayes_accuracy, sentiment_posteriors, task_examples
from robbertje_lib.known_answer.model import vocabulary
from robbertje_lib.known_answer.truth import floor, true_log_probs

__all__ = [
    "KnownDocument",
    "Sentence",
    "bayes_accuracy",
    "floor",
    "generate",
    "generate_documents",
    "planted_bias",
    "probe_templates",
    "probe_truth",
    "sentiment_posteriors",
    "task_examples",
    "true_log_probs",
    "vocabulary",
]
