"""The gauge in this suite's logs: is it followed, and does a true one serve better than a yoked one? Numbers, then the figure."""

import pandas as pd

from self_steering.analysis.drawing.figures import Picture, ReportFigure
from self_steering.analysis.drawing.marks import Panel, line, panel_figure, points
from self_steering.analysis.drawing.words import basis, counted, model_name, p_with_test, with_interval
from self_steering.analysis.introspection.segments import MODEL, score_table
from self_steering.analysis.statistics.estimates import ESTIMATE, Estimate, Row, estimate_columns, groups
from self_steering.analysis.statistics.intervals import clustered_mean
from self_steering.analysis.statistics.tests import adjusted, sign_flip
from self_steering.analysis.tables import Tables
from self_steering.analysis.tasks.cells import gauge_in_words, in_order, problem_clusters

TARGETING = ("error", "on_target")
TRUE, YOKED = "true", "yoked"
CELL = [*MODEL, "arm", "gauge"]
COLUMNS = ["measure", *CELL, "against", *ESTIMATE, "rollouts", "p", "p_adjusted", "test"]


def gauge_figures(tables: Tables) -> pd.DataFrame:
    """Return sensitivity and targeting apart, one row a cell and measure.

    Args:
        tables: The logs' tables.

    Returns:
        `measure`; the columns of `CELL` (`gauge` is empty where there was none); `value` with `low` and `high`, 95 % bounds
        clustered by rollout (its epochs are one cluster), and `n`. The measures:

        - `sensitivity`: after how many of the readings that asked for more of the state it was raised, less the same of those that
          asked for less, over all readings of a cell together; absent where either is missing. `n` counts these readings. Its
          interval is that of the two shares' linearised difference, as they come from the same rollouts.
        - `error`, the distance of the true level from the target in doses, and `on_target`, the share of turns within the
          tolerance: means over rollouts, whatever was shown in them.

        Rows with `against` yoked are the true gauge's targeting less the yoked one's, by pairs of the same seed, with `p` by sign
        flips over them and `p_adjusted` by Benjamini and Hochberg.
    """
    scored = score_table(tables, "gauge")
    if scored.empty:
        return pd.DataFrame(columns=COLUMNS)
    scored = scored.assign(cluster=problem_clusters(scored))
    rows: list[Row] = []
    for cell, part in groups(scored, CELL):
        found = {measure: _mean(part, measure) for measure in TARGETING} | {"sensitivity": _sensitivity(part)}
        rows += [
            {"measure": measure, **cell, "against": "", **estimate_columns(estimate), "rollouts": len(part), "p": None}
            for measure, estimate in found.items()
            if estimate is not None
        ]
    for about, part in groups(scored, [*MODEL, "arm"]):
        by_gauge = part.groupby(["gauge", "cluster"])[list(TARGETING)].mean()
        if not {TRUE, YOKED} <= set(by_gauge.index.get_level_values("gauge")):
            continue
        gained = (by_gauge.loc[TRUE] - by_gauge.loc[YOKED]).dropna()
        for measure in TARGETING if len(gained) > 1 else ():
            test = sign_flip(gained[measure], gained.index)
            estimate = clustered_mean(gained[measure], gained.index)
            pair = {"measure": measure, **about, "gauge": TRUE, "against": YOKED, "rollouts": len(gained)}
            rows.append({**pair, **estimate_columns(estimate), "p": test.p, "test": test.method})
    return in_order(adjusted(rows).reindex(columns=COLUMNS), ["measure", *CELL])


def _mean(part: pd.DataFrame, measure: str) -> Estimate | None:
    known = part.dropna(subset=[measure])
    return clustered_mean(known[measure], known["cluster"]) if len(known) else None


def _sensitivity(part: pd.DataFrame) -> Estimate | None:
    up, down = part["asked_up"].sum(), part["asked_down"].sum()
    if not (up and down):
        return None
    shares = {"up": part["raised_when_up"].sum() / up, "down": part["raised_when_down"].sum() / down}
    value = shares["up"] - shares["down"]
    # Each rollout's part in the difference of two ratios: their mean is the difference, their spread that of its estimate.
    parts = (part["raised_when_up"] - shares["up"] * part["asked_up"]) / up
    parts -= (part["raised_when_down"] - shares["down"] * part["asked_down"]) / down
    found = clustered_mean(value + len(part) * parts, part["cluster"])
    return Estimate(value, found.low, found.high, round(up + down), found.clusters, found.method)


def gauge(tables: Tables) -> ReportFigure | None:
    """Return targeting and sensitivity by gauge, two pictures a model; None without such logs."""
    table = gauge_figures(tables)
    panels = []
    for about, part in groups(table, MODEL):
        name = f"{model_name(about['model'], about['source'])}, {about['framing']}"
        pictures, said = {}, []
        for measure, across in (
            ("error", "distance from the target, doses"),
            ("sensitivity", "sensitivity to the number shown"),
        ):
            rows = part[(part["measure"] == measure) & (part["against"] == "")].to_dict("records")
            if rows:
                lines = [line(_cell_name(row), row, counted(row["rollouts"], "rollout")) for row in rows]
                words = "; ".join(f"{_cell_name(row)} {with_interval(row)} ({basis(row, 'rollouts')})" for row in rows)
                pictures[measure] = Picture(points(lines, title=name, across=across, hundredths=False), words)
        if "error" not in pictures:
            continue
        served = part[(part["measure"] == "error") & (part["against"] == YOKED)].to_dict("records")
        said += [
            f"{row['arm']}: distance from the target under the true gauge less that under the yoked one "
            f"{with_interval(row, signed=True)} doses ({basis(row, 'pairs of rollouts')}; {p_with_test(row)})"
            for row in served
        ]
        said += [f"{measure} {picture.label}" for measure, picture in pictures.items()]
        panels.append(
            Panel(name, pictures["error"].figure, said, tuple(pictures[one] for one in pictures if one != "error"))
        )
    return panel_figure(
        "gauge",
        "A gauge of oneself: followed, and of use?",
        panels,
        reading="Above, targeting: how far the state truly was from the target, over all turns but the first. Below, sensitivity: "
        "how much oftener it was raised after a number that asked for more than after one that asked for less; 0 of a model that "
        "pays no heed to numbers. Who follows is sensitive to a yoked gauge too, whose numbers are another rollout's, but only a "
        "true one can bring it to the target. Under placebo nothing can. Lines: 95 % t-intervals over rollouts.",
        table=table,
    )


def _cell_name(row: Row) -> str:
    return f"{row['arm']}, {gauge_in_words(row) or 'no gauge'}"
