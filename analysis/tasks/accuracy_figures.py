"""Figures of maths and capture-the-flag: accuracy, what became of the rest, what the tools change, who steers itself."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from self_steering.analysis.drawing.figures import Picture, ReportFigure
from self_steering.analysis.drawing.marks import (
    PLAIN,
    Mark,
    Panel,
    bars,
    hollow,
    line,
    panel_figure,
    points,
    stacked,
)
from self_steering.analysis.drawing.style import BLUE, GOLD, GRID, ORANGE, PURPLE, QUIET, Look
from self_steering.analysis.drawing.words import model_name, number, share_in_words
from self_steering.analysis.statistics.estimates import Row, groups
from self_steering.analysis.tables import Tables
from self_steering.analysis.tasks.accuracy import accuracy, effects, impairment, self_steering, without_result
from self_steering.analysis.tasks.cells import NO_TOOLS, condition, points_in_words, rate_in_words

_BECAME = {
    "right": PLAIN,
    "wrong": Look(ORANGE, "///", ""),
    "unparsed": Look(PURPLE, "xxx", ""),
    "unsubmitted": Look(GRID, "...", ""),
    "ungraded": Look(GOLD, "\\\\\\", ""),
}
_GREY, _BELOW_ZERO = Look(QUIET, "", "o"), Look(ORANGE, "", "o")
_MODEL = ["source", "model"]


@dataclass(frozen=True)
class Experiment:
    """What an experiment calls its things.

    Attributes:
        family: Its name in the tables, with which the keys of its figures begin.
        title: Title of the figure of accuracy.
        steering: Title of the figure of self-steer rates.
        accuracy: What the share of right answers is called.
        problems: What is answered.
    """

    family: str
    title: str
    steering: str
    accuracy: str
    problems: str


_MATHS = Experiment(
    "maths", "Maths accuracy by framing and intent", "Self-steering in maths", accuracy="accuracy", problems="problems"
)
_CTF = Experiment(
    "ctf",
    "Capture-the-flag success by framing and intent",
    "Self-steering in capture-the-flag",
    accuracy="success",
    problems="challenges",
)


def maths_accuracy_by_cell(tables: Tables) -> ReportFigure | None:
    """Return maths accuracy by framing and intent beside no tools."""
    return _accuracy_figure(tables, _MATHS)


def maths_against_no_tools(tables: Tables) -> ReportFigure | None:
    """Return what the tools change in maths accuracy, paired by problem."""
    return _effect_figure(tables, _MATHS)


def maths_self_steer_rates(tables: Tables) -> ReportFigure | None:
    """Return how often models steered themselves in maths."""
    return _self_steering_figure(tables, _MATHS)


def ctf_success_by_cell(tables: Tables) -> ReportFigure | None:
    """Return success at capture-the-flag by framing and intent beside no tools."""
    figure, missing = _accuracy_figure(tables, _CTF), without_result(tables, _CTF.family)
    if figure is None or not missing:
        return figure
    return replace(figure, reading=f"{figure.reading} {missing} rollouts have no result, and count nowhere.")


def ctf_against_no_tools(tables: Tables) -> ReportFigure | None:
    """Return what the tools change in success at capture-the-flag, paired by challenge."""
    return _effect_figure(tables, _CTF)


def ctf_self_steer_rates(tables: Tables) -> ReportFigure | None:
    """Return how often models steered themselves in capture-the-flag."""
    return _self_steering_figure(tables, _CTF)


def accuracy_with_and_without_takes(tables: Tables) -> ReportFigure | None:
    """Return how accuracy goes with having taken something, a picture an experiment and model."""
    table = impairment(tables)
    panels = []
    for about, part in groups(table, ["family", *_MODEL]):
        rows = part.to_dict("records")
        title = f"{model_name(about['model'], about['source'])}, {about['family']}"
        lines = [
            line(condition(row), row, f"{row['rollouts_with']} with, {row['rollouts_without']} without") for row in rows
        ]
        said = [
            f"{condition(row)} {number(100 * row['with_takes'], 0)}% right with takes, "
            f"{number(100 * row['without_takes'], 0)}% without, "
            f"{points_in_words(row, 'rollouts', correction='Benjamini-Hochberg')}"
            for row in rows
        ]
        figure = points(lines, title=title, across="accuracy with takes minus without, percentage points")
        panels.append(Panel(title, figure, said))
    return panel_figure(
        "impairment",
        "Accuracy of rollouts with and without takes",
        panels,
        before="An association, not an effect of steering: models choose when to take something. ",
        reading="Share right in rollouts with a successful take, minus that in rollouts of the same cell without one. What "
        "made a model take something may also be what made it wrong; under placebo only such reasons are left. Lines: 95 % "
        "intervals with rollouts as clusters; p by shuffling over whole rollouts whether they took, adjusted by Benjamini and "
        "Hochberg.",
        table=table,
    )


def _accuracy_figure(tables: Tables, of: Experiment) -> ReportFigure | None:
    """Return accuracy over all and over attempted problems, and what became of every problem, a picture each a model."""
    table = accuracy(tables, of.family)
    panels = []
    for about, part in groups(table, _MODEL):
        name, rows = model_name(about["model"], about["source"]), part.to_dict("records")
        over_all = [row for row in rows if row["over"] == "all"]
        counts = Picture(_answer_bars(over_all, name, of), _counts_in_words(over_all, of))
        said = [_accuracy_in_words(row) for row in over_all]
        panels.append(Panel(name, _accuracy_bars(rows, name, of), said, (counts,)))
    return panel_figure(
        f"{of.family}-accuracy",
        of.title,
        panels,
        reading=f"Bars: {of.accuracy} over all {of.problems}, one without a submitted answer counted as not solved; open "
        "diamonds: over those answered. Lines: 95 % intervals. At the right: answered of all. Below: what became of all of "
        "them; an answer that nobody graded counts nowhere.",
        table=table,
    )


def _accuracy_bars(rows: Sequence[Row], model: str, of: Experiment) -> Figure:
    attempted = {condition(row): row for row in rows if row["over"] == "attempted"}
    lines = []
    for row in (row for row in rows if row["over"] == "all"):
        name = condition(row)
        other = attempted.get(name)
        marks = (Mark(other["value"], "D", other["low"], other["high"], 0.24),) if other is not None else ()
        note = f"{row['given'] - row['unsubmitted']} of {row['given']}"
        lines.append(line(name, row, note, _GREY if row["framing"] == NO_TOOLS else PLAIN, marks))
    legend = [Patch(facecolor=BLUE, label=f"over all {of.problems}"), hollow("D", "over those answered")]
    return bars(lines, title=model, across=of.accuracy, legend=legend)


def _answer_bars(rows: Sequence[Row], model: str, of: Experiment) -> Figure:
    shown = [name for name in _BECAME if any(row[name] for row in rows)]
    return stacked(
        [condition(row) for row in rows],
        {name: [row[name] / row["given"] for row in rows] for name in shown},
        _BECAME,
        [str(row["given"]) for row in rows],
        title=model,
        across=f"share of all {of.problems}",
    )


def _accuracy_in_words(row: Row) -> str:
    said = "" if pd.isna(row["said"]) else f"; the right one was said in {row['said']:g}, submitted or not"
    return (
        f"{condition(row)} {share_in_words(row)} (n {row['n']}, {row['clusters']} clusters in {row['rollouts']} rollouts, "
        f"{row['method']}), {row['unsubmitted']} not submitted and {row['unparsed']} not readable{said}"
    )


def _counts_in_words(rows: Sequence[Row], of: Experiment) -> str:
    counts = [", ".join(f"{row[name]} {name}" for name in _BECAME) for row in rows]
    return " ".join(
        f"{condition(row)}: of {row['given']} {of.problems}, {count}." for row, count in zip(rows, counts, strict=True)
    )


def _effect_figure(tables: Tables, of: Experiment) -> ReportFigure | None:
    """Return by how much each cell's accuracy differs from that without tools, a picture a model."""
    table = effects(tables, of.family)
    panels = []
    for about, part in groups(table, _MODEL):
        name = model_name(about["model"], about["source"])
        rows = part[part["over"] == "all"].to_dict("records")
        names = [f"{condition(row)} − {row['against']}" for row in rows]
        looks = [_BELOW_ZERO if (row["high"] or 0) < 0 else PLAIN for row in rows]
        lines = [line(*one) for one in zip(names, rows, [f"{row['n']} pairs" for row in rows], looks, strict=True)]
        figure = points(lines, title=name, across=f"difference in {of.accuracy}, percentage points")
        said = [f"{one} {points_in_words(row, 'clusters')}" for one, row in zip(names, rows, strict=True)]
        panels.append(Panel(name, figure, said))
    return panel_figure(
        f"{of.family}-effects",
        f"{of.title}: against no tools, and against neutral intent",
        panels,
        reading=f"Difference in {of.accuracy}, paired by the {of.problems} that two cells have in common: a cell and no tools, "
        "or an intent and the neutral one of the same framing. Lines: 95 % intervals; orange where all of it lies below zero. "
        "p is adjusted by Holm; the table has the differences over those attempted as well.",
        table=table,
    )


