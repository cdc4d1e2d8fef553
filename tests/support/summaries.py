"""What `self-steering table` says of a log, as numbers by name."""

from collections.abc import Mapping

from inspect_ai.log import EvalLog

from self_steering.analysis.report.summary import Figure, summarise


def figures(log: EvalLog, score: str, scorer: str = "") -> dict[str, float]:
    """Return the numbers of one score by cell, with `CELL_lower`, `CELL_upper`, and these bounds `_by_KEY` of a second interval."""
    rows = [row for row in summarise(log.samples) if row.score == score and scorer in ("", row.scorer)]
    return flat({row.cell: row.figure for row in rows})


def flat(of_cells: Mapping[str, Figure]) -> dict[str, float]:
    """Return figures as `figures` does."""
    found: dict[str, float] = {}
    for cell, figure in of_cells.items():
        found[cell] = figure.value
        if figure.interval:
            found[f"{cell}_lower"], found[f"{cell}_upper"] = figure.interval
        if figure.second:
            lower, upper = f"{cell}_lower_by_{figure.second_by}", f"{cell}_upper_by_{figure.second_by}"
            found[lower], found[upper] = figure.second
    return found


def headlines(log: EvalLog) -> dict[str, float]:
    """Return what a log carries itself: its metrics by the names that a terminal shows, in its order."""
    return {name: metric.value for score in log.results.scores for name, metric in score.metrics.items()}
