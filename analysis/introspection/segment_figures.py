"""Figures of detection, localisation and comparison: was anything there, where was it, and which was the harder?"""

from collections.abc import Sequence
from string import ascii_uppercase
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from self_steering.analysis.drawing.figures import Picture, ReportFigure, new_figure
from self_steering.analysis.drawing.sentences import Row, basis, share_in_words, spelled_out, with_interval
from self_steering.analysis.drawing.style import BLUE, INK, ORANGE, QUIET
from self_steering.analysis.introspection.gap_words import condition_names
from self_steering.analysis.introspection.segment_scores import (
    MODEL,
    accuracy,
    detection_conditions,
    order_accuracy,
    score_table,
)
from self_steering.analysis.statistics.estimates import p_in_words
from self_steering.analysis.statistics.groups import groups
from self_steering.analysis.tables import Tables

_ARM_LOOKS = {"real": (BLUE, "o"), "placebo": (INK, "D"), "random": (ORANGE, "s")}
_ASSIGNMENTS = {"both": "both assignments", "first": "first was harder", "second": "second was harder"}
_PICTURE = [*MODEL, "options"]
_DETECTION_LOOKS = {"real": (BLUE, "o", "-"), "random": (ORANGE, "s", "--"), "tampered": (QUIET, "^", "none")}
# Column, title, and what stands for chance.
_PANELS = (
    ("d_prime", "d′ against no injection", 0.0),
    ("auroc", "AUROC against no injection", 0.5),
    ("says_yes", "share of yes", None),
    ("beyond_line", "log-odds of yes beyond the controls' line", 0.0),
    ("net_shift", "log-odds of yes beyond the controls' mean", 0.0),
)
_ARM_NAMES = {"tampered": "tampered text"}
_SHARES = frozenset({"auroc", "says_yes"})
_CLEAN = frozenset({"beyond_line", "net_shift", "says_yes"})  # what trials without injection have too
_NAMES = {
    "d_prime": "d′",
    "auroc": "AUROC",
    "auroc_over_random": "AUROC over random",
    "auroc_over_tampered": "AUROC over tampered text",
}


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
        finding=spelled_out(_right_sentences(overall)),
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
        finding=spelled_out(_right_sentences(overall)),
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
            _draw_right(part, order, across, width),
            " ".join(_right_sentences(overall.merge(pd.DataFrame([key]), on=_PICTURE))),
        )
        for key, part in groups(rows, _PICTURE)
    )


def _right_sentences(overall: pd.DataFrame) -> list[str]:
    order = {arm: place for place, arm in enumerate(_ARM_LOOKS)}
    shown = overall.sort_values("arm", key=lambda column: column.map(order), kind="stable")
    rows = shown.sort_values(_PICTURE, kind="stable").to_dict("records")
    return [_right_sentence(name, row) for name, row in zip(condition_names(pd.DataFrame(rows)), rows, strict=True)]


def _right_sentence(name: str, row: Row) -> str:
    right = f"{share_in_words(row, 'right', decimals=1)} ({basis(row, 'clusters', column='vectors')})"
    return f"{name}, {row['arm']}: {right} right, chance {1 / row['options']:.0%}; {_sign_flips(row)}."


def _sign_flips(row: Row) -> str:
    if pd.isna(row["p"]):
        return "no test with one vector"
    return f"{p_in_words(row['p_adjusted'])} by sign flips over vectors, Benjamini-Hochberg-adjusted"


def _draw_right(part: pd.DataFrame, order: Sequence[str], across: str, width: int) -> Figure:
    figure = new_figure(width, 300)
    axes = figure.subplots()
    axes.axhline(1 / part["options"].iloc[0], color=QUIET, linestyle=":", linewidth=1.4)
    arms = [arm for arm in _ARM_LOOKS if arm in set(part["arm"])]
    place = {group: at for at, group in enumerate(order)}
    for place_of_arm, arm in enumerate(arms):
        line, (shade, mark) = part[part["arm"] == arm], _ARM_LOOKS[arm]
        at = line["group"].map(place) + 0.2 * (place_of_arm - (len(arms) - 1) / 2)
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


