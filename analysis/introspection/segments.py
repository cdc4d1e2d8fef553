"""Detection, localisation and comparison: was anything there, where was it, and which was the harder? Numbers, then figures."""

from collections.abc import Sequence
from dataclasses import replace
from string import ascii_uppercase
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from self_steering.analysis.drawing.figures import Picture, ReportFigure, new_figure
from self_steering.analysis.drawing.style import BLUE, INK, ORANGE, QUIET
from self_steering.analysis.drawing.words import basis, p_in_words, share_in_words, spelled_out, with_interval
from self_steering.analysis.introspection.gap_words import condition_names
from self_steering.analysis.introspection.gaps import ROLLOUT
from self_steering.analysis.statistics.estimates import Estimate, Row, estimated, groups
from self_steering.analysis.statistics.intervals import clustered_mean, proportion
from self_steering.analysis.statistics.signal_detection import auroc, d_prime, exact_upper_bound
from self_steering.analysis.statistics.tests import adjusted, sign_flip
from self_steering.analysis.tables import Tables

MODEL = ["source", "model", "framing"]
_UNCACHED = "uncached"


def score_table(tables: Tables, family: str) -> pd.DataFrame:
    """Return the scored rollouts of one experiment, one row each.

    Args:
        tables: The logs' tables.
        family: detection, localisation or comparison.

    Returns:
        The columns that every row of a rollout has, one column for each figure of its scorer, and of its steered readings `dose`
        (the largest) and `place` (of the right option, from 0) and `options`.
    """
    scores = tables.scores[(tables.scores["family"] == family) & (tables.scores["scorer"] == f"{family}_scorer")]
    known = scores[scores["value"].notna()]
    wide = known.astype({"value": float}).pivot_table(index="rollout", columns="score", values="value").reset_index()
    found = known[ROLLOUT].drop_duplicates("rollout").merge(wide, on="rollout")
    readouts = tables.readouts[(tables.readouts["family"] == family) & (tables.readouts["reading"] != _UNCACHED)]
    by_rollout = readouts.groupby("rollout")
    true = readouts[readouts["is_true"].fillna(value=False).astype(bool)].groupby("rollout")["place"].first()
    read = pd.concat([by_rollout["dose"].max(), by_rollout["options"].first(), true], axis=1)
    return found.merge(read, left_on="rollout", right_index=True, how="left")


def detection_conditions(tables: Tables) -> pd.DataFrame:
    """Return how well injections are told from none, one row a model, framing, arm and dose.

    Returns:
        The columns of `MODEL`, `arm`, `dose`, `n`, `vectors`, `problems`; `says_yes`, the share of trials with log-odds of yes
        above zero; `beyond_line`, the shift of these log-odds beyond the line of the control questions' shifts over their uncached
        log-odds, with `p` by sign flips over vectors and `p_adjusted` (Benjamini-Hochberg over all); `line_slope`, that line's
        mean slope; `net_shift`, the shift beyond the controls' mean, which a mere loss of sureness can raise. Earlier logs have
        only the last. For arms that inject, or tamper with the text, also `d_prime` (log-linear correction) and
        `auroc` against the trials without either, and for the real arm `auroc_over_random` against the random one of the same dose
        and `auroc_over_tampered`; `_low` and `_high` are 95 % bounds over vectors (of d' and AUROC by bootstrap). For the trials
        without injection also `false_positives` and `bound`, the one-sided exact 95 % upper bound of their rate.
    """
    trials = score_table(tables, "detection")
    rows: list[Row] = []
    for key, of_model in groups(trials, MODEL):
        noise = of_model[of_model["arm"] == "placebo"]
        for at, part in groups(of_model[of_model["arm"] != "placebo"], ["arm", "dose"]):
            row = {**key, **at, **_shifts(part), **_separation(part, noise)}
            if at["arm"] == "real":
                random = of_model[(of_model["arm"] == "random") & (of_model["dose"] == at["dose"])]
                others = {"random": random, "tampered": of_model[of_model["arm"] == "tampered"]}
                row |= {
                    name: value
                    for arm, other in others.items()
                    if len(other)
                    for name, value in estimated(f"auroc_over_{arm}", _auroc(part, other)).items()
                }
            rows.append(row)
        if len(noise):
            count = int((noise["log_odds"] > 0).sum())
            bound = exact_upper_bound(count, len(noise))
            rows.append(
                {**key, "arm": "placebo", "dose": 0.0, **_shifts(noise), "false_positives": count, "bound": bound}
            )
    return adjusted(rows)


def accuracy(found: pd.DataFrame, score: str, by: list[str]) -> pd.DataFrame:
    """Return the share of right answers, one row a model, framing, arm, number of options and group of `by`.

    Args:
        found: Of `score_table`.
        score: The column that says whether an answer was right.
        by: Further columns to group by.

    Returns:
        The columns of `MODEL`, `arm`, `options` and `by`, `n`, `vectors`, `right` with `_low` and `_high` (95 %, over vectors),
        `method`; `p`, two-sided by sign flips over vectors of the difference from chance; `p_adjusted`, by Benjamini and Hochberg
        over all rows.
    """
    rows: list[Row] = []
    for key, part in groups(found, [*MODEL, "arm", "options", *by]):
        estimate = share(part[score], part["vector"])
        row = {**key, "n": len(part), "vectors": part["vector"].nunique(), **estimated("right", estimate)}
        over = part[score] - 1 / key["options"]
        tested = sign_flip(over, part["vector"]) if row["vectors"] > 1 else None
        rows.append({**row, "method": estimate.method, "p": tested.p if tested else None})
    return adjusted(rows)


