"""How the loss of teacher and students falls: three panels, two without a teacher of our own."""

from itertools import groupby

from robbertje_lib.experiment.results.training import DistillationResult, TeacherResult
from robbertje_lib.show.figure_style import GREY, Axes, Picture, grid, legend, looks
from robbertje_lib.show.figures import Figure, Results


def plot(results: Results) -> Picture:
    teacher, students = results.get(TeacherResult), results.each(DistillationResult)
    styles = looks(dict.fromkeys(map(results.profile.student_of, students)))
    fig, panels = grid(3 if teacher else 2, columns=3, height=2.6)
    if teacher:
        _teacher_panel(panels[0], teacher)
    by_tokens, by_seconds = panels[-2:]
    for name, training in students.items():
        look, points = styles[results.profile.student_of(name)], training.held_out_curve
        losses = [point.loss for point in points]
        by_tokens.plot([point.tokens / 1e6 for point in points], losses, look.line, color=look.colour, linewidth=1)
        by_seconds.plot([point.training_seconds for point in points], losses, look.line, color=look.colour, linewidth=1)
    by_tokens.set(xlabel="million tokens", title="students")
    by_seconds.set(xlabel="seconds of training", title="students")
    by_seconds.sharey(by_tokens)
    panels[0].set_ylabel("held-out loss, nats/token")
    legend(fig, panels, len(panels), styles, lines=True)
    return fig


def _teacher_panel(axes: Axes, teacher: TeacherResult) -> None:
    points = teacher.held_out_curve
    axes.plot([p.tokens / 1e6 for p in points], [p.loss for p in points], color=looks(["teacher"])["teacher"].colour)
    phases = {
        phase: [point.tokens / 1e6 for point in points]
        for phase, points in groupby(teacher.curve, key=lambda point: point.phase)
    }
    for number, (phase, tokens) in enumerate(phases.items()):
        if number % 2 == 0 and len(phases) > 1:
            axes.axvspan(tokens[0], tokens[-1], color="#F0F0F0", zorder=0)
        axes.annotate(phase, ((tokens[0] + tokens[-1]) / 2, 0.98), xycoords=("data", "axes fraction"),
                      ha="center", va="top", fontsize=7, color=GREY)  # fmt: skip
    axes.set(title="teacher", xlabel="million tokens")
    axes.margins(y=0.15)


FIGURE = Figure(
    name="loss_curves",
    caption=(
        "Held-out masked-language-model loss during training: the teacher by tokens, the students by tokens "
        "and by seconds, evaluation not counted, a line a replicate. Shaded: the teacher's phases."
    ),
    needs=(DistillationResult, TeacherResult),
    plot=plot,
    applies=lambda profile: bool(profile.trained),
    lacking="students of its own: they are released ones",
    order=30,
)
