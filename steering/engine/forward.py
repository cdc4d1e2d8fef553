"""One forward step of the model through nnsight, with `additions` to its layers' outputs at given tokens."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import nnsight
import numpy as np
import torch
from nnsight import _c as nnsight_c
from nnsight.intervention.envoy import Envoy
from nnsight.intervention.interleaver import Interleaver
from numpy.typing import NDArray
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from self_steering.steering.engine.additions import Additions, SteeredStep
from self_steering.steering.engine.kv_cache import Arena
from self_steering.steering.engine.packed import pack_linears
from self_steering.steering.identity import find_layer_list

# nnsight adds a method `save` to every object of the process, which breaks libraries that are imported later and look
# at the attributes of their classes (anyio's typed attributes raise). We call `nnsight.save` instead.
if nnsight_c.unmount is not None and hasattr(object, "save"):
    nnsight_c.unmount("save")

_MASKS = {"full_attention", "sliding_attention"}
_ATTENTION = {"sdpa", "eager"}
_FINAL_NORMS = {"norm", "final_layernorm", "final_layer_norm", "ln_f"}


@dataclass
class StepResult:
    """What a step computed and did.

    Attributes:
        logits: Tensor [rows, vocabulary] at each row's last token, float32, on the model's device.
        projections: For each token h·v/‖v‖ before and after, of the directions that steer it, in the order of their keys
            [rows, tokens, 2, directions]; None where nothing was added.
    """

    logits: torch.Tensor
    projections: NDArray[np.float32] | None = None


@dataclass
class Reading:
    """The unsteered model's layer outputs and logits over a text.

    Attributes:
        outputs: For each decoder layer its output [rows, tokens, hidden].
        logits: Tensor [rows, tokens, vocabulary]; None unless requested.
    """

    outputs: list[torch.Tensor]
    logits: torch.Tensor | None


class _OfLayers(Interleaver):  # type: ignore[misc]  # nnsight is not typed
    """Hands over what decoder layers take and return.

    Of the hundreds of modules within them nothing is asked, and each would cost some microseconds in every step.

    Args:
        layers: The layers.
    """

    def __init__(self, layers: Iterable[torch.nn.Module]) -> None:
        super().__init__()
        self._of = {id(layer) for layer in layers}

    def instrument(self, envoy: Envoy) -> None:
        if id(envoy._module) in self._of:  # noqa: SLF001  it has no public name
            super().instrument(envoy)


class SteeredModel:
    """A decoder-only transformers model whose layer outputs can be added to through nnsight.

    Args:
        model: The model. It is made this one's own: put into evaluation mode, its linear layers packed.
        tokenizer: Its tokenizer.

    Raises:
        ValueError: The decoder layers cannot be identified, or the model's attention is of a kind that is not supported.
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
        _check_attention(self.text_config)
        pack_linears(model)
        self._nn = nnsight.TransformersModel(model, tokenizer=tokenizer, interleaver=_OfLayers(modules))
        envoy: Any = self._nn
        for name in self.layers_path.split("."):
            envoy = getattr(envoy, name)
        self._layers = envoy

    def new_arena(self, rows: int) -> Arena:
        """Return empty keys and values for `rows` rows."""
        return Arena(rows, self.n_layers)

    @torch.no_grad()
    def step(
        self, ids: torch.Tensor, arena: Arena, additions: Additions | None = None, furthest: int | None = None
    ) -> StepResult:
        """Run `ids` [rows, tokens] after what `arena` holds (`arena.past`), steered by `additions` to these tokens.

        Args:
            ids: The tokens.
            arena: Keys and values of what was before.
            additions: What is added to them.
            furthest: Position that the last row's last token is told to be at, in place of its true one.

        Raises:
            SteeringFault: What was realised is not what was planned.
        """
        inputs = {**self._inputs(ids, arena), "logits_to_keep": 1}
        if furthest is not None:
            inputs["position_ids"][-1, -1] = furthest
        if additions is None:
            return StepResult(self.hf(**inputs).logits[:, -1].float())
        steered = SteeredStep(additions)

        def forward(*_: Any, **__: Any) -> Any:
            return self.hf(**inputs)

        # nnsight would take the inputs apart and batch them anew (and fails on a dictionary of masks); ours are ready.
        with self._nn.trace(inputs["input_ids"], fn=forward) as tracer:
            for layer in additions.layers:
                steered.steer(layer, _hidden_states(self._layers[layer].output))
            logits = nnsight.save(tracer.result.logits)
        rows, tokens = ids.shape
        steered.verify(np.repeat(np.arange(rows), tokens))
        return StepResult(logits[:, -1].float(), steered.projections())

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
                outputs.append(_hidden_states(output))
            found = nnsight.save(tracer.result.logits)
        expected = (*ids.shape, self.hidden)
        odd = [layer for layer, output in enumerate(outputs) if tuple(output.shape) != expected]
        if odd:
            raise ValueError(
                f"{type(self.hf).__name__}: layer {odd[0]} gives {tuple(outputs[odd[0]].shape)} for {expected}: it sees only "
                "part of the sequence, and cannot be read or steered; use another model"
            )
        return Reading(outputs, found if logits else None)

    def _inputs(self, ids: torch.Tensor, arena: Arena) -> dict[str, Any]:
        """Return what the model is called with to run `ids` after what `arena` holds."""
        tokens = ids.shape[1]
        arena.reserve(max(arena.past) + tokens)
        positions = arena.positions(tokens, self.device)
        return {
            "input_ids": ids.to(self.device),
            "position_ids": positions.clone(),
            "attention_mask": self._masks(positions, max(arena.past) + tokens),
            "past_key_values": arena,
            "use_cache": True,
        }

    @torch.no_grad()
    def unembed(self, h: torch.Tensor) -> torch.Tensor:
        """Return what a residual-stream vector [hidden] is worth to each token [vocabulary], through final norm and unembedding.

        Raises:
            ValueError: The decoder's final norm cannot be identified.
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

    def _masks(self, positions: torch.Tensor, length: int) -> torch.Tensor | dict[str, torch.Tensor]:
        """Return attention masks [rows, 1, tokens, length], one a kind of layer where there are several.

        They are added to the attention's weights: a boolean one would be turned into that in every layer anew.
        """
        query = positions[:, None, :, None]
        key = torch.arange(length, device=self.device)[None, None, None, :]
        causal = key <= query
        masks = {"full_attention": causal}
        if "sliding_attention" in self.layer_types:
            masks["sliding_attention"] = causal & (key > query - int(self.text_config.sliding_window))
        zero = torch.zeros((), dtype=self.dtype, device=self.device)
        added = {kind: torch.where(mask, zero, torch.finfo(self.dtype).min) for kind, mask in masks.items()}
        kinds = set(self.layer_types)
        return added[kinds.pop()] if len(kinds) == 1 else added


def _hidden_states(output: torch.Tensor | tuple[torch.Tensor, ...]) -> torch.Tensor:
    """Return the residual stream [rows, tokens, hidden] in what a decoder layer returned."""
    return output[0] if isinstance(output, tuple) else output


def _find_layers(model: PreTrainedModel, count: int) -> tuple[str, torch.nn.ModuleList]:
    """Return path and list of the text decoder's layers."""
    # Vision towers have layers too, so look inside the text decoder only.
    decoder: torch.nn.Module = model.get_decoder()  # type: ignore[no-untyped-call]  # untyped in transformers
    prefix = next(name for name, module in model.named_modules() if module is decoder)
    name, module = find_layer_list(decoder, count, type(model).__name__)
    return f"{prefix}.{name}".strip("."), module


def _check_attention(config: Any) -> None:
    """Refuse a model whose attention takes other masks than those that are added to its weights."""
    name = str(config._attn_implementation)  # noqa: SLF001  transformers has no public name for it
    if name not in _ATTENTION:
        raise ValueError(
            f"{config.model_type}: attention {name!r} is not supported; load the model with attn_implementation set to "
            f"one of {', '.join(sorted(_ATTENTION))}"
        )


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
