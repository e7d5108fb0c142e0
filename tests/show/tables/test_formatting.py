"""How tables look in a notebook, and how numbers are written out."""

import re

import numpy as np
import pandas as pd
import pytest

from robbertje_lib.experiment.results.claims import ClaimVerdict
from robbertje_lib.show.tables import formatting
from tests.support.standin import execute_cells


def _cells(html: str) -> list[tuple[str, str]]:
    """Alignment and content of the cells below the head."""
    return re.findall(r'<td style="text-align: (\w+)[^"]*">(.*?)</td>', html.split("</thead>")[1])


def test_text_stands_left_and_numbers_right_under_titles_that_do_the_same() -> None:
    html = formatting.as_html(pd.DataFrame({"model": ["teacher", "bort"], "score": [0.5, np.nan]}))
    assert _cells(html) == [("left", "teacher"), ("right", "0.5"), ("left", "bort"), ("right", "–")]
    titles = re.findall(r'<th style="text-align: (\w+)">(\w+)</th>', html)
    assert titles == [("left", "model"), ("right", "score")]  # and no row numbers
    two_levels = pd.MultiIndex.from_product([["Een zin ."], ["seed 1"]])
    html = formatting.as_html(pd.DataFrame([["positive"]], index=pd.Index(["gold"], name="model"), columns=two_levels))
    assert re.findall(r'<th style="text-align: left"[^>]*>([^<]+)', html) == ["Een zin .", "seed 1", "model", "gold"]
    html = formatting.as_html(pd.DataFrame([[0.5]], index=pd.Index(["0 to 7"], name="tokens"), columns=two_levels))
    assert re.findall(r'<th style="text-align: left"[^>]*>([^<]+)', html) == ["tokens", "0 to 7"]


def test_rows_with_names_in_two_levels_keep_them() -> None:
    index = pd.MultiIndex.from_tuples([("merged", "torch"), ("merged", "ONNX")], names=["model", "form"])
    html = formatting.as_html(pd.DataFrame({"MB": [1.5, 2.0], "note": ["a", "b" * 30]}, index=index))
    assert _cells(html) == [("right", "1.5"), ("left", "a"), ("right", "2.0"), ("left", "b" * 30)]
    assert html.count("torch") == html.count("merged") == 1 and 'rowspan="2"' in html
    assert html.count("nowrap") == 0, "a column with long text may break its lines"


def test_nothing_is_cut_and_nothing_is_taken_for_markup() -> None:
    long = "<td>" + "woord " * 500
    html = formatting.as_html(pd.DataFrame({"line": [long] * 300}))
    assert html.count("woord") == 300 * 500 and len(_cells(html)) == 300
    assert "&lt;td&gt;" in html


def test_labels_are_no_markup_either() -> None:
    index = pd.Index(["<i>row</i>"], name="<i>name</i>")
    html = formatting.as_html(pd.DataFrame({"<i>column</i>": [1]}, index=index).rename_axis(columns="<i>columns</i>"))
    assert "<i>" not in html and html.count("&lt;i&gt;") == 4


def test_equal_tables_are_equal_html_whatever_repeats_in_them() -> None:
    frame = pd.DataFrame([[1, 2], [3, 4]], columns=["a", "a"], index=pd.Index(["x", "x"], name="task"))
    html = formatting.as_html(frame)
    assert html == formatting.as_html(frame.copy()) and " id=" not in html and "<style" not in html
    assert [content for _, content in _cells(html)] == ["1", "2", "3", "4"]


def test_categories_and_regular_dates_add_no_rows_of_their_own() -> None:
    """pandas writes them below a column of its own accord."""
    days = pd.date_range("2026-11-24", periods=2, freq="D")
    html = formatting.as_html(pd.DataFrame({"model": pd.Categorical(["teacher", "bort"])}, index=days))
    assert _cells(html) == [("left", "teacher"), ("left", "bort")]


def test_an_empty_table_says_so() -> None:
    assert "none" in formatting.as_html(pd.DataFrame(columns=["task", "model"]))


def test_a_notebook_shows_tables_this_way(monkeypatch: pytest.MonkeyPatch) -> None:
    cells = [
        "from robbertje_lib.show.tables import formatting\nimport pandas as pd\nformatting.format_in_notebook()",
        "pd.Series({'floor': 2.9})",
    ]
    (output,) = execute_cells(cells, monkeypatch).cells[-1].outputs
    assert _cells(output.data["text/html"]) == [("right", "2.9")]


def test_values_of_any_kind() -> None:
    values = {"tokens": 5_500_000, "rate": 1e-3, "freeze": True, "betas": (0.9, 0.98), "pairs": [], "kind": "fast"}
    told = formatting.values_table(values, "setting")["setting"].to_dict()
    assert told == {"tokens": "5,500,000", "rate": "0.001", "freeze": "True", "betas": "0.9, 0.98", "pairs": "none",
                    "kind": "fast"}  # fmt: skip


@pytest.mark.parametrize(
    ("ours", "interval", "unit", "told"),
    [
        (-1.25, (-2.0, 0.5), "points", "−1.2 points [−2.0, +0.5]"),
        (1.304, None, "x", "1.30×"),
        (None, None, "x", "–"),
        (0.2, (0.1, 0.3), "nats/token", "+0.200 nats/token [+0.100, +0.300]"),
    ],
)
def test_numbers_read_well(ours: float | None, interval: tuple[float, float] | None, unit: str, told: str) -> None:
    assert formatting.number(ClaimVerdict.model_construct(ours=ours, interval=interval, unit=unit)) == told
