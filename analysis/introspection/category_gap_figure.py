"""The figure of gaps by category and by valence of the vectors."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from scipy.stats import kruskal

from self_steering.analysis.drawing.categories import VALENCE_COLOURS, VALENCE_NAMES, category_order, colour, marker
from self_steering.analysis.drawing.frame_rows import groups
from self_steering.analysis.drawing.report_figure import Picture, ReportFigure
from self_steering.analysis.drawing.themed_svg import INK, QUIET, new_figure
from self_steering.analysis.introspection.gap_summaries import grouped_gaps
from self_steering.analysis.introspection.gap_words import gap_axis, points, real_vectors, scale, slug, spelled_out
from self_steering.analysis.introspection.reading_gaps import CONDITION
from self_steering.analysis.page.page_text import label
from self_steering.analysis.statistics import (
    StatisticsError,
    clustered_mean,
    correlation,
    in_words,
    p_in_words,
    test_in_words,
)
from self_steering.analysis.tables import Tables

_VALENCE_MARKERS = {-1: "v", 0: "o", 1: "^"}
_LANES = 4  # beside each other in which vectors are drawn, so that none hides another


def gaps_by_category(tables: Tables) -> ReportFigure | None:
    """Return vectors' gaps by category and by valence, a picture a condition; None where no two categories have two vectors."""
    found = real_vectors(tables)
    enough = [part for _, part in groups(found, CONDITION) if _comparable(part)] if len(found) else []
    if not enough:
        return None
    shown = pd.concat(enough)
    return ReportFigure(
        key="gaps-by-category",
        title="Gaps by category and by valence",
        pictures=tuple(_picture(part) for part in enough),
        finding=spelled_out([_sentence(part) for part in enough]),
        reading="Real arm, all doses together. Small marks: vectors; large ones: their means, with 95 % t-intervals over vectors.",
        table=pd.concat([grouped_gaps(shown, "category"), grouped_gaps(shown, "valence")], ignore_index=True),
    )


def _comparable(part: pd.DataFrame) -> bool:
    return int((part["category"].value_counts() > 1).sum()) > 1


def _sentence(part: pd.DataFrame) -> str:
    means = part.groupby("category")["gap"].mean().sort_values(ascending=False)
    measure = str(part["measure"].iloc[0])
    best, worst = (f"{means.index[at]} ({points(float(means.iloc[at]), measure)})" for at in (0, -1))
    return f"{part['name'].iloc[0]}: largest on average for {best}, smallest for {worst}; {_between(part)}; {_valence(part)}."


def _between(part: pd.DataFrame) -> str:
    """Return the Kruskal-Wallis test of the categories, each vector counted once."""
    if part["gap"].max() == part["gap"].min():
        return "no spread to compare categories by"
    samples = [of["gap"].to_numpy() for _, of in part.groupby("category")]
    found = kruskal(*samples)
    test = f"Kruskal-Wallis H {found.statistic:.1f} over {len(part)} vectors"
    return f"between {len(samples)} categories {p_in_words(float(found.pvalue))} ({test})"


def _valence(part: pd.DataFrame) -> str:
    known = part[part["valence"].notna()]
    try:
        estimate, test = correlation(known["valence"], known["gap"], "spearman")
    except StatisticsError:
        return "too little to compare valences by"
    return f"rank correlation with valence {in_words(estimate)}, {test_in_words(test)}"


def _picture(part: pd.DataFrame) -> Picture:
    figure = new_figure(680, 300)
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(2, 1))
    categories = category_order(list(part["category"]))
    for at, category in enumerate(categories):
        _strip(left, at, part[part["category"] == category], colour(category), marker(category))
    left.set_xticks(range(len(categories)), [label(of, 12) for of in categories])
    valences = [of for of in VALENCE_NAMES if (part["valence"] == of).any()]
    for at, valence in enumerate(valences):
        _strip(right, at, part[part["valence"] == valence], VALENCE_COLOURS[valence], _VALENCE_MARKERS[valence])
    right.set_xticks(range(len(valences)), [VALENCE_NAMES[of] for of in valences])
    left.set_ylabel(gap_axis(str(part["measure"].iloc[0])))
    left.set_title(str(part["name"].iloc[0]), loc="left")
    for axes, shown in ((left, categories), (right, valences)):
        _tidy(axes, shown)
    return Picture(slug(*part[CONDITION].iloc[0]), figure, _sentence(part))


def _tidy(axes: Axes, shown: Sequence[object]) -> None:
    axes.axhline(0, color=QUIET, linewidth=1.2)
    axes.set_xlim(-0.5, max(len(shown), 1) - 0.4)
    axes.tick_params(axis="x", length=0)
    axes.grid(visible=False, axis="x")


def _strip(axes: Axes, at: int, part: pd.DataFrame, shade: str, mark: str) -> None:
    """Draw one group: its vectors side by side in lanes, and their mean with its interval."""
    gaps = scale(str(part["measure"].iloc[0])) * part["gap"].to_numpy(dtype=float)
    lane = np.argsort(np.argsort(gaps)) % _LANES
    axes.plot(at + 0.1 + 0.06 * lane, gaps, mark, color=shade, markersize=4, alpha=0.7)
    mean = clustered_mean(gaps, part["vector"])
    if mean.low is not None and mean.high is not None:
        axes.vlines(at - 0.12, mean.low, mean.high, color=INK, linewidth=1.8)
    axes.plot(at - 0.12, mean.value, mark, color=shade, markersize=9, markeredgecolor=INK)
