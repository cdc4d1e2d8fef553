"""What identifies a model, whatever engine runs it: its fingerprint, the tokens that end a turn, its decoder layers."""

import hashlib
import re
from dataclasses import dataclass

import torch
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from self_steering.steering.habits import stop_ids
from self_steering.steering.refusal import Refusal

_SAMPLES_A_TENSOR = 256


class ModelError(Refusal):
    """A model that cannot be loaded or used; the message names the remedy."""


@dataclass(frozen=True)
class ModelIdentity:
    """A model without its weights.

    Attributes:
        tokenizer: Its tokenizer.
        name: The name that it was requested by.
        source: The folder or hub id that it was loaded from.
        revision: Hub commit, where it came from a hub.
        fingerprint: Hash of its configuration and weights, the same for every dtype it is loaded in.
        end_ids: Tokens that end a turn.
        context: Most tokens that it takes.
        generation_config: How its makers sample from it.
    """

    tokenizer: PreTrainedTokenizerBase
    name: str
    source: str
    revision: str | None
    fingerprint: str
    end_ids: frozenset[int]
    context: int
    generation_config: GenerationConfig | None


def fingerprint(model: PreTrainedModel) -> str:
    """Return a hash of architecture and weights: of every parameter 256 values, evenly spread, rounded to bfloat16.

    It distinguishes checkpoints and does not depend on the dtype or device that the weights were loaded to. It is an
    identification, not a proof of integrity.
    """
    digest = hashlib.sha256(model.config.model_type.encode())
    for name, parameter in sorted(model.named_parameters()):
        flat = parameter.detach().reshape(-1)
        at = torch.linspace(0, flat.numel() - 1, min(_SAMPLES_A_TENSOR, flat.numel()), dtype=torch.float64).long()
        values = flat[at.to(flat.device)].to(torch.bfloat16).cpu().view(torch.int16)
        digest.update(f"{name}{tuple(parameter.shape)}".encode())
        digest.update(values.numpy().tobytes())
    return digest.hexdigest()[:32]


def end_of_turn_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """Return the tokens that end a turn: the generation configuration's, the tokenizer's and the chat template's."""
    configured = model.generation_config.eos_token_id if model.generation_config is not None else None
    ids = set(configured if isinstance(configured, list) else [configured])
    ids.add(tokenizer.eos_token_id)
    ids.discard(None)
    if not ids:
        raise ModelError("neither the generation configuration nor the tokenizer names an end-of-turn token")
    return stop_ids(tokenizer, [int(i) for i in ids])


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
