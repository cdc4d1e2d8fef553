"""The forty vectors by name: category, valence, and the one line that a model is shown."""

import re
import tomllib
from functools import cache
from importlib import resources
from typing import Literal

from pydantic import BaseModel, ConfigDict

Category = Literal["emotion", "cognitive", "recreational", "fictional", "invented", "stance"]


class CatalogueEntry(BaseModel):
    """One vector as data.

    Attributes:
        name: Identifier, also what the model passes to the take tool.
        category: One of the six categories of the library.
        valence: -1 negative, 0 neutral, +1 positive.
        reason: Why the valence is what it is.
        effect: The one line that the list tool and the multiple choice show.
        never: Words that this state's stories may not contain; a trailing `*` matches any ending.
        recurs: For obsessions, the name that each story says at least three times.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    category: Category
    valence: Literal[-1, 0, 1]
    reason: str
    effect: str
    never: tuple[str, ...]
    recurs: str | None = None

    def forbidden(self, text: str) -> list[str]:
        """Return the words of `text` that a story of this state may not contain, in order."""
        return _forbidden_pattern(self.never).findall(text)


@cache
def _forbidden_pattern(never: tuple[str, ...]) -> re.Pattern[str]:
    alternatives = (re.escape(word).replace(r"\*", r"\w*") for word in never)
    return re.compile(rf"\b(?:{'|'.join(alternatives)})\b", re.IGNORECASE)


@cache
def catalogue() -> dict[str, CatalogueEntry]:
    """Return all forty entries by name, in the order of `catalogue.toml`.

    Example:
        >>> calm = catalogue()["calm"]
        >>> calm.category, calm.valence
        ('emotion', 1)
        >>> len(catalogue())
        40
    """
    text = resources.files(__package__).joinpath("catalogue.toml").read_text(encoding="utf-8")
    return {name: CatalogueEntry(name=name, **entry) for name, entry in tomllib.loads(text).items()}
