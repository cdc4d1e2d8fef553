"""The size of a model and of a card: from the model's config.json or from built-in data, without any weights."""

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, PositiveFloat
from transformers import AutoConfig, AutoModelForCausalLM

from self_steering.vectors.layers import default_band

HARDWARE_FILE = Path(__file__).with_name("hardware.toml")
BYTES = {"bfloat16": 2, "float16": 2, "float32": 4}


class ShapeError(ValueError):
    """A model or card whose size is not known; the message names what can be chosen."""


@dataclass(frozen=True)
class ModelShape:
    """What a model's memory and arithmetic follow from.

    Attributes:
        name: What it is called.
        layers: Decoder layers.
        hidden: Width of the residual stream.
        kv_heads: Heads of keys and values.
        head_dim: Numbers a head.
        parameters: All its parameters, embeddings included.
        number_bytes: Bytes a number, of weights, keys and values.
    """

    name: str
    layers: int
    hidden: int
    kv_heads: int
    head_dim: int
    parameters: int
    number_bytes: int

    @property
    def weight_bytes(self) -> int:
        """Bytes of all weights."""
        return self.parameters * self.number_bytes

    @property
    def token_bytes(self) -> int:
        """Bytes of one token's keys and values, in all layers."""
        return 2 * self.layers * self.kv_heads * self.head_dim * self.number_bytes

    def library_bytes(self, vectors: int) -> int:
        """Bytes of a vector library: float32, one row for each layer that is steered."""
        return vectors * len(default_band(self.layers, self.name)) * self.hidden * BYTES["float32"]


class Card(BaseModel):
    """An accelerator card, as its data sheet has it.

    Attributes:
        memory: GB.
        bandwidth: Of its memory, GB/s.
        tflops: Dense 16-bit arithmetic, 10^12 operations a second.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    memory: PositiveFloat
    bandwidth: PositiveFloat
    tflops: PositiveFloat


@cache
def _hardware() -> Mapping[str, Any]:
    return tomllib.loads(HARDWARE_FILE.read_text(encoding="utf-8"))


def card_names() -> list[str]:
    """Return the cards that are known."""
    return list(_hardware()["cards"])


def read_card(name: str) -> Card:
    """Return a card by its name.

    Raises:
        ShapeError: It is unknown.
    """
    if name not in card_names():
        raise ShapeError(f"the card {name!r} is unknown; choose from {', '.join(card_names())}")
    return Card.model_validate(_hardware()["cards"][name])


def read_shape(model: str, dtype: str = "bfloat16") -> ModelShape:
    """Return a model's size.

    Args:
        model: A built-in name, a config.json, or a folder that holds one; with or without the provider before it.
        dtype: Of its weights, keys and values.

    Raises:
        ShapeError: There is no such model, or it is of a kind whose size does not follow from these numbers.
    """
    if dtype not in BYTES:
        raise ShapeError(f"the dtype {dtype!r} is unknown; choose from {', '.join(BYTES)}")
    name = model.removeprefix("nnsight/")
    fields = _fields(name)
    if experts := [key for key in fields if "expert" in key]:
        raise ShapeError(
            f"{name} is a mixture of experts ({experts[0]}), whose arithmetic is another; only dense models are estimated"
        )
    try:
        config = AutoConfig.for_model(**fields)
        with torch.device("meta"):  # sizes without memory
            built = AutoModelForCausalLM.from_config(config)  # type: ignore[no-untyped-call]
        parameters = built.num_parameters()
        kv_heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ShapeError(
            f"{name}: its config.json is of no causal language model that transformers knows ({error})"
        ) from error
    return ModelShape(name, config.num_hidden_layers, config.hidden_size, kv_heads, head_dim, parameters, BYTES[dtype])


def _fields(name: str) -> dict[str, Any]:
    built_in = _hardware()["models"]
    if name in built_in:
        return dict(built_in[name])
    path = Path(name).expanduser()
    path = path / "config.json" if path.is_dir() else path
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ShapeError(
            f"no size of the model {name!r} is known ({error}); choose from {', '.join(built_in)}, or name "
            "a config.json or its folder"
        ) from error
    if not isinstance(fields, dict) or "model_type" not in fields:
        raise ShapeError(f"{path} names no model_type; name a model's config.json or its folder")
    return fields
