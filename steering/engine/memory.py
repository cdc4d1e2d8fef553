"""Memory: how much is used by default, telling that it ran out, releasing what is cached, and setting rows aside."""

import gc
import re
from dataclasses import dataclass
from typing import Self

import torch
from transformers import PreTrainedModel

from self_steering.steering.engine.kv_cache import KeyValues
from self_steering.steering.engine.requests import Row

_WORDS = re.compile(r"out of memory|can't allocate memory|not enough memory|failed to allocate", re.IGNORECASE)


# Where nothing is known of the memory, and on CPUs, whose rate hardly rises with more rows.
DEFAULT_SIZES = (8, 2 << 30)
# Shares of what the weights leave free: for the rows that decode, for past prompts; the rest is for what a step computes.
_DECODING, _CACHED = 0.4, 0.3
# Few conversations grow longer; those that do are met by a smaller batch (`Engine`), at the price of one step.
_TYPICAL_TOKENS = 8192
_MOST_ROWS = 64


def bytes_a_token(model: PreTrainedModel) -> int:
    """Return the bytes of one token's keys and values in all layers."""
    config = model.config.get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return int(2 * config.num_hidden_layers * heads * width * model.dtype.itemsize)


def free_bytes(model: PreTrainedModel) -> int | None:
    """Return what is free on the accelerators that a loaded model lies on; None on a CPU, or where they do not say."""
    devices = {parameter.device for parameter in model.parameters()}
    if any(device.type == "cpu" for device in devices) or not hasattr(torch.accelerator, "get_memory_info"):
        return None
    try:
        # Layers are spread evenly, so that the fullest device decides.
        return len(devices) * min(torch.accelerator.get_memory_info(device)[0] for device in devices)
    except (RuntimeError, AttributeError, ValueError):
        return None


def default_sizes(model: PreTrainedModel, context: int) -> tuple[int, int]:
    """Return how many rows of a loaded model decode together, and how many bytes of past prompts are kept, where nobody says."""
    free = free_bytes(model)
    return DEFAULT_SIZES if free is None else fitting_sizes(free, bytes_a_token(model), context)


def fitting_sizes(free: int, token: int, context: int) -> tuple[int, int]:
    """Return how many rows and how many bytes of past prompts' keys and values fit beside each other.

    Args:
        free: Bytes that the weights leave free.
        token: Bytes of one token's keys and values.
        context: Most tokens of a conversation.

    Returns:
        Rows, a power of two up to 64, so that a little more or less of memory changes nothing; and bytes.
    """
    rows = int(_DECODING * free / (token * min(context, _TYPICAL_TOKENS)))
    return min(_MOST_ROWS, 1 << max(0, rows.bit_length() - 1)), int(_CACHED * free)


class OutOfMemory(RuntimeError):  # noqa: N818  named as torch's and CUDA's own
    """Not even one conversation fits into memory; the message names the remedy."""

    def __init__(self, tokens: int, cause: str) -> None:
        super().__init__(
            f"out of memory over one conversation of {tokens} tokens, alone and with nothing else cached ({cause[:300]}); "
            "shorten it (-T turns or max_tokens, --message-limit), or load the model with -M dtype=bfloat16 or -M device_map=auto"
        )


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error says that memory ran out: torch says so by type on accelerators, and in words on the CPU."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and bool(_WORDS.search(str(error)))


def empty_cache() -> None:
    """Release memory that torch keeps cached, once nothing refers to it any more."""
    gc.collect()
    if torch.accelerator.is_available() and hasattr(torch.accelerator, "empty_cache"):
        torch.accelerator.empty_cache()


@dataclass(frozen=True)
class Parked:
    """A row that decodes when there is a place for it again; its keys and values wait in the CPU's memory.

    Attributes:
        row: The row.
        block: Its keys and values.
        devices: For each layer where they belong.
    """

    row: Row
    block: KeyValues
    devices: list[torch.device]

    @classmethod
    def from_view(cls, row: Row, view: KeyValues) -> Self:
        """Park a row with a copy of its keys and values."""
        block = KeyValues(*([t.to("cpu", copy=True) for t in part] for part in (view.keys, view.values)))
        return cls(row, block, [t.device for t in view.keys])

    def back(self) -> KeyValues:
        """Return the keys and values where they belong."""
        parts = (self.block.keys, self.block.values)
        return KeyValues(*([t.to(d) for t, d in zip(part, self.devices, strict=True)] for part in parts))
