"""How biased the teacher and every student are, level and stereotype side by side, with every replicate."""

from robbertje_lib.experiment.results.gender_bias import GenderBiasResult
from robbertje_lib.show.figure_style import GREY, Axes, Look, Picture, looks, new_figure
from robbertje_lib.show.figures import Figure, Results

TITLES = {
    "log_odds_slope": "slope of log odds\n(nats per unit)",
    "rank_slope": "slope of ranks\n(ranks per unit)",
    "lpbs_spread": "spread of LPBS\n(nats)",
}


def plot(results: Results) -> Picture:
    bias, models = results[GenderBiasResult], results.profile.groups
    measures = list(dict.fromkeys(row.measure for row in bias.stereotypes))
    styles = looks(dict.fromkeys(row.group for row in bias.stereotypes))
    fig = new_figure(height=1.3 + 0.26 * len(styles))
    level, *panels = fig.subplots(1, 1 + len(measures), sharey=True)
    for axes, measure in zip(panels, measures, strict=True):
        own = {row.group: row for row in bias.stereotypes if row.measure == measure}
        axes.axvspan(*own["teacher"].interval, color="#E4E4E4", linewidth=0)
        axes.axvline(own["teacher"].value, color=styles["teacher"].colour, linewidth=0.8, linestyle="--")
        for y, (group, row) in enumerate(own.items()):
            axes.plot(row.interval, [y, y], color=styles[group].colour, linewidth=2)
            _points(axes, y, row.replicates, styles[group])
        axes.set(title="stereotype", xlabel=TITLES.get(measure, measure))
    for y, (group, look) in enumerate(styles.items()):
        _points(level, y, [bias.models[name].metrics["log_odds"].mean for name in models.get(group, [group])], look)
    level.set(title="level, not tested", xlabel="mean log odds of hij\n(nats)")
    level.set(yticks=range(len(styles)), yticklabels=[look.label for look in styles.values()])
    level.set(ylim=(len(styles) - 0.4, -0.6))
    for axes in (level, *panels):
        axes.axvline(0, color=GREY, linewidth=0.8, zorder=1)
    return fig


def _points(axes: Axes, y: int, replicates: list[float], look: Look) -> None:
    """The mean, and below it each replicate where there are several."""
    axes.plot(sum(replicates) / len(replicates), y, look.marker, color=look.colour, zorder=3)
    if len(replicates) > 1:
        axes.plot(replicates, [y + 0.3] * len(replicates), ".", color=look.colour, markersize=4)


FIGURE = Figure(
    name="stereotype",
    caption=(
        "The level of bias, a preference for one pronoun, beside three measures of stereotype: mean over replicates, "
        "each replicate as a small point, and the interval over replicates and professions. Slopes are per unit of "
        "associated gender. Dashed line and grey band are the teacher's; whether a student differs from it is tested "
        "profession by profession, not by this overlap."
    ),
    needs=(GenderBiasResult,),
    plot=plot,
    order=55,
)
