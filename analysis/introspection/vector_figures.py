"""Figures of gaps vector by vector: each with its interval, their spread, categories, and agreement of models and experiments."""

from collections.abc import Mapping, Sequence
from textwrap import fill

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from scipy.stats import kruskal
from seaborn import histplot

from self_steering.analysis.drawing.figures import Picture, ReportFigure, new_figure
from self_steering.analysis.drawing.marks import (
    arm_style,
    as_percent,
    bars,
    labelled_scatter,
    line,
    row_panels,
    say_empty,
)
from self_steering.analysis.drawing.style import (
    BLUE,
    INK,
    ORANGE,
    PAPER,
    QUIET,
    VALENCE_LOOKS,
    VALENCE_NAMES,
    Look,
    category_order,
    look,
)
from self_steering.analysis.drawing.words import (
    counted,
    in_words,
    label,
    model_name,
    p_in_words,
    p_with_test,
    spelled_out,
    test_in_words,
    visible,
    with_interval,
)
from self_steering.analysis.introspection.gap_figures import condition_pictures, draw_gaps
from self_steering.analysis.introspection.gap_words import (
    axis,
    bounds,
    condition_names,
    gap_axis,
    gap_in_words,
    missing_in_words,
    points,
    real_vectors,
    scale,
)
from self_steering.analysis.introspection.gaps import (
    ALL_DOSES,
    CONDITION,
    PAIR,
    attractors,
    cached_ratings,
    condition_gaps,
    correlations,
    experiment_pairs,
    gap_table,
    grouped_gaps,
    model_pairs,
    namings,
    rating_table,
    vector_gaps,
)
from self_steering.analysis.statistics.estimates import Row, StatisticsError, groups
from self_steering.analysis.statistics.intervals import clustered_mean
from self_steering.analysis.statistics.resampling import correlation
from self_steering.analysis.statistics.tests import binomial_above
from self_steering.analysis.tables import Tables

_BINS = 16
_CELL = ["source", "model", "primer"]
_SAME = 1e-6  # points: less than this is rounding, and no width for a histogram
_SEVERAL = 5  # fewer vectors are all named
_COLUMNS = 3  # conditions beside each other
_SIDE = ["source", "measure", "model", "framing", "options"]
_LANES = 4  # beside each other in which vectors are drawn, so that none hides another


def gaps_by_vector(tables: Tables) -> ReportFigure | None:
    """Return every vector's gap with its interval, sorted, coloured by category; primers of one model side by side."""
    found = real_vectors(tables)
    if found.empty:
        return None
    single = int(found["gap_low"].isna().sum())
    return ReportFigure(
        key="gaps-by-vector",
        title="Gap of every vector",
        pictures=tuple(_vector_picture(conditions) for conditions in _side_by_side(found)),
        finding=spelled_out([_vector_sentence(part) for _, part in groups(found, CONDITION)]),
        reading="Real arm, all doses; sorted by the first column. Colours and marks: categories. Lines: 95 % t-intervals over "
        "problems or wordings; a vector that was asked in one only has none"
        + (f", which holds for {single} of {len(found)} here." if single else "."),
        table=found,
    )


def _side_by_side(found: pd.DataFrame) -> list[list[pd.DataFrame]]:
    """Return the conditions that share a picture."""
    together = []
    for _, of_model in groups(found, _SIDE):
        conditions = [part for _, part in groups(of_model, ["primer"])]
        together += [conditions[start : start + _COLUMNS] for start in range(0, len(conditions), _COLUMNS)]
    return together


def _vector_picture(conditions: list[pd.DataFrame]) -> Picture:
    return Picture(_draw_vectors(conditions), " ".join(_vector_sentence(part) for part in conditions))


