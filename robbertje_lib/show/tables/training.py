"""Tables of `20_teacher` and `30_distillation`: a training run in figures, and its curves."""

from collections.abc import Sequence

import pandas as pd

from robbertje_lib.experiment.results.training import CurvePoint, HeldOutPoint, TrainingResult
from robbertje_lib.experiment.words import duration
from robbertje_lib.show.tables.formatting import values_table

DIGITS = {"seconds": 1, "training_seconds": 1, "pseudo_perplexity": 2, "loss": 3, "kl": 3, "mlm": 3, "cosine": 3}


def training_table(result: TrainingResult, name: str) -> pd.DataFrame:
    """Size, length, speed and memory of a training run, in a column `name`."""
    return values_table(
        {
            "parameters": result.parameters,
            "precision": result.precision.name,
            "sequences left out": sum(result.dropped.values()),
            "updates": result.updates,
            "passes": f"{result.tokens / result.epoch_tokens:.2f}",
            "real tokens seen": result.tokens,
            "time": duration(result.wall_seconds),
            "real tokens a second": round(result.tokens_per_second),
            "positions that are no padding": f"{result.real_token_share:.1%}",
            "memory at its highest": f"{result.peak_rss_bytes / 1e9:.2f} GB",
        },
        name,
    )


def curve_table(points: Sequence[CurvePoint | HeldOutPoint], every: int = 1) -> pd.DataFrame:
    """Every n-th point of a training curve by update, and the last one."""
    last = points[-1:] if (len(points) - 1) % every else []
    rows = [point.model_dump(exclude_none=True) for point in [*points[::every], *last]]
    return pd.DataFrame(rows).set_index("update").round(DIGITS)
