"""How well teacher and students predict the held-out lines: a symbol, an interval and a stroke per distillation."""

import numpy as np

from robbertje_lib.experiment.profile import Profile
from robbertje_lib.experiment.results.pseudo_perplexity import UNIGRAM, PseudoPerplexityResult
from robbertje_lib.experiment.results.significance import SignificanceResult
from robbertje_lib.show.figure_style import GREY, Picture, looks, new_figure, plain_log_ticks
from robbertje_lib.show.figures import Figure, Results


def plot(results: Results) -> Picture:
    result, intervals = results[PseudoPerplexityResult], results[SignificanceResult].pseudo_perplexity
    groups: dict[str, list[float]] = {}
    for name, model in result.models.items():
        student = Profile.student_of(name)
        groups.setdefault(student if student in intervals else name, []).append(model.corpus)
    styles = looks(groups)
    fig = new_figure(height=0.9 + 0.32 * len(groups))
    axes = fig.subplots()
    for row, (name, values) in enumerate(groups.items()):
        look, mean = styles[name], float(np.exp(np.log(values).mean()))  # of nats per token, as the interval is
        axes.plot(values, [row] * len(values), "|", color=look.colour, markersize=9)
        if name in intervals:
            axes.plot(intervals[name], [row, row], color=look.colour, solid_capstyle="butt", linewidth=2)
        axes.plot(mean, row, look.marker, color=look.colour)
        axes.annotate(f"{mean:,.1f}", (mean, row), (0, 5), textcoords="offset points",
                      ha="center", fontsize=7)  # fmt: skip
    axes.axvspan(*intervals[UNIGRAM], color=GREY, alpha=0.2, linewidth=0)
    for value, told in ((result.floor, "floor"), (result.unigram, "unigram model")):
        if value is not None:
            axes.axvline(value, color=GREY, linestyle="--", linewidth=1)
            axes.annotate(f"{told} {value:,.1f}", (value, 1), (0, 2), xycoords=("data", "axes fraction"),
                          textcoords="offset points", ha="center", va="bottom", fontsize=7, color=GREY)  # fmt: skip
    axes.set_yticks(range(len(groups)), [look.label for look in styles.values()])
    axes.set_ylim(len(groups) - 0.4, -0.7)
    axes.set_xscale("log")
    plain_log_ticks(axes.xaxis, *axes.get_xlim())
    axes.set_xlabel(f"pseudo-perplexity ({result.lines:,} held-out lines, {result.tokens:,} tokens)")
    axes.grid(axis="y", visible=False)
    return fig


FIGURE = Figure(
    name="pseudo_perplexity",
    caption=(
        "Pseudo-perplexity of teacher and students on the held-out lines; lower is better. Symbols: the mean over "
        "distillations, with its 95 % interval; strokes: each distillation. Dashed: a unigram model, with its interval "
        "in grey, and, where it is known, the floor no model can go below."
    ),
    needs=(PseudoPerplexityResult, SignificanceResult),
    plot=plot,
    order=10,
)
