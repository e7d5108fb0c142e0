"""A reproducible companion to *RobBERTje: a Distilled Dutch BERT Model* (arXiv 2204.13511).

Thin functions, one module a stage, in the order the data flows: `sources`, `readers`, `corpus`,
`tokenization`, `batching`, `teacher`, `distillation`, `pseudo_perplexity`, `finetuning`,
`gender_bias`, `significance`, `efficiency`, `claims`, `figures`. The notebooks call them;
`notebook_runs` and the Snakefile run the notebooks.
"""

__version__ = "0.1.0"
