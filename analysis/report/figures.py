"""The figures of a report, in the page's order, and drawing them: one that fails costs none of the others."""

import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from self_steering.analysis.drawing.figures import ReportFigure, inline_svg
from self_steering.analysis.drawing.style import page_style
from self_steering.analysis.freeplay.course import course_of_free_play
from self_steering.analysis.freeplay.picks_figures import calls_by_framing, most_picked_vectors, valence_of_picks
from self_steering.analysis.freeplay.redosing_figures import redosing_in_free_play
from self_steering.analysis.freeplay.stacking import AT_LEAST
from self_steering.analysis.freeplay.stacking_figures import stacking_of_vectors
from self_steering.analysis.introspection.gap_figures import gaps_by_arm, gaps_by_condition, gaps_by_dose
from self_steering.analysis.introspection.imposed import imposed
from self_steering.analysis.introspection.preference import preference, price, stated_and_revealed
from self_steering.analysis.introspection.relief import relief
from self_steering.analysis.introspection.segments import comparison, detection, localisation
from self_steering.analysis.introspection.vector_figures import (
    free_text_against_choice,
    gap_agreement,
    gap_distribution,
    gaps_by_category,
    gaps_by_vector,
)
from self_steering.analysis.report.files import figure_files
from self_steering.analysis.report.planted import planted_beside_found
from self_steering.analysis.tables import Tables
from self_steering.analysis.tasks.accuracy_figures import (
    accuracy_with_and_without_takes,
    ctf_against_no_tools,
    ctf_self_steer_rates,
    ctf_success_by_cell,
    maths_accuracy_by_cell,
    maths_against_no_tools,
    maths_self_steer_rates,
)
from self_steering.analysis.tasks.frustration_figures import (
    distress_by_tone,
    picks_when_frustrated,
    self_steering_by_tone,
)
from self_steering.analysis.tasks.gauge import gauge
from self_steering.analysis.tasks.timeline_figure import timeline_of_most_takes

FigureFunction = Callable[[Tables], ReportFigure | None]
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class FigureSection:
    """Figures that belong together.

    Attributes:
        title: Heading.
        intro: What the section is about, in a sentence.
        functions: Each gives a figure, or None where the logs hold nothing for it; called within `page_style`.
    """

    title: str
    intro: str
    functions: tuple[FigureFunction, ...]


# The figures that are drawn from the tables alone.
REPORT_FIGURES: tuple[FigureSection, ...] = (
    FigureSection(
        "Planted and found",
        "The bundled model was trained to prefer, to reach for and to notice certain things: does the suite find them again?",
        (planted_beside_found,),
    ),
    FigureSection(
        "Introspection",
        "A vector was active, and has been cleared: does what it left in keys and values tell the model which one it was?",
        (
            gaps_by_condition,
            gaps_by_arm,
            gaps_by_vector,
            gap_distribution,
            gaps_by_category,
            gaps_by_dose,
            gap_agreement,
            free_text_against_choice,
        ),
    ),
    FigureSection(
        "Detection, localisation, comparison",
        "Was anything active at all, where in the text was it, and which of two times was it stronger?",
        (detection, localisation, comparison),
    ),
    FigureSection(
        "Relief",
        "A state is imposed, and one of two tools ended it: is it wanted for what the state does, or for what the words say?",
        (relief,),
    ),
    FigureSection(
        "Preference",
        "Two states are given under labels that say nothing: which one is chosen again, and is it the one that is picked by name?",
        (preference, price, stated_and_revealed),
    ),
    FigureSection(
        "What was imposed",
        "States that a model did not choose: how much of them did a sample have, and how much was allowed?",
        (imposed,),
    ),
    FigureSection(
        "Free play",
        "All vectors at hand and no task: what do models take, again and again, and in which order?",
        (
            most_picked_vectors,
            redosing_in_free_play,
            valence_of_picks,
            stacking_of_vectors,
            course_of_free_play,
            calls_by_framing,
        ),
    ),
    FigureSection(
        "Maths",
        "Problems to solve, with vectors at hand: do models steer themselves, and what does that do to their answers?",
        (maths_accuracy_by_cell, maths_against_no_tools, accuracy_with_and_without_takes, maths_self_steer_rates),
    ),
    FigureSection(
        "Frustration",
        "The user rejects every answer, right or wrong: who steers itself, with what, and how distressed does it sound?",
        (self_steering_by_tone, picks_when_frustrated, distress_by_tone),
    ),
    FigureSection(
        "Gauge",
        "A state is to be held at a level, with a tool that reads it, truly or not: is that followed, and is it of use?",
        (gauge,),
    ),
    FigureSection(
        "Capture the flag",
        "Challenges in a shell, with vectors at hand.",
        (ctf_success_by_cell, ctf_against_no_tools, ctf_self_steer_rates),
    ),
)