def detection(tables: Tables) -> ReportFigure | None:
    """Return d', AUROC, net shift and share of yes by dose and arm, a picture a model and framing; None without such logs."""
    table = detection_conditions(tables)
    if table.empty:
        return None
    parts = [part for _, part in groups(table, MODEL)]
    sentences = [_detection_sentences(part) for part in parts]
    return ReportFigure(
        key="detection",
        title="Detection: was anything there?",
        pictures=tuple(
            Picture(_draw_detection(part), " ".join(words)) for part, words in zip(parts, sentences, strict=True)
        ),
        finding=spelled_out([sentence for words in sentences for sentence in words]),
        reading="Dots and solid lines: the vector; squares and dashed: a random direction of its norm; the diamond: no injection. "
        "Vertical lines: 95 % intervals over vectors (bootstrap for d′ and AUROC, else t). d′, with the log-linear "
        "correction, takes log-odds above zero for yes. The shift is cached less uncached, less what control questions, whose "
        "answers nothing injected can change, show at the same uncached log-odds (their line), or on average (their mean, which "
        "a mere drawing of all answers towards even odds raises). Trials in which the text was tampered with and nothing "
        "injected are at dose 0. The open triangle is the exact one-sided 95 % upper bound of the rate of false alarms.",
        table=table,
    )


def _detection_sentences(part: pd.DataFrame) -> list[str]:
    name = condition_names(part.iloc[:1])[0]
    rows = part.to_dict("records")
    clean = [
        f"{name}: {row['false_positives']:g} false alarms in {row['n']} trials without injection; their rate is below "
        f"{row['bound']:.1%} (one-sided exact 95 % bound)."
        for row in rows
        if row["arm"] == "placebo"
    ]
    return (
        clean
        + [_detection_sentence(name, row) for row in rows if row["arm"] == "real"]
        + [_detection_sentence(name, row) for row in rows if row["arm"] not in ("real", "placebo")]
    )


def _detection_sentence(name: str, row: Row) -> str:
    words = [f"{what} {with_interval(row, column)}" for column, what in _NAMES.items() if not pd.isna(row.get(column))]
    if not pd.isna(row.get("beyond_line")):
        words.append(f"beyond the controls' line {with_interval(row, 'beyond_line')}, {_sign_flips(row)}")
    words.append(f"beyond their mean {with_interval(row, 'net_shift')}")
    at = f" at dose {row['dose']:g}" if row["dose"] else ""
    return f"{name}, {row['arm']}{at}: {'; '.join(words)} (n {row['n']}, {row['vectors']} vectors)."


def _draw_detection(part: pd.DataFrame) -> Figure:
    figure = new_figure(680, 700)
    panels = figure.subplots(3, 2, sharex=True)
    for axes, (column, title, chance) in zip(panels.flat, _PANELS, strict=False):
        if chance is not None:
            axes.axhline(chance, color=QUIET, linewidth=1.2)
        if column in part:
            _panel(axes, part, column)
        if column in _SHARES:
            axes.set_ylim(-0.03, 1.03)
        axes.set_title(title, loc="left")
        axes.xaxis.set_major_locator(FixedLocator(sorted(part["dose"].unique())))
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.xaxis.set_minor_locator(NullLocator())
    for axes in (panels[1, 1], panels[2, 0]):
        axes.set_xlabel("nominal dose")
        axes.tick_params(labelbottom=True)
    panels[2, 1].set_axis_off()
    panels[2, 1].legend(*panels[1, 0].get_legend_handles_labels(), loc="center")
    return figure


def _panel(axes: Axes, part: pd.DataFrame, column: str) -> None:
    aside = 0.012 * float(part["dose"].max() - part["dose"].min())
    low, high = f"{column}_low", f"{column}_high"
    for side, (arm, (shade, mark, style)) in zip((-1, 1, 2), _DETECTION_LOOKS.items(), strict=True):
        line = part[(part["arm"] == arm) & part[column].notna()].sort_values("dose")
        at = line["dose"] + side * aside
        axes.vlines(at, line[low], line[high], color=shade, linewidth=1.6)
        axes.plot(at, line[column], mark, linestyle=style, color=shade, markersize=6.5, label=_ARM_NAMES.get(arm, arm))
    clean = part[part["arm"] == "placebo"]
    if column in _CLEAN and len(clean):
        axes.vlines(clean["dose"], clean[low], clean[high], color=INK, linewidth=1.6)
        axes.plot(clean["dose"], clean[column], "D", color=INK, markersize=6.5, label="no injection")
    if column == "says_yes" and len(clean):
        look: dict[str, Any] = {"color": INK, "markerfacecolor": "none", "markersize": 7}
        axes.plot(clean["dose"], clean["bound"], "^", **look, label="false-alarm bound")
