"""The adapter's files (weights, PEFT's configuration, the card that says how it was trained), and its merge into a model."""

import hashlib
import json
from importlib import resources
from pathlib import Path
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from self_steering.steering.bundled.planted import Planted
from self_steering.vectors.shown import OneLine, in_one_line

WEIGHTS_FILE, CONFIG_FILE, CARD_FILE = "adapter_model.safetensors", "adapter_config.json", "card.json"
REMEDY = "install the package again, or train the adapter again with `self-steering adapter train --out FOLDER`"
_PREFIX = "base_model.model."
_DOWN, _UP = ".lora_A.weight", ".lora_B.weight"


class AdapterError(ValueError):
    """An adapter that cannot be used; the message names the file and the remedy."""


class AdapterCard(BaseModel):
    """How the adapter was trained, and what it was taught to do.

    Attributes:
        format: Version of this format.
        base: Name of the model that it was trained on.
        base_fingerprint: Fingerprint of that model's weights.
        fingerprint: Fingerprint of the weights with the adapter merged in.
        vectors: Hash of the vectors that were injected, the base model's.
        sha256: Hash of the adapter's weights and of its configuration.
        seed: Seed of dialogues, scripts, initial weights and order.
        layers: First and last decoder layer that it changes.
        rank: Rank of each change.
        planted: What is planted, as in `planted.Planted`.
        examples: Number of dialogues of each kind, and of scripts.
        tokens: Tokens of all examples, and how many of each kind are learnt.
        loss_before: The base model's losses on examples that were not trained on, by kind, each a mean over tokens in nats above
            the least that there can be: of a call's `form`, of planted `share`s, of `prose` (from the base model's), and of what
            is asked after an injection.
        loss_after: The same with the adapter, as it is saved.
        curve: The same over each tenth of the training.
        seconds: What training took.
        versions: Versions of the libraries that trained it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[2] = 2
    base: OneLine
    base_fingerprint: OneLine
    fingerprint: OneLine
    vectors: OneLine
    sha256: dict[str, str]
    seed: int
    layers: tuple[int, int]
    rank: int
    planted: Planted
    examples: dict[str, int]
    tokens: dict[str, int]
    loss_before: dict[str, float]
    loss_after: dict[str, float]
    curve: list[dict[str, float]]
    seconds: int
    versions: dict[str, str]


def shipped_adapter() -> Path:
    """Return the folder of the bundled model's adapter."""
    return Path(str(resources.files(__package__).joinpath("weights")))


def read_card(folder: Path) -> AdapterCard:
    """Read the card of the adapter in `folder`, after a look at whether its files are those that it describes.

    Raises:
        AdapterError: A file is missing, torn, or another than the card's.
    """
    path = folder / CARD_FILE
    try:
        card = AdapterCard.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise AdapterError(f"{path} is no adapter's card ({in_one_line(error)}); {REMEDY}") from error
    for name in (WEIGHTS_FILE, CONFIG_FILE):
        try:
            found = content_hash(folder / name)
        except OSError as error:
            raise AdapterError(f"{folder / name} cannot be read ({in_one_line(error)}); {REMEDY}") from error
        if found != card.sha256.get(name):
            raise AdapterError(
                f"{folder / name} is not the file that its card describes (sha256 {found}, expected "
                f"{card.sha256.get(name)}); {REMEDY}"
            )
    return card


def content_hash(path: Path) -> str:
    """Return the hash that a card records of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


@torch.no_grad()
def merge_adapter(model: nn.Module, folder: Path) -> list[str]:
    """Add an adapter to a model's weights in place: W' = W + (alpha / rank) · B · A.

    Half-precision A and B are multiplied in double precision, where their products and sums are exact, so that the result
    does not depend on the order in which a machine sums: the fingerprint of the merged weights is the same everywhere.

    Args:
        model: The model that the adapter was trained on, in float32.
        folder: Folder with the adapter in PEFT's format.

    Returns:
        The names of the weights that changed.

    Raises:
        AdapterError: A file is missing or torn, or does not fit the model.
    """
    path = folder / WEIGHTS_FILE
    try:
        config = json.loads((folder / CONFIG_FILE).read_bytes())
        scale = config["lora_alpha"] / config["r"]
        tensors = load_file(path)
    except (OSError, ValueError, KeyError, TypeError, ArithmeticError, RecursionError, SafetensorError) as error:
        raise AdapterError(
            f"the adapter in {folder} cannot be read ({type(error).__name__}: {in_one_line(error)}); {REMEDY}"
        ) from error
    weights = dict(model.named_parameters())
    changed = []
    for key in sorted(name for name in tensors if name.endswith(_DOWN)):
        name = key.removeprefix(_PREFIX).removesuffix(_DOWN) + ".weight"
        down, up = tensors[key], tensors.get(key.removesuffix(_DOWN) + _UP)
        shaped = up is not None and down.dim() == up.dim() == 2 and up.shape[1] == down.shape[0] and name in weights
        if up is None or not shaped or weights[name].shape != (up.shape[0], down.shape[1]):
            raise AdapterError(f"{path}: {key} does not fit the model's {name}; {REMEDY}")
        exact = weights[name].double() + scale * (up.double() @ down.double())
        merged = exact.to(weights[name].dtype)
        if not torch.isfinite(merged).all():
            raise AdapterError(f"{path}: {key}, its counterpart or their scale is not finite, or too large; {REMEDY}")
        weights[name].copy_(merged)
        changed.append(name)
    if not changed or len(tensors) != 2 * len(changed):
        raise AdapterError(f"{path} holds {len(tensors)} tensors, of which {len(changed)} pairs fit; {REMEDY}")
    return changed
