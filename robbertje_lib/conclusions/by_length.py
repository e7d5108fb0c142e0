"""Scores of short to long test examples, in bins of about equally many."""

import numpy as np
from numpy.typing import NDArray

from robbertje_lib.conclusions.counts import TaskCounts
from robbertje_lib.experiment.results.significance import BinScore, LengthBin, LengthScores
from robbertje_lib.statistics.resampling import Metric, bootstrapped_scores, percentile_interval, scores_by_seed

BINS = 4
RESAMPLES = 1000


def score_by_length(data: TaskCounts, seed: int) -> LengthScores:
    """Per bin and model the score averaged over seeds, with its 95 % bootstrap interval over examples."""
    data = data.subset(data.stored)
    bins = _length_bins(data.n_tokens)
    lengths = [data.n_tokens[chosen] for chosen in bins]
    return LengthScores(
        metric=data.metric_name,
        bins=[LengthBin(low=int(of.min()), high=int(of.max()), n=len(of)) for of in lengths],
        models={
            model: [_bin_score(counts[:, chosen], data.metric, seed) for chosen in bins]
            for model, counts in data.counts.items()
        },
    )


def _length_bins(lengths: NDArray[np.int64]) -> list[NDArray[np.bool_]]:
    """Masks of (examples,): at most four bins at the quartiles of the lengths; equal lengths share a bin."""
    edges = np.unique(np.quantile(lengths, np.linspace(0, 1, BINS + 1)[1:-1], method="lower"))
    place = np.searchsorted(edges, lengths, side="left")
    return [place == number for number in np.unique(place)]


def _bin_score(counts: NDArray[np.float64], metric: Metric, seed: int) -> BinScore:
    drawn = bootstrapped_scores(counts, metric, RESAMPLES, np.random.default_rng(seed)).mean(axis=1)
    return BinScore(score=float(scores_by_seed(counts, metric).mean()), interval=percentile_interval(drawn))
