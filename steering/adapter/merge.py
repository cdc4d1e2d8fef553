"""Merging the adapter into the weights, to the same bits on every machine."""

import json
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from self_steering.steering.adapter.card import CONFIG_FILE, REMEDY, WEIGHTS_FILE, AdapterError

_PREFIX = "base_model.model."
_DOWN, _UP = ".lora_A.weight", ".lora_B.weight"


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
