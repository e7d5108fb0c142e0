"""A reproducible companion to *RobBERTje: a Distilled Dutch BERT Model* (arXiv 2204.13511).

The folders are the plan of the experiment, from the front door down; a folder imports only from those below it:
`workflow`, `show`, `conclusions`, `evaluation`, `distillation` and `tasks`, `corpus` and `models`, `known_answer`,
`experiment` and `statistics`. The notebooks call them; `workflow` and the Snakefile run the notebooks.
"""

__version__ = "0.1.0"
