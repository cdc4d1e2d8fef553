"""Figures of cached against uncached readings and of detection: what they say, and that they can be read."""

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import combinations

import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from self_steering.analysis.drawing.figures import ReportFigure
from self_steering.analysis.drawing.style import page_style
from self_steering.analysis.introspection.gap_figures import (
    gaps_by_arm,
    gaps_by_condition,
    gaps_by_dose,
)
from self_steering.analysis.introspection.gap_words import condition_names
from self_steering.analysis.introspection.gaps import namings
from self_steering.analysis.introspection.segments import comparison, detection, localisation
from self_steering.analysis.introspection.vector_figures import (
    free_text_against_choice,
    gap_agreement,
    gap_distribution,
    gaps_by_category,
    gaps_by_vector,
)
from self_steering.analysis.tables import Tables, empty_tables
from tests.support.simulated_readouts import (
    VECTORS,
    joined,
    simulated_choice,
    simulated_comparison,
    simulated_detection,
    simulated_localisation,
    simulated_ratings,
)

pytestmark = pytest.mark.slow

FIGURES: tuple[Callable[[Tables], ReportFigure | None], ...] = (
    gaps_by_condition,
    gaps_by_vector,
    gaps_by_category,
    gap_distribution,
    gap_agreement,
    free_text_against_choice,
    gaps_by_dose,
    gaps_by_arm,
    detection,
    localisation,
    comparison,
)
FEW = VECTORS[:8]
LONG = "an-organisation-with-a-long-name/A-Model-With-A-Long-Name-70B-Instruct"


def draw(figure: Callable[[Tables], ReportFigure | None], tables: Tables) -> ReportFigure:
    with page_style():
        found = figure(tables)
    assert found is not None
    return found


def few(**changes) -> Tables:
    return simulated_choice(**{"vectors": FEW, "questions": 1, "options": 4, "uncached": 0.25, **changes})


@pytest.fixture(scope="module")
def everything() -> Tables:
    """All experiments over all forty vectors: two models, one of a long name, two primers, some doses and arms, two sources."""
    arms = {
        "real": 1.0,
        "placebo": 0.0,
        "random": 0.2,
        "other": 0.1,
        "opposite": -1.0,
        "mislabelled": 0.9,
        "prompt_only": 3.0,
    }
    sides = {"between": 0.05, "within": 0.03, "questions": 1, "rotations": 1, "options": 4}
    primers = ["none", "length_matched"]
    return joined(
        simulated_choice(gaps=0.08, arms=arms, **sides),
        simulated_choice(gaps=0.1, models=[LONG], primers=primers, seed=1, vectors=VECTORS[:20], **sides),
        simulated_choice(
            gaps=0.07, source="study", doses={1.0: 0.6, 3.0: 1.3}, uncached=0.3, vectors=VECTORS[:20], **sides
        ),
        simulated_ratings(gaps=0.3),
        simulated_detection(shifts={0.5: 0.4, 1.0: 1.0, 2.0: 1.8}, random=0.3, bias=-1.2, trials=1),
        simulated_localisation(right={"real": [0.4] * 10, "placebo": [0.1] * 10, "random": [0.2] * 10}),
        simulated_comparison(told={"real": 0.8, "placebo": 0.0, "random": 0.2}, liking=0.7),
    )


@pytest.fixture(scope="module")
def drawn(everything: Tables) -> list[ReportFigure]:
    """All figures, drawn."""
    return [draw(figure, everything) for figure in FIGURES]


# ---------------------------------------------------------------- all of them


@pytest.mark.parametrize("figure", FIGURES)
def test_logs_that_hold_nothing_of_it_give_no_figure(figure: Callable[[Tables], ReportFigure | None]):
    """No empty axes."""
    with page_style():
        assert figure(empty_tables()) is None


def test_pictures_fit_a_page_and_no_text_lies_on_another(drawn: list[ReportFigure]):
    """With forty vectors, several models and a name of seventy letters every label can be read."""
    for figure in drawn:
        for picture in figure.pictures:
            width, height = picture.figure.get_size_inches() * 72
            assert width <= 720
            boxes = list(texts(picture.figure))
            for text, box in boxes:
                outside = box.x0 < -1 or box.y0 < -1 or box.x1 > width + 1 or box.y1 > height + 1
                assert not outside, f"{figure.key}, {picture.label[:60]}: {text!r} is cut"
            for (text, box), (other, beside) in combinations(boxes, 2):
                lies_on = (
                    min(box.x1, beside.x1) - max(box.x0, beside.x0) > 1
                    and min(box.y1, beside.y1) - max(box.y0, beside.y0) > 1
                )
                assert not lies_on, f"{figure.key}, {picture.label[:60]}: {text!r} lies on {other!r}"


