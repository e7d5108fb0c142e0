"""A reproducible companion to *RobBERTje: a Distilled Dutch BERT Model* (arXiv 2204.13511).

The folders are the plan of the experiment, from the front door down; a folder imports only from those below it:
`workflow`, `show`, `conclusions`, `evaluation`, `distillation` and `tasks`, `corpus` and `models`, `known_answer`,
`experiment` and `statistics`. The notebooks call them; `workflow` and the Snakefile run the notebooks.
"""

import os

__version__ = "0.1.0"

# GNU OpenMP, which PyTorch's Linux wheels bring, reads this as PyTorch is imported. A thread that waits for another
# spins, by default 300,000 times, which is 10 to 20 ms on recent Intel processors; where other work has the core, the
# one waited for is not running meanwhile, and training takes many times as long. This bridges the gap between two
# operations, some 0.2 ms; then the thread sleeps. Who sets either variable has it his way.
if not os.environ.keys() & {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"}:
    os.environ["GOMP_SPINCOUNT"] = "4000"
