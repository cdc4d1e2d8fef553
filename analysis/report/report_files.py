"""The files beside a report's page: each picture as PNG and SVG, each table as CSV."""

import re
from io import BytesIO, StringIO

import pandas as pd
from matplotlib import rc_context
from matplotlib.figure import Figure

from self_steering.analysis.drawing.recolour import recolour
from self_steering.analysis.drawing.report_figure import ReportFigure
from self_steering.analysis.drawing.theme import Theme
from self_steering.analysis.tables import Tables
from self_steering.analysis.tables.columns import COLUMNS

_SHARPNESS = 2  # pixels of a PNG for one of the page
_UNITS = 72  # a figure's units in an inch
_FALLBACK = ", system-ui, sans-serif"
_DATELESS = dict.fromkeys(("Date", "Creator", "Format", "Type"))
# Where the tidy tables lie below the report, in the order of `COLUMNS`.
TABLE_FILES = tuple(f"tables/{name}.csv" for name in COLUMNS)


def picture_path(figure: ReportFigure, place: int, kind: str) -> str:
    """Return where the file of one of a figure's pictures lies below the report; `place` counts from 0, `kind` is png or svg."""
    return f"figures/{picture_name(figure, place)}.{kind}"


def picture_name(figure: ReportFigure, place: int) -> str:
    """Return a word for one of a figure's pictures that no other on the page has; names may be too long for files."""
    return f"{figure.key}-{place + 1}" if len(figure.pictures) > 1 else figure.key


def table_path(figure: ReportFigure) -> str:
    """Return where the table of a figure lies below the report."""
    return f"figures/{figure.key}.csv"


def figure_files(figure: ReportFigure, theme: Theme = "light") -> dict[str, bytes]:
    """Return a figure's files by their path below the report; its pictures are in real colours afterwards."""
    files = {table_path(figure): csv_file(figure.table)}
    for place, picture in enumerate(figure.pictures):
        recolour(picture.figure, theme)
        files[picture_path(figure, place, "png")] = png_file(picture.figure)
        files[picture_path(figure, place, "svg")] = svg_file(picture.figure, picture_name(figure, place))
    return files


def table_files(tables: Tables) -> dict[str, bytes]:
    """Return every tidy table as CSV, by its path below the report."""
    return {path: csv_file(getattr(tables, name)) for name, path in zip(COLUMNS, TABLE_FILES, strict=True)}


def png_file(figure: Figure) -> bytes:
    """Return a figure as PNG, two pixels for each of its own; the same figure gives the same bytes."""
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=_SHARPNESS * _UNITS, metadata={"Software": None})
    return buffer.getvalue()


def svg_file(figure: Figure, name: str) -> bytes:
    """Return a figure as an SVG file whose text stays text; the same figure and name give the same bytes."""
    buffer = BytesIO()
    with rc_context({"svg.hashsalt": name, "svg.fonttype": "none"}):
        figure.savefig(buffer, format="svg", metadata=_DATELESS)
    # Where the font that the figure was measured with is not there, another must do.
    return re.sub(r"(font(?:-family)?: [^;\"]*'DejaVu Sans')", rf"\1{_FALLBACK}", buffer.getvalue().decode()).encode()


def csv_file(table: pd.DataFrame) -> bytes:
    """Return a table as CSV in UTF-8, without its index."""
    buffer = StringIO()
    table.to_csv(buffer, index=False, lineterminator="\n")
    return buffer.getvalue().encode()