def _vector_sentence(part: pd.DataFrame) -> str:
    order = part.sort_values("gap", ascending=False)
    measure, name = str(part["measure"].iloc[0]), part["name"].iloc[0]
    named = [
        f"{visible(str(row['vector']), kept='')} ({points(row['gap'], measure)})" for row in order.to_dict("records")
    ]
    if len(part) < _SEVERAL:
        return f"{name}: {', '.join(named)}."
    known = int(part["gap_low"].notna().sum())
    above, below = int((part["gap_low"].astype(float) > 0).sum()), int((part["gap_high"].astype(float) < 0).sum())
    intervals = (
        f"of {known} vectors with an interval, {above} lie above zero and {below} below (95 % t-intervals over problems or "
        "wordings, not corrected for their number)"
        if known
        else "none has an interval, as each was asked in one problem or wording only"
    )
    return (
        f"{name}: the largest gaps are those of {', '.join(named[:3])}, the smallest that of {named[-1]}; {intervals}."
    )


def _draw_vectors(conditions: Sequence[pd.DataFrame]) -> Figure:
    """Return every vector's gap with its interval, one column a condition, sorted by the first.

    Args:
        conditions: Rows of `real_vectors`, one table a condition.
    """
    order = _order(conditions)
    rows = {vector: row for row, vector in enumerate(order)}
    width = 440 if len(conditions) == 1 else 130 + 195 * len(conditions)
    figure = new_figure(width, 120 + 17 * len(order))
    panels = figure.subplots(1, len(conditions), sharex=True, sharey=True, squeeze=False)[0]
    for axes, part in zip(panels, conditions, strict=True):
        _draw_condition(axes, part, rows)
        axes.set_title(fill(str(part["name"].iloc[0]), 30), loc="left")
    panels[0].set_yticks(range(len(order)), [label(vector) for vector in order])
    panels[0].set_ylim(-0.7, len(order) - 0.3)
    figure.legend(
        handles=_category_marks(pd.concat(conditions)["category"]),
        loc="outside upper center",
        ncols=3,
        handletextpad=0.1,
        columnspacing=1,
    )
    return figure


def _order(conditions: Sequence[pd.DataFrame]) -> list[str]:
    """Return the vectors from the bottom up; those that the first condition lacks stand below it."""
    first = list(conditions[0].sort_values("gap")["vector"])
    known = set(first)
    others = dict.fromkeys(vector for part in conditions[1:] for vector in part["vector"] if vector not in known)
    return [*others, *first]


def _category_marks(categories: pd.Series) -> list[Line2D]:
    """Return a legend's entries for the marks of these categories."""
    return [
        Line2D([], [], color=look(of).colour, marker=look(of).marker, linestyle="none", markersize=6.5, label=of)
        for of in category_order(list(categories))
    ]


def _draw_condition(axes: Axes, part: pd.DataFrame, rows: Mapping[str, int]) -> None:
    measure = str(part["measure"].iloc[0])
    unit = scale(measure)
    axes.axvline(0, color=QUIET, linewidth=1.2)
    for row in part.to_dict("records"):
        at, of = rows[row["vector"]], look(row["category"])
        if not pd.isna(row["gap_low"]):
            axes.hlines(at, unit * row["gap_low"], unit * row["gap_high"], color=of.colour, linewidth=1.4)
        axes.plot(unit * row["gap"], at, of.marker, color=of.colour, markersize=6)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel(gap_axis(measure))


def gap_distribution(tables: Tables) -> ReportFigure | None:
    """Return how the vectors' gaps are distributed, one panel a condition; None with fewer than three vectors everywhere."""
    found = real_vectors(tables)
    enough = [part for _, part in groups(found, CONDITION) if len(part) > 2] if len(found) else []
    if not enough:
        return None
    shown = pd.concat(enough)
    return ReportFigure(
        key="gap-distribution",
        title="Distribution of the vectors' gaps",
        pictures=tuple(_distribution_picture(part) for _, part in groups(shown, ["measure"])),
        finding=spelled_out([_distribution_sentence(part) for part in enough]),
        reading="Real arm, all doses. Bars: number of vectors; ticks: each vector; solid: zero; dashed: the mean over vectors.",
        table=shown[[*CONDITION, "name", "vector", "category", "valence", "n", "gap"]],
    )


def _distribution_picture(shown: pd.DataFrame) -> Picture:
    parts = [part for _, part in groups(shown, CONDITION)]
    words = " ".join(_distribution_sentence(part) for part in parts)
    return Picture(_draw_distribution(parts), f"Histograms of gaps. {words}")