def texts(figure: Figure) -> Iterator[tuple[str, object]]:
    """Yield all texts that show and their boxes, in pixels at 72 to the inch; of an axis' labels those within its view."""
    figure.set_dpi(72)
    figure.draw_without_rendering()
    ticks = {
        text: axis.get_view_interval()
        for axes in figure.axes
        for axis in (axes.xaxis, axes.yaxis)
        for text in axis.get_ticklabels(which="both")
    }
    for text in figure.findobj(Text):
        if not text.get_visible() or not text.get_text().strip() or text.get_figure() is None:
            continue
        if text in ticks:
            low, high = sorted(ticks[text])
            at = text.get_position()[0 if text.get_ha() == "center" and text.get_va() == "top" else 1]
            if not low <= at <= high or not text.get_window_extent().width:
                continue
        yield text.get_text(), text.get_window_extent()


# ---------------------------------------------------------------- what they say


def test_the_gap_is_said_in_points_with_its_interval_and_test():
    """Ten points are ten points; the same in the table as a share."""
    figure = draw(gaps_by_condition, few(gaps={name: 0.1 + 0.01 * (-1) ** place for place, name in enumerate(FEW)}))
    assert (
        "qwen3-8b: gap +10.0 points [+9.1, +10.9] (n 8, 8 vectors, cluster-robust t), p 0.008 by exact sign flips"
        in figure.finding
    )
    assert figure.table["gap"].tolist() == pytest.approx([0.1])
    small = draw(gaps_by_condition, few(gaps=0.0012)).finding
    assert "gap +0.12 points [no interval]" in small


def test_readings_are_bars_from_zero_with_their_gap_beside_them():
    """A bar a reading, as long as its mean; the gap is the difference of the two."""
    figure = draw(gaps_by_condition, few(gaps=0.1))
    left, right = figure.pictures[0].figure.axes
    cached, uncached = (bar for bars in left.containers for bar in bars)
    row = figure.table.iloc[0]
    assert (cached.get_x(), cached.get_width(), uncached.get_width()) == pytest.approx(
        (0, row["cached"], row["uncached"])
    )
    gap = right.lines[-1].get_xdata()[0]
    assert gap == pytest.approx(100 * (cached.get_width() - uncached.get_width()))


def test_both_experiments_of_a_model_stand_side_by_side():
    """A row a model: what was asked in one only says so in the other's panel."""
    other = simulated_ratings(gaps=1.0, vectors=FEW, model="other")
    figure = draw(free_text_against_choice, joined(few(gaps=0.1), simulated_ratings(gaps=0.5, vectors=FEW), other))
    choice, text = figure.pictures[0].figure.axes
    assert [label.get_text() for label in choice.get_yticklabels()] == ["other", "qwen3-8b"]
    assert [note.get_text() for note in choice.texts] == ["not asked"]
    assert not text.texts
    assert choice.lines[-1].get_xdata() == pytest.approx([10])
    assert dict(zip(text.lines[-1].get_ydata(), text.lines[-1].get_xdata(), strict=True)) == pytest.approx(
        {0: 1.0, 1: 0.5}, abs=0.3
    )


def test_descriptions_are_scored_by_category_and_by_name():
    """All name the category, which all vectors share; any of the four is named as often as its own under any other."""
    emotions = FEW[:4]
    tables = simulated_ratings(vectors=emotions)
    cached = tables.scores["score"] == "cached"
    names = tables.scores["vector"].where(cached)
    answers = [
        f"A feeling: {name if place % 4 else emotions[0]}." if isinstance(name, str) else None
        for place, name in enumerate(names)
    ]
    found = namings(replace(tables, scores=tables.scores.assign(answer=answers)))
    (row,) = found.to_dict("records")
    assert (row["named_category"], row["expected_category"]) == (1.0, 1.0)
    right = sum(name in text for name, text in zip(names[cached], [a for a in answers if a], strict=True))
    assert row["named_vector"] == pytest.approx(right / 16)
    assert row["expected_vector"] == pytest.approx(1 / 4)


