"""The loss of a training run while it runs, below the notebook's cell."""

from collections.abc import Callable
from io import BytesIO
from typing import Any

from robbertje_lib.show.figure_style import PALETTE, Picture, new_figure, styled


def live_curve() -> Callable[[Any], None]:
    """A figure that grows while a model trains: pass it as `show` to `distil`.

    It is called with the state of the training, and draws the points of its `curve` (the loss and its parts) and of
    its `held_out_curve`, as `results.training` has them.
    """
    from IPython.display import DisplayHandle, Image  # only notebooks have it

    handle = DisplayHandle()
    shown = False

    def show(state: Any) -> None:
        nonlocal shown
        if not state.curve:
            return
        png = BytesIO()
        with styled():
            _losses(state).savefig(png)
        (handle.update if shown else handle.display)(Image(png.getvalue(), alt="losses of the training so far"))
        shown = True

    return show


def _losses(state: Any) -> Picture:
    import pandas as pd

    curve, held_out = (pd.DataFrame(map(dict, points)) for points in (state.curve, state.held_out_curve))
    fig = new_figure(height=2.4)
    panels = fig.subplots(1, 2)
    parts = curve.drop(columns=["update", "tokens", "seconds", "phase"]).astype(float).dropna(axis="columns", how="all")
    for part, line in zip(parts, ("-", "--", ":", "-."), strict=False):
        panels[0].plot(curve["tokens"] / 1e6, parts[part], line, label=part)
    panels[0].legend()
    panels[0].set_ylabel("training loss")
    if len(held_out):
        panels[1].plot(held_out["tokens"] / 1e6, held_out["loss"], "o-", color=PALETTE["teacher"])
    panels[1].set_ylabel("held-out loss, nats/token")
    for axes in panels:
        axes.set_xlabel("million tokens")
    return fig
