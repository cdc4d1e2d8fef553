"""What every drawn figure of a report must keep: measured with the renderer."""

from itertools import combinations

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.container import BarContainer

from self_steering.analysis.drawing.figures import ReportFigure
from self_steering.analysis.drawing.style import page_style
from self_steering.analysis.report.figures import REPORT_FIGURES

WIDEST = 720  # pixels that a page has room for


def draw(function, tables) -> ReportFigure | None:
    """Return a figure as the report draws it."""
    with page_style():
        figure = function(tables)
        for picture in figure.pictures if figure else ():
            FigureCanvasAgg(picture.figure).draw()
        return figure


def report_keys(tables, section: str) -> set[str]:
    """Return the keys of the figures that a section of the report has of these tables."""
    (found,) = [one for one in REPORT_FIGURES if one.title == section]
    with page_style():
        figures = [function(tables) for function in found.functions]
    return {figure.key for figure in figures if figure}


def tick_labels(figure, axis):
    """The words at the ticks of all panels, top or left first."""
    return [text.get_text() for axes in figure.axes for text in _ticks(axes, axis)]


def bars(figure):
    """The bars of all panels."""
    return [bar for axes in figure.axes for part in axes.containers if isinstance(part, BarContainer) for bar in part]


def check(figure: ReportFigure):
    """Every picture fits the page, has words for those who cannot see it, and no words upon words or outside it."""
    for picture in figure.pictures:
        assert picture.label
        _check_drawing(picture.figure)


def _check_drawing(figure):
    width = figure.get_size_inches()[0] * 72
    assert width <= WIDEST
    inside = figure.bbox.padded(0.5)
    for axes in figure.axes:
        for axis in ("x", "y"):
            boxes = [text.get_window_extent() for text in _ticks(axes, axis)]
            assert not any(_overlap(*pair) for pair in combinations(boxes, 2)), f"tick labels overlap on {axis}"
            assert all(_within(box, inside) for box in boxes), f"a tick label of {axis} leaves the figure"
        words = [axes.title, axes._left_title, axes.xaxis.label, axes.yaxis.label, *axes.texts]
        written = [text.get_window_extent() for text in words if text.get_text() and text.get_visible()]
        assert all(_within(box, inside) for box in written), "a text leaves the figure"
        assert not any(_overlap(*pair) for pair in combinations(written, 2)), "texts overlap"
    legends = [legend.get_window_extent() for legend in figure.legends]
    panels = [axes.get_tightbbox() for axes in figure.axes]
    assert all(_within(box, inside) for box in legends), "a legend leaves the figure"
    assert not any(_overlap(*pair) for pair in combinations([*legends, *panels], 2)), "panels or legends overlap"


def _ticks(axes, axis):
    low, high = sorted(getattr(axes, f"get_{axis}lim")())
    ticks = getattr(axes, f"{axis}axis").get_major_ticks()
    shown = [tick for tick in ticks if low <= tick.get_loc() <= high]
    texts = [text for tick in shown for text in (tick.label1, tick.label2)]
    return [text for text in texts if text.get_visible() and text.get_text()]


def _overlap(one, other):
    slack = 0.5
    return (
        one.x0 < other.x1 - slack
        and other.x0 < one.x1 - slack
        and one.y0 < other.y1 - slack
        and other.y0 < one.y1 - slack
    )


def _within(box, outer):
    return box.x0 >= outer.x0 and box.x1 <= outer.x1 and box.y0 >= outer.y0 and box.y1 <= outer.y1