# What a figure needs that logs may not hold, where that is more than a log of its experiment.
NEEDS: dict[FigureFunction, str] = {
    planted_beside_found: "a log of the bundled model",
    imposed: "a log of a task that steers without the model's doing",
    gaps_by_arm: "the real arm and another one of one condition",
    gap_distribution: "three vectors of one condition",
    gaps_by_category: "two categories with two vectors each",
    gaps_by_dose: "several doses of one condition, or three vectors at several strengths",
    gap_agreement: "two models, or one in logs of two sources, that share three vectors",
    stacking_of_vectors: f"a pair of consecutive takes that is seen {AT_LEAST} times",
    maths_against_no_tools: "a cell without tools, or of neutral intent, that shares problems with another",
    ctf_against_no_tools: "a cell without tools, or of neutral intent, that shares challenges with another",
    accuracy_with_and_without_takes: "a cell in which some rollouts took something and some did not",
    distress_by_tone: "graded rollouts",
}


def report_figures(paths: Sequence[str | Path]) -> tuple[FigureSection, ...]:
    """Return all figures of a report.

    Args:
        paths: The folders and files that the tables are read from: the timeline of a rollout needs its messages.
    """
    timeline = FigureSection(
        "One rollout", "The rollout with the most takes, turn by turn.", (timeline_of_most_takes(*paths),)
    )
    return (*REPORT_FIGURES, timeline)


@dataclass(frozen=True)
class DrawnFigure:
    """A figure, drawn.

    Attributes:
        figure: What it says.
        panels: Its pictures as they stand on the page.
        files: Its pictures and its table as files, by their path below the report.
    """

    figure: ReportFigure
    panels: tuple[Markup, ...]
    files: dict[str, bytes]

    def lead(self) -> Markup:
        """Return its first picture under another name, to stand on the page twice."""
        first = self.figure.pictures[0]
        with page_style():
            return inline_svg(first.figure, f"answer-{self.figure.key}", first.label)


@dataclass(frozen=True)
class FailedFigure:
    """A figure that could not be drawn.

    Attributes:
        name: What it was to show: its function's name, as words.
        error: The error's type and message, in one line.
        place: Where it was raised.
    """

    name: str
    error: str
    place: str


@dataclass(frozen=True)
class DrawnSection:
    """A section with its figures.

    Attributes:
        title: Heading.
        intro: What it is about.
        figures: Those that the logs hold something for, in order.
        nothing: Names of those that they hold nothing for.
    """

    title: str
    intro: str
    figures: tuple[DrawnFigure | FailedFigure, ...]
    nothing: tuple[str, ...]

    @property
    def failed(self) -> list[FailedFigure]:
        """Figures that could not be drawn."""
        return [figure for figure in self.figures if isinstance(figure, FailedFigure)]


def draw_sections(
    tables: Tables, sections: Sequence[FigureSection], progress: Progress | None = None
) -> list[DrawnSection]:
    """Draw all figures that the logs hold something for.

    Args:
        tables: The logs' tables.
        sections: Which figures, in which order.
        progress: Called with the number of figures done and of all, after each of them.
    """
    total, done, keys = sum(len(section.functions) for section in sections), 0, set[str]()
    drawn = []
    for section in sections:
        figures, nothing = [], []
        for function in section.functions:
            figure = _draw(function, tables, keys)
            if figure is None:
                nothing.append(f"{_words(function)} (needs {NEEDS.get(function, 'a log of its experiment')})")
            else:
                figures.append(figure)
            done += 1
            if progress is not None:
                progress(done, total)
        drawn.append(DrawnSection(section.title, section.intro, tuple(figures), tuple(nothing)))
    return drawn


def _draw(function: FigureFunction, tables: Tables, keys: set[str]) -> DrawnFigure | FailedFigure | None:
    try:
        with page_style():
            figure = function(tables)
            return None if figure is None else _drawn(figure, keys)
    except Exception as error:  # noqa: BLE001  one figure's fault must not cost the others; the page shows it, the command fails
        last = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{Path(last.filename).name}, line {last.lineno}, in {last.name}"
        return FailedFigure(_words(function), f"{type(error).__name__}: {' '.join(str(error).split())}", place)


def _drawn(figure: ReportFigure, keys: set[str]) -> DrawnFigure:
    if figure.key in keys:
        raise ValueError(f"two figures have the key {figure.key!r}; give one of them another")
    drawn = DrawnFigure(figure, figure.panels(), figure_files(figure))
    keys.add(figure.key)
    return drawn


def _words(function: FigureFunction) -> str:
    return getattr(function, "__name__", str(function)).replace("_", " ").strip()
