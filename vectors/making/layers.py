"""Which layers are steered: a middle band by default, the published ones for models of the study and its forks."""

import tomllib
from collections.abc import Sequence
from functools import cache
from importlib import resources

from pydantic import BaseModel, ConfigDict

BAND = (0.44, 0.67)


class Preset(BaseModel):
    """Published settings for one model.

    Attributes:
        model: Its hub id.
        depth: Its number of decoder layers.
        layers: First and last layer steered.
        norm: Norm that each layer's vector was scaled to.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    depth: int
    layers: tuple[int, int]
    norm: float

    def band(self, depth: int) -> list[int]:
        """Return the layers, for a model of `depth` layers.

        Raises:
            ValueError: The model has another number of layers than the preset is for.
        """
        if depth != self.depth:
            raise ValueError(
                f"the preset for {self.model} is for {self.depth} layers, this model has {depth}; use --layers without --preset"
            )
        return list(range(self.layers[0], self.layers[1] + 1))


@cache
def presets() -> dict[str, Preset]:
    """Return the presets by name."""
    text = resources.files(__package__).joinpath("presets.toml").read_text(encoding="utf-8")
    return {name: Preset.model_validate(entry) for name, entry in tomllib.loads(text).items()}


def default_band(depth: int, model: str | None = None) -> list[int]:
    """Return the layers that a model is steered at unless told otherwise.

    Args:
        depth: Its number of decoder layers.
        model: Its name; if it is the hub id of a preset, the preset's layers are taken, else 44 to 67 % of the depth.
    """
    for preset in presets().values():
        if preset.model == model:
            return preset.band(depth)
    return list(range(round(BAND[0] * depth), min(round(BAND[1] * depth), depth - 1) + 1))


def checked_layers(layers: Sequence[int], depth: int) -> list[int]:
    """Return `layers` in ascending order.

    Raises:
        ValueError: There is none, one twice, or one that the model lacks.
    """
    outside = [layer for layer in layers if not 0 <= layer < depth]
    if outside or not layers:
        raise ValueError(f"layers {outside or list(layers)} are not in the model; it has 0 to {depth - 1}")
    if len(set(layers)) != len(layers):
        raise ValueError(f"layers {list(layers)} name one twice; name each layer once")
    return sorted(layers)
