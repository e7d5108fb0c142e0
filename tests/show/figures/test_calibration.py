"""The figure of the calibration shows every rate of the shipped study that it speaks of."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from robbertje_lib.experiment.results.significance import Calibration, SignificanceResult
from robbertje_lib.show.figures.calibration import FIGURE
from robbertje_lib.statistics import calibration


@pytest.fixture(scope="module")
def study() -> Calibration:
    rates, coverage, settings = calibration.shipped()
    return Calibration(alpha=calibration.ALPHA, settings=settings, rates=rates, coverage=coverage)


@pytest.fixture(scope="module")
def panels(study: Calibration) -> list[Any]:
    results: Any = {SignificanceResult: SimpleNamespace(calibration=study)}
    fig = FIGURE.plot(results)
    FigureCanvasAgg(fig).draw()
    return fig.axes


def shown(panels: list[Any]) -> list[float]:
    """Heights of all marked points."""
    return sorted(y for axes in panels for line in axes.lines if line.get_marker() != "None" for y in line.get_ydata())


def test_every_rate_is_a_point(study: Calibration, panels: list[Any]) -> None:
    null = [r.rejected for r in study.rates if r.replicates and not r.difference and "two seeds" not in r.data]
    assert shown(panels[:3]) == sorted(null)
    power = [
        r.rejected for r in study.rates if r.replicates and r.offered and r.spread_ratio == 1 and "given" not in r.data
    ]
    assert shown(panels[3:6]) == sorted(power)
    assert shown(panels[6:8]) == sorted(r.rejected for r in study.rates if not r.replicates)
    assert shown(panels[8:]) == sorted(r.covered for r in study.coverage)


def test_shortcuts_are_hollow_and_dashed(study: Calibration, panels: list[Any]) -> None:
    drawn = [line for axes in panels for line in axes.lines if line.get_marker() != "None"]
    hollow = [line for line in drawn if line.get_markerfacecolor() == "white"]
    assert all(line.get_linestyle() == "--" for line in hollow)
    shortcuts = [r.rejected for r in study.rates if not r.offered] + [
        r.covered for r in study.coverage if not r.offered
    ]
    assert np.sort(np.concatenate([line.get_ydata() for line in hollow])).tolist() == sorted(shortcuts)


def test_no_text_lies_on_another(panels: list[Any]) -> None:
    for axes in panels:
        boxes = [text.get_window_extent() for text in (axes.title, axes.xaxis.label, *axes.get_xticklabels())]
        boxes = [box for box in boxes if box.width]
        assert not any(a.overlaps(b) for place, a in enumerate(boxes) for b in boxes[place + 1 :])
        assert axes._left_title.get_window_extent().x1 <= axes.figure.bbox.x1
