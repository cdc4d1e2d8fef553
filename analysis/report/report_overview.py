"""What a report was made from: its logs by experiment, model and arm."""

from dataclasses import dataclass

import pandas as pd

from self_steering.analysis.tables import Tables

_CELL = ["source", "family", "model", "arm"]
_SOURCES = {"self_steering": "this suite", "study": "the study", "other": "another suite"}


@dataclass(frozen=True)
class Overview:
    """What was read.

    Attributes:
        logs: How many logs.
        rollouts: How many rollouts.
        cells: One row a source, family, model and arm, with its counts of logs, rollouts, takes and readings.
        empty: Paths of logs without any rollout.
        left_out: Paths and reasons of the files that are in no table.
    """

    logs: int
    rollouts: int
    cells: pd.DataFrame
    empty: list[str]
    left_out: list[tuple[str, str]]


def overview(tables: Tables) -> Overview:
    """Return what the tables were read from."""
    left_out = tables.left_out.sort_values("log", kind="stable")
    return Overview(
        logs=len(tables.logs),
        rollouts=len(tables.rollouts),
        cells=_cells(tables),
        empty=sorted(set(tables.logs["log"]) - set(tables.rollouts["log"])),
        left_out=[(str(log), str(reason)) for log, reason in zip(left_out["log"], left_out["reason"], strict=True)],
    )


def _cells(tables: Tables) -> pd.DataFrame:
    rollouts = tables.rollouts.assign(**{name: tables.rollouts[name].fillna("").astype(str) for name in _CELL})
    takes, readings = tables.takes.groupby("rollout").size(), _readings(tables.readouts)
    rollouts = rollouts.assign(
        own_takes=rollouts["rollout"].map(takes).fillna(0), readings=rollouts["rollout"].map(readings).fillna(0)
    )
    counted = rollouts.groupby(_CELL, sort=True).agg(
        logs=("log", "nunique"),
        rollouts=("rollout", "nunique"),
        takes=("own_takes", "sum"),
        readings=("readings", "sum"),
    )
    cells = counted.astype(int).reset_index()
    return cells.assign(source=cells["source"].map(lambda source: _SOURCES.get(source, source)))


def _readings(readouts: pd.DataFrame) -> pd.Series:
    return readouts.drop_duplicates(["rollout", "reading", "number"]).groupby("rollout").size()
