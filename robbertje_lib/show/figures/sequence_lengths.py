"""What the arms differ in before anything is trained: how long their sequences are."""

from itertools import pairwise

import numpy as np

from robbertje_lib.experiment.results.corpus import ArmResult, LengthHistogram
from robbertje_lib.show.figure_style import Axes, Picture, grid, looks
from robbertje_lib.show.figures import Figure, Results

HATCHES = ("", "///", "...", "xxx")  # as bars have no markers, these tell arms apart without colour
WIDTH = 0.84  # of the bars of a bin, of which each arm takes its part
RARE = 1.0  # per cent of an arm's sequences: a tail in which every bin has less is one bin


def plot(results: Results) -> Picture:
    arms = results.each(ArmResult)
    styles = looks(arms)
    selections = results.profile.corpus.selections
    fig, panels = grid(len(selections), columns=2, height=2.8, sharey=True)
    for axes, selection in zip(panels, selections, strict=True):
        stores = {name: arm.selections[selection] for name, arm in arms.items()}
        bins = _bins([store.length_histogram for store in stores.values()])
        for number, (name, store) in enumerate(stores.items()):
            axes.bar(
                np.arange(len(bins)) + ((number + 0.5) / len(arms) - 0.5) * WIDTH,
                _shares(store.length_histogram, len(bins)),
                WIDTH / len(arms),
                facecolor=styles[name].colour,
                edgecolor="white",
                linewidth=0.4,
                hatch=HATCHES[number % len(HATCHES)],
                label=f"{styles[name].label}: mean {store.mean_tokens:.1f}",
            )
        _label(axes, bins)
        if len(selections) > 1:
            axes.set_title(selection.replace("_", " "))
    panels[0].set_ylabel("share of sequences, %")
    return fig


def _bins(histograms: list[LengthHistogram]) -> list[str]:
    """Names of the bins, the last of which holds all longer ones."""
    counts = np.array([histogram.counts for histogram in histograms])
    common = np.flatnonzero((100 * counts / counts.sum(axis=1, keepdims=True) >= RARE).any(axis=0))[-1] + 1
    edges = histograms[0].edges
    names = [f"{low} to {high - 1}" for low, high in pairwise(edges)][:common]
    return [*names, f"{edges[common]} and more"] if counts[:, common:].any() else names


def _shares(histogram: LengthHistogram, bins: int) -> np.ndarray:
    """Per cent of an arm's sequences in each bin: (bins,)."""
    counts = np.array(histogram.counts)
    return 100 * np.append(counts[: bins - 1], counts[bins - 1 :].sum()) / counts.sum()


def _label(axes: Axes, bins: list[str]) -> None:
    axes.set_xticks(range(len(bins)), bins, fontsize=7, rotation=30 if len(bins) > 8 else 0)
    axes.set_xlabel("tokens of a sequence, <s> and </s> included")
    axes.grid(axis="x", visible=False)
    axes.legend(loc="upper right")


FIGURE = Figure(
    name="sequence_lengths",
    caption=(
        "Length of the sequences of each arm, as the share of them in bins of tokens, and their mean: merging makes "
        "sequences longer, shuffling alone does not."
    ),
    needs=(ArmResult,),
    plot=plot,
    order=5,
)
