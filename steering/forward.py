"""One forward step of the model with additive steering at given token positions: the only place that touches h.

h' = h + strength * v at the output of each steered decoder layer. h' is not renormalised. Each step measures what it did:
which positions changed, by how much, and the projection of h on v before and after. Planned and realised must agree.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import nnsight
import torch
from cachetools import LRUCache
from nnsight import _c as nnsight_c
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from self_steering.steering.additions import settled
from self_steering.steering.decoder_layers import find_layer_list
from self_steering.steering.kv_cache import Arena
from self_steering.steering.packed import pack_linears

# nnsight adds a method `save` to every object of the process, which breaks libraries that are imported later and look
# at the attributes of their classes (anyio's typed attributes raise). We call `nnsight.save` instead.
if nnsight_c.unmount is not None and hasattr(object, "save"):
    nnsight_c.unmount("save")

_MASKS = {"full_attention", "sliding_attention"}
_ATTENTION = {"sdpa", "eager"}
# Entries, one a direction and layer.
_DIRECTIONS_ON_DEVICE = 2048
# Decoding steers the same rows in the same way until one joins, leaves, or opens a window; an entry is one layer's.
_ADDITIONS_KEPT = 256
_FINAL_NORMS = {"norm", "final_layernorm", "final_layer_norm", "ln_f"}


class SteeringFault(RuntimeError):  # noqa: N818  a fault in the field's sense, not a caller's error
    """Planned and realised steering differ: the result would be a lie, so there is none.

    Attributes:
        rows: Rows of the batch that it concerns; empty if it concerns all of them.
    """

    def __init__(self, message: str, rows: Sequence[int] = ()) -> None:
        super().__init__(message)
        self.rows = tuple(rows)


@dataclass(frozen=True)
class DirectionTensor:
    """A direction, ready to be added.

    Attributes:
        key: Hash of its content: layers and values.
        layers: Indices of the decoder layers whose outputs it is added to, ascending.
        values: Tensor [len(layers), hidden], float32, on the CPU.
    """

    key: str
    layers: tuple[int, ...]
    values: torch.Tensor

    @property
    def monitor_layer(self) -> int:
        """The layer at which receipts measure the projection: the middle one."""
        return self.layers[len(self.layers) // 2]

    def at(self, layer: int) -> torch.Tensor:
        """Return the vector [hidden] of one layer."""
        return self.values[self.layers.index(layer)]


@dataclass(frozen=True)
class Edit:
    """Steering of one row by one window in one step.

    Attributes:
        row: Row of the batch.
        start: First token of the step that is steered.
        stop: First token of the step that no longer is.
        direction: What is added.
        strength: Multiple that is added.
    """

    row: int
    start: int
    stop: int
    direction: DirectionTensor
    strength: float


@dataclass
class StepResult:
    """What a step computed and did.

    Attributes:
        logits: Tensor [rows, vocabulary] at each row's last token, float32, on the CPU.
        projections: For each edit, a tensor [2, tokens]: h·v/‖v‖ at the edit's monitor layer before and after.
    """

    logits: torch.Tensor
    projections: list[torch.Tensor] = field(default_factory=list)


@dataclass
class Reading:
    """What the unsteered model holds while it reads.

    Attributes:
        outputs: For each decoder layer its output [rows, tokens, hidden].
        logits: Tensor [rows, tokens, vocabulary], where asked for.
    """

    outputs: list[torch.Tensor]
    logits: torch.Tensor | None


class SteeredModel:
    """A decoder-only transformers model whose layer outputs can be edited through nnsight.

    Args:
        model: The model. It is made this one's own: put into evaluation mode, its linear layers packed.
        tokenizer: Its tokenizer.

    Raises:
        ValueError: The decoder layers cannot be told, or the model's attention is of a kind that is not supported.
    """

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
        model.requires_grad_(requires_grad=False).train(mode=False)
        self.hf = model
        self.text_config = model.config.get_text_config()
        self.layers_path, modules = _find_layers(model, self.text_config.num_hidden_layers)
        self.n_layers = len(modules)
        self.hidden = int(self.text_config.hidden_size)
        embeddings: Any = model.get_input_embeddings()
        head: Any = model.get_output_embeddings()  # type: ignore[no-untyped-call]  # untyped in transformers
        self.vocabulary = int(head.weight.shape[0])
        self._head_device: torch.device = head.weight.device
        self.device: torch.device = embeddings.weight.device
        self.dtype = model.dtype
        self.layer_types = _layer_types(self.text_config, self.n_layers)
        self._additive_masks = _attention(self.text_config) == "eager"
        pack_linears(model)
        self._nn = nnsight.TransformersModel(model, tokenizer=tokenizer)
        envoy: Any = self._nn
        for name in self.layers_path.split("."):
            envoy = getattr(envoy, name)
        self._layers = envoy
        # Sweeps over random directions would fill an accelerator's memory.
        self._on_device: LRUCache[tuple[str, int], tuple[torch.Tensor, torch.Tensor]] = LRUCache(_DIRECTIONS_ON_DEVICE)
        self._additions: LRUCache[tuple[Any, ...], _Additions] = LRUCache(_ADDITIONS_KEPT)

    def new_arena(self, rows: int) -> Arena:
        """Return empty keys and values for `rows` rows."""
        return Arena(rows, self.n_layers)

    @torch.no_grad()
    def step(self, ids: torch.Tensor, arena: Arena, edits: Sequence[Edit] = ()) -> StepResult:
        """Run `ids` [rows, tokens] after what `arena` holds (`arena.past`), steering as `edits` say.

        Raises:
            SteeringFault: What was realised is not what was planned.
        """
        rows, tokens = ids.shape
        inputs = {**self._inputs(ids, arena), "logits_to_keep": 1}
        if not edits:
            return StepResult(self.hf(**inputs).logits[:, -1].float().cpu())
        per_layer = [_LayerEdits(layer, edits, (rows, tokens), self) for layer in _layers_of(edits)]

        def forward(*_: Any, **__: Any) -> Any:
            return self.hf(**inputs)

        # nnsight would take the inputs apart and batch them anew (and fails on a dictionary of masks); ours are ready.
        with self._nn.trace(inputs["input_ids"], fn=forward) as tracer:
            for work in per_layer:
                work.apply(self._layers[work.layer].output)
            logits = nnsight.save(tracer.result.logits)
        _verify(per_layer)
        return StepResult(logits[:, -1].float().cpu(), _projections(per_layer, edits))

    @torch.no_grad()
    def read(self, ids: torch.Tensor, arena: Arena | None = None, *, logits: bool = False) -> Reading:
        """Read `ids` [rows, tokens] after what `arena` holds, nothing steered.

        Args:
            ids: The tokens; pad on the right, where causal attention keeps it from touching what stands before.
            arena: Keys and values of what was before, which takes in those of `ids` too; None starts afresh.
            logits: Whether the logits at every position are wanted.
        """
        rows = len(ids)
        if arena is None:
            arena = self.new_arena(rows)
            arena.past = (0,) * rows
        inputs = {**self._inputs(ids, arena), "logits_to_keep": 0 if logits else 1}
        outputs: list[torch.Tensor] = []

        def forward(*_: Any, **__: Any) -> Any:
            return self.hf(**inputs)

        with self._nn.trace(inputs["input_ids"], fn=forward) as tracer:
            for layer in range(self.n_layers):
                output = self._layers[layer].output
                outputs.append(output[0] if isinstance(output, tuple) else output)
            found = nnsight.save(tracer.result.logits)
        return Reading(outputs, found if logits else None)

    def _inputs(self, ids: torch.Tensor, arena: Arena) -> dict[str, Any]:
        """Return what the model is called with to run `ids` after what `arena` holds."""
        tokens = ids.shape[1]
        arena.reserve(max(arena.past) + tokens)
        past = torch.tensor(arena.past, device=self.device)
        positions = past[:, None] + torch.arange(tokens, device=self.device)
        return {
            "input_ids": ids.to(self.device),
            "position_ids": positions,
            "attention_mask": self._masks(positions, max(arena.past) + tokens),
            "past_key_values": arena,
            "use_cache": True,
        }

    @torch.no_grad()
    def unembed(self, h: torch.Tensor) -> torch.Tensor:
        """Return what a residual-stream vector [hidden] is worth to each token [vocabulary], through final norm and unembedding.

        Raises:
            ValueError: The decoder's final norm cannot be told.
        """
        decoder: Any = self.hf.get_decoder()  # type: ignore[no-untyped-call]  # untyped in transformers
        norms = [module for name, module in decoder.named_children() if name in _FINAL_NORMS]
        if len(norms) != 1:
            raise ValueError(
                f"{type(decoder).__name__}: no final norm among {[name for name, _ in decoder.named_children()]}"
            )
        head: Any = self.hf.get_output_embeddings()  # type: ignore[no-untyped-call]  # untyped in transformers
        normed = norms[0](h.to(next(norms[0].parameters()).device, self.dtype)[None])
        return torch.as_tensor(head(normed.to(self._head_device))[0]).float().cpu()

    def vector(self, direction: DirectionTensor, layer: int, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (v, v/‖v‖) of a layer in float32 on the device of `like`."""
        key = (direction.key, layer)
        found = self._on_device.get(key)
        if found is None:
            value = direction.at(layer).to(like.device)
            found = self._on_device[key] = (value, value / value.norm())
        return found

    def additions(self, layer: int, edits: Sequence[Edit], shape: tuple[int, int], like: torch.Tensor) -> "_Additions":
        """Return what `edits` add at a layer in a step of `shape`, on the device and in the dtype of `like`."""
        here = [(index, edit) for index, edit in enumerate(edits) if layer in edit.direction.layers]
        if shape[1] > 1:
            return _Additions(layer, here, shape, self, like)  # a prompt's chunk: its like does not come again
        key = (layer, shape, *((i, e.row, e.start, e.stop, e.direction.key, e.strength) for i, e in here))
        found = self._additions.get(key)
        if found is None:
            found = self._additions[key] = _Additions(layer, here, shape, self, like)
        return found

    def _masks(self, positions: torch.Tensor, length: int) -> torch.Tensor | dict[str, torch.Tensor]:
        """Return attention masks [rows, 1, tokens, length], one a kind of layer where there are several."""
        query = positions[:, None, :, None]
        key = torch.arange(length, device=self.device)[None, None, None, :]
        causal = key <= query
        masks = {"full_attention": causal}
        if "sliding_attention" in self.layer_types:
            masks["sliding_attention"] = causal & (key > query - int(self.text_config.sliding_window))
        if self._additive_masks:
            masks = {kind: self._additive(mask) for kind, mask in masks.items()}
        kinds = set(self.layer_types)
        return masks[kinds.pop()] if len(kinds) == 1 else masks

    def _additive(self, mask: torch.Tensor) -> torch.Tensor:
        """Return a mask that is added to the attention's weights: eager attention would add a boolean one as 0 and 1."""
        zero = torch.zeros((), dtype=self.dtype, device=mask.device)
        return torch.where(mask, zero, torch.finfo(self.dtype).min)


