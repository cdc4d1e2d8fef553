"""The figure of stacking in free play: the heat map of which vector follows which."""

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

from self_steering.analysis.drawing.figures import Picture, ReportFigure, new_figure
from self_steering.analysis.drawing.style import BLUE, GRID, INK, ORANGE, PAPER
from self_steering.analysis.drawing.words import counted, label, listed, model_name, p_in_words, visible, with_interval
from self_steering.analysis.freeplay.stacking import ALL_MODELS, AT_LEAST, stacking
from self_steering.analysis.statistics.estimates import Row
from self_steering.analysis.tables import Tables

LEVEL = 0.05
MOST_NAMES = 40
_SIDE, _SMALLEST, _LARGEST = 600, 15, 30
_WIDEST = 678  # cells and names together
_LETTER = 6.5  # widest that a label's letters are on average
_FOOT, _HEAD = 96, 26
# Lifts below each bound, with its colour, opacity and name; colour tells the side of 1, opacity how far.
_STEPS: tuple[tuple[float, str, float, str], ...] = (
    (0.5, BLUE, 0.75, "below ½"),
    (1.0, BLUE, 0.3, "½ to 1"),
    (2.0, ORANGE, 0.2, "1 to 2"),
    (4.0, ORANGE, 0.5, "2 to 4"),
    (float("inf"), ORANGE, 0.95, "4 and more"),
)


# Ink and paper both, so that they stand out on any cell.
_MARKS: dict[str, dict[str, Any]] = {
    "binomial": {"marker": "o", "markersize": 8, "color": PAPER, "markeredgecolor": INK, "markeredgewidth": 1.2},
    "order": {"marker": "o", "markersize": 5, "color": INK, "markeredgecolor": PAPER, "markeredgewidth": 0.6},
}


def stacking_of_vectors(tables: Tables) -> ReportFigure | None:
    """Return which vector follows which more often than its popularity explains: a heat map an arm, and one a model of several."""
    table = stacking(tables, by_model=True)
    if table.empty:
        return None
    pictures, findings, cut = [], [], False
    models, sources = set(table["model"]) - {ALL_MODELS}, set(table["source"])
    for (source, arm, model), pairs in table.groupby(["source", "arm", "model"], sort=False):
        name = arm if len(sources) == 1 else f"{arm} ({visible(source, kept='')})"
        if models:
            name += ", all models" if model == ALL_MODELS else f", {model_name(str(model))}"
        order = _order(pairs)
        cut = cut or len(order) > MOST_NAMES
        findings.append(_finding(name, pairs))
        pictures.append(Picture(_draw(name, pairs, order[:MOST_NAMES]), findings[-1]))
    return ReportFigure(
        key="stacking",
        title="Which vector is taken after which",
        pictures=tuple(pictures),
        finding=" ".join(findings),
        reading="Row: the vector taken; column: the one taken next in the same rollout. Colour: lift, how often the second "
        "follows the first over its share of all next takes; framings pooled; all models together, then each that has such pairs "
        "by itself. Tested and drawn are pairs seen at "
        f"least {AT_LEAST} times. Rings: significant by the binomial test, as in the study; dots: by the stricter "
        f"order-permutation test, which shuffles the order within each rollout; both at {LEVEL:g} after Benjamini-Hochberg. "
        "Takes in call order, failed ones too; clearing does not break a chain, a name outside the library does."
        + (f" Drawn are the {MOST_NAMES} vectors with most pairs; the table has all." if cut else ""),
        table=table,
    )


def _order(pairs: pd.DataFrame) -> list[str]:
    """Return the vectors of the tested pairs, those with most of them first."""
    total = pairs.groupby("first")["pairs"].sum().add(pairs.groupby("second")["pairs"].sum(), fill_value=0)
    return sorted(total.index, key=lambda name: (-total[name], name))


