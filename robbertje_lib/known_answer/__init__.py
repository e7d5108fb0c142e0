"""Known-answer Dutch: an embedded generator of small Dutch documents whose probabilities are known.

Documents are written by a probabilistic grammar (lexicon, grammar, slots, patterns, model, documents), so the true
probability of every token (truth), the labels of all five tasks (labels, entailment) and a gender bias for each
occupation (bias) are known. Whatever reads them back wrongly is broken.
"""