def _distribution_sentence(part: pd.DataFrame) -> str:
    above, measure = int((part["gap"] > 0).sum()), str(part["measure"].iloc[0])
    middle, low, high = (points(float(part["gap"].quantile(share)), measure) for share in (0.5, 0.25, 0.75))
    test = test_in_words(binomial_above(above, len(part), 0.5))
    return (
        f"{part['name'].iloc[0]}: {above} of {len(part)} vectors have a gap above zero, {test}; the median is {middle}, "
        f"and half of them lie between {low} and {high}."
    )


def _draw_distribution(conditions: Sequence[pd.DataFrame]) -> Figure:
    """Return a histogram of the vectors' gaps a condition, one below the other.

    Args:
        conditions: Rows of `real_vectors` of one measure, one table a condition.
    """
    measure = str(conditions[0]["measure"].iloc[0])
    gaps = scale(measure) * pd.concat(conditions)["gap"].astype(float)
    low, high = float(gaps.min()), float(gaps.max())
    edges = np.linspace(low, high, _BINS + 1) if high - low > _SAME else [low - 0.5, high + 0.5]
    figure = new_figure(560, 50 + 130 * len(conditions))
    panels = figure.subplots(len(conditions), 1, sharex=True, squeeze=False)[:, 0]
    for axes, part in zip(panels, conditions, strict=True):
        values = scale(measure) * part["gap"].astype(float)
        histplot(x=values, bins=edges, ax=axes, color=BLUE, alpha=1, edgecolor=PAPER, linewidth=1)
        axes.plot(values, [0] * len(values), "|", color=INK, markersize=9, clip_on=False, zorder=3)
        axes.axvline(0, color=INK, linewidth=1.2)
        axes.axvline(float(values.mean()), color=ORANGE, linewidth=1.6, linestyle="--")
        axes.set_title(str(part["name"].iloc[0]), loc="left")
        axes.set_ylabel("vectors")
        axes.yaxis.get_major_locator().set_params(integer=True)
    panels[-1].set_xlabel(gap_axis(measure))
    return figure


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
        pictures=tuple(_category_picture(part) for part in enough),
        finding=spelled_out([_category_sentence(part) for part in enough]),
        reading="Real arm, all doses together. Small marks: vectors; large ones: their means, with 95 % t-intervals over vectors.",
        table=pd.concat([grouped_gaps(shown, "category"), grouped_gaps(shown, "valence")], ignore_index=True),
    )


def _comparable(part: pd.DataFrame) -> bool:
    return int((part["category"].value_counts() > 1).sum()) > 1


def _category_sentence(part: pd.DataFrame) -> str:
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


def _category_picture(part: pd.DataFrame) -> Picture:
    figure = new_figure(680, 300)
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(2, 1))
    categories = category_order(list(part["category"]))
    for at, category in enumerate(categories):
        _strip(left, at, part[part["category"] == category], look(category))
    left.set_xticks(range(len(categories)), [label(of, 12) for of in categories])
    valences = [of for of in VALENCE_NAMES if (part["valence"] == of).any()]
    for at, valence in enumerate(valences):
        _strip(right, at, part[part["valence"] == valence], VALENCE_LOOKS[valence])
    right.set_xticks(range(len(valences)), [VALENCE_NAMES[of] for of in valences])
    if not valences:
        say_empty(right, "the valence of none of these vectors is known")
    left.set_ylabel(gap_axis(str(part["measure"].iloc[0])))
    left.set_title(str(part["name"].iloc[0]), loc="left")
    for axes, shown in ((left, len(categories)), (right, len(valences))):
        axes.axhline(0, color=QUIET, linewidth=1.2)
        axes.set_xlim(-0.5, max(shown, 1) - 0.4)
        axes.tick_params(axis="x", length=0)
        axes.grid(visible=False, axis="x")
    return Picture(figure, _category_sentence(part))


