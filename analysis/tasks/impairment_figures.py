"""The figure of self-steer rates by framing and intent."""

import pandas as pd
from matplotlib.patches import Patch

from self_steering.analysis.drawing.figures import Picture, ReportFigure
from self_steering.analysis.drawing.marks import Line, Mark, bars, groups, hollow, points
from self_steering.analysis.drawing.style import BLUE, QUIET
from self_steering.analysis.drawing.words import number
from self_steering.analysis.freeplay.freeplay_words import slug
from self_steering.analysis.tables import Tables
from self_steering.analysis.tasks.cells import condition, model_name
from self_steering.analysis.tasks.impairment import impairment
from self_steering.analysis.tasks.task_words import end, points_in_words, share_in_words, told


def self_steering_figure(table: pd.DataFrame, key: str, title: str) -> ReportFigure | None:
    """Return self-steer rates, a picture a model.

    Args:
        table: As `self_steering_rates` returns it.
        key: The figure's key.
        title: Its title.
    """
    if table.empty:
        return None
    pictures: list[Picture] = []
    sentences: list[tuple[str, list[str]]] = []
    for place, (about, part) in enumerate(groups(table, ["source", "model"]), 1):
        rows = part.to_dict("records")
        lines = [
            Line(
                condition(row),
                row["value"],
                end(row["low"]),
                end(row["high"]),
                f"{row['took']} of {row['n']}",
                # What must be taken is no choice of the model's.
                QUIET if row["intent"] == "mandatory" else BLUE,
                marks=(Mark(row["steered"] / row["n"], "o"),),
            )
            for row in rows
        ]
        legend = [
            Patch(facecolor=BLUE, label="took"),
            Patch(facecolor=QUIET, label="had to take"),
            hollow("o", "took successfully"),
        ]
        figure = bars(lines, title=model_name(about), across="rollouts with at least one take", legend=legend)
        sentences.append((model_name(about), [f"{condition(row)} {share_in_words(row)}" for row in rows]))
        pictures.append(Picture(f"{place}-{slug(about['model'])}", figure, told(sentences[-1:])))
    return ReportFigure(
        key=key,
        title=title,
        pictures=tuple(pictures),
        finding=f"{_free_choice(table)} {told(sentences)}",
        reading="Share of rollouts in which the model made at least one take call by itself, failed ones too, with 95 % intervals; "
        "at the right, their counts. Circles: at least one call that succeeded. Grey: intent mandatory, where the prompt demands "
        "a take.",
        table=table,
    )


def _free_choice(table: pd.DataFrame) -> str:
    free = table[table["intent"] != "mandatory"]
    if free.empty:
        return "In all cells the prompt demands a take."
    took, n = int(free["took"].sum()), int(free["n"].sum())
    return f"Where no take was demanded, {took} of {n} rollouts ({number(100 * took / n, 1)}%) had one, all models together."


def accuracy_with_and_without_takes(tables: Tables) -> ReportFigure | None:
    """Return how accuracy goes with having taken something, a picture an experiment and model."""
    table = impairment(tables)
    if table.empty:
        return None
    pictures: list[Picture] = []
    sentences: list[tuple[str, list[str]]] = []
    for place, (about, part) in enumerate(groups(table, ["family", "source", "model"]), 1):
        rows = part.to_dict("records")
        lines = [
            Line(
                condition(row),
                row["value"],
                end(row["low"]),
                end(row["high"]),
                f"{row['rollouts_with']} with, {row['rollouts_without']} without",
                BLUE,
            )
            for row in rows
        ]
        title = f"{model_name(about)}, {about['family']}"
        said = [
            f"{condition(row)} {number(100 * row['with_takes'], 0)}% right with takes, {number(100 * row['without_takes'], 0)}% "
            f"without, {points_in_words(row, 'rollouts')}"
            for row in rows
        ]
        sentences.append((title, said))
        figure = points(lines, title=title, across="accuracy with takes minus without, percentage points")
        pictures.append(Picture(f"{place}-{slug(about['family'], about['model'])}", figure, told(sentences[-1:])))
    return ReportFigure(
        key="impairment",
        title="Accuracy of rollouts with and without takes",
        pictures=tuple(pictures),
        finding="An association, not an effect of steering: models choose when to take something. " + told(sentences),
        reading="Share of right answers over all problems in rollouts with a successful take, minus that in rollouts of the same "
        "cell without one. What made a model take something, a hard problem for example, may also be what made it wrong; under "
        "placebo, where nothing is added, only such reasons are left. Lines: 95 % intervals with rollouts as clusters; p by "
        "shuffling over whole rollouts whether they took, adjusted by Benjamini and Hochberg. At the right: rollouts.",
        table=table,
    )
