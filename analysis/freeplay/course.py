"""The course of free play: how far into a rollout vectors of each category are taken, and how much has been taken by then."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from self_steering.analysis.drawing.figures import Picture, ReportFigure, new_figure
from self_steering.analysis.drawing.marks import say_empty
from self_steering.analysis.drawing.style import (
    BLUE,
    INK,
    NO_CATEGORY,
    ORANGE,
    PAPER,
    QUIET,
    category_legend,
    category_order,
    look,
)
from self_steering.analysis.drawing.words import with_interval
from self_steering.analysis.freeplay.rollouts import CELL, PLACEBO, freeplay, group_names, group_of, successes_of
from self_steering.analysis.statistics.estimates import Row, estimate_columns, groups
from self_steering.analysis.statistics.resampling import ratios
from self_steering.analysis.tables import Tables

_LAST = 15  # turns from here on are one
_FEWEST = 2  # rollouts that a mean is made of
COURSE_COLUMNS = [*CELL, "turn", "category", "takes", "share", "cumulative_dose", "low", "high", "rollouts", "method"]


def course(tables: Tables) -> pd.DataFrame:
    """Return what was taken in which turn, and the dose taken so far, by model and arm, framings pooled.

    Takes are calls for vectors of the library that succeeded, turns the messages that the model wrote, from 0; those from 15 on
    are one. Doses are as they were asked for, whatever their sign.

    Returns:
        One row a cell, turn and category: `takes`, and their `share` of all of the cell; and one row a cell and turn with an empty
        category: `cumulative_dose`, the mean over `rollouts` that lasted so long of the dose taken by then, with `low` and `high`
        from resampled rollouts.
    """
    play = freeplay(tables)
    taken = successes_of(play.takes)
    taken = taken.assign(
        turn=taken["turn"].astype(int).clip(upper=_LAST),
        # Doses of other operations are not of the kind of an addition's.
        size=pd.to_numeric(taken["dose"]).abs().where(taken["operation"] == "add").fillna(0.0),
        category=taken["taken_category"].replace("", NO_CATEGORY),
    )
    rows: list[Row] = []
    for cell, rollouts in groups(play.rollouts, CELL):
        own = taken[taken["rollout"].isin(rollouts["rollout"])]
        for at, part in groups(own, ["turn", "category"]):
            rows.append({**cell, **at, "takes": len(part), "share": len(part) / len(own)})
        by_turn = own.pivot_table(index="rollout", columns="turn", values="size", aggfunc="sum")
        so_far = by_turn.reindex(index=rollouts["rollout"], columns=range(_LAST + 1)).fillna(0.0).cumsum(axis=1)
        lasted = rollouts["turns"].astype(int).to_numpy()
        for turn in range(min(_LAST, int(lasted.max(initial=0)) - 1) + 1):
            there = lasted > turn
            if there.sum() >= _FEWEST and len(own):
                (mean,) = ratios(so_far.to_numpy()[there][:, [turn]], np.ones(int(there.sum())))
                found = estimate_columns(mean, ["low", "high", "method"])
                about = {"turn": turn, "category": "", "cumulative_dose": mean.value, "rollouts": mean.clusters}
                rows.append({**cell, **about, **found})
    return pd.DataFrame(rows, columns=COURSE_COLUMNS)


def course_of_free_play(tables: Tables) -> ReportFigure | None:
    """Return when vectors of each category are taken, and the dose taken by then, a picture a model; None without takes."""
    table = course(tables)
    if table["takes"].notna().sum() == 0:
        return None
    names = group_names(table)
    pictures, sentences = [], []
    for key, part in groups(table, CELL[:-1]):
        name = names[group_of(key)]
        arms = [arm for arm, of_arm in part.groupby("arm", sort=False) if of_arm["takes"].notna().any()]
        said = [_sentence(name, str(arm), part[part["arm"] == arm]) for arm in arms]
        pictures.append(Picture(_draw(name, arms, part), " ".join(said)))
        sentences += said
    return ReportFigure(
        key="course",
        title="When vectors are taken in free play",
        pictures=tuple(pictures),
        finding=" ".join(sentences),
        reading="Left: takes by turn of the rollout, as a share of the arm's, by category; framings pooled. Right: the dose that a "
        f"rollout has taken by then, whatever its sign, mean of those that last so long, with 95 % intervals. Turns from {_LAST} "
        "on are one.",
        table=table,
    )


def _sentence(name: str, arm: str, part: pd.DataFrame) -> str:
    taken = part[part["takes"].notna()]
    by_turn = taken.groupby("turn")["takes"].sum()
    middle = int(by_turn.index[(by_turn.cumsum() >= by_turn.sum() / 2).argmax()])
    first = taken[taken["turn"] <= middle].groupby("category")["takes"].sum().idxmax()
    last = part[part["category"] == ""].tail(1).to_dict("records")
    words = f"{name}, {arm}: half of {by_turn.sum():.0f} takes are made by turn {middle}, most of them {first}"
    if last:
        words += f"; by turn {last[0]['turn']} a rollout has taken a dose of {with_interval(last[0], 'cumulative_dose')} in all"
    return f"{words}."


def _draw(name: str, arms: Sequence[str], part: pd.DataFrame) -> Figure:
    figure = new_figure(700, 70 + 190 * len(arms))
    panels = figure.subplots(len(arms), 2, squeeze=False, sharex=True)
    categories = category_order(list(part.loc[part["takes"].notna(), "category"]))
    for (left, right), arm in zip(panels, arms, strict=True):
        of_arm = part[part["arm"] == arm]
        below = np.zeros(_LAST + 1)
        for category in categories:
            shares = of_arm[of_arm["category"] == category].set_index("turn")["share"].astype(float)
            heights, of = shares.reindex(range(_LAST + 1)).fillna(0.0).to_numpy(), look(category)
            left.bar(
                range(_LAST + 1), heights, 0.8, below, color=of.colour, hatch=of.hatch, edgecolor=PAPER, linewidth=0
            )
            below += heights
        doses = of_arm[of_arm["category"] == ""].astype({"cumulative_dose": float, "low": float, "high": float})
        colour = ORANGE if arm == PLACEBO else BLUE
        right.vlines(doses["turn"], doses["low"], doses["high"], color=colour, linewidth=1.4)
        right.plot(doses["turn"], doses["cumulative_dose"], "o-", color=colour, markersize=4)
        left.set_title(f"{name}, {arm}", loc="left", color=INK)
        left.set_ylabel("share of takes")
        left.yaxis.set_major_formatter(lambda value, _: f"{100 * value:g}%")
        right.set_ylabel("dose taken so far")
        if doses.empty:
            say_empty(right, "a single rollout, and a mean needs two")
        right.set_ylim(bottom=0)
        for axes in (left, right):
            axes.tick_params(length=2, color=QUIET)
    for axes in panels[-1]:
        axes.set_xlabel("turn of the rollout")
    figure.legend(handles=category_legend(categories), loc="outside lower center", ncols=4)
    return figure
