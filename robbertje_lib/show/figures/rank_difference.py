"""Which pronoun every model ranks higher for a profession: small multiples, a student each, the teacher behind."""

import numpy as np

from robbertje_lib.experiment.results.gender_bias import PronounProbe
from robbertje_lib.show.figure_style import GREY, Picture, grid, looks
from robbertje_lib.show.figures import Figure, Results


def plot(results: Results) -> Picture:
    import seaborn as sns
    from matplotlib.ticker import FixedLocator, ScalarFormatter

    bias = results[PronounProbe].to_pandas()
    known = bias[bias["form"] == "base"].dropna(subset=["associated_gender"])
    columns = ["associated_gender", "rank_difference"]
    student_of = {model: group for group, models in results.profile.groups.items() for model in models}
    known = known.assign(group=known["model"].replace(student_of))
    mean = known.groupby(["group", "profession"], sort=False)[columns].mean().reset_index()
    groups = list(mean["group"].unique())
    students = [name for name in groups if name != "teacher"]
    styles = looks(groups)
    # Associated gender comes in steps of 0.1: spread the points so that each can be seen.
    mean["x"] = mean["associated_gender"] + np.random.default_rng(0).uniform(-0.03, 0.03, len(mean))
    fig, panels = grid(len(students), columns=3, height=2.1, sharex=True, sharey=True)
    teacher = mean[mean["group"] == "teacher"]
    for axes, name in zip(panels, students, strict=False):
        own = mean[mean["group"] == name]
        axes.axhline(0, color=GREY, linewidth=0.8)
        sns.scatterplot(teacher, x="x", y="rank_difference", ax=axes, color="#BDBDBD", s=9, linewidth=0)
        sns.scatterplot(own, x="x", y="rank_difference", ax=axes, color=styles[name].colour, s=9, linewidth=0,
                        marker=styles[name].marker)  # fmt: skip
        axes.set(xlabel="", ylabel="", title=styles[name].label)
    if mean["rank_difference"].abs().max() > 100:
        for axes in panels:
            axes.set_yscale("symlog", linthresh=10)
            axes.yaxis.set_major_locator(FixedLocator([sign * 10**e for e in range(1, 6) for sign in (-1, 1)] + [0]))
            axes.yaxis.set_major_formatter(ScalarFormatter())
    fig.supxlabel("associated gender of the profession (−1 zij, +1 hij)", fontsize=9)
    fig.supylabel("rank of hij − rank of zij", fontsize=9)
    return fig


FIGURE = Figure(
    name="rank_difference",
    caption=(
        "Rank of hij minus rank of zij per profession, mean over templates and replicates, against the gender that the "
        "profession is associated with: teacher in grey, student in colour. Height below 0 is a preference for hij, "
        "whatever the profession; a fall to the right is a stereotype."
    ),
    needs=(PronounProbe,),
    plot=plot,
    order=50,
)
