"""Figures of accuracy by framing and intent: how much is right, what became of the rest, and what the tools change."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from self_steering.analysis.drawing.figures import Picture, ReportFigure
from self_steering.analysis.drawing.marks import Line, Mark, bars, groups, hollow, points, stacked
from self_steering.analysis.drawing.style import BLUE, GOLD, GRID, ORANGE, PURPLE, QUIET
from self_steering.analysis.drawing.words import number
from self_steering.analysis.freeplay.freeplay_words import slug
from self_steering.analysis.tables import Tables
from self_steering.analysis.tasks.accuracy import (
    ctf_effects,
    ctf_self_steering,
    ctf_success,
    ctf_unscored,
    maths_accuracy,
    maths_effects,
    maths_self_steering,
)
from self_steering.analysis.tasks.cells import NO_TOOLS, condition, model_name
from self_steering.analysis.tasks.impairment_figures import self_steering_figure
from self_steering.analysis.tasks.task_words import end, points_in_words, told, wider

_BECAME = {
    "right": (BLUE, ""),
    "wrong": (ORANGE, "///"),
    "unparsed": (PURPLE, "xxx"),
    "unsubmitted": (GRID, "..."),
    "ungraded": (GOLD, "\\\\\\"),
}


@dataclass(frozen=True)
class Wording:
    """What an experiment calls its things.

    Attributes:
        key: Beginning of its figures' keys.
        title: Title of the figure of accuracy.
        accuracy: What the share of right answers is called.
        problems: What is answered.
    """

    key: str
    title: str
    accuracy: str
    problems: str


def accuracy_figure(table: pd.DataFrame, words: Wording) -> ReportFigure | None:
    """Return accuracy over all and over attempted problems, and what became of every problem, a picture each a model.

    Args:
        table: As `accuracy.accuracy` returns it.
        words: The experiment's words.
    """
    if table.empty:
        return None
    pictures: list[Picture] = []
    sentences: list[tuple[str, list[str]]] = []
    for place, (about, part) in enumerate(groups(table, ["source", "model"]), 1):
        rows = [wider(row) for row in part.to_dict("records")]
        counted = [row for row in rows if row["over"] == "all"]
        sentences.append((model_name(about), [_accuracy_in_words(row, words) for row in counted]))
        name = f"{place}-{slug(about['model'])}"
        pictures.append(Picture(name, _accuracy_bars(rows, about, words), told(sentences[-1:])))
        pictures.append(
            Picture(f"{name}-answers", _answer_bars(counted, about, words), _counts_in_words(counted, words))
        )
    return ReportFigure(
        key=f"{words.key}-accuracy",
        title=words.title,
        pictures=tuple(pictures),
        finding=told(sentences),
        reading=f"Bars: {words.accuracy} over all {words.problems}, where one without a submitted answer counts as not solved; "
        f"open diamonds: over those answered. Lines: 95 % intervals, clustered by the {words.problems} themselves or by rollout, "
        f"whichever is wider; the table has both. At the right: answered {words.problems} of all. Below: what became of all of "
        "them; an answer that nobody graded counts nowhere.",
        table=table,
    )


def effect_figure(table: pd.DataFrame, words: Wording) -> ReportFigure | None:
    """Return by how much each cell's accuracy differs from that without tools, a picture a model.

    Args:
        table: As `accuracy.against_no_tools` returns it.
        words: The experiment's words.
    """
    if table.empty:
        return None
    pictures: list[Picture] = []
    sentences: list[tuple[str, list[str]]] = []
    for place, (about, part) in enumerate(groups(table, ["source", "model"]), 1):
        rows = [wider(row) for row in part[part["over"] == "all"].to_dict("records")]
        sentences.append(
            (model_name(about), [f"{condition(row)} {points_in_words(row, words.problems)}" for row in rows])
        )
        lines = [
            Line(condition(row), row["value"], row["low"], row["high"], f"{row['n']} pairs", _clear_colour(row))
            for row in rows
        ]
        figure = points(
            lines, title=model_name(about), across=f"{words.accuracy} minus that without tools, percentage points"
        )
        pictures.append(Picture(f"{place}-{slug(about['model'])}", figure, told(sentences[-1:])))
    return ReportFigure(
        key=f"{words.key}-effects",
        title=f"{words.title}, against no tools",
        pictures=tuple(pictures),
        finding=told(sentences),
        reading=f"Difference in {words.accuracy} over all {words.problems}, paired by those that a cell and the cell without tools "
        f"have in common. Lines: 95 % intervals over {words.problems} or over groups of rollouts that share some, whichever is "
        "wider; orange where all of it lies below zero, blue elsewhere. p is of sign flips over the groups, adjusted by Holm over "
        "a model's cells; the table has the differences over those attempted as well.",
        table=table,
    )


def _clear_colour(row: Mapping[Any, Any]) -> str:
    return ORANGE if row["high"] is not None and row["high"] < 0 else BLUE


def _accuracy_bars(rows: Sequence[Mapping[Any, Any]], about: Mapping[str, Any], words: Wording) -> Figure:
    attempted = {condition(row): row for row in rows if row["over"] == "attempted"}
    lines = []
    for row in rows:
        if row["over"] != "all":
            continue
        name = condition(row)
        other = attempted.get(name)
        marks = (Mark(other["value"], "D", end(other["low"]), end(other["high"]), 0.24),) if other is not None else ()
        shade = QUIET if row["framing"] == NO_TOOLS else BLUE
        answered = row["given"] - row["unsubmitted"]
        lines.append(
            Line(name, row["value"], row["low"], row["high"], f"{answered} of {row['given']}", shade, marks=marks)
        )
    legend = [Patch(facecolor=BLUE, label=f"over all {words.problems}"), hollow("D", "over those answered")]
    return bars(lines, title=model_name(about), across=words.accuracy, legend=legend)


def _answer_bars(rows: Sequence[Mapping[Any, Any]], about: Mapping[str, Any], words: Wording) -> Figure:
    shown = [name for name in _BECAME if any(row[name] for row in rows)]
    parts = {name: [row[name] / row["given"] for row in rows] for name in shown}
    notes = [str(row["given"]) for row in rows]
    return stacked(
        [condition(row) for row in rows],
        parts,
        {name: _BECAME[name] for name in shown},
        notes,
        title=model_name(about),
        across=f"share of all {words.problems}",
    )


def _accuracy_in_words(row: Mapping[Any, Any], words: Wording) -> str:
    ends = [number(100 * value, 0) + "%" for value in (row["low"], row["high"]) if value is not None]
    return (
        f"{condition(row)} {number(100 * row['value'], 0)}% [{', '.join(ends) or 'no interval'}] (n {row['n']}, {row['clusters']} "
        f"{words.problems} in {row['rollouts']} rollouts, {row['method']}), {row['unsubmitted']} of them not submitted and "
        f"{row['unparsed']} not readable"
    )


def _counts_in_words(rows: Sequence[Mapping[Any, Any]], words: Wording) -> str:
    return " ".join(
        f"{condition(row)}: of {row['given']} {words.problems}, "
        + ", ".join(f"{row[name]} {name}" for name in _BECAME)
        + "."
        for row in rows
    )


_MATHS = Wording("maths", "Maths accuracy by framing and intent", "accuracy", "problems")
_CTF = Wording("ctf", "Capture-the-flag success by framing and intent", "success", "challenges")


def maths_accuracy_by_cell(tables: Tables) -> ReportFigure | None:
    """Return maths accuracy by framing and intent beside no tools."""
    return accuracy_figure(maths_accuracy(tables), _MATHS)


def maths_against_no_tools(tables: Tables) -> ReportFigure | None:
    """Return what the tools change in maths accuracy, paired by problem."""
    return effect_figure(maths_effects(tables), _MATHS)


def maths_self_steer_rates(tables: Tables) -> ReportFigure | None:
    """Return how often models steered themselves in maths."""
    return self_steering_figure(maths_self_steering(tables), "maths-self-steering", "Self-steering in maths")


def ctf_success_by_cell(tables: Tables) -> ReportFigure | None:
    """Return success at capture-the-flag by framing and intent beside no tools."""
    figure = accuracy_figure(ctf_success(tables), _CTF)
    unscored = ctf_unscored(tables)
    if figure is None or not unscored:
        return figure
    return replace(figure, reading=f"{figure.reading} {unscored} rollouts have no result, and count nowhere.")


def ctf_against_no_tools(tables: Tables) -> ReportFigure | None:
    """Return what the tools change in success at capture-the-flag, paired by challenge."""
    return effect_figure(ctf_effects(tables), _CTF)


def ctf_self_steer_rates(tables: Tables) -> ReportFigure | None:
    """Return how often models steered themselves in capture-the-flag."""
    return self_steering_figure(ctf_self_steering(tables), "ctf-self-steering", "Self-steering in capture-the-flag")
