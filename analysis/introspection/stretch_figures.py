"""Figures of localisation and of comparison: where was it, and which was the harder?"""

from collections.abc import Mapping, Sequence
from string import ascii_uppercase
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from self_steering.analysis.drawing.frame_rows import groups
from self_steering.analysis.drawing.report_figure import Picture, ReportFigure
from self_steering.analysis.drawing.themed_svg import BLUE, INK, ORANGE, QUIET, new_figure
from self_steering.analysis.introspection.gap_words import condition_names, slug, spelled_out
from self_steering.analysis.introspection.stretch_scores import STRETCH, accuracy, order_accuracy, score_table
from self_steering.analysis.statistics import Estimate, in_words, p_in_words
from self_steering.analysis.tables import Tables

_LOOKS = {"real": (BLUE, "o"), "placebo": (INK, "D"), "random": (ORANGE, "s")}
_ASSIGNMENTS = {"both": "both assignments", "first": "first was harder", "second": "second was harder"}
_PICTURE = [*STRETCH, "options"]


def localisation(tables: Tables) -> ReportFigure | None:
    """Return accuracy by the steered sentence's place and by arm, a picture a model and number of sentences; None without logs."""
    found = score_table(tables, "localisation")
    if found.empty:
        return None
    overall, by_place = accuracy(found, "top1_cached", []), accuracy(found, "top1_cached", ["place"])
    by_place = by_place.assign(group=by_place["place"].map(lambda place: ascii_uppercase[int(place)]))
    return ReportFigure(
        key="localisation",
        title="Localisation: where was it?",
        pictures=_pictures(overall, by_place, sorted(by_place["group"].unique()), "place of the steered sentence", 620),
        finding=spelled_out(_sentences(overall)),
        reading="Share of trials in which the steered sentence's letter had the largest share, by its place. Lines: 95 % intervals "
        "over vectors (Wilson's where each has one trial or all agree, else t). The dotted line is chance. Placebo (strength zero) "
        "and random (a random direction of the vector's norm) show what a liking for letters gives.",
        table=pd.concat([overall, by_place.drop(columns="group")], ignore_index=True),
    )


def comparison(tables: Tables) -> ReportFigure | None:
    """Return accuracy overall and by which sentence was steered harder, by arm, a picture a model; None without such logs."""
    found = score_table(tables, "comparison")
    if found.empty:
        return None
    overall = accuracy(found, "right", [])
    table = pd.concat([overall.assign(harder="both"), accuracy(order_accuracy(tables), "right", ["harder"])])
    shown = table.assign(group=table["harder"].map(_ASSIGNMENTS))
    return ReportFigure(
        key="comparison",
        title="Comparison: which was steered harder?",
        pictures=_pictures(overall, shown, list(_ASSIGNMENTS.values()), "which of two sentences it was", 520),
        finding=spelled_out(_sentences(overall)),
        reading="Share of trials in which the sentence that was steered harder is named: over both assignments of the doses to the "
        "sentences together (a liking for a sentence or a place cancels), and in each of them (it does not). Lines: 95 % intervals "
        "over vectors (Wilson's where each has one trial or all agree, else t). The dotted line is chance.",
        table=table.reset_index(drop=True),
    )


def _pictures(
    overall: pd.DataFrame, rows: pd.DataFrame, order: Sequence[str], across: str, width: int
) -> tuple[Picture, ...]:
    """Return a picture a model, framing and number of options.

    Args:
        overall: Accuracy over all groups.
        rows: Accuracy by `group`.
        order: The groups from the left.
        across: What the groups are.
        width: In pixels.
    """
    return tuple(
        Picture(
            slug(*key.values()),
            _draw(part, order, across, width),
            " ".join(_sentences(overall.merge(pd.DataFrame([key]), on=_PICTURE))),
        )
        for key, part in groups(rows, _PICTURE)
    )


def _sentences(overall: pd.DataFrame) -> list[str]:
    order = {arm: place for place, arm in enumerate(_LOOKS)}
    shown = overall.sort_values("arm", key=lambda column: column.map(order), kind="stable")
    rows = shown.sort_values(_PICTURE, kind="stable").to_dict("records")
    return [_sentence(name, row) for name, row in zip(condition_names(pd.DataFrame(rows)), rows, strict=True)]


def _sentence(name: str, row: Mapping[Any, Any]) -> str:
    low, high = (None if pd.isna(row[f"right_{end}"]) else row[f"right_{end}"] for end in ("low", "high"))
    right = in_words(
        Estimate(row["right"], low, high, row["n"], row["vectors"], row["method"]), percent=True, decimals=3
    )
    p = (
        "no test with one vector"
        if pd.isna(row["p"])
        else f"{p_in_words(row['p_adjusted'])} by sign flips over vectors, Benjamini-Hochberg-adjusted"
    )
    return f"{name}, {row['arm']}: {right} right, chance {1 / row['options']:.0%}; {p}."


def _draw(part: pd.DataFrame, order: Sequence[str], across: str, width: int) -> Figure:
    figure = new_figure(width, 300)
    axes = figure.subplots()
    axes.axhline(1 / part["options"].iloc[0], color=QUIET, linestyle=":", linewidth=1.4)
    arms = [arm for arm in _LOOKS if arm in set(part["arm"])]
    place = {group: at for at, group in enumerate(order)}
    for number, arm in enumerate(arms):
        line, (shade, mark) = part[part["arm"] == arm], _LOOKS[arm]
        at = line["group"].map(place) + 0.2 * (number - (len(arms) - 1) / 2)
        axes.vlines(at, line["right_low"], line["right_high"], color=shade, linewidth=1.6)
        axes.plot(at, line["right"], mark, color=shade, markersize=6.5, label=arm, clip_on=False)
    axes.set_xticks(range(len(order)), order)
    axes.set_xlim(-0.5, len(order) - 0.5)
    axes.set_ylim(-0.03, 1.03)
    axes.set_xlabel(across)
    axes.set_ylabel("share right")
    axes.grid(visible=False, axis="x")
    figure.legend(loc="outside upper center", ncols=3)
    return figure