class _Additions:
    """What one layer's edits add in a step, ready to be added: steps that steer the same places alike share it.

    Attributes:
        rows: Row of each planned position [planned].
        tokens: Token of each [planned].
        delta: What is added there [planned, hidden], in the model's dtype.
        expected: Where that is anything but zero [rows, tokens].
        measured: For each edit that is measured here its index, its place, and its unit vector [hidden].
    """

    def __init__(
        self,
        layer: int,
        edits: Sequence[tuple[int, Edit]],
        shape: tuple[int, int],
        model: SteeredModel,
        like: torch.Tensor,
    ) -> None:
        delta = torch.zeros((*shape, like.shape[-1]), dtype=torch.float32, device=like.device)
        gross = torch.zeros_like(delta)
        planned = torch.zeros(shape, dtype=torch.bool, device=like.device)
        self.measured: list[tuple[int, tuple[int, slice], torch.Tensor]] = []
        for index, edit in edits:
            vector, unit = model.vector(edit.direction, layer, like)
            addition = edit.strength * vector
            delta[edit.row, edit.start : edit.stop] += addition
            gross[edit.row, edit.start : edit.stop] += addition.abs()
            planned[edit.row, edit.start : edit.stop] = True
            if edit.direction.monitor_layer == layer:
                self.measured.append((index, (edit.row, slice(edit.start, edit.stop)), unit))
        # Windows that cancel leave a rounding error of their sum behind, which is no steering.
        delta = settled(delta, gross)
        self.expected = (delta != 0).any(-1)
        self.rows, self.tokens = planned.nonzero(as_tuple=True)
        self.delta = delta[self.rows, self.tokens].to(like.dtype)


