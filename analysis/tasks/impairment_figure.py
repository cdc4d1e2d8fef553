"""The figure of whether rollouts in which the model steered itself are less accurate."""

from self_steering.analysis.drawing.frame_rows import groups
from self_steering.analysis.drawing.interval_lines import Line, points
from self_steering.analysis.drawing.report_figure import Picture, ReportFigure
from self_steering.analysis.drawing.themed_svg import BLUE
from self_steering.analysis.freeplay.freeplay_words import slug
from self_steering.analysis.page.page_text import number
from self_steering.analysis.tables import Tables
from self_steering.analysis.tasks.impairment import impairment
from self_steering.analysis.tasks.task_cells import condition, model_name
from self_steering.analysis.tasks.task_words import end, points_in_words, told


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