def share(values: pd.Series, clusters: pd.Series) -> Estimate:
    """Return a share of right answers with its interval: Wilson's where each cluster has one trial, else over clusters.

    Over clusters it is a t-interval, kept within 0 and 1; where all clusters agree on 0 or 1 it is Wilson's, a cluster for a trial.

    Args:
        values: 1 for right, 0 for wrong, 0.5 for a tie, [n].
        clusters: The cluster of each, [n].
    """
    estimate = clustered_mean(values, clusters)
    whole = values.isin([0.0, 1.0]).all()
    if whole and (estimate.n == estimate.clusters or estimate.value in (0.0, 1.0)):
        wilson = proportion(round(estimate.value * estimate.clusters), estimate.clusters)
        method = wilson.method if estimate.n == estimate.clusters else "Wilson over clusters"
        return replace(wilson, n=estimate.n, method=method)
    if estimate.low is None or estimate.high is None:
        return estimate
    return replace(estimate, low=max(0.0, estimate.low), high=min(1.0, estimate.high))


def order_accuracy(tables: Tables) -> pd.DataFrame:
    """Return comparison trials by which sentence was steered harder, one row a rollout and assignment of the doses.

    Returns:
        The columns that every row of a rollout has; `options`; `harder`, `first` or `second`; `right`, 1 where the log-odds of the
        sentence that was steered harder, averaged over both orders of the options, are above zero, 0.5 where they are zero.
    """
    readouts = tables.readouts[(tables.readouts["family"] == "comparison") & (tables.readouts["reading"] != _UNCACHED)]
    logprob = readouts["logprob"].astype(float)
    signed = readouts.assign(signed=logprob.where(readouts["is_true"].astype(bool), -logprob))
    log_odds = signed.groupby(["rollout", "reading"])["signed"].sum().reset_index()
    right = (log_odds["signed"] > 0) + 0.5 * (log_odds["signed"] == 0)
    harder = log_odds["reading"].str.removesuffix(" harder")
    options = readouts.groupby("rollout")["options"].first().reset_index()
    found = log_odds[["rollout"]].assign(harder=harder, right=right).merge(options, on="rollout")
    return found.merge(tables.rollouts[ROLLOUT], on="rollout")


def _shifts(part: pd.DataFrame) -> Row:
    row: Row = {"n": len(part), "vectors": part["vector"].nunique(), "problems": part["problem"].nunique()}
    row |= estimated("says_yes", share((part["log_odds"] > 0).astype(float), part["vector"]))
    row |= estimated("net_shift", clustered_mean(part["net_shift"], part["vector"]))
    beyond = part[part["beyond_line"].notna()] if "beyond_line" in part else part.iloc[:0]
    if len(beyond):
        row |= estimated("beyond_line", clustered_mean(beyond["beyond_line"], beyond["vector"]))
        row["line_slope"] = float(beyond["line_slope"].mean())
    several = len(set(beyond["vector"])) > 1
    return row | {"p": sign_flip(beyond["beyond_line"], beyond["vector"]).p if several else None}


def _separation(part: pd.DataFrame, noise: pd.DataFrame) -> Row:
    if noise.empty:
        return {}
    found = d_prime(part["log_odds"], noise["log_odds"], part["vector"], noise["vector"])
    return {**estimated("d_prime", found), **estimated("auroc", _auroc(part, noise))}


def _auroc(signal: pd.DataFrame, noise: pd.DataFrame) -> Estimate:
    return auroc(signal["log_odds"], noise["log_odds"], signal["vector"], noise["vector"])


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
        reading="Share of trials in which the steered sentence's letter had the largest share, by its place. Lines: 95 % "
        "intervals over vectors; dotted: chance. Placebo and random show what a liking for letters gives.",
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
        reading="Share of trials in which the sentence that was steered harder is named: over both assignments of the doses (a "
        "liking for a sentence or a place cancels), and in each (it does not). Lines: 95 % intervals over vectors; dotted: "
        "chance.",
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
        reading="Dots, solid: the vector; squares, dashed: a random direction of its norm; diamond: no injection. Lines: 95 % "
        "intervals over vectors (bootstrap for d′ and AUROC, else t). d′ takes log-odds above zero for yes, with the log-linear "
        "correction. The shift is cached less uncached, less that of control questions at the same uncached log-odds (their line), "
        "or on average (their mean, which a mere drawing towards even odds raises). Tampered text, with nothing injected, is at "
        "dose 0. Open triangle: exact one-sided 95 % bound of false alarms.",
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
        axes.set_xlabel("dose, as the model is told it")
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
