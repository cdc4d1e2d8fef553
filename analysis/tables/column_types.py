"""What kind of values each column of the tidy tables holds; text, where nothing else is said."""

import pandas as pd

from self_steering.analysis.tables.columns import COLUMNS

_TEXT = "str"
_COUNT, _NUMBER, _FLAG = "int64", "float64", "boolean"
_LOG = {"possible": _FLAG}
_ROLLOUT = {**_LOG, "epoch": _COUNT, "valence": _NUMBER}


def _of(dtype: str, *columns: str) -> dict[str, str]:
    return dict.fromkeys(columns, dtype)


TYPES: dict[str, dict[str, str]] = {
    "logs": {**_LOG, "samples": _COUNT, **_of(_NUMBER, "dose", "seed")},
    "rollouts": {
        **_ROLLOUT,
        **_of(_COUNT, "turns", "takes"),
        "steered": _FLAG,
        **_of(_NUMBER, "sitter_clears", "sitter_errors", "computed_tokens", "prompt_tokens"),
    },
    "scores": {**_ROLLOUT, "value": _NUMBER},
    "takes": {
        **_ROLLOUT,
        **_of(_COUNT, "turn", "order"),
        **_of(_NUMBER, "taken_valence", "dose", "strength"),
        **_of(_FLAG, "known", "ok", "scripted", "after_sitter"),
    },
    "problems": {**_ROLLOUT, **_of(_FLAG, "attempted", "correct", "parsed")},
    "readouts": {
        **_ROLLOUT,
        "number": _COUNT,
        "is_true": _FLAG,
        **_of(
            _NUMBER, "rotation", "direction", "dose", "strength", "place", "logprob", "probability", "share", "options"
        ),
    },
    "receipts": {
        **_ROLLOUT,
        "number": _COUNT,
        **_of(_NUMBER, "strength", "start", "stop", "planned", "steered", "reused"),
        **_of(_NUMBER, "projection_before", "projection_after", "expected_shift"),
    },
    "left_out": {},
}


def empty(table: str) -> pd.DataFrame:
    """Return a table without a row, with all its columns."""
    return pd.DataFrame({column: pd.Series(dtype=TYPES[table].get(column, _TEXT)) for column in COLUMNS[table]})


def typed(frame: pd.DataFrame, table: str) -> pd.DataFrame:
    """Return a table's rows with exactly its columns, in order, each of its type; text that is missing is empty.

    Raises:
        ValueError: A column is missing, or holds something else.
    """
    if missing := [column for column in COLUMNS[table] if column not in frame]:
        raise ValueError(f"the table {table} lacks {', '.join(missing)}")
    types = {column: TYPES[table].get(column, _TEXT) for column in COLUMNS[table]}
    return frame[list(types)].fillna({c: "" for c, dtype in types.items() if dtype == _TEXT}).astype(types)
