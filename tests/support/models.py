"""Tiny random models of real architectures, with the bundled model's tokenizer and chat templates that behave like theirs."""

from collections.abc import Sequence
from copy import copy
from functools import cache
from pathlib import Path

import torch
from transformers import (
    AutoTokenizer,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from self_steering.steering.bundled.conversion import BUNDLED_BASE, bundled_model_folder
from self_steering.steering.engine.engine import Engine
from self_steering.steering.engine.forward import SteeredModel
from self_steering.steering.identity import end_of_turn_ids
from self_steering.vectors.directions import DirectionTensor

ARCHITECTURES = ("llama", "qwen3", "gemma3")
CONTEXT = 1024

_COMMON = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": CONTEXT,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 2,
}


def tiny_model(architecture: str, vocabulary: int, seed: int = 0, **changes: float) -> PreTrainedModel:
    """Return a random model of `architecture`; its logits differ enough between tokens to tell runs apart."""
    torch.manual_seed(seed)
    common = {**_COMMON, "vocab_size": vocabulary, "initializer_range": 0.2, **changes}
    if architecture == "llama":
        return LlamaForCausalLM(LlamaConfig(**common)).eval()
    if architecture == "qwen3":
        return Qwen3ForCausalLM(Qwen3Config(**common)).eval()
    # A short sliding window, so that prompts of a few dozen tokens reach beyond it.
    kinds = ["sliding_attention", "sliding_attention", "full_attention"] * (int(common["num_hidden_layers"]) // 3)
    return Gemma3ForCausalLM(
        Gemma3TextConfig(**common, sliding_window=16, layer_types=kinds, query_pre_attn_scalar=16)
    ).eval()


@cache
def shared_model(architecture: str, vocabulary: int) -> PreTrainedModel:
    """Return the same random model of `architecture` each time, for tests that leave it as it is."""
    return tiny_model(architecture, vocabulary)


def growing_tokenizer() -> PreTrainedTokenizerBase:
    """Return the bundled model's tokenizer, loaded anew: tokens may be added to it."""
    return AutoTokenizer.from_pretrained(bundled_model_folder(BUNDLED_BASE))


_shared_tokenizer = cache(growing_tokenizer)


def bundled_tokenizer() -> PreTrainedTokenizerBase:
    """Return the bundled model's tokenizer: its template and settings may be changed, its tokens are all tests'."""
    made = copy(_shared_tokenizer())
    made.__dict__.update({name: copy(value) for name, value in made.__dict__.items() if isinstance(value, dict | list)})
    return made


def save_tiny_model(folder: Path, architecture: str = "llama", template: str | None = None, seed: int = 0) -> Path:
    """Save a tiny model with its tokenizer to `folder`, as a local model that the provider loads."""
    tokenizer = bundled_tokenizer()
    if template is not None:
        tokenizer.chat_template = template
    tiny_model(architecture, len(tokenizer), seed).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def make_engine(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, *, max_batch: int = 8, cache_budget: int = 1 << 28
) -> Engine:
    """Return an engine over `model`; close it after use."""
    return Engine(
        SteeredModel(model, tokenizer),
        tokenizer,
        end_ids=end_of_turn_ids(model, tokenizer),
        context=CONTEXT,
        max_batch=max_batch,
        cache_budget=cache_budget,
    )


def random_direction(layers: tuple[int, ...], hidden: int, seed: int, size: float = 4.0) -> DirectionTensor:
    """Return a random direction; its key is its seed, size and layers."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(len(layers), hidden, generator=generator)
    return DirectionTensor(f"{seed}-{size}-{layers}", layers, size * values / values.norm(dim=-1, keepdim=True))


@torch.no_grad()
def plain_reading(model: PreTrainedModel, ids: Sequence[int]) -> tuple[list[torch.Tensor], torch.Tensor]:
    """Return every layer's output [tokens, hidden] and the logits [tokens, vocabulary] of one plain pass, without cache."""
    outputs: list[torch.Tensor] = []

    def keep(module: torch.nn.Module, args: object, output: torch.Tensor) -> None:
        outputs.append(output[0])

    hooks = [layer.register_forward_hook(keep) for layer in model.get_decoder().layers]
    logits = model(torch.tensor([list(ids)]), use_cache=False).logits[0]
    for hook in hooks:
        hook.remove()
    return outputs, logits