def _strip(axes: Axes, at: int, part: pd.DataFrame, of: Look) -> None:
    """Draw one group: its vectors side by side in lanes, and their mean with its interval."""
    gaps = scale(str(part["measure"].iloc[0])) * part["gap"].to_numpy(dtype=float)
    lane = np.argsort(np.argsort(gaps)) % _LANES
    axes.plot(at + 0.1 + 0.06 * lane, gaps, of.marker, color=of.colour, markersize=4, alpha=0.7)
    mean = clustered_mean(gaps, part["vector"])
    if mean.low is not None and mean.high is not None:
        axes.vlines(at - 0.12, mean.low, mean.high, color=INK, linewidth=1.8)
    axes.plot(at - 0.12, mean.value, of.marker, color=of.colour, markersize=9, markeredgecolor=INK)


def gap_agreement(tables: Tables) -> ReportFigure | None:
    """Return vectors' gaps in one model against another's; None where no two models share three vectors."""
    pairs = _large(model_pairs(real_vectors(tables)))
    if pairs.empty:
        return None
    found = correlations(pairs)
    sentences = [_correlation_sentence(row) for row in found.to_dict("records")]
    shown = pairs.assign(x=100 * pairs["x"], y=100 * pairs["y"])
    pictures = [
        Picture(labelled_scatter(part, f"{key['first']}: gap, points", f"{key['second']}: gap, points"), words)
        for (key, part), words in zip(groups(shown, PAIR), sentences, strict=True)
    ]
    return ReportFigure(
        key="gap-agreement",
        title="Agreement of two models on the vectors",
        pictures=tuple(pictures),
        finding=spelled_out(sentences),
        reading="One mark a vector, real arm, all doses, in percentage points, the same primer on both sides; named: outliers.",
        table=pairs.merge(found, on=PAIR),
    )


def free_text_against_choice(tables: Tables) -> ReportFigure | None:
    """Return the free text's gain in rating against the multiple choice's gap; None without pairs of free-text ratings."""
    ratings = rating_table(tables)
    if ratings.empty and cached_ratings(tables).empty:
        return None
    summary = condition_gaps(ratings) if len(ratings) else pd.DataFrame(columns=[*CONDITION, "arm"])
    known = condition_names(summary) if len(summary) else []
    names = [f"{name}, {arm} arm" for name, arm in zip(known, summary["arm"], strict=True)]
    sentences = [
        f"Free text, {name}: cached less uncached {gap_in_words(row)}, {p_with_test(row)}."
        for name, row in zip(names, summary.to_dict("records"), strict=True)
    ]
    pairs = _large(experiment_pairs(real_vectors(tables), vector_gaps(ratings)))
    found = correlations(pairs)
    against = [_correlation_sentence(row) for row in found.to_dict("records")]
    pictures = [
        Picture(labelled_scatter(part, "multiple choice: gap, points", "free text: gain in rating"), words)
        for (_, part), words in zip(groups(pairs.assign(x=100 * pairs["x"]), PAIR), against, strict=True)
    ]
    floor, words, named = cached_ratings(tables), attractors(tables), namings(tables)
    sentences += _floor_sentences(floor) + _naming_sentences(named) + _attractor_sentences(words)
    alone = "No logs hold both experiments for three vectors of one model and primer, so vectors cannot be compared."
    parts = {"mean": summary, "cached rating": floor, "word of many descriptions": words, "named": named}
    parts |= {"vector": pairs.merge(found, on=PAIR)} if len(pairs) else {}
    rows = [part.assign(mark=mark) for mark, part in parts.items() if len(part)]
    return ReportFigure(
        key="free-text",
        title="Free text against multiple choice",
        pictures=(
            *_protocol_pictures(tables, summary),
            *condition_pictures(summary, names),
            *_naming_pictures(named),
            *_floor_pictures(floor),
            *pictures,
        ),
        finding=spelled_out([*(against or [alone]), *sentences], most=8),
        reading="First both experiments of the same models side by side, real arm: cached less uncached. Ratings by a grader, "
        "this suite's from 1 to 10, the study's from 0 to 1. Plain bars: cached; hatched bars: uncached; lines: 95 % t-intervals "
        "over vectors. By category and by name: the cached descriptions in which a word is the name of a vector of the true "
        "category, or of the true vector; dotted ticks: the same descriptions set against every vector of that arm. "
        "Scatter: one mark a vector, real arm: the gain in rating against the gap of the choice. Last bars: all cached ratings by "
        "arm; under placebo nothing was added: that is their floor." + missing_in_words(tables, "free_text"),
        table=pd.concat(rows, ignore_index=True),
    )