def _draw(title: str, pairs: pd.DataFrame, order: list[str]) -> Figure:
    cell = min(_LARGEST, max(_SMALLEST, _SIDE // len(order)))
    side = cell * len(order)
    names = [label(name, longest=int((_WIDEST - side) / _LETTER)) for name in order]
    labels = round(_LETTER * max(len(name) for name in names)) + 30
    width, height = max(500, labels + side + 12), _HEAD + side + labels + _FOOT
    figure = new_figure(width, height, constrained=False)
    axes = figure.add_axes((labels / width, (labels + _FOOT) / height, side / width, side / height))
    places = {name: place for place, name in enumerate(order)}
    for row in pairs.to_dict("records"):
        if row["first"] in places and row["second"] in places:
            _cell(axes, places[row["second"]], places[row["first"]], row)
    axes.set_xlim(-0.5, len(names) - 0.5)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xticks(range(len(names)), names, rotation=90)
    axes.set_yticks(range(len(names)), names)
    axes.tick_params(length=0)
    axes.grid(color=GRID, linewidth=0.6)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.set_xlabel("taken next")
    axes.set_ylabel("taken")
    axes.set_title(title, loc="left")
    _legends(figure, height)
    return figure


def _cell(axes: Axes, x: int, y: int, row: Row) -> None:
    _, colour, opacity, _ = _step(row["lift"])
    for face, alpha in ((PAPER, 1.0), (colour, opacity)):  # paper first, so that the grid does not show through
        axes.add_patch(Rectangle((x - 0.46, y - 0.46), 0.92, 0.92, facecolor=face, alpha=alpha, linewidth=0))
    for test in ("binomial", "order"):
        if row[f"q_{test}"] < LEVEL:
            axes.plot(x, y, **_MARKS[test])


def _legends(figure: Figure, height: float) -> None:
    lifts = [Patch(facecolor=colour, alpha=opacity, label=name) for _, colour, opacity, name in _STEPS]
    names = {"binomial": "binomial test", "order": "order-permutation test"}
    tests = [Line2D([], [], linestyle="none", **mark, label=names[test]) for test, mark in _MARKS.items()]
    style: dict[str, Any] = {
        "loc": "lower left",
        "borderpad": 0,
        "handletextpad": 0.4,
        "columnspacing": 1.2,
        "alignment": "left",
    }
    figure.legend(handles=lifts, ncols=5, title="lift", bbox_to_anchor=(0.02, 46 / height), **style)
    figure.legend(handles=tests, ncols=2, title=f"p < {LEVEL:g}, adjusted", bbox_to_anchor=(0.02, 4 / height), **style)


def _step(lift: float) -> tuple[float, str, float, str]:
    return next(step for step in _STEPS if lift < step[0])


def _finding(name: str, pairs: pd.DataFrame) -> str:
    by_binomial, by_order = pairs[pairs["q_binomial"] < LEVEL], pairs[pairs["q_order"] < LEVEL]
    strongest = pairs.sort_values(["q_order", "q_binomial", "lift"], ascending=[True, True, False]).head(3)
    named = [_pair_in_words(row) for row in strongest.to_dict("records")]
    first = pairs.iloc[0]
    return (
        f"{name}: of {counted(len(pairs), 'tested pair')} ({first['all_pairs']} pairs of takes in "
        f"{counted(first['all_rollouts'], 'rollout')}), {len(by_binomial)} come more often than the second's share explains "
        f"(one-sided binomial, Benjamini-Hochberg), {len(by_order)} more often than in shuffled orders (permutation of the order "
        f"within rollouts, Benjamini-Hochberg over {first['order_tests']} pairs). Strongest in order: {listed(named)}."
    )


def _pair_in_words(row: Row) -> str:
    return (
        f"{visible(row['first'])} → {visible(row['second'])} (lift {with_interval(row, 'lift')} by {row['method']}, "
        f"n {row['pairs']} in {counted(row['rollouts'], 'rollout')}; adjusted {p_in_words(row['q_binomial'])} binomial, "
        f"{p_in_words(row['q_order'])} order)"
    )
