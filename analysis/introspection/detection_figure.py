"""The figure of detection: is an injection told from none, by dose and arm?"""

from collections.abc import Mapping
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from self_steering.analysis.drawing.frame_rows import groups
from self_steering.analysis.drawing.report_figure import Picture, ReportFigure
from self_steering.analysis.drawing.themed_svg import BLUE, INK, ORANGE, QUIET, new_figure
from self_steering.analysis.introspection.gap_words import condition_names, slug, spelled_out
from self_steering.analysis.introspection.stretch_scores import STRETCH, detection_conditions
from self_steering.analysis.page.page_text import number
from self_steering.analysis.statistics import p_in_words
from self_steering.analysis.tables import Tables

_LOOKS = {"real": (BLUE, "o", "-"), "random": (ORANGE, "s", "--")}
# Column, title, and what stands for chance.
_PANELS = (
    ("d_prime", "d′ against no injection", 0.0),
    ("auroc", "AUROC against no injection", 0.5),
    ("net_shift", "net shift of the log-odds of yes", 0.0),
    ("says_yes", "share of yes", None),
)
_SHARES = frozenset({"auroc", "says_yes"})
_CLEAN = frozenset({"net_shift", "says_yes"})  # what trials without injection have too
_SAID = {"d_prime": "d′", "auroc": "AUROC", "auroc_over_random": "AUROC over random"}


def detection(tables: Tables) -> ReportFigure | None:
    """Return d', AUROC, net shift and share of yes by dose and arm, a picture a model and framing; None without such logs."""
    table = detection_conditions(tables)
    if table.empty:
        return None
    parts = [part for _, part in groups(table, STRETCH)]
    said = [_sentences(part) for part in parts]
    return ReportFigure(
        key="detection",
        title="Detection: was anything there?",
        pictures=tuple(
            Picture(slug(*part[STRETCH].iloc[0]), _draw(part), " ".join(words))
            for part, words in zip(parts, said, strict=True)
        ),
        finding=spelled_out([sentence for words in said for sentence in words]),
        reading="Dots and solid lines: the vector; squares and dashed: a random direction of its norm; the diamond: no injection. "
        "Vertical lines: 95 % intervals over vectors (bootstrap for d′ and AUROC, else t). d′, with the log-linear "
        "correction, takes log-odds above zero for yes. Net shift: cached less uncached, less the same of control "
        "questions whose answers nothing injected can change. The open triangle is the exact one-sided 95 % "
        "upper bound of the rate of false alarms.",
        table=table,
    )


def _sentences(part: pd.DataFrame) -> list[str]:
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
        + [_sentence(name, row) for row in rows if row["arm"] == "real"]
        + [_sentence(name, row) for row in rows if row["arm"] not in ("real", "placebo")]
    )


def _sentence(name: str, row: Mapping[Any, Any]) -> str:
    words = [f"{said} {_in_words(row, column)}" for column, said in _SAID.items() if not pd.isna(row.get(column))]
    p = (
        "no test with one vector"
        if pd.isna(row["p"])
        else f"{p_in_words(row['p_adjusted'])} by sign flips over vectors, Benjamini-Hochberg-adjusted"
    )
    words.append(f"net shift {_in_words(row, 'net_shift')}, {p}")
    return f"{name}, {row['arm']} at dose {row['dose']:g}: {'; '.join(words)} (n {row['n']}, {row['vectors']} vectors)."


def _in_words(row: Mapping[Any, Any], column: str) -> str:
    low, high = row[f"{column}_low"], row[f"{column}_high"]
    return f"{number(row[column])} [{'no interval' if pd.isna(low) else f'{number(low)}, {number(high)}'}]"


def _draw(part: pd.DataFrame) -> Figure:
    figure = new_figure(680, 500)
    panels = figure.subplots(2, 2, sharex=True)
    for axes, (column, title, chance) in zip(panels.flat, _PANELS, strict=True):
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
    for axes in panels[1]:
        axes.set_xlabel("nominal dose")
    figure.legend(*panels[1, 1].get_legend_handles_labels(), loc="outside upper center", ncols=4)
    return figure


def _panel(axes: Axes, part: pd.DataFrame, column: str) -> None:
    aside = 0.012 * float(part["dose"].max() - part["dose"].min())
    low, high = f"{column}_low", f"{column}_high"
    for side, (arm, (shade, mark, style)) in zip((-1, 1), _LOOKS.items(), strict=True):
        line = part[(part["arm"] == arm) & part[column].notna()].sort_values("dose")
        at = line["dose"] + side * aside
        axes.vlines(at, line[low], line[high], color=shade, linewidth=1.6)
        axes.plot(at, line[column], mark, linestyle=style, color=shade, markersize=6.5, label=arm)
    clean = part[part["arm"] == "placebo"]
    if column in _CLEAN and len(clean):
        axes.vlines(clean["dose"], clean[low], clean[high], color=INK, linewidth=1.6)
        axes.plot(clean["dose"], clean[column], "D", color=INK, markersize=6.5, label="no injection")
    if column == "says_yes" and len(clean):
        look: dict[str, Any] = {"color": INK, "markerfacecolor": "none", "markersize": 7}
        axes.plot(clean["dose"], clean["bound"], "^", **look, label="false-alarm bound")