def _protocol_pictures(tables: Tables, ratings: pd.DataFrame) -> list[Picture]:
    """Return the gaps of both experiments side by side, a picture a source, one row a model and primer that has free text.

    The multiple choice is that of all doses together, or of the only one.
    """
    choice = condition_gaps(gap_table(tables))
    if choice.empty or ratings.empty:
        return []
    whole = choice["doses"].eq(ALL_DOSES) | (
        choice.groupby([*CONDITION, "arm"], dropna=False)["doses"].transform("size") == 1
    )
    choice = choice[whole & choice["arm"].eq("real")]
    pictures = []
    for _, of_text in groups(ratings[ratings["arm"].eq("real")], ["source"]):
        cells = of_text[_CELL].drop_duplicates().reset_index(drop=True)
        of_choice = choice.merge(cells, on=_CELL)
        if len(of_choice):
            pictures.append(_protocol_picture(cells, of_choice, of_text))
    return pictures


def _protocol_picture(cells: pd.DataFrame, of_choice: pd.DataFrame, of_text: pd.DataFrame) -> Picture:
    names = condition_names(cells)
    figure, panels = row_panels([fill(name, 28) for name in names], ("multiple choice", "free text"), row=44, extra=80)
    places = {tuple(cell): at for at, cell in enumerate(cells.itertuples(index=False))}
    words = []
    for axes, part, protocol in zip(panels, (of_choice, of_text), ("multiple choice", "free text"), strict=True):
        at = [places[tuple(cell)] for cell in part[_CELL].itertuples(index=False)]
        # A condition that was asked in several framings or numbers of options has as many marks.
        again = part.groupby(_CELL, dropna=False).cumcount()
        draw_gaps(axes, part, [row + 0.16 * number for row, number in zip(at, again, strict=True)])
        for row in sorted(set(places.values()) - set(at)):
            axes.annotate(
                "not asked", (0.5, row), xycoords=("axes fraction", "data"), ha="center", va="center", color=QUIET
            )
        words += [
            f"{names[row]}, {protocol} {points(gap, measure)}"
            for row, gap, measure in zip(at, part["gap"], part["measure"], strict=True)
        ]
    return Picture(figure, f"Cached less uncached in both experiments: {'; '.join(words)}.")


def _naming_pictures(named: pd.DataFrame) -> list[Picture]:
    """Return the shares of descriptions that name the category and the vector side by side, a picture a source."""
    pictures = []
    for _, part in groups(named, ["source"]) if len(named) else ():
        rows = part.to_dict("records")
        labels = [f"{fill(name, 28)}\n{row['arm']}" for name, row in zip(condition_names(part), rows, strict=True)]
        figure, panels = row_panels(labels, ("by category", "by name"), row=48, extra=80)
        for axes, name in zip(panels, ("category", "vector"), strict=True):
            for at, row in enumerate(rows):
                axes.barh(at, row[f"named_{name}"], 0.5, **arm_style(row["arm"]))
                if not pd.isna(row[f"named_{name}_low"]):
                    axes.hlines(at, row[f"named_{name}_low"], row[f"named_{name}_high"], color=INK, linewidth=1.4)
                if not row[f"named_{name}"]:
                    axes.annotate("none", (0, at), (4, 0), textcoords="offset points", va="center", fontsize=10)
                axes.vlines(row[f"expected_{name}"], at - 0.4, at + 0.4, color=INK, linewidth=1.6, linestyle=":")
            axes.set_xlim(0, 1)
            as_percent(axes)
            axes.set_xlabel("descriptions that name it")
        pictures.append(Picture(figure, " ".join(_naming_sentences(part))))
    return pictures


