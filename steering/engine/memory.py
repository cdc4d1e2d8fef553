"""Running out of memory: telling it from other errors, releasing what is cached, and setting rows aside."""

import gc
import re
from dataclasses import dataclass
from typing import Self

import torch

from self_steering.steering.engine.kv_cache import KeyValues
from self_steering.steering.engine.row import Row

_WORDS = re.compile(r"out of memory|can't allocate memory|not enough memory|failed to allocate", re.IGNORECASE)


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
