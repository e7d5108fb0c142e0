"""How tables look in notebooks, and how numbers are written out as people read them."""

from collections.abc import Mapping
from typing import Any

import jinja2
import pandas as pd
from IPython import get_ipython
from pandas.io.formats.style import Styler

from robbertje_lib.experiment.results.base import Interval
from robbertje_lib.experiment.results.claims import ClaimVerdict

SHORT = 24  # characters of a text that is kept on one line
MISSING = "–"


class InlineStyler(Styler):
    """pandas' Styler, but for a style in every cell instead of a sheet: JupyterLab drops sheets of untrusted notebooks.

    `to_html` takes `heading`, the alignment of each column's title, and `cell`, the style of each column.
    """

    template_html_table = jinja2.Environment(autoescape=True, trim_blocks=True).from_string("""<table>
{% for part, rows in (("thead", head), ("tbody", body)) %}
<{{ part }}>
{% for row in rows %}
<tr>{% for c in row if c.type == "th" and c.is_visible %}
<th style="text-align: {{ heading[c.class.split("col")[-1] | int] if "col_heading" in c.class else "left" }}" {{-
 (" " ~ c.attributes if c.attributes else "") | safe }}>{{ "" if "blank" in c.class else c.display_value }}</th>
{%- endfor %}
{% for c in row if c.type == "td" %}<td style="{{ cell[loop.index0] }}">{{ c.display_value }}</td>{% endfor %}</tr>
{% endfor %}
</{{ part }}>
{% endfor %}
</table>""")


def format_in_notebook() -> None:
    """Let the notebook show tables as `as_html` does. Elsewhere than in a notebook it does nothing."""
    shell = get_ipython()
    if shell is not None:
        formatter = shell.display_formatter.formatters["text/html"]
        formatter.for_type(pd.DataFrame, as_html)
        formatter.for_type(pd.Series, lambda series: as_html(series.to_frame()))


def as_html(frame: pd.DataFrame) -> str:
    """A table as people read it: whole, text to the left, a dash for what is missing, no row numbers.

    An empty table is the word "none". Everything that comes from data is escaped.
    """
    if frame.empty:
        return "<p><em>none</em></p>"
    columns = [frame.iloc[:, place] for place in range(frame.shape[1])]
    told = pd.DataFrame(dict(enumerate(map(_told, columns))), index=frame.index)
    styler = InlineStyler(told.set_axis(frame.columns, axis=1))
    if isinstance(frame.index, pd.RangeIndex) and frame.index.name is None:
        styler.hide(axis="index")
    cell = [_style(column) for column in columns]
    heading = ["right" if "right" in style else "left" for style in cell]
    if frame.columns.nlevels > 1:  # titles stand over columns of several kinds
        heading = [max(heading)] * len(heading)
    return str(styler.to_html(exclude_styles=True, cell=cell, heading=heading))


def _told(column: pd.Series) -> list[str]:
    with pd.option_context("display.max_colwidth", None):
        lines = column.to_frame().to_string(index=False, header=False, na_rep=MISSING).split("\n")
    return [line.strip() for line in lines]


def _style(column: pd.Series) -> str:
    """How a column is set: numbers to the right, text to the left, and short text on one line."""
    if pd.api.types.is_numeric_dtype(column):
        return "text-align: right"
    longest = column.astype(str).str.len().max()
    return "text-align: left" + ("; white-space: nowrap" if longest <= SHORT else "")


def values_table(values: Mapping[str, Any], name: str) -> pd.DataFrame:
    """Names and values of any kind, one a row, in a column `name`: whole numbers with separators, floats as short."""
    return pd.DataFrame({name: [_written(value) for value in values.values()]}, index=pd.Index(list(values)))


def _written(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return (", ".join(map(_written, value)) or "none") if isinstance(value, (list, tuple)) else str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"


def number(claim: ClaimVerdict) -> str:
    """A claim's headline with its interval and unit, such as `+1.2 points [0.3, 2.1]`; a dash where there is none."""
    if claim.ours is None:
        return MISSING
    digits = {"points": 1, "nats/token": 3}.get(claim.unit, 2)
    form = f"{'' if claim.unit == 'x' else '+'}.{digits}f"
    return f"{claim.ours:{form}}{_unit(claim)}{bounds(claim.interval, form)}".replace("-", "−")


def smallest(claim: ClaimVerdict) -> str:
    """The smallest difference of interest of a claim, in its unit; a dash where there is none."""
    return MISSING if claim.smallest is None else f"{claim.smallest:.3g}{_unit(claim)}"


def _unit(claim: ClaimVerdict) -> str:
    return {"x": "×", "points": " points"}.get(claim.unit, f" {claim.unit}".rstrip())


def bounds(interval: Interval | None, form: str, scale: float = 1) -> str:
    """An interval behind its number, ` [0.3, 2.1]`, each bound times `scale`; nothing where there is none."""
    return f" [{', '.join(f'{scale * bound:{form}}' for bound in interval)}]" if interval else ""


def p_value(value: float | None) -> str:
    """A p value to three places; a dash where there is none."""
    return MISSING if value is None else "< 0.001" if value < 0.001 else f"{value:.3f}"
