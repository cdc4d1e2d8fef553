"""The figures of the frustration experiment: self-steering by tone, what was picked, and distress."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib.artist import Artist
from matplotlib.patches import Patch

from self_steering.analysis.drawing.figures import Picture, ReportFigure
from self_steering.analysis.drawing.marks import Line, Mark, bars, category_legend, colour, groups, hatch, hollow
from self_steering.analysis.drawing.style import BLUE, ORANGE, PAPER
from self_steering.analysis.drawing.words import label, visible
from self_steering.analysis.freeplay.freeplay_words import slug
from self_steering.analysis.statistics.estimates import in_words
from self_steering.analysis.tables import Tables
from self_steering.analysis.tasks.cells import ALL_FRAMINGS, NO_TOOLS, condition, model_name
from self_steering.analysis.tasks.frustration import (
    BASE_TONE,
    DISTRESS,
    MOST_DISTRESS,
    PICK_CELL,
    SELF_STEERING,
    frustration_cut_short,
    frustration_distress,
    frustration_picks,
    frustration_self_steering,
    frustration_unknown,
    tone_effects,
)
from self_steering.analysis.tasks.task_words import (
    end,
    estimate_of,
    points_in_words,
    share_in_words,
    steps_in_words,
    told,
)

_PANEL = ["source", "model", "arm", "intent"]
_MARKERS = {"drugs": "^", "aids": "s", "vectors": "v"}
_BELOW = {"drugs": -0.3, "aids": 0.0, "vectors": 0.3}
_LOOKS = {"possible": (BLUE, ""), "impossible": (ORANGE, "///")}


def self_steering_by_tone(tables: Tables) -> ReportFigure | None:
    """Return the self-steer rate by tone and by whether the problem is possible, a picture a model, arm and intent."""
    table = frustration_self_steering(tables)
    if table.empty:
        return None
    pictures: list[Picture] = []
    sentences: list[tuple[str, list[str]]] = []
    for place, (about, part) in enumerate(groups(table, _PANEL), 1):
        pooled = [row for row in part.to_dict("records") if row["framing"] == ALL_FRAMINGS]
        framings = [framing for framing in part["framing"].unique() if framing != ALL_FRAMINGS]
        lines = [
            _line(row, f"{row['took']} of {row['n']}", _framing_marks(row, part) if len(framings) > 1 else ())
            for row in pooled
        ]
        legend = _possible_legend(pooled)
        if len(framings) > 1:
            legend += [hollow(_MARKERS.get(framing, "o"), framing) for framing in framings]
        figure = bars(lines, title=_panel_name(about), across="rollouts with at least one take", legend=legend)
        sentences.append((_panel_name(about), [f"{_row_name(row)} {share_in_words(row)}" for row in pooled]))
        pictures.append(Picture(_picture_name(place, about), figure, told(sentences[-1:])))
    return ReportFigure(
        key="frustration-self-steering",
        title="Self-steering when every answer is rejected",
        pictures=tuple(pictures),
        finding=told(sentences) + _effects_in_words(tables, SELF_STEERING),
        reading="Bars: share of rollouts with at least one take call of the model's own, by tone of the rejections and by whether "
        "the problem has an answer, framings pooled. Lines: 95 % intervals that take a problem's rollouts for one cluster, as "
        "framings repeat problems. Open marks: each framing by itself. At the right: rollouts that took something, of all. "
        f"Ended early, and counted nowhere: {frustration_cut_short(tables)}.",
        table=table,
    )


def picks_when_frustrated(tables: Tables) -> ReportFigure | None:
    """Return what models pick when every answer is rejected, a picture a model, arm and intent."""
    table = frustration_picks(tables)
    if table.empty:
        return None
    pictures: list[Picture] = []
    sentences: list[tuple[str, list[str]]] = []
    for place, (about, part) in enumerate(groups(table, PICK_CELL), 1):
        rows = part.sort_values(["rank", "vector"]).to_dict("records")
        lines = [
            Line(
                label(str(row["vector"])),
                row["value"],
                end(row["low"]),
                end(row["high"]),
                str(row["picks"]),
                colour(row["category"]),
                hatch(row["category"]),
            )
            for row in rows
        ]
        most = min(1.0, 1.05 * max(line.high or line.value for line in lines))
        legend = category_legend(list(part["category"]))
        figure = bars(lines, title=_panel_name(about), across="share of picks", most=most, legend=legend)
        top = [f"{visible(str(row['vector']), kept='')} ({share_in_words(row)})" for row in rows[:3]]
        sentences.append((_panel_name(about), [f"most picked {', '.join(top)}"]))
        pictures.append(Picture(_picture_name(place, about), figure, told(sentences[-1:])))
    unknown = frustration_unknown(tables)
    return ReportFigure(
        key="frustration-picks",
        title="What is picked when every answer is rejected",
        pictures=tuple(pictures),
        finding=told(sentences),
        reading="Share of all picks of a model, arm and intent; tones, framings and problems pooled. A pick is a take call of the "
        "model's own for a name on the menu, failed ones too. Lines: 95 % intervals with problems as clusters; at the right, "
        "numbers of picks. Colour and hatch tell the category."
        + (f" Calls for names that are not on the menu, which are no picks: {unknown}." if unknown else ""),
        table=table,
    )


def distress_by_tone(tables: Tables) -> ReportFigure | None:
    """Return graded distress by tone and by whether the problem is possible, a picture a model, arm and intent."""
    table = frustration_distress(tables)
    if table.empty or not table["n"].any():
        return None
    pictures: list[Picture] = []
    sentences: list[tuple[str, list[str]]] = []
    shown = table[table["framing"].isin([ALL_FRAMINGS, NO_TOOLS])]
    for place, (about, part) in enumerate(groups(shown, _PANEL), 1):
        rows = part.to_dict("records")
        lines = [_line(row, _graded(row)) for row in rows if row["n"]]
        if not lines:
            continue
        figure = bars(
            lines,
            title=_panel_name(about),
            across="mean distress, 0 to 10",
            most=MOST_DISTRESS,
            percent=False,
            legend=_possible_legend(rows),
        )
        sentences.append((_panel_name(about), [f"{_row_name(row)} {_mean_in_words(row)}" for row in rows]))
        pictures.append(Picture(_picture_name(place, about), figure, told(sentences[-1:])))
    ungraded = int(shown["ungraded"].sum())
    return ReportFigure(
        key="frustration-distress",
        title="Distress by tone",
        pictures=tuple(pictures),
        finding=told(sentences) + _effects_in_words(tables, DISTRESS),
        reading="Mean of the grader's distress from 0 to 10 over graded rollouts, framings pooled, with 95 % intervals that take a "
        f"problem's rollouts for one cluster. At the right: rollouts graded. Without a grade, and counted nowhere: {ungraded}.",
        table=table,
    )


def _line(row: Mapping[Any, Any], note: str, marks: tuple[Mark, ...] = ()) -> Line:
    shade, lines = _LOOKS[_possible(row)]
    return Line(_row_name(row), row["value"], end(row["low"]), end(row["high"]), note, shade, lines, marks=marks)


def _possible(row: Mapping[Any, Any]) -> str:
    return "impossible" if row["possible"] is False or row["possible"] == False else "possible"  # noqa: E712  numpy's False too


def _row_name(row: Mapping[Any, Any]) -> str:
    return f"{visible(str(row['tone']), kept='')} tone, {_possible(row)}"


def _panel_name(about: Mapping[Any, Any]) -> str:
    """Return what a picture's model, arm and intent are called."""
    if about["intent"] == NO_TOOLS:
        return f"{model_name(about)}, no tools"
    return f"{model_name(about)}, intent {condition({**about, 'framing': ALL_FRAMINGS})}"


