"""What a vector is called, what a model is told of it, and how it is classed: the forty of the catalogue, and anybody's own."""

import re
import tomllib
from collections.abc import Iterable, Mapping
from functools import cache
from importlib import resources
from types import MappingProxyType
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Category = Literal["emotion", "cognitive", "recreational", "fictional", "invented", "stance"]
OWN_CATEGORY = "other"


class VectorEntry(BaseModel):
    """What is said of one vector.

    Attributes:
        effect: The one line that the list tool and the multiple choice show.
        category: Any word; those of the catalogue are `Category`.
        valence: -1 negative, 0 neutral, +1 positive, None where nobody has said.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    effect: Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\n\r]*\S[^\n\r]*$")]
    category: Annotated[str, Field(min_length=1, max_length=40)] = OWN_CATEGORY
    valence: Literal[-1, 0, 1] | None = None


class CatalogueEntry(VectorEntry):
    """One vector of the forty as data.

    Attributes:
        name: Identifier, also what the model passes to the take tool.
        category: One of the six categories of the library.
        valence: -1 negative, 0 neutral, +1 positive.
        reason: Why the valence is what it is.
        never: Words that this state's stories may not contain; a trailing `*` matches any ending.
        recurs: For obsessions, the name that each story says at least three times.
    """

    name: str
    category: Category
    valence: Literal[-1, 0, 1]
    reason: str
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


Own = Mapping[str, VectorEntry]
NO_OWN: Own = MappingProxyType({})


def described(name: str, own: Mapping[str, Any] | None = None) -> VectorEntry | None:
    """Return what is said of a vector: by its library, else by the catalogue; None where neither knows it.

    Args:
        name: The vector.
        own: What its library says of vectors that the catalogue lacks or tells otherwise (`LibraryCard.own`), as entries or
            as a log has them.

    Example:
        >>> described("calm").valence
        1
        >>> described("refusal", {"refusal": {"effect": "declining whatever is asked", "category": "safety"}}).category
        'safety'
    """
    if own and name in own:
        return VectorEntry.model_validate(own[name])
    return catalogue().get(name)


def entry_of(name: str, own: Mapping[str, Any] | None = None) -> VectorEntry:
    """Return the same; a vector that nobody describes is what its name says, of no valence."""
    return described(name, own) or VectorEntry(effect=" ".join(name.split("_")))


def in_order(names: Iterable[str]) -> list[str]:
    """Return names in the catalogue's order, those that it lacks behind in the alphabet's."""
    places = {name: place for place, name in enumerate(catalogue())}
    return sorted(names, key=lambda name: (places.get(name, len(places)), name))
