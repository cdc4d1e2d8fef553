"""The steering timeline of one rollout: a bar for every effect, over the messages that it steered and over their tokens."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from self_steering.analysis.drawing.figures import Picture, ReportFigure, new_figure
from self_steering.analysis.drawing.style import BAND, INK, ORANGE, PAPER, category_legend, look
from self_steering.analysis.drawing.words import counted, label, model_name, plain, visible
from self_steering.analysis.tables import Tables
from self_steering.analysis.tasks.timeline import (
    CLEARED,
    SITTER,
    Effect,
    FailedTake,
    Timeline,
    mark_table,
    most_takes,
    read_timeline,
)
from self_steering.solvers.records import asked

KEY = "timeline"
_ROW, _BAR, _WIDTH = 18, 0.72, 680
_TICKS = 12
_MARGIN = 7  # pixels
_WRITERS = ("assistant", "script")


def timeline_of_most_takes(*paths: str | Path) -> Callable[[Tables], ReportFigure | None]:
    """Return the figure function of the report: the timeline of the rollout with the most takes.

    Args:
        *paths: The folders and files that the tables are read from: a timeline needs the rollout's messages.
    """

    def steering_timeline(tables: Tables) -> ReportFigure | None:
        rollout = most_takes(tables)
        return None if rollout is None else timeline_figure(read_timeline(tables, rollout, *paths))

    return steering_timeline


def timeline_figure(shown: Timeline) -> ReportFigure | None:
    """Return the timeline of any rollout; None where nothing was taken or steered in it. Called within `page_style`."""
    if not shown.effects and not shown.failed:
        return None
    finding = _finding(shown)
    pictures = [Picture(_turns(shown), finding)]
    reading = (
        "One row a take, in order, with the dose in brackets; its bar covers the messages that it steered, from the tool's answer "
        "on. Shaded: the model's messages and those that the task wrote for it, numbered from 0. Colour and hatch tell the "
        "category; open bars: at strength 0, nothing was added. Crosses: calls that failed. Lines: where effects were cleared."
    )
    if any(effect.tokens for effect in shown.effects):
        pictures.append(Picture(_tokens(shown), finding))
        reading += " Below: the tokens of the last steered generation, as the engine's receipts have them."
    return ReportFigure(KEY, "Steering timeline of one rollout", tuple(pictures), finding, reading, mark_table(shown))


def _finding(shown: Timeline) -> str:
    about = shown.about
    lasted = sum(effect.stop is None for effect in shown.effects)
    parts = [
        f"{counted(len(shown.effects) + len(shown.failed), 'take')}, {len(shown.failed)} without effect",
        f"{counted(len(shown.clears), 'clear call')}",
        f"{counted(len(shown.sitter), 'clear')} by the trip sitter",
        f"{lasted} still active at the end, up to {_most_at_once(shown)} at once",
    ]
    return (
        f"Rollout {visible(str(about['rollout']), kept='')} of {_model(shown)} ({about['family']}, arm {about['arm']}, framing "
        f"{about['framing']}), {len(shown.roles)} messages: {'; '.join(parts)}."
    )


def _model(shown: Timeline) -> str:
    return model_name(shown.about["model"], shown.about["source"])


def _most_at_once(shown: Timeline) -> int:
    def active(message: int) -> int:
        return sum(e.start <= message and (e.stop is None or message < e.stop) for e in shown.effects)

    return max((active(effect.start) for effect in shown.effects), default=0)


def _turns(shown: Timeline) -> Figure:
    """Draw effects over messages."""
    last = len(shown.roles)
    figure, axes = _rows(shown)
    spans = {effect: (effect.start, last if effect.stop is None else effect.stop) for effect in shown.effects}
    turns = [message for message, role in enumerate(shown.roles) if role in _WRITERS]
    for message in turns:
        axes.axvspan(message, message + 1, color=BAND, linewidth=0, zorder=0)
    _marks(axes, shown, spans, at=lambda message: message + 0.5)
    _clears(axes, shown, at=float)
    axes.set_xlim(0, last)
    step = max(1, -(-len(turns) // _TICKS))
    axes.set_xticks([turn + 0.5 for turn in turns[::step]], [str(number) for number in range(0, len(turns), step)])
    axes.tick_params(axis="x", length=0)
    axes.grid(visible=False)
    axes.set_xlabel("messages of the model, numbered from 0")
    return figure


def _tokens(shown: Timeline) -> Figure:
    """Draw effects over the tokens of the last steered generation."""
    assert shown.tokens is not None
    last = max(
        shown.tokens, *(end for effect in shown.effects if effect.tokens for end in effect.tokens if end is not None)
    )
    figure, axes = _rows(shown)
    spans = {e: (e.tokens[0], last if e.tokens[1] is None else e.tokens[1]) for e in shown.effects if e.tokens}
    edges = [*shown.starts, last]
    for message, role in enumerate(shown.roles[: len(shown.starts)]):
        if role in _WRITERS:
            axes.axvspan(edges[message], edges[message + 1], color=BAND, linewidth=0, zorder=0)
    _marks(axes, shown, spans, at=None)
    _clears(axes, shown, at=lambda message: edges[message] if message < len(edges) else None)
    axes.set_xlim(0, last)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel("tokens of the last steered answer and what came before it")
    return figure


def _rows(shown: Timeline) -> tuple[Figure, Axes]:
    """Return a figure with a named row for every take, in the order of the calls, and its legend."""
    takes = _takes(shown)
    figure = new_figure(_WIDTH, 120 + _ROW * len(takes))
    figure.set_layout_engine("constrained", w_pad=_MARGIN / 72)
    axes = figure.subplots()
    axes.set_yticks(range(len(takes)), [_name(take) for take in takes])
    axes.set_ylim(len(takes) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.set_title(
        f"{model_name(shown.about['model'], shown.about['source'])}, {shown.about['family']}, {shown.about['arm']}",
        loc="left",
    )
    handles: list[Patch | Line2D] = [*category_legend([effect.category for effect in shown.effects])]
    if shown.failed:
        handles.append(Line2D([], [], linestyle="none", marker="X", color=ORANGE, markeredgewidth=0, label="failed"))
    for there, ended, lines in ((shown.clears, CLEARED, _CLEAR), (shown.sitter, SITTER, _SITTER)):
        if there:
            handles.append(Line2D([], [], label=ended, **lines))
    figure.legend(handles=handles, loc="outside lower left", ncols=4, handletextpad=0.5, columnspacing=1.2)
    return figure, axes


_CLEAR: dict[str, Any] = {"color": INK, "linewidth": 1.2}
_SITTER: dict[str, Any] = {"color": ORANGE, "linewidth": 2, "linestyle": (0, (2, 1.5))}


def _takes(shown: Timeline) -> list[Effect | FailedTake]:
    """Return effects and failed takes in the order of their calls."""
    calls = [(effect.start - 1, effect) for effect in shown.effects] + [
        (failed.message, failed) for failed in shown.failed
    ]
    return [take for _, take in sorted(calls, key=lambda item: item[0])]


def _name(take: Effect | FailedTake) -> str:
    named = take.name or "(no name)"
    if isinstance(take, Effect) and take.vector not in {"", take.name}:
        named = f"{asked(take.operation, take.name)} = {take.vector}"
    elif isinstance(take, Effect):
        named = asked(take.operation, named)
    return f"{label(named)} ({'no dose' if math.isnan(take.dose) else plain(take.dose)})"


def _marks(
    axes: Axes,
    shown: Timeline,
    spans: Mapping[Effect, tuple[int, int]],
    at: Callable[[int], float] | None,
) -> None:
    """Draw bars and, where `at` gives a place to a message, crosses."""
    for row, take in enumerate(_takes(shown)):
        if isinstance(take, FailedTake):
            if at is not None:
                axes.plot(at(take.message), row, "X", color=ORANGE, markersize=7, markeredgewidth=0)
        elif take in spans:
            start, stop = spans[take]
            of, empty = look(take.category), take.strength == 0
            axes.barh(
                row,
                stop - start,
                _BAR,
                start,
                color=PAPER if empty else of.colour,
                edgecolor=of.colour if empty else PAPER,
                hatch=of.hatch,
                linewidth=1.2 if empty else 0,
                zorder=2,
            )


def _clears(axes: Axes, shown: Timeline, at: Callable[[int], float | None]) -> None:
    # The model's clears take effect at the end of the message that calls them.
    for messages, lines, after in ((shown.clears, _CLEAR, 1), (shown.sitter, _SITTER, 0)):
        for message in messages:
            place = at(message + after)
            if place is not None:
                axes.axvline(place, zorder=3, **lines)
