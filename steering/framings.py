"""What the steering tools are called in each framing: data that tools, plan and prompts share."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

FramingName = Literal["drugs", "aids", "vectors"]

CLEAR_TOOL = "clear_effects"
END_TOOL = "end_session"


@dataclass(frozen=True)
class Framing:
    """The words of one framing.

    Attributes:
        noun: What one of them is called, in the singular.
        plural: The same in the plural.
        article: The indefinite article of the noun.
    """

    noun: str
    plural: str
    article: str

    @property
    def take_tool(self) -> str:
        """Name of the tool that starts an effect."""
        return f"take_{self.noun}"

    @property
    def list_tool(self) -> str:
        """Name of the tool that shows what there is."""
        return f"list_{self.plural}"


FRAMINGS: Mapping[FramingName, Framing] = MappingProxyType(
    {
        "drugs": Framing(noun="drug", plural="drugs", article="a"),
        "aids": Framing(noun="aid", plural="aids", article="an"),
        "vectors": Framing(noun="vector", plural="vectors", article="a"),
    }
)

TAKE_TOOLS = frozenset(framing.take_tool for framing in FRAMINGS.values())