def _naming_sentences(named: pd.DataFrame) -> list[str]:
    rows = named.to_dict("records")
    return [
        f"Named in descriptions, {name}, {row['arm']}: the category {_named_in_words(row, 'category')}, the vector itself "
        f"{_named_in_words(row, 'vector')} (n {row['n']}, {counted(row['vectors'], 'vector')}, {row['method']})."
        for name, row in zip(condition_names(named) if rows else (), rows, strict=True)
    ]


def _named_in_words(row: Row, name: str) -> str:
    share = with_interval(row, f"named_{name}", scale=100, decimals=1, unit="%")
    if pd.isna(row[f"expected_{name}"]):
        return f"{share}, with one vector nothing to compare with"
    return f"{share}, {row[f'expected_{name}']:.1%} if set against any vector of the arm"


def _floor_pictures(floor: pd.DataFrame) -> list[Picture]:
    """Return mean cached ratings by arm, a picture a model, where placebo is among the arms."""
    pictures = []
    for key, part in groups(floor, ["source", "model", "measure"]) if len(floor) else ():
        if "placebo" in set(part["arm"]):
            name, rows = model_name(key["model"], key["source"]), part.to_dict("records")
            primers = ["" if row["primer"] in ("", "none") else f", {row['primer']} primer" for row in rows]
            ends = [{"value": row["cached"], "low": row["cached_low"], "high": row["cached_high"]} for row in rows]
            lines = [
                line(f"{row['arm']}{primer}", of, str(row["n"]))
                for row, primer, of in zip(rows, primers, ends, strict=True)
            ]
            most = bounds(str(key["measure"]))[1] or 1.0
            drawing = bars(lines, title=name, across=axis(str(key["measure"])), most=most, percent=False)
            words = "; ".join(f"{one.name} {one.value:.2f}" for one in lines)
            pictures.append(Picture(drawing, f"Mean rating of cached descriptions by arm, {name}: {words}."))
    return pictures


def _floor_sentences(floor: pd.DataFrame) -> list[str]:
    """Return what descriptions were rated where nothing was added."""
    rows = floor[floor["arm"] == "placebo"].to_dict("records") if len(floor) else []
    return [
        f"Floor, {model_name(row['model'], row['source'])}: descriptions under placebo, where nothing was added, are rated "
        f"{with_interval(row, 'cached')} ({row['measure']}, n {row['n']}, {counted(row['vectors'], 'vector')})."
        for row in rows
    ]


def _attractor_sentences(words: pd.DataFrame) -> list[str]:
    """Return the words that most descriptions have, whatever was applied."""
    sentences = []
    several = words[words["all_vectors"] > 1] if len(words) else words
    for key, part in groups(several, ["source", "model", "arm"]) if len(several) else ():
        named = [
            f"{row['word']} ({row['share']:.0%} of {row['n']}, under {row['vectors']} of {row['all_vectors']} vectors)"
            for row in part.head(3).to_dict("records")
        ]
        sentences.append(f"Attractors, {model_name(key['model'], key['source'])}, {key['arm']}: {', '.join(named)}.")
    return sentences


def _large(pairs: pd.DataFrame) -> pd.DataFrame:
    """Return the pairs with enough vectors for a correlation."""
    return pairs[pairs.groupby(PAIR, dropna=False)["vector"].transform("size") > 2] if len(pairs) else pairs


def _correlation_sentence(row: Row) -> str:
    primer = "" if row["primer"] in (None, "", "none") else f" ({row['primer']} primer)".replace("_", " ")
    head = f"{row['first']} and {row['second']}{primer}, vector by vector: "
    if pd.isna(row.get("pearson")):
        return f"{head}one side does not vary over {row['vectors']} vectors, so there is no correlation."
    words = [
        f"{name} {with_interval(row, kind)}, {p_in_words(row[f'{kind}_p'])}"
        for kind, name in (("pearson", "Pearson's r"), ("spearman", "Spearman's ρ"))
    ]
    methods = f"{row['pearson_method']}; {row['pearson_test']}"
    return (
        f"{head}{'; '.join(words)} (n {row['vectors']} vectors, each a cluster; {methods}; for ρ the same over ranks)."
    )
