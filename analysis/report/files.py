"""The files beside a report's page: each picture as PNG and SVG, each table as CSV."""

import csv
import hashlib
import shutil
import tempfile
from collections.abc import Mapping
from io import StringIO
from pathlib import Path

import pandas as pd

from self_steering.analysis.drawing.figures import ReportFigure, png_file, svg_file
from self_steering.analysis.tables import Tables
from self_steering.analysis.tables.columns import COLUMNS
from self_steering.vectors.files import naming, replace_folder

PAGE_FILE, PAIRS_FILE, CONTENTS_FILE = "index.html", "side-by-side.html", "contents.csv"
_HEADER = ["file of this self-steering report", "sha256"]
# Where the tidy tables lie below the report, in the order of `COLUMNS`.
TABLE_FILES = tuple(f"tables/{name}.csv" for name in COLUMNS)


def picture_path(figure: ReportFigure, place: int, kind: str) -> str:
    """Return where the file of one of a figure's pictures lies below the report; `place` counts from 0, `kind` is png or svg."""
    return f"figures/{figure.picture_name(place)}.{kind}"


def table_path(figure: ReportFigure) -> str:
    """Return where the table of a figure lies below the report."""
    return f"figures/{figure.key}.csv"


def figure_files(figure: ReportFigure) -> dict[str, bytes]:
    """Return a figure's pictures and its table as files, by their path below the report."""
    files = {table_path(figure): csv_file(figure.table)}
    for place, picture in enumerate(figure.pictures):
        files[picture_path(figure, place, "png")] = png_file(picture.figure)
        files[picture_path(figure, place, "svg")] = svg_file(picture.figure, figure.picture_name(place))
    return files


def table_files(tables: Tables) -> dict[str, bytes]:
    """Return every tidy table as CSV, by its path below the report."""
    return {path: csv_file(getattr(tables, name)) for name, path in zip(COLUMNS, TABLE_FILES, strict=True)}


def csv_file(table: pd.DataFrame) -> bytes:
    """Return a table as CSV in UTF-8, without its index."""
    buffer = StringIO()
    table.to_csv(buffer, index=False, lineterminator="\n")
    return buffer.getvalue().encode()


class ReportFolderError(ValueError):
    """A folder that no report can be written to; the message names it and the remedy."""


def check_report_folder(folder: Path) -> None:
    """Raise unless a report can be written to `folder`: it is not there, empty, or a report and nothing else.

    Raises:
        ReportFolderError: It is a file, or holds files that are not a report's.
    """
    if folder.exists() and not folder.is_dir():
        raise ReportFolderError(f"{folder} is a file; name a folder with --out")
    if not folder.is_dir():
        return
    present = {
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir() or path.is_symlink()
    }
    foreign = sorted(present - _listed(folder))
    if foreign:
        raise ReportFolderError(
            f"{folder} holds {len(foreign)} files that are no report's, {foreign[0]!r} among them, and would lose them; "
            "move them, or name another folder with --out"
        )


def _listed(folder: Path) -> set[str]:
    """Return the files that the report in a folder says it is made of; none if there is no report."""
    try:
        rows = list(csv.reader(StringIO((folder / CONTENTS_FILE).read_text(encoding="utf-8"))))
    except (OSError, ValueError, csv.Error):
        return set()
    if not rows or rows[0] != _HEADER:
        return set()
    return {CONTENTS_FILE, *(row[0] for row in rows[1:] if row)}


def write_report(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write a report's files, by their path below `folder`, in the place of the report that is there.

    They are written to a folder beside it, which then takes its name: whatever interrupts this, `folder` is whole.

    Raises:
        ReportFolderError: The folder holds something else.
    """
    check_report_folder(folder)
    folder = folder.resolve()  # a name such as `.` has no place beside it
    folder.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-"))
    try:
        scratch.chmod(0o755)
        with naming(folder):
            for name, data in {**files, CONTENTS_FILE: _contents(files)}.items():
                (scratch / name).parent.mkdir(parents=True, exist_ok=True)
                (scratch / name).write_bytes(data)
        replace_folder(scratch, folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _contents(files: Mapping[str, bytes]) -> bytes:
    buffer = StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(_HEADER)
    writer.writerows((name, hashlib.sha256(data).hexdigest()) for name, data in sorted(files.items()))
    return buffer.getvalue().encode()
