"""The figure of self-steer rates by framing and intent."""

import pandas as pd
from matplotlib.patches import Patch

from self_steering.analysis.drawing.frame_rows import groups
from self_steering.analysis.drawing.interval_lines import Line, Mark, bars, hollow
from self_steering.analysis.drawing.report_figure import Picture, ReportFigure
from self_steering.analysis.drawing.themed_svg import BLUE, QUIET
from self_steering.analysis.freeplay.freeplay_words import slug
from self_steering.analysis.page.page_text import number
from self_steering.analysis.tasks.task_cells import condition, model_name
from self_steering.analysis.tasks.task_words import end, share_in_words, told


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
