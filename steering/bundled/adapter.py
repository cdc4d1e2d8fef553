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

WEIGHTS_FILE, CONFIG_FILE, CARD_FILE = "adapter_model.safetensors", "adapter_config.json", "card.json"
REMEDY = "install the package again, or train the adapter again with `self-steering adapter train --out FOLDER`"
_PREFIX = "base_model.model."
_DOWN, _UP = ".lora_A.weight", ".lora_B.weight"


class AdapterError(ValueError):
    """An adapter that cannot be used; the message names the file and the remedy."""


class Loss(BaseModel):
    """Loss on dialogues that were not trained on, each a mean over tokens, in nats.

    Attributes:
        form: Cross-entropy of what is learnt as it stands: calls, where prose begins, and where turns end.
        prose: Divergence KL(base ‖ adapted) of the next token in prose.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    form: float
    prose: float


class AdapterCard(BaseModel):
    """How the adapter was trained.

    Attributes:
        format: Version of this format.
        base: Name of the model that it was trained on.
        base_fingerprint: Fingerprint of that model's weights.
        fingerprint: Fingerprint of the weights with the adapter merged in.
        sha256: Hash of the adapter's weights and of its configuration.
        seed: Seed of dialogues, initial weights and order.
        layers: First and last decoder layer that it changes.
        rank: Rank of each change.
        dialogues: Number of dialogues of each kind.
        tokens: Tokens of all dialogues, and of those the ones whose form and whose prose is learnt.
        vectors: For each vector, how many take calls name it.
        labels: The same for opaque labels.
        doses: How many take calls have each dose; `default` where it is left out.
        framings: How many take calls are made in each framing.
        loss_before: Held-out loss of the base model.
        loss_after: Held-out loss with the adapter, as it is saved.
        seconds: What training took.
        versions: Versions of the libraries that trained it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    base: str
    base_fingerprint: str
    fingerprint: str
    sha256: dict[str, str]
    seed: int
    layers: tuple[int, int]
    rank: int
    dialogues: dict[str, int]
    tokens: dict[str, int]
    vectors: dict[str, int]
    labels: dict[str, int]
    doses: dict[str, int]
    framings: dict[str, int]
    loss_before: Loss
    loss_after: Loss
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
        raise AdapterError(f"{path} is no adapter's card ({error}); {REMEDY}") from error
    for name in (WEIGHTS_FILE, CONFIG_FILE):
        try:
            found = content_hash(folder / name)
        except OSError as error:
            raise AdapterError(f"{folder / name} cannot be read ({error}); {REMEDY}") from error
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
    except (OSError, ValueError, KeyError, TypeError, ZeroDivisionError, RecursionError, SafetensorError) as error:
        raise AdapterError(f"the adapter in {folder} cannot be read ({error!r}); {REMEDY}") from error
    weights = dict(model.named_parameters())
    changed = []
    for key in sorted(name for name in tensors if name.endswith(_DOWN)):
        name = key.removeprefix(_PREFIX).removesuffix(_DOWN) + ".weight"
        down, up = tensors[key], tensors.get(key.removesuffix(_DOWN) + _UP)
        fits = up is not None and name in weights and weights[name].shape == (up.shape[0], down.shape[1])
        if up is None or not fits or up.shape[1] != down.shape[0]:
            raise AdapterError(f"{path}: {key} does not fit the model's {name}; {REMEDY}")
        if not (torch.isfinite(down).all() and torch.isfinite(up).all()):
            raise AdapterError(f"{path}: {key} or its counterpart is not finite; {REMEDY}")
        exact = weights[name].double() + scale * (up.double() @ down.double())
        weights[name].copy_(exact.to(weights[name].dtype))
        changed.append(name)
    if not changed or len(tensors) != 2 * len(changed):
        raise AdapterError(f"{path} holds {len(tensors)} tensors, of which {len(changed)} pairs fit; {REMEDY}")
    return changed
