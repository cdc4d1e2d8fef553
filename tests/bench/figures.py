"""The figures that the benchmark is about, each with how far it is to reach."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Figure:
    """One figure.

    Attributes:
        name: What it is.
        reach: What it is to be at least, or at most.
        side: Which of the two.
    """

    name: str
    reach: float
    side: Literal["least", "most"]

    def reached(self, value: float) -> bool:
        """Return whether a value is within reach."""
        return value >= self.reach if self.side == "least" else value <= self.reach


FIGURES: Mapping[str, Figure] = {
    "steered_1": Figure("ours steered (band) ÷ plain generate, tokens/s, batch 1", 1.0, "least"),
    "steered_8": Figure("ours steered (band) ÷ plain generate, tokens/s, batch 8", 1.0, "least"),
    **{
        f"launch_{rows}": Figure(
            f"the same, narrow models that draw as their families do, least of 3, batch {rows}", 1.0, "least"
        )
        for rows in (1, 8, 32)
    },
    "batching": Figure("ours, 8 rows steered differently ÷ ours 1 row, tokens/s", 5.0, "least"),
    "conversation": Figure("tokens computed ÷ new tokens, 10-turn tool conversation", 1.15, "most"),
    "introspection": Figure("tokens computed, introspection, all arms, 10 rotations ÷ each alone", 0.35, "most"),
    "introspection_two": Figure("the same, 2 rotations", 0.35, "most"),
    "avoidable_two": Figure("the same ÷ the fewest that any engine must compute", 1.05, "most"),
    "rollouts": Figure("wall time, 32 free-play rollouts ÷ Inspect's hf provider, unsteered", 0.6, "most"),
    "step": Figure("decode step ÷ reading the weights once", 1.5, "most"),
    **{
        f"vllm_{rows}": Figure(f"ours on vLLM, steered (band) ÷ plain vLLM, tokens/s, batch {rows}", 0.9, "least")
        for rows in (1, 8, 32)
    },
    "drawing": Figure("choosing a token, batch 32, 151,936 words, slowest of 4 settings, ms a row", 1.0, "most"),
    "memory": Figure("memory after 1,000 samples ÷ after 50", 1.05, "most"),
}
