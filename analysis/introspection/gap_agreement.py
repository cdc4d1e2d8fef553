"""Do two models, or two experiments, agree on which vectors are recognised? Vector by vector."""

from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from self_steering.analysis.drawing.frame_rows import Row, estimated, groups
from self_steering.analysis.page.page_text import model_name
from self_steering.analysis.introspection.reading_gaps import CONDITION
from self_steering.analysis.statistics import correlation

_FEWEST = 3
PAIR = ["first", "second", "primer"]


def model_pairs(of_vectors: pd.DataFrame) -> pd.DataFrame:
    """Return the vectors that two models share, one row a pair of models and vector.

    Compared are two models of one source under the same primer, framing and number of options, and one model in logs of two
    sources under the same primer; all in the real arm.

    Args:
        of_vectors: Of `vector_gaps`.

    Returns:
        `first`, `second` (the models, the source in brackets), `primer`, `vector`, `category`, `x` and `y`, their gaps.
    """
    real = of_vectors[of_vectors["arm"] == "real"] if len(of_vectors) else of_vectors
    parts = [part for _, part in groups(real, CONDITION)] if len(real) else []
    found = []
    for one, other in combinations(parts, 2):
        if _comparable(one.iloc[0], other.iloc[0]):
            both = one.merge(other[["vector", "gap"]], on="vector", suffixes=("", "_other"))
            names = {"first": _name(one.iloc[0]), "second": _name(other.iloc[0])}
            both = both.assign(**names).rename(columns={"gap": "x", "gap_other": "y"})
            found.append(both[[*PAIR, "vector", "category", "x", "y"]])
    return _stacked(found)


def experiment_pairs(of_choice: pd.DataFrame, of_ratings: pd.DataFrame) -> pd.DataFrame:
    """Return vectors that were read both ways, one row a model, primer and vector: free text against multiple choice.

    Args:
        of_choice: `vector_gaps` of the multiple choice.
        of_ratings: `vector_gaps` of the free text.

    Returns:
        As `model_pairs`: `first` is the model's multiple choice, `second` its free text, `x` the gap of the one, `y` of the other.
    """
    if of_choice.empty or of_ratings.empty:
        return _stacked([])
    choice, ratings = (frame[frame["arm"] == "real"] for frame in (of_choice, of_ratings))
    found = []
    for key, one in groups(choice, CONDITION):
        for other_key, other in groups(ratings, CONDITION):
            if all(_same(key[name], other_key[name]) for name in ("source", "model", "primer")):
                both = one.merge(other[["vector", "gap"]], on="vector", suffixes=("", "_other"))
                name = model_name(key["model"], key["source"])
                both = both.assign(first=f"{name}, multiple choice", second=f"{name}, free text")
                both = both.rename(columns={"gap": "x", "gap_other": "y"})
                found.append(both[[*PAIR, "vector", "category", "x", "y"]])
    return _stacked(found)


def correlations(pairs: pd.DataFrame) -> pd.DataFrame:
    """Return Pearson's and Spearman's correlation of every pair, over vectors.

    Args:
        pairs: Of `model_pairs` or `experiment_pairs`.

    Returns:
        One row a pair: `first`, `second`, `primer`, `vectors`; `pearson` and `spearman`, each with `_low`, `_high` and `_p`;
        `method` and `test`. A pair with fewer than three vectors, or without any spread on one side, has none of these numbers.
    """
    rows = []
    for key, part in groups(pairs, PAIR) if len(pairs) else ():
        row: Row = {**key, "vectors": len(part)}
        if len(part) >= _FEWEST and min(np.ptp(part[side]) for side in ("x", "y")) > 0:
            for kind in ("pearson", "spearman"):
                estimate, test = correlation(part["x"], part["y"], kind)
                row |= {**estimated(kind, estimate), f"{kind}_p": test.p}
                row |= {f"{kind}_method": estimate.method, f"{kind}_test": test.method}
        rows.append(row)
    return pd.DataFrame(rows)


def outliers(pairs: pd.DataFrame, most: int) -> list[str]:
    """Return the vectors of one pair that lie farthest from the line that fits the others, and from the middle, farthest first.

    Args:
        pairs: The rows of one pair.
        most: How many at most.
    """
    spread = pairs[["x", "y"]].std(ddof=0).replace(0, 1)
    standard = (pairs[["x", "y"]] - pairs[["x", "y"]].median()) / spread
    # The farther of the distance across the diagonal and of that along it, the latter at half its weight.
    across, along = (standard["x"] - standard["y"]).abs(), (standard["x"] + standard["y"]).abs() / 2
    far = pd.concat([across, along], axis=1).max(axis=1)
    return list(pairs.loc[far.sort_values(ascending=False).index[:most], "vector"])


def _comparable(one: Any, other: Any) -> bool:
    if not _same(one["primer"], other["primer"]):
        return False
    if one["source"] != other["source"]:
        return bool(one["model"].casefold() == other["model"].casefold())
    return one["model"] != other["model"] and all(_same(one[name], other[name]) for name in ("framing", "options"))


def _same(one: Any, other: Any) -> bool:
    return bool(one == other) or (pd.isna(one) and pd.isna(other))


def _name(of: Any) -> str:
    return model_name(of["model"], of["source"])


def _stacked(found: list[pd.DataFrame]) -> pd.DataFrame:
    columns = [*PAIR, "vector", "category", "x", "y"]
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame(columns=columns)
