"""One figure of a report: pictures, the numbers behind them, and what it says in words."""

from dataclasses import dataclass

import pandas as pd
from matplotlib.figure import Figure


@dataclass(frozen=True)
class Picture:
    """One drawing.

    Attributes:
        name: A word of its own among the figure's pictures, for file names; letters, digits, `-`.
        figure: Drawn within `page_style`, in the placeholder colours of `themed_svg`.
        label: Alternative text: what a reader who cannot see it should know, with numbers.
    """

    name: str
    figure: Figure
    label: str


@dataclass(frozen=True)
class ReportFigure:
    """One figure of a report.

    Attributes:
        key: A word of its own among the report's figures; letters, digits, `-`.
        title: What it shows, as a short noun phrase.
        pictures: One or more drawings.
        finding: What it says, in whole sentences with numbers; every effect with n, clusters, interval and name of its test.
        reading: What its marks stand for, and which rows went in.
        table: The numbers behind it, one row a mark; written as CSV and shown below the figure.
    """

    key: str
    title: str
    pictures: tuple[Picture, ...]
    finding: str
    reading: str
    table: pd.DataFrame
