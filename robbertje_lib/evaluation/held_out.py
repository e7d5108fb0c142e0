"""The held-out lines that models are scored and timed on."""

import numpy as np

from robbertje_lib.experiment.artefacts import open_store
from robbertje_lib.experiment.errors import UserError
from robbertje_lib.experiment.run import Run


def held_out_lines(run: Run, count: int) -> list[str]:
    """`count` lines (or all there are) drawn with the profile's seed from the held-out store, in document order."""
    if not run.paths.held_out.is_dir():
        raise UserError(f"no held-out lines in {run.paths.held_out}; run notebook 10_corpus first")
    text = open_store(run.paths.held_out)["text"]
    drawn = np.random.default_rng(run.profile.seed).choice(len(text), min(count, len(text)), replace=False)
    return [text[int(i)] for i in np.sort(drawn)]