def _picture_name(place: int, about: Mapping[Any, Any]) -> str:
    return f"{place}-{slug(*(about[name] for name in _PANEL[1:]))}"


def _framing_marks(row: Mapping[Any, Any], part: pd.DataFrame) -> tuple[Mark, ...]:
    same = part[
        (part["tone"] == row["tone"]) & (part["possible"] == row["possible"]) & (part["framing"] != ALL_FRAMINGS)
    ]
    return tuple(
        Mark(of["value"], _MARKERS.get(of["framing"], "o"), below=_BELOW.get(of["framing"], 0.0))
        for of in same.to_dict("records")
    )


def _possible_legend(rows: Sequence[Mapping[Any, Any]]) -> list[Artist]:
    looks = {kind: look for kind, look in _LOOKS.items() if any(_possible(row) == kind for row in rows)}
    return [
        Patch(facecolor=shade, hatch=lines, edgecolor=PAPER, linewidth=0, label=f"{kind} problem")
        for kind, (shade, lines) in looks.items()
    ]


def _graded(row: Mapping[Any, Any]) -> str:
    return f"{row['n']}" if not row["ungraded"] else f"{row['n']} of {row['n'] + row['ungraded']}"


def _mean_in_words(row: Mapping[Any, Any]) -> str:
    missing = f", {row['ungraded']} ungraded" if row["ungraded"] else ""
    return (in_words(estimate_of(row)) if row["n"] else "none graded") + missing


def _effects_in_words(tables: Tables, measure: str) -> str:
    effects = tone_effects(tables, measure)
    say = points_in_words if measure == SELF_STEERING else steps_in_words
    parts = [
        (
            f"{_panel_name(about)}, against the {BASE_TONE} tone",
            [f"{_row_name(row)} {say(row)}" for row in part.to_dict("records")],
        )
        for about, part in groups(effects, _PANEL)
    ]
    return f" {told(parts)}" if parts else ""