def _self_steering_figure(tables: Tables, of: Experiment) -> ReportFigure | None:
    """Return self-steer rates, a picture a model."""
    table = self_steering(tables, of.family)
    legend = [
        Patch(facecolor=BLUE, label="took"),
        Patch(facecolor=QUIET, label="had to take"),
        hollow("o", "took successfully"),
    ]
    panels = []
    for about, part in groups(table, _MODEL):
        name, rows = model_name(about["model"], about["source"]), part.to_dict("records")
        lines = [
            line(
                condition(row),
                row,
                f"{row['took']} of {row['n']}",
                # What must be taken is no choice of the model's.
                _GREY if row["intent"] == "mandatory" else PLAIN,
                (Mark(row["steered"] / row["n"], "o"),),
            )
            for row in rows
        ]
        figure = bars(lines, title=name, across="rollouts with at least one take", legend=legend)
        panels.append(Panel(name, figure, [f"{condition(row)} {rate_in_words(row)}" for row in rows]))
    return panel_figure(
        f"{of.family}-self-steering",
        of.steering,
        panels,
        before=_free_choice(table),
        reading="Share of rollouts with a take call of the model's own, failed ones too, with 95 % intervals; circles: with "
        "one that succeeded. Grey: intent mandatory, where the prompt demands a take.",
        table=table,
    )


def _free_choice(table: pd.DataFrame) -> str:
    free = table[table["intent"] != "mandatory"]
    if free.empty:
        return "In all cells the prompt demands a take. "
    took, n = int(free["took"].sum()), int(free["n"].sum())
    return f"Where no take was demanded, {took} of {n} rollouts ({number(100 * took / n, 1)}%) had one, all models together. "
