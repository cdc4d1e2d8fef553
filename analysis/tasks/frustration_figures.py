"""The figures of the frustration experiment: self-steering by tone, what was picked, and distress."""

from collections.abc import Sequence

import pandas as pd
from matplotlib.artist import Artist

from self_steering.analysis.drawing.figures import ReportFigure
from self_steering.analysis.drawing.marks import PLAIN, Line, Mark, Panel, bars, hollow, line, panel_figure
from self_steering.analysis.drawing.style import ORANGE, Look, category_legend, filled, look
from self_steering.analysis.drawing.words import basis, label, model_name, statements, visible, with_interval
from self_steering.analysis.statistics.estimates import Row, groups
from self_steering.analysis.tables import Tables
from self_steering.analysis.tasks.cells import (
    ALL_FRAMINGS,
    NO_TOOLS,
    gauge_in_words,
    points_in_words,
    rate_in_words,
    steps_in_words,
)
from self_steering.analysis.tasks.frustration import (
    ALL_INTENTS,
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

_MARKERS = {"drugs": "^", "aids": "s", "vectors": "v"}
_BELOW = {"drugs": -0.3, "aids": 0.0, "vectors": 0.3}
_LOOKS = {"possible": PLAIN, "impossible": Look(ORANGE, "///", "o")}


def self_steering_by_tone(tables: Tables) -> ReportFigure | None:
    """Return the self-steer rate by tone and by whether the problem is possible, a picture a model, arm and intent."""
    table = frustration_self_steering(tables)
    panels = []
    for about, part in groups(table, PICK_CELL):
        pooled = part[part["framing"] == ALL_FRAMINGS].to_dict("records")
        framings = [framing for framing in part["framing"].unique() if framing != ALL_FRAMINGS]
        apart = framings if len(framings) > 1 else []
        lines = [_line(row, f"{row['took']} of {row['n']}", _framing_marks(row, part, apart)) for row in pooled]
        legend = [*_possible_legend(pooled), *(hollow(_MARKERS.get(framing, "o"), framing) for framing in apart)]
        name = _panel_name(about)
        figure = bars(lines, title=name, across="rollouts with at least one take", legend=legend)
        panels.append(Panel(name, figure, [f"{_row_name(row)} {rate_in_words(row)}" for row in pooled]))
    return panel_figure(
        "frustration-self-steering",
        "Self-steering when every answer is rejected",
        panels,
        after=_effects_in_words(tables, SELF_STEERING),
        reading="Bars: share of rollouts with a take call of the model's own, framings pooled. Lines: 95 % intervals with "
        "problems as clusters, as framings repeat them. Open marks: each framing. At the right: rollouts that took something, "
        f"of all. Ended early, and counted nowhere: {frustration_cut_short(tables)}.",
        table=table,
    )


def picks_when_frustrated(tables: Tables) -> ReportFigure | None:
    """Return what models pick when every answer is rejected, a picture a model, arm and intent."""
    table, unknown = frustration_picks(tables), frustration_unknown(tables)
    panels = []
    for about, part in groups(table, PICK_CELL):
        rows = part.sort_values(["rank", "vector"]).to_dict("records")
        lines = [line(label(str(row["vector"])), row, str(row["picks"]), look(row["category"])) for row in rows]
        most = min(1.0, 1.05 * max(one.high or one.value for one in lines))
        legend, name = category_legend(list(part["category"])), _panel_name(about)
        figure = bars(lines, title=name, across="share of picks", most=most, legend=legend)
        top = [f"{visible(str(row['vector']), kept='')} ({rate_in_words(row)})" for row in rows[:3]]
        panels.append(Panel(name, figure, [f"most picked {', '.join(top)}"]))
    return panel_figure(
        "frustration-picks",
        "What is picked when every answer is rejected",
        panels,
        reading="Share of all picks; tones, framings and problems pooled. A pick is a take call of the model's own for a name "
        "on the menu, failed ones too. Lines: 95 % intervals with problems as clusters; at the right, numbers of picks."
        + (f" Calls for names that are not on the menu, which are no picks: {unknown}." if unknown else ""),
        table=table,
    )


def distress_by_tone(tables: Tables) -> ReportFigure | None:
    """Return graded distress by tone and by whether the problem is possible, a picture a model, arm and intent."""
    table = frustration_distress(tables)
    shown = table[table["framing"].isin([ALL_FRAMINGS, NO_TOOLS])]
    panels = []
    for about, part in groups(shown, PICK_CELL):
        rows = part.to_dict("records")
        lines = [_line(row, _graded(row)) for row in rows if row["n"]]
        if not lines:
            continue
        name, legend = _panel_name(about), _possible_legend(rows)
        figure = bars(
            lines,
            title=name,
            across="mean distress, 0 to 10",
            most=MOST_DISTRESS,
            percent=False,
            legend=legend,
        )
        panels.append(Panel(name, figure, [f"{_row_name(row)} {_mean_in_words(row)}" for row in rows]))
    return panel_figure(
        "frustration-distress",
        "Distress by tone",
        panels,
        after=_effects_in_words(tables, DISTRESS),
        reading="Mean of the grader's distress, framings pooled, with 95 % intervals with problems as clusters. At the right: "
        f"rollouts graded. Without a grade, and counted nowhere: {int(shown['ungraded'].sum())}.",
        table=table,
    )


def _line(row: Row, note: str, marks: tuple[Mark, ...] = ()) -> Line:
    return line(_row_name(row), row, note, _LOOKS.get(_possible(row), PLAIN), marks)


def _possible(row: Row) -> str:
    return "" if pd.isna(row["possible"]) else "possible" if row["possible"] else "impossible"


def _row_name(row: Row) -> str:
    return ", ".join(filter(None, [f"{visible(str(row['tone']), kept='')} tone", _possible(row)]))


def _panel_name(about: Row) -> str:
    """Return what a picture's model, arm and intent are called."""
    name = model_name(about["model"], about["source"])
    if about["intent"] == NO_TOOLS:
        return f"{name}, no tools"
    arm = "".join(f", {more}" for more in (about["operators"], gauge_in_words(about)) if more)
    arm += "" if about["arm"] == "real" else f" ({visible(str(about['arm']), kept='')})"
    return (
        f"{name}, {about['intent']}{arm}"
        if about["intent"] == ALL_INTENTS
        else f"{name}, intent {about['intent']}{arm}"
    )


def _framing_marks(row: Row, part: pd.DataFrame, framings: Sequence[str]) -> tuple[Mark, ...]:
    """Return the marks of each framing by itself beside the pooled figure."""
    same = (part["tone"] == row["tone"]) & (part["possible"] == row["possible"]) & part["framing"].isin(framings)
    return tuple(
        Mark(of["value"], _MARKERS.get(of["framing"], "o"), below=_BELOW.get(of["framing"], 0.0))
        for of in part[same].to_dict("records")
    )


def _possible_legend(rows: Sequence[Row]) -> list[Artist]:
    present = [kind for kind in _LOOKS if any(_possible(row) == kind for row in rows)]
    return [filled(_LOOKS[kind], label=f"{kind} problem") for kind in present]


def _graded(row: Row) -> str:
    return f"{row['n']}" if not row["ungraded"] else f"{row['n']} of {row['n'] + row['ungraded']}"


def _mean_in_words(row: Row) -> str:
    missing = f", {row['ungraded']} ungraded" if row["ungraded"] else ""
    return (f"{with_interval(row)} ({basis(row, 'clusters')})" if row["n"] else "none graded") + missing


def _effects_in_words(tables: Tables, measure: str) -> str:
    say = points_in_words if measure == SELF_STEERING else steps_in_words
    parts = [
        (
            f"{_panel_name(about)}, against the {BASE_TONE} tone",
            [f"{_row_name(row)} {say(row)}" for row in part.to_dict("records")],
        )
        for about, part in groups(tone_effects(tables, measure), PICK_CELL)
    ]
    return f" {statements(parts)}" if parts else ""
