"""The statistical methods that a report names, and what they are."""

import re
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib import resources

import pandas as pd


@dataclass(frozen=True)
class Method:
    """One statistical method.

    Attributes:
        name: As the appendix calls it.
        pattern: Regular expression that finds it in what a report says, upper and lower case alike.
        what: What it does, in a sentence or two.
    """

    name: str
    pattern: str
    what: str


@cache
def methods() -> tuple[Method, ...]:
    """Return all methods that are described, in the appendix's order."""
    text = resources.files(__package__).joinpath("report_methods.toml").read_text(encoding="utf-8")
    return tuple(Method(**entry) for entry in tomllib.loads(text)["method"])


def methods_named(texts: Iterable[str]) -> list[Method]:
    """Return the methods that are named in any of the texts, in the appendix's order."""
    said = "\n".join(texts)
    return [method for method in methods() if re.search(method.pattern, said, re.IGNORECASE)]


def undescribed(table: pd.DataFrame) -> list[str]:
    """Return what a table's columns of methods and tests name that is not described here, in order."""
    named = [
        word
        for column in table
        if str(column).endswith(("method", "test"))
        for word in table[column].drop_duplicates()
        if isinstance(word, str) and word and not word.startswith("no ")
    ]
    return [word for word in dict.fromkeys(named) if not methods_named([word])]


def table_texts(table: pd.DataFrame) -> list[str]:
    """Return a table's column names and its different words, where methods may be named."""
    words = [str(column) for column in table]
    for column in table.select_dtypes(exclude="number"):
        words += [cell for cell in table[column].drop_duplicates() if isinstance(cell, str)]
    return words
