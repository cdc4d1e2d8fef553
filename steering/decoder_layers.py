"""Finding the decoder layers of a model, whoever wrote its class."""

import re

import torch


def find_layer_list(decoder: torch.nn.Module, count: int, model: str) -> tuple[str, torch.nn.ModuleList]:
    """Return name and list of the decoder layers.

    Args:
        decoder: The text decoder.
        count: How many layers its configuration says that it has.
        model: What to call the model in errors.

    Raises:
        ValueError: There is not exactly one list of that many layers.
    """
    found = [
        (name, module)
        for name, module in decoder.named_modules()
        if isinstance(module, torch.nn.ModuleList) and len(module) == count and re.search(r"(layers|h|blocks)$", name)
    ]
    if len(found) != 1:
        raise ValueError(
            f"{model}: expected one list of {count} decoder layers, found {[name for name, _ in found]}; this architecture "
            "is not supported"
        )
    return found[0]