class _LayerEdits:
    """All edits of one layer in one step: applies them, and measures what happened to h.

    `faults` [rows, 3] counts the positions that changed unplanned, did not change as planned, changed by another amount.
    """

    def __init__(self, layer: int, edits: Sequence[Edit], shape: tuple[int, int], model: SteeredModel) -> None:
        self.layer = layer
        self.faults: torch.Tensor | None = None
        self.projections: dict[int, torch.Tensor] = {}
        self._edits = edits
        self._shape = shape
        self._model = model

    def apply(self, output: torch.Tensor | tuple[torch.Tensor, ...]) -> None:
        h = output[0] if isinstance(output, tuple) else output
        added = self._model.additions(self.layer, self._edits, self._shape, h)
        before = h.clone()
        # Only the planned positions are written: elsewhere h is not even touched by a zero.
        h[added.rows, added.tokens] = before[added.rows, added.tokens] + added.delta
        self._measure(before, h, added)

    def _measure(self, before: torch.Tensor, after: torch.Tensor, added: _Additions) -> None:
        changed = (after != before).any(-1)
        old, new, delta = before[added.rows, added.tokens], after[added.rows, added.tokens], added.delta
        # One unit of rounding for the addition and one for forming the difference, at the size of what was added up.
        size = old.abs() + new.abs() + delta.abs()
        error = (new.float() - old.float() - delta.float()).abs()
        wrong = ~after.isfinite().all(-1)
        wrong[added.rows, added.tokens] |= (error > 4 * torch.finfo(after.dtype).eps * size.float()).any(-1)
        faults = [changed & ~added.expected, added.expected & ~changed, wrong]
        self.faults = torch.stack([fault.sum(-1) for fault in faults], -1)
        for index, where, unit in added.measured:
            self.projections[index] = torch.stack([before[where].float() @ unit, after[where].float() @ unit])


