"""How tables look in a notebook, and the tables that no other test looks at."""

import re

import numpy as np
import pandas as pd
import pytest

from robbertje_lib.show import tables
from tests.support.standin import execute_cells


def _cells(html: str) -> list[tuple[str, str]]:
    """Alignment and content of the cells below the head."""
    return re.findall(r'<td style="text-align: (\w+)[^"]*">(.*?)</td>', html.split("</thead>")[1])


def test_text_stands_left_and_numbers_right_under_titles_that_do_the_same() -> None:
    html = tables.as_html(pd.DataFrame({"model": ["teacher", "bort"], "score": [0.5, np.nan]}))
    assert _cells(html) == [("left", "teacher"), ("right", "0.5"), ("left", "bort"), ("right", "–")]
    titles = re.findall(r'<th style="text-align: (\w+)">(\w+)</th>', html)
    assert titles == [("left", "model"), ("right", "score")]  # and no row numbers
    two_levels = pd.MultiIndex.from_product([["Een zin ."], ["seed 1"]])
    html = tables.as_html(pd.DataFrame([["positive"]], index=pd.Index(["gold"], name="model"), columns=two_levels))
    assert re.findall(r'<th style="text-align: left"[^>]*>([^<]+)', html) == ["Een zin .", "seed 1", "model", "gold"]
    html = tables.as_html(pd.DataFrame([[0.5]], index=pd.Index(["0 to 7"], name="tokens"), columns=two_levels))
    assert re.findall(r'<th style="text-align: left"[^>]*>([^<]+)', html) == ["tokens", "0 to 7"]


def test_rows_with_names_in_two_levels_keep_them() -> None:
    index = pd.MultiIndex.from_tuples([("merged", "torch"), ("merged", "ONNX")], names=["model", "form"])
    html = tables.as_html(pd.DataFrame({"MB": [1.5, 2.0], "note": ["a", "b" * 30]}, index=index))
    assert _cells(html) == [("right", "1.5"), ("left", "a"), ("right", "2.0"), ("left", "b" * 30)]
    assert html.count("torch") == html.count("merged") == 1 and 'rowspan="2"' in html
    assert html.count("nowrap") == 0, "a column with long text may break its lines"


def test_nothing_is_cut_and_nothing_is_taken_for_markup() -> None:
    long = "<td>" + "woord " * 500
    html = tables.as_html(pd.DataFrame({"line": [long] * 300}))
    assert html.count("woord") == 300 * 500 and len(_cells(html)) == 300
    assert "&lt;td&gt;" in html


def test_an_empty_table_says_so() -> None:
    assert "none" in tables.as_html(pd.DataFrame(columns=["task", "model"]))


def test_a_notebook_shows_tables_this_way(monkeypatch: pytest.MonkeyPatch) -> None:
    cells = [
        "from robbertje_lib.show import tables\nimport pandas as pd\ntables.format_in_notebook()",
        "pd.Series({'floor': 2.9})",
    ]
    (output,) = execute_cells(cells, monkeypatch).cells[-1].outputs
    assert _cells(output.data["text/html"]) == [("right", "2.9")]


def test_values_of_any_kind() -> None:
    values = {"tokens": 5_500_000, "rate": 1e-3, "freeze": True, "betas": (0.9, 0.98), "pairs": [], "kind": "fast"}
    told = tables.values_table(values, "setting")["setting"].to_dict()
    assert told == {"tokens": "5,500,000", "rate": "0.001", "freeze": "True", "betas": "0.9, 0.98", "pairs": "none",
                    "kind": "fast"}  # fmt: skip


def test_a_curve_keeps_its_last_point() -> None:
    points = [{"update": n, "tokens": 10 * n, "seconds": n / 3, "loss": 1 / (n + 1)} for n in range(10)]
    table = tables.curve_table(points, every=4)
    assert table.index.tolist() == [0, 4, 8, 9] and table.loc[9, "seconds"] == 3.0
    assert tables.curve_table(points[:9], every=4).index.tolist() == [0, 4, 8]
