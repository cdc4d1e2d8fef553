"""The tidy tables' columns, as `columns.toml` has them.

Every table but `left_out` starts with the columns that say what a row's rollout was: they are repeated in each, so that no
table has to be joined before it can be grouped.
"""

import tomllib
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

import pandas as pd

_TEXT = "str"
_TYPES = {"count": "int64", "number": "float64", "flag": "boolean"}
_SHARED = {"logs": ("log",), "left_out": ()}


def _read() -> dict[str, dict[str, tuple[str, str]]]:
    """Return each table's columns with their types and meanings."""
    parts: dict[str, dict[str, str]] = tomllib.loads(
        resources.files(__package__).joinpath("columns.toml").read_text("utf-8")
    )
    found: dict[str, dict[str, tuple[str, str]]] = {}
    for table in parts.keys() - {"log", "rollout"}:
        columns = {}
        for part in (*_SHARED.get(table, ("log", "rollout")), table):
            for column, text in parts[part].items():
                kind, colon, meaning = text.partition(": ")
                columns[column] = (_TYPES[kind], meaning) if colon and kind in _TYPES else (_TEXT, text)
        found[table] = columns
    return {table: found[table] for table in parts if table in found}


_COLUMNS = _read()
COLUMNS = {table: {name: meaning for name, (_, meaning) in columns.items()} for table, columns in _COLUMNS.items()}
_OF_TYPE = {table: {name: dtype for name, (dtype, _) in columns.items()} for table, columns in _COLUMNS.items()}


def empty(table: str) -> pd.DataFrame:
    """Return a table without a row, with all its columns."""
    return pd.DataFrame({column: pd.Series(dtype=dtype) for column, dtype in _OF_TYPE[table].items()})


def typed(frame: pd.DataFrame, table: str) -> pd.DataFrame:
    """Return a table's rows with exactly its columns, in order, each of its type; text that is missing is empty.

    Raises:
        ValueError: A column is missing, or holds something else.
    """
    types = _OF_TYPE[table]
    if missing := [column for column in types if column not in frame]:
        raise ValueError(f"the table {table} lacks {', '.join(missing)}")
    return frame[list(types)].fillna({c: "" for c, dtype in types.items() if dtype == _TEXT}).astype(types)


def table_of(rows: Sequence[Mapping[str, Any]], table: str) -> pd.DataFrame:
    """Return rows as a table, as `typed` does.

    Raises:
        ValueError: A row lacks a column, or holds something else.
    """
    if missing := [column for column in _OF_TYPE[table] if not all(column in row for row in rows)]:
        raise ValueError(f"the table {table} lacks {', '.join(missing)}")
    columns = {}
    for column, dtype in _OF_TYPE[table].items():
        values = [row[column] for row in rows]
        if dtype == _TEXT:
            values = ["" if value is None or value is pd.NA or value != value else value for value in values]  # noqa: PLR0124  NaN
        columns[column] = pd.Series(values, dtype=dtype)
    return pd.DataFrame(columns)
