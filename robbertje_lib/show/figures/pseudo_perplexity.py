"""How well every model predicts the held-out lines: a dot and an interval each, on a logarithmic axis."""

from robbertje_lib.experiment.results.pseudo_perplexity import PseudoPerplexityResult
from robbertje_lib.experiment.results.significance import SignificanceResult
from robbertje_lib.show.figure_style import GREY, Picture, looks, new_figure, plain_log_ticks
from robbertje_lib.show.figures import Figure, Results


def plot(results: Results) -> Picture:
    result, intervals = results[PseudoPerplexityResult], results[SignificanceResult].pseudo_perplexity
    models = result.models
    styles = looks(models)
    fig = new_figure(height=0.9 + 0.32 * len(models))
    axes = fig.subplots()
    for row, (name, scores) in enumerate(models.items()):
        look = styles[name]
        axes.plot(intervals[name], [row, row], color=look.colour, solid_capstyle="butt", linewidth=2)
        axes.plot(scores.corpus, row, look.marker, color=look.colour)
        axes.annotate(f"{scores.corpus:,.1f}", (scores.corpus, row), (0, 5), textcoords="offset points",
                      ha="center", fontsize=7)  # fmt: skip
    for value, told in ((result.floor, "floor"), (result.unigram, "unigram model")):
        if value is not None:
            axes.axvline(value, color=GREY, linestyle="--", linewidth=1)
            axes.annotate(f"{told} {value:,.1f}", (value, 1), (0, 2), xycoords=("data", "axes fraction"),
                          textcoords="offset points", ha="center", va="bottom", fontsize=7, color=GREY)  # fmt: skip
    axes.set_yticks(range(len(models)), [styles[name].label for name in models])
    axes.set_ylim(len(models) - 0.4, -0.7)
    axes.set_xscale("log")
    plain_log_ticks(axes.xaxis, *axes.get_xlim())
    axes.set_xlabel(f"pseudo-perplexity ({result.lines:,} held-out lines, {result.tokens:,} tokens)")
    axes.grid(axis="y", visible=False)
    return fig


FIGURE = Figure(
    name="pseudo_perplexity",
    caption=(
        "Pseudo-perplexity of every model on the held-out lines, with 95 % intervals; lower is "
        "better. Dashed lines: a unigram model and, where it is known, the floor no model can go below."
    ),
    needs=(PseudoPerplexityResult, SignificanceResult),
    plot=plot,
    order=10,
)
