"""Whether the probe reads what was planted in known-answer Dutch: read against planted bias, a panel a model."""

from robbertje_lib.experiment.results.gender_bias import GenderBiasResult
from robbertje_lib.show.figure_style import GREY, Picture, grid, looks
from robbertje_lib.show.figures import Figure, Results


def plot(results: Results) -> Picture:
    import pandas as pd
    import seaborn as sns

    planted = results[GenderBiasResult].planted
    rows = pd.DataFrame([dict(row) for row in planted.occupations] if planted else [])
    student_of = {model: group for group, models in results.profile.groups.items() for model in models}
    rows["group"] = rows["model"].replace(student_of)
    points = rows.groupby(["group", "occupation"], sort=False)[["planted", "read"]].mean().reset_index()
    styles = looks(points["group"].unique())
    fig, panels = grid(len(styles), columns=3, height=2.1, sharex=True, sharey=True)
    for axes, (name, look) in zip(panels, styles.items(), strict=False):
        own = points[points["group"] == name]
        axes.plot([0.0, 1.0], [0.0, 1.0], color=GREY, linewidth=0.8, linestyle="--")
        sns.scatterplot(own, x="planted", y="read", ax=axes, color=look.colour, s=14, linewidth=0, marker=look.marker)
        axes.set(xlabel="", ylabel="", title=look.label)
        if own["planted"].nunique() > 1:
            told = f"Spearman {own['planted'].corr(own['read'], method='spearman'):.2f}"
            axes.annotate(told, (0.04, 0.97), xycoords="axes fraction", va="top", fontsize=8)
    fig.supxlabel("planted P(zij) of the occupation", fontsize=9)
    fig.supylabel("P(zij) read by the probe", fontsize=9)
    return fig


FIGURE = Figure(
    name="planted_bias",
    caption=(
        "P(zij) that the probe reads for each occupation, mean over templates and replicates, against the P(zij) "
        "planted in the text; a perfect model and probe would lie on the dashed line."
    ),
    needs=(GenderBiasResult,),
    plot=plot,
    applies=lambda profile: profile.text == "known_answer",
    lacking="planted bias: its text is real",
    order=60,
)