def _verify(per_layer: Sequence[_LayerEdits]) -> None:
    """Raise unless every layer's edits ran, changed h where they should, nowhere else, and by the right amount."""
    silent = [work.layer for work in per_layer if work.faults is None]
    if silent:
        raise SteeringFault(f"the edits of layers {silent} never ran; nnsight skipped them")
    for work in per_layer:
        assert work.faults is not None
        rows = work.faults.sum(-1).nonzero().flatten().tolist()
        if rows:
            stray, missing, wrong = (int(n) for n in work.faults.sum(0).tolist())
            raise SteeringFault(
                f"layer {work.layer}: {stray} positions changed that should not, {missing} did not change that should, "
                f"{wrong} changed by another amount or are not finite. If the strength is too small or too large for the "
                "model's precision, use another dose or dtype=float32",
                rows,
            )


def _projections(per_layer: Sequence[_LayerEdits], edits: Sequence[Edit]) -> list[torch.Tensor]:
    found = {index: value.cpu() for work in per_layer for index, value in work.projections.items()}
    return [found[index] for index in range(len(edits))]


def _layers_of(edits: Sequence[Edit]) -> list[int]:
    return sorted({layer for edit in edits for layer in edit.direction.layers})


def _find_layers(model: PreTrainedModel, count: int) -> tuple[str, torch.nn.ModuleList]:
    """Return path and list of the text decoder's layers."""
    # Vision towers have layers too, so look inside the text decoder only.
    decoder: torch.nn.Module = model.get_decoder()  # type: ignore[no-untyped-call]  # untyped in transformers
    prefix = next(name for name, module in model.named_modules() if module is decoder)
    name, module = find_layer_list(decoder, count, type(model).__name__)
    return f"{prefix}.{name}".strip("."), module


def _attention(config: Any) -> str:
    """Return how the model computes attention, which decides what its masks look like."""
    name = str(config._attn_implementation)  # noqa: SLF001  transformers has no public name for it
    if name not in _ATTENTION:
        raise ValueError(
            f"{config.model_type}: attention {name!r} is not supported; load the model with attn_implementation set to "
            f"one of {', '.join(sorted(_ATTENTION))}"
        )
    return name


def _layer_types(config: Any, count: int) -> list[str]:
    """Return the kind of attention of each layer."""
    types = getattr(config, "layer_types", None)
    if types is None:
        types = ["sliding_attention" if getattr(config, "sliding_window", None) else "full_attention"] * count
    unknown = sorted(set(types) - _MASKS)
    if unknown:
        raise ValueError(
            f"{config.model_type}: layers of type {', '.join(unknown)} are not supported; supported: {', '.join(sorted(_MASKS))}"
        )
    return list(types)