def test_rollouts_that_are_left_out_are_said():
    """With the scorer's reason."""
    tables = few()
    gone = tables.rollouts["rollout"][0]
    tables.scores.loc[tables.scores["rollout"] == gone, "reason"] = "no_response"
    lacking = replace(tables, readouts=tables.readouts[tables.readouts["rollout"] != gone])
    assert "they have no pair of readings: 1 rollouts (no_response: 1)" in draw(gaps_by_condition, lacking).reading


def test_vectors_of_a_library_of_ones_own_are_shown_as_of_another_category():
    """The catalogue does not know them."""
    tables = few(gaps=0.1, within=0.05)
    for frame in (tables.rollouts, tables.scores, tables.readouts):
        frame.loc[frame["vector"] == FEW[0], ["category", "valence"]] = ["", float("nan")]
    figure = draw(gaps_by_vector, tables)
    assert figure.table.set_index("vector")["category"].to_dict()[FEW[0]] == "other"
    legend = [text.get_text() for text in figure.pictures[0].figure.legends[0].get_texts()]
    assert legend[-1] == "other"


def test_valences_that_are_not_known_leave_no_silent_panel():
    """Categories are drawn; where valences would stand there is a reason instead."""
    tables = simulated_choice(gaps=0.1, within=0.05, questions=1, rotations=1)
    for frame in (tables.rollouts, tables.scores, tables.readouts):
        frame["valence"] = float("nan")
    categories, valences = draw(gaps_by_category, tables).pictures[0].figure.axes
    assert not categories.texts
    assert valences.texts


def test_categories_are_tested_over_vectors():
    """Vectors of one category lie far above the others: found; labels at random: not."""

    def said(gaps: dict[str, float]) -> float:
        finding = draw(gaps_by_category, simulated_choice(gaps=gaps, questions=1, rotations=1)).finding
        return float(re.search(r"between 6 categories p (?:< )?(\d\.\d+)", finding)[1])

    apart = {name: 0.2 + 0.001 * place if place < 10 else 0.001 * place for place, name in enumerate(VECTORS)}
    mixed = {name: 0.01 * (place * 7 % 40) for place, name in enumerate(VECTORS)}
    assert said(apart) <= 0.001
    assert said(mixed) > 0.05


def test_arms_are_in_order_with_the_primary_comparisons_beside_them():
    """Real first, its differences with Holm's correction, and its rank among random directions."""
    gaps = {name: 0.1 + 0.02 * (-1) ** place for place, name in enumerate(FEW)}
    figure = draw(gaps_by_arm, few(gaps=gaps, arms={"other": 0.0, "random": 0.5, "placebo": 0.0, "real": 1.0}))
    left, right = figure.pictures[0].figure.axes
    assert [text.get_text() for text in left.get_yticklabels()][::-1] == ["real", "placebo", "random", "other"]
    assert [text.get_text() for text in right.get_yticklabels()][::-1] == ["real", "real − random", "real − other"]
    assert "real less other +10.0 points" in figure.finding
    assert (
        "Of 3 random directions 0 have a mean gap at least as large as the real one (p 0.25 by rank)" in figure.finding
    )
    assert figure.table["mark"].value_counts().to_dict() == {"arm": 4, "comparison": 3}


def test_the_vectors_that_do_not_fit_are_named_in_the_scatter():
    """One vector is far from where the other model has it."""
    gaps = {name: 0.02 * place for place, name in enumerate(FEW)}
    tables = joined(few(models=["a"], gaps=gaps), few(models=["b"], gaps={**gaps, FEW[1]: 0.4}))
    figure = draw(gap_agreement, tables)
    assert FEW[1] in {text.get_text() for text in figure.pictures[0].figure.axes[0].texts}
    assert re.search(r"a and b, vector by vector: Pearson's r −?0\.\d\d \[.*\], p .*Spearman's ρ", figure.finding)


def test_names_say_what_differs_within_a_model_and_nothing_else():
    """A model's source and primer always, its framing where it has several."""
    rows = pd.DataFrame(
        {
            "model": ["a", "a", "b"],
            "source": ["self_steering", "self_steering", "study"],
            "primer": ["none", "length_matched", "none"],
            "framing": ["drugs", "vectors", "drugs"],
            "options": [10.0, 10.0, 10.0],
        }
    )
    assert condition_names(rows) == ["a, drugs", "a, length matched primer, vectors", "b (study)"]
