"""Two runs or two models side by side: each headline effect of one beside the other's, with the difference and its interval."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import pandas as pd

from self_steering.analysis.report.headline import Headline, said_condition
from self_steering.analysis.statistics import Estimate
from self_steering.analysis.statistics.two_estimates import difference

_COLUMNS = [
    *["effect", "source", "model", "arm", "condition", "first", "first low", "first high", "second", "second low"],
    *["second high", "difference", "low", "high", "n", "clusters", "method"],
]


@dataclass(frozen=True)
class Comparison:
    """Two things side by side.

    Attributes:
        kind: What they are: run, model.
        first: Name of the first.
        second: Name of the second.
        table: One row an effect that both have: both estimates, second - first, and its interval.
        only_first: How many effects only the first has.
        only_second: How many only the second has.
    """

    kind: str
    first: str
    second: str
    table: pd.DataFrame
    only_first: int
    only_second: int


def compare_runs(runs: Mapping[str, Sequence[Headline]]) -> list[Comparison]:
    """Return each run but the first beside the first.

    Effects are matched within a model and a source; across them only where each run is of one, and not of the same.
    """
    (first, of_first), *others = runs.items()
    return [_compared("run", (first, of_first), other, _matched_by(of_first, other[1])) for other in others]


def compare_models(headlines: Sequence[Headline]) -> list[Comparison]:
    """Return all pairs of models in logs of one source, those that share an effect."""
    models = sorted({(one.source, one.model) for one in headlines})
    parts = {key: [one for one in headlines if (one.source, one.model) == key] for key in models}
    found = [_compared("model", (a[1], parts[a]), (b[1], parts[b]), ("source",)) for a, b in combinations(models, 2)]
    return [one for one in found if len(one.table)]


def _matched_by(first: Sequence[Headline], second: Sequence[Headline]) -> tuple[str, ...]:
    """Return which of source and model two runs' effects must agree in."""
    must = []
    for name in ("source", "model"):
        ours, theirs = ({getattr(one, name) for one in part} for part in (first, second))
        if ours & theirs or len(ours) != 1 or len(theirs) != 1:
            must.append(name)
    return tuple(must)


def _compared(
    kind: str, first: tuple[str, Sequence[Headline]], second: tuple[str, Sequence[Headline]], must: tuple[str, ...]
) -> Comparison:
    ours, theirs = ({_key(one, must): one for one in part} for _, part in (first, second))
    rows = [_row(one, theirs[key]) for key, one in ours.items() if key in theirs]
    only = len(ours.keys() - theirs.keys()), len(theirs.keys() - ours.keys())
    return Comparison(kind, first[0], second[0], pd.DataFrame(rows, columns=_COLUMNS), *only)


def _key(one: Headline, must: tuple[str, ...]) -> tuple[object, ...]:
    return (one.effect, one.arm, one.condition, *(getattr(one, name) for name in must))


def _row(first: Headline, second: Headline) -> dict[str, object]:
    between = difference(first.estimate, second.estimate)
    return {
        "effect": first.effect,
        "source": " / ".join(dict.fromkeys((first.source, second.source))),
        "model": " / ".join(dict.fromkeys((first.model, second.model))),
        "arm": first.arm,
        "condition": said_condition(first),
        **_numbers("first", first.estimate),
        **_numbers("second", second.estimate),
        "difference": between.value,
        "low": between.low,
        "high": between.high,
        "n": between.n,
        "clusters": between.clusters,
        "method": between.method,
    }


def _numbers(name: str, estimate: Estimate) -> dict[str, object]:
    return {name: estimate.value, f"{name} low": estimate.low, f"{name} high": estimate.high}
