"""Free play's rollouts and takes, and the cells that its figures compare: model by arm, framings pooled and apart."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from self_steering.analysis.drawing.words import basis, model_name, visible, with_interval
from self_steering.analysis.statistics.estimates import (
    ESTIMATE,
    Estimate,
    Row,
    Test,
    estimate_columns,
)
from self_steering.analysis.statistics.tests import benjamini_hochberg
from self_steering.analysis.tables import Tables
from self_steering.steering.operations import OPERATIONS

GROUP = ["source", "model", "visibility", "labels", "operators", "directions", "gauge"]
CELL = [*GROUP, "arm"]
ALL_FRAMINGS = "all"
PLACEBO = "placebo"
RESULT_COLUMNS = [
    *[*CELL, "against", "framing", "measure"],
    *[*ESTIMATE, "p", "p_adjusted", "test"],
]
_FLAGS = ["known", "ok", "scripted", "after_sitter"]
ARM_ORDER = ("real", "placebo", "random", "mislabelled")


@dataclass(frozen=True)
class FreePlay:
    """What free play's logs hold.

    Attributes:
        rollouts: Its rollouts, as in the tables; what is missing of CELL is empty text.
        takes: Its take calls in call order within each rollout, without those that a task inserted.
    """

    rollouts: pd.DataFrame
    takes: pd.DataFrame


def freeplay(tables: Tables) -> FreePlay:
    """Return free play's rollouts and the takes that its models chose."""
    rollouts = _of_family(tables.rollouts)
    takes = _of_family(tables.takes)
    takes[_FLAGS] = takes[_FLAGS].isin([True])  # what a log does not say is no
    takes["operation"] = takes["operation"].where(takes["operation"].isin(OPERATIONS), "add")
    chosen = takes[~takes["scripted"]]
    return FreePlay(rollouts, chosen.sort_values(["rollout", "order"], kind="stable", ignore_index=True))


def arm_place(arm: str) -> str:
    """Return what sorts arms into the one order in which they stand everywhere: the one of interest first."""
    place = ARM_ORDER.index(arm) if arm in ARM_ORDER else len(ARM_ORDER)
    return f"{place} {arm}"


def picks_of(takes: pd.DataFrame) -> pd.DataFrame:
    """Return the takes that are picks: calls for a name that the library has, failed ones too, as the model chose all the same."""
    return takes[takes["known"]]


def successes_of(takes: pd.DataFrame) -> pd.DataFrame:
    """Return the takes that put a vector in: calls for a name that the library has, and that succeeded."""
    return takes[takes["known"] & takes["ok"]]


def cells(rollouts: pd.DataFrame) -> Iterator[tuple[dict[str, str], pd.DataFrame]]:
    """Yield each cell with its rollouts: all framings together (framing `all`), then each of them apart."""
    for key, of_cell in rollouts.groupby(CELL, sort=False):
        cell = dict(zip(CELL, key, strict=True))
        yield {**cell, "framing": ALL_FRAMINGS}, of_cell
        for framing, of_framing in of_cell.groupby("framing", sort=True):
            yield {**cell, "framing": str(framing)}, of_framing


def comparisons(rollouts: pd.DataFrame) -> Iterator[tuple[dict[str, str], pd.DataFrame]]:
    """Yield each model's arms beside its placebo, with both arms' rollouts of the framings that both have."""
    for key, of_group in rollouts.groupby(GROUP, sort=False):
        group = dict(zip(GROUP, key, strict=True))
        framings = of_group.groupby("arm", sort=False)["framing"].agg(set)
        for arm in framings.index.drop(PLACEBO, errors="ignore") if PLACEBO in framings else []:
            both = of_group["arm"].isin([arm, PLACEBO]) & of_group["framing"].isin(framings[arm] & framings[PLACEBO])
            if both.any():
                yield {**group, "arm": str(arm), "against": PLACEBO, "framing": ALL_FRAMINGS}, of_group[both]


def comparable(frame: pd.DataFrame) -> bool:
    """Return whether some framing has rollouts (rows, with `arm` and `framing`) of two arms, so that labels can be shuffled."""
    return any(len(set(of_framing["arm"])) > 1 for _, of_framing in frame.groupby("framing"))


def result(cell: Mapping[str, str], measure: str, estimate: Estimate, test: Test | None = None) -> dict[str, object]:
    """Return a row of a table of results."""
    return {
        "against": "",
        **cell,
        "measure": measure,
        **estimate_columns(estimate),
        "p": None if test is None else test.p,
        "test": "" if test is None else test.method,
    }


def results(rows: Sequence[Mapping[str, object]], columns: Sequence[str] = RESULT_COLUMNS) -> pd.DataFrame:
    """Return rows that `result` made as a table, with `p_adjusted` by Benjamini and Hochberg over all tests in it."""
    found = pd.DataFrame(rows, columns=list(columns))
    found["p_adjusted"] = benjamini_hochberg([None if pd.isna(p) else float(p) for p in found["p"]])
    return found


def _of_family(frame: pd.DataFrame) -> pd.DataFrame:
    found = frame[frame["family"] == "freeplay"].copy()
    names = [*CELL, "framing"]
    found[names] = found[names].astype(object).where(found[names].notna(), "").astype(str)
    return found.sort_values(
        [*CELL, "framing"],
        key=lambda column: column.map(arm_place) if column.name == "arm" else column,
        kind="stable",
        ignore_index=True,
    )


Names = Mapping[tuple[str, ...], str]


def group_names(frame: pd.DataFrame) -> Names:
    """Return a name for each model of a table: its own, and the rest of its group where the table has several of that.

    Args:
        frame: Rows with the columns of GROUP.
    """
    several = [column for column in GROUP if column != "model" and len(set(frame[column])) > 1]
    found: dict[tuple[str, ...], str] = {}
    for row in frame[GROUP].drop_duplicates().to_dict("records"):
        more = [visible(row[column], kept="") for column in several if row[column]]
        found[group_of(row)] = model_name(row["model"]) + (f" ({', '.join(more)})" if more else "")
    return found


def group_of(row: Row) -> tuple[str, ...]:
    """Return what tells a row's group from others."""
    return tuple(row[column] for column in GROUP)


def who(row: Row, names: Names) -> str:
    """Return whom a row is about: its model and arm, and the arm it is compared with."""
    against = f" minus {row['against']}" if row.get("against") else ""
    return f"{names[group_of(row)]}, {row['arm']}{against}"


def cell_labels(frame: pd.DataFrame, names: Names) -> list[str]:
    """Return what the rows of a drawing are called, one a cell of the table, in its order."""
    return [f"{names[group_of(cell)]}\n{cell['arm']}" for cell in frame[CELL].drop_duplicates().to_dict("records")]


def figure_in_words(row: Row, name: str = "value", *, percent: bool = False) -> str:
    """Return a row's figure: `25.0% [21.3%, 29.0%]`; differences from an arm as `+20.1 points [+15.2, +25.0]`.

    Args:
        row: With `name`, `low` and `high`; `against` where it is a difference.
        name: Which figure.
        percent: Whether to say it in per cent, differences in percentage points.
    """
    signed = bool(row.get("against"))
    if not percent:
        return with_interval(row, name, signed=signed)
    how: dict[str, Any] = {"signed": True, "after": " points"} if signed else {"unit": "%"}
    return with_interval(row, name, scale=100, decimals=1, **how)


def rests_on(row: Row, what: str) -> str:
    """Return what a row rests on: `n 895 picks, 180 rollouts, bootstrap over rollouts`."""
    return basis(row, "rollouts", what)
