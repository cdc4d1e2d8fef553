"""The comparisons of a report: its headline effects, runs or models side by side, and published figures beside them."""

from dataclasses import dataclass

import pandas as pd

from self_steering.analysis.page.page_text import plain
from self_steering.analysis.report.compare import Comparison, compare_models, compare_runs
from self_steering.analysis.report.headline import headline_effects, headline_table
from self_steering.analysis.report.published import beside_published
from self_steering.analysis.report.report_files import csv_file
from self_steering.analysis.report.runs import Runs

_FOLDER = "comparison"


@dataclass(frozen=True)
class Comparisons:
    """Everything of a report's section on comparison.

    Attributes:
        headlines: The headline effects of all logs together, one row each.
        pairs: Runs or models side by side.
        published: Published figures beside measured ones.
    """

    headlines: pd.DataFrame
    pairs: list[Comparison]
    published: pd.DataFrame

    @property
    def files(self) -> dict[str, bytes]:
        """The tables as CSV, by their path below the report."""
        tables = {HEADLINE_FILE: self.headlines, PUBLISHED_FILE: self.published}
        tables |= {pair_file(place): pair.table for place, pair in enumerate(self.pairs)}
        return {name: csv_file(table) for name, table in tables.items()}


HEADLINE_FILE, PUBLISHED_FILE = f"{_FOLDER}/headline_effects.csv", f"{_FOLDER}/published.csv"


def pair_file(place: int) -> str:
    """Return where the table of a pair lies below the report; `place` counts from 0."""
    return f"{_FOLDER}/pair_{place + 1}.csv"


def comparisons(runs: Runs) -> Comparisons:
    """Return the comparisons of a report: two runs are compared with each other, and otherwise the models in all of them."""
    headlines = headline_effects(runs.tables)
    pairs = (
        compare_runs({name: headline_effects(of_run) for name, of_run in runs.apart.items()})
        if len(runs.apart) == 2
        else compare_models(headlines)
    )
    return Comparisons(headline_table(headlines), pairs, beside_published(headlines))


def with_intervals(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table of estimates as a page shows it: intervals behind their figures, and no column that says nothing."""
    shown = table.copy()
    for name in ("value", "first", "second", "difference", "measured"):
        low, high = (_bound(name, end, table) for end in ("low", "high"))
        if name in table and low in table:
            triples = zip(table[name], table[low], table[high], strict=True)
            shown[name] = [_with_interval(*triple) for triple in triples]
            shown = shown.drop(columns=[low, high])
    blank = [name for name in shown if shown[name].isna().all() or (shown[name] == "").all()]
    return shown.drop(columns=blank)


def _bound(name: str, end: str, table: pd.DataFrame) -> str:
    """Return the column of one end of a figure's interval; published figures' `difference` has none."""
    own = f"{name} {end}"
    if own in table:
        return own
    main = "measured" if "measured" in table else "difference" if "difference" in table else "value"
    return end if name == main else own


def _with_interval(value: float, low: float, high: float) -> str:
    interval = "no interval" if pd.isna(low) or pd.isna(high) else f"{plain(low)}, {plain(high)}"
    return f"{plain(value)} [{interval}]"
