"""Preallocated keys and values for a batch of rows of different lengths."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import Cache
from transformers.cache_utils import CacheLayerMixin

_GROW_BY = 256


@dataclass
class KeyValues:
    """Keys and values of consecutive tokens of one row: per layer a tensor [kv_heads, tokens, head_dim]."""

    keys: list[torch.Tensor]
    values: list[torch.Tensor]

    @property
    def nbytes(self) -> int:
        """Bytes of all layers."""
        return sum(t.numel() * t.element_size() for t in (*self.keys, *self.values))

    def slice(self, stop: int) -> "KeyValues":
        """Return the first `stop` tokens, as views."""
        return KeyValues([k[:, :stop] for k in self.keys], [v[:, :stop] for v in self.values])


class _ArenaLayer(CacheLayerMixin):  # type: ignore[no-untyped-call]  # the base class is untyped
    """One layer's buffers [rows, kv_heads, capacity, head_dim]; writes in place and hands out views."""

    is_compileable = False
    is_sliding = False

    def __init__(self, arena: "Arena") -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # the base class is untyped
        self._arena = arena

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        self.keys = self._buffer(key_states)
        self.values = self._buffer(value_states)
        self.is_initialized = True

    def _buffer(self, states: torch.Tensor) -> torch.Tensor:
        return states.new_zeros(self._arena.rows, states.shape[1], self._arena.capacity, states.shape[3])

    def reserve(self) -> None:
        """Grow both buffers to the arena's capacity, keeping what they hold."""
        if not self.is_initialized:
            return
        for name in ("keys", "values"):
            old = getattr(self, name)
            if old.shape[2] < self._arena.capacity:
                new = self._buffer(old)
                new[:, :, : old.shape[2]] = old
                setattr(self, name, new)

    def buffers(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return keys and values.

        Raises:
            RuntimeError: Nothing was ever written to them.
        """
        if self.keys is None or self.values is None:
            raise RuntimeError("this layer holds no keys and values yet")
        return self.keys, self.values

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_args: Any, **_kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        rows, tokens, past = key_states.shape[0], key_states.shape[2], self._arena.past
        if len(past) != rows:
            raise RuntimeError(f"{rows} rows were run with the lengths of {len(past)}")
        return self._written(0, key_states, max(past) + tokens), self._written(1, value_states, max(past) + tokens)

    def _written(self, which: int, states: torch.Tensor, length: int) -> torch.Tensor:
        """Write states [rows, kv_heads, tokens, head_dim] behind what the rows hold; return all of these up to a length."""
        own = self.buffers()[which].narrow(0, 0, len(states))
        if len(states) == 1:
            own.narrow(2, self._arena.past[0], states.shape[2]).copy_(states)
        else:
            own.index_put_(self._arena.places(states), states)
        return own.narrow(2, 0, length)

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.get_seq_length() + query_length, 0

    def get_seq_length(self) -> int:
        return max(self._arena.past, default=0)

    def get_max_length(self) -> int:
        return -1


class Arena(Cache):
    """Keys and values for up to `rows` rows; row r of a forward step is row r of the arena.

    Before each step `past` is set to the number of tokens that each row already holds.

    Args:
        rows: Number of rows.
        layers: Number of decoder layers.
    """

    def __init__(self, rows: int, layers: int) -> None:
        self.rows = rows
        self.capacity = _GROW_BY
        self._arena_layers = [_ArenaLayer(self) for _ in range(layers)]
        self.past = ()
        super().__init__(layers=[*self._arena_layers])

    @property
    def past(self) -> Sequence[int]:
        """Number of tokens that each row of the next step holds already."""
        return self._past

    @past.setter
    def past(self, past: Sequence[int]) -> None:
        self._past = past
        # What follows from it is made once a step, not in each layer.
        self._positions: dict[tuple[int, torch.device], torch.Tensor] = {}
        self._places: dict[tuple[torch.Size, torch.device], tuple[torch.Tensor, ...]] = {}

    def positions(self, tokens: int, device: torch.device) -> torch.Tensor:
        """Return the positions of the next tokens of each row [rows, tokens]."""
        key = (tokens, device)
        if key not in self._positions:
            past = torch.tensor(self._past, device=device)
            self._positions[key] = past[:, None] + torch.arange(tokens, device=device)
        return self._positions[key]

    def places(self, states: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return where a layer's new keys or values [rows, kv_heads, tokens, head_dim] belong: row, head and position of each."""
        rows, heads, tokens, _ = states.shape
        key = (states.shape[:3], states.device)
        if key not in self._places:
            row, head = (torch.arange(size, device=states.device) for size in (rows, heads))
            position = self.positions(tokens, states.device)
            self._places[key] = row[:, None, None], head[None, :, None], position[:, None]
        return self._places[key]

    def reserve(self, tokens: int) -> None:
        """Make room for rows of `tokens` tokens."""
        if tokens > self.capacity:
            before, self.capacity = self.capacity, -(-tokens // _GROW_BY) * _GROW_BY
            try:
                for layer in self._arena_layers:
                    layer.reserve()
            except BaseException:
                self.capacity = before  # memory ran out: layers that have grown already do no harm
                raise

    def load(self, row: int, start: int, block: KeyValues) -> None:
        """Copy `block` into `row` from position `start` on."""
        tokens = block.keys[0].shape[1]
        self.reserve(start + tokens)
        for layer, keys, values in zip(self._arena_layers, block.keys, block.values, strict=True):
            if not layer.is_initialized:
                layer.lazy_initialization(keys[None], values[None])
            own_keys, own_values = layer.buffers()
            own_keys[row, :, start : start + tokens] = keys
            own_values[row, :, start : start + tokens] = values

    def clear(self, row: int, start: int) -> None:
        """Zero a row from position `start` on. Attention weighs what it masks with 0, and 0 times NaN is NaN."""
        for layer in self._arena_layers:
            if layer.is_initialized:
                for buffer in layer.buffers():
                    buffer[row, :, start:] = 0

    def view(self, row: int, start: int, stop: int) -> KeyValues:
        """Return positions `start` to `stop` of a row, as views into the arena."""
        buffers = [layer.buffers() for layer in self._arena_layers]
        return KeyValues([k[row, :, start:stop] for k, _ in buffers], [v[row, :, start:stop] for _, v in buffers])

    def copy(self, row: int, start: int, stop: int) -> KeyValues:
        """Return positions `start` to `stop` of a row, as copies of their own."""
        block = self.view(row, start, stop)
        return KeyValues([k.clone() for k in block.keys], [v.clone() for v in block.values])
