"""The templates of pages: one base, and what each page adds to it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources

import pandas as pd
from jinja2 import Environment, FunctionLoader, StrictUndefined, Template

from self_steering.analysis.drawing import words
from self_steering.analysis.drawing.style import PAGE_COLOURS, PAPER
from self_steering.analysis.drawing.words import visible

_ROWS = 200
_DIGITS = 4
_LONG = 30  # letters of a text that wants room


def page_template(name: str) -> Template:
    """Return the template `NAME.html.j2`; what is put into it is shown as text unless it is markup."""
    return _environment().get_template(f"{name}.html.j2")


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FunctionLoader(_source), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.globals |= {"colours": PAGE_COLOURS, "card": PAPER}
    environment.filters |= {name: getattr(words, name) for name in ("number", "plain", "span", "visible", "token")}
    return environment


def _source(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


@dataclass(frozen=True)
class PageTable:
    """A table, ready to be shown.

    Attributes:
        columns: Names, and the class that their cells have: `n` for numbers, `wide` for long texts, or none.
        rows: Cells as text.
        hidden: How many rows there are beyond those.
    """

    columns: list[tuple[str, str]]
    rows: list[list[str]]
    hidden: int


def page_table(table: pd.DataFrame, rows: int = _ROWS) -> PageTable:
    """Return the first rows of a table, ready to be shown."""
    part = table.head(rows)
    columns = [(visible(str(name), kept=""), _class(part[name].tolist())) for name in part]
    cells = [[_cell(value) for value in row] for row in part.itertuples(index=False, name=None)]
    return PageTable(columns, cells, len(table) - len(part))


def _class(values: Sequence[object]) -> str:
    if _numeric(values):
        return "n"
    return "wide" if any(len(str(value)) > _LONG for value in values if not _missing(value)) else ""


def _numeric(values: Sequence[object]) -> bool:
    known = [value for value in values if not _missing(value)]
    return bool(known) and all(hasattr(value, "__float__") and not _boolean(value) for value in known)


def _cell(value: object) -> str:
    if _missing(value):
        return "–"
    if _boolean(value):
        return "yes" if value else "no"
    if hasattr(value, "__float__"):
        figure = float(value)
        text = f"{figure:.0f}" if figure.is_integer() and abs(figure) < 1e15 else f"{figure:.{_DIGITS}g}"
        return text.replace("-", "−")
    return visible(str(value), kept="")


def _boolean(value: object) -> bool:
    return type(value).__name__ in {"bool", "bool_"}


def _missing(value: object) -> bool:
    return value is None or value is pd.NA or value is pd.NaT or (isinstance(value, float) and math.isnan(value))
