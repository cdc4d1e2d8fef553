"""vLLM's worker, extended: it steers the tokens of its own steps, at the positions that its own count gives them.

vLLM mixes this class into its worker (`worker_extension_cls`); the engine calls its methods on all ranks at once. With
tensor parallelism every rank holds the whole residual stream, and adds the same to it.
"""

import hashlib
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from self_steering.steering.engine.additions import AdditionMaker, Signatures
from self_steering.steering.engine.sampling import set_logprobs
from self_steering.steering.identity import find_layer_list
from self_steering.steering.on_vllm.block_keys import EXTRA_ARGS_KEY, spans_of
from self_steering.steering.on_vllm.step import UNKNOWN, Output, RequestRecord, Slots, Step
from self_steering.vectors.directions import DirectionTensor

# Attributes of vLLM's model runner that steering reads or wraps.
_NEEDED = ("requests", "input_batch", "query_start_loc", "kv_cache_config", "kv_caches", "execute_model", "model")


class RowGenerator(torch.Generator):
    """A generator that has nothing to wind back."""

    def get_offset(self) -> int:
        """Return what `set_offset` ignores."""
        return 0

    def set_offset(self, offset: int) -> "RowGenerator":  # noqa: ARG002  torch's signature
        """Do nothing: the next draw begins with a seed of its own."""
        return self

    def seed_at(self, seed: int, position: int) -> "RowGenerator":
        """Make ready to draw the token at a position."""
        digest = hashlib.blake2b(f"{seed}/{position}".encode(), digest_size=8).digest()
        self.manual_seed(int.from_bytes(digest) >> 1)
        return self


class SteeredRunner:
    """Steers what one model runner runs.

    Args:
        runner: vLLM's (first) model runner, its model loaded and its cache there.

    Raises:
        ValueError: The runner or the model is of a kind that cannot be steered.
    """

    def __init__(self, runner: Any) -> None:
        absent = [name for name in _NEEDED if not hasattr(runner, name)]
        if absent:
            raise ValueError(f"vLLM's {type(runner).__name__} has no {', '.join(absent)}; use a vLLM release as tested")
        self._runner = runner
        self._model: torch.nn.Module = runner.get_model()
        config = runner.model_config.hf_text_config
        self._hidden, self._vocabulary = int(config.hidden_size), int(runner.model_config.get_vocab_size())
        self._block_size, blocks = _one_full_cache(runner.kv_cache_config)
        self._signatures = Signatures()
        self._additions = AdditionMaker(self._signatures)
        self._directions: dict[str, DirectionTensor] = {}
        self._slots = Slots(blocks * self._block_size)
        self._records: dict[str, RequestRecord] = {}
        self._scheduled: Any = None
        self._step: Step | None = None
        self._generators: dict[int, RowGenerator] = {}
        self._n_layers = self._hook(config.num_hidden_layers)

    def _hook(self, count: int) -> int:
        _, layers = find_layer_list(_decoder(self._model), count, type(self._model).__name__)
        for index, layer in enumerate(layers):
            layer.register_forward_hook(partial(self._after_layer, index))
        self._model.register_forward_pre_hook(self._before_model, with_kwargs=True)
        self._model.register_forward_hook(self._after_model)
        self._execute, self._runner.execute_model = self._runner.execute_model, self._execute_model
        model: Any = self._model
        self._logits_of, model.compute_logits = model.compute_logits, self._compute_logits
        return len(layers)

    def sizes(self) -> dict[str, int]:
        """Return the sizes of the model and of its cache."""
        return {
            "n_layers": self._n_layers,
            "hidden": self._hidden,
            "vocabulary": self._vocabulary,
            "block_size": self._block_size,
            "blocks": len(self._slots.steering) // self._block_size,
        }

    def install(self, directions: Sequence[tuple[str, tuple[int, ...], torch.Tensor]]) -> None:
        """Take directions (key, layers, values [layers, hidden]) to the device."""
        for key, layers, values in directions:
            self._directions[key] = DirectionTensor(key, layers, values.to(self._runner.device, torch.float32))

    def forget(self, keys: Sequence[str]) -> None:
        """Give directions up."""
        for key in keys:
            self._directions.pop(key, None)
        self._additions.clear()

    # ------------------------------------------------------------ around a step

    def _execute_model(self, scheduler_output: Any, *args: Any, **kwargs: Any) -> Any:
        finished = [self._records.pop(request, None) for request in scheduler_output.finished_req_ids]
        if any(record is not None and record.faults for record in finished):
            self._clear_overflow()
        self._scheduled = scheduler_output if scheduler_output.total_num_scheduled_tokens else None
        try:
            result = self._execute(scheduler_output, *args, **kwargs)
            if self._scheduled is not None:
                self._blame(
                    list(scheduler_output.num_scheduled_tokens), "the model ran without the hooks that steer it"
                )
            return result
        finally:
            self._scheduled = self._step = None

    def _clear_overflow(self) -> None:
        """Take what is not finite out of the cache: attention masks by multiplying with 0, which leaves NaN for its next user."""
        for cache in self._runner.kv_caches:
            if cache.is_floating_point():
                cache.nan_to_num_(nan=0.0, posinf=0.0, neginf=0.0)

    def _before_model(self, _: torch.nn.Module, __: Any, kwargs: dict[str, Any]) -> None:
        """Find out which tokens of the step at hand are steered by what; dummy runs have none."""
        if self._scheduled is None:
            return
        requests = list(self._runner.input_batch.req_ids)
        lengths = np.array([self._scheduled.num_scheduled_tokens[request] for request in requests], np.int64)
        starts = self._runner.input_batch.num_computed_tokens_cpu[: len(requests)].astype(np.int64)
        self._check_layout(lengths)
        owner = np.repeat(np.arange(len(requests)), lengths)
        positions = np.arange(len(owner)) - np.repeat(np.cumsum(lengths) - lengths - starts, lengths)
        steering, slots = np.empty(len(owner), np.int64), np.empty(len(owner), np.int64)
        at, found = 0, []
        for request, start, length in zip(requests, starts.tolist(), lengths.tolist(), strict=True):
            record = self._record(request)
            if start and (start != record.computed or request in self._scheduled.scheduled_cached_reqs.resumed_req_ids):
                found.append((record, self._slots_of(request, 0, start)))
            steering[at : at + length] = record.planned[start : start + length]
            slots[at : at + length] = self._slots_of(request, start, start + length)
            record.computed = start + length
            at += length
        # A request may be given tokens that another one computes in this very step.
        self._slots.steering[slots] = steering
        for record, cached in found:
            record.check(cached, self._slots)
        additions = self._additions.make(steering, self._directions)
        self._step = Step(requests, owner, slots, steering, additions)
        self._step.check_positions(kwargs["positions"], positions)

    def _check_layout(self, lengths: NDArray[np.int64]) -> None:
        """Compare where each request's tokens are taken to begin with the runner's own account."""
        ends = np.asarray(self._runner.query_start_loc.np[1 : len(lengths) + 1], np.int64)
        if not np.array_equal(ends, np.cumsum(lengths)):
            raise RuntimeError(f"vLLM laid its batch out as {ends.tolist()}, not as scheduled: {lengths.tolist()}")

    def _record(self, request: str) -> RequestRecord:
        if request not in self._records:
            self._records[request] = self._new_record(self._runner.requests[request])
        return self._records[request]

    def _new_record(self, state: Any) -> RequestRecord:
        params, length = state.sampling_params, len(state.prompt_token_ids)
        carried = (params.extra_args or {}).get(EXTRA_ARGS_KEY) or {}
        spans = spans_of(params)
        planned = self._signatures.along(spans, 0, length + params.max_tokens)
        return RequestRecord(spans, planned, length, dict(carried.get("readout", {})))

    def _slots_of(self, request: str, start: int, stop: int) -> NDArray[np.int64]:
        """Return the cache slots of a request's positions."""
        (blocks,) = self._runner.requests[request].block_ids
        first = start // self._block_size
        covering = np.array(blocks[first : -(-stop // self._block_size)], np.int64)
        positions = np.arange(start, stop)
        result: NDArray[np.int64] = covering[positions // self._block_size - first] * self._block_size
        return result + positions % self._block_size

    def _after_layer(self, layer: int, _: torch.nn.Module, __: Any, output: Output) -> None:
        if self._step is not None:
            self._step.steer(layer, output)

    def _after_model(self, *_: Any) -> None:
        """Note what the step did."""
        if self._step is None:
            return
        self._scheduled, step = None, self._step
        steering, fault = step.steering, step.fault()
        if fault is not None:
            rows = list(fault.rows or range(len(step.requests)))
            steering = np.where(np.isin(step.owner, rows), UNKNOWN, steering)
            self._blame([step.requests[row] for row in rows], str(fault))
        self._slots.note(step.slots, steering, step.projections())

    def _blame(self, requests: list[str], fault: str) -> None:
        for request in requests:
            if request in self._records:  # where it is not, its report says so
                self._records[request].faults.append(fault)

    def _compute_logits(self, hidden: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        """Compute logits as the model does, look at them, and make ready to draw from them."""
        logits = self._logits_of(hidden, *args, **kwargs)
        if self._step is not None:
            if logits is not None:
                self._read(self._step, logits)
            self._seed(self._step)
        return logits

    def _seed(self, step: Step) -> None:
        generators = self._runner.input_batch.generators
        for place in generators:
            request = step.requests[place]
            generator = self._generators.setdefault(place, RowGenerator(device=self._runner.device))
            seed = self._runner.requests[request].sampling_params.seed
            generators[place] = generator.seed_at(seed, self._records[request].computed)

    def _read(self, step: Step, logits: torch.Tensor) -> None:
        """Take the read-outs of the requests whose prompts have just ended, and see that all logits are numbers."""
        if len(logits) != len(step.requests):
            self._blame(step.requests, f"{len(logits)} rows of logits for {len(step.requests)} requests")
            return
        broken = logits.sum(-1).isnan().cpu().numpy()
        if broken.any():
            names = [step.requests[place] for place in np.flatnonzero(broken).tolist()]
            self._blame(names, "the model's logits are not numbers; load it with dtype=float32, or use a smaller dose")
        for place, request in enumerate(step.requests):
            record = self._records[request]
            if record.readout and record.computed == record.prompt_length:
                sets = {name: tuple(tokens) for name, tokens in record.readout.items()}
                record.found = set_logprobs(logits[place].float().cpu(), sets)

    # ------------------------------------------------------------ after a request

    def report(self, request: str) -> dict[str, Any]:
        """Return how many tokens were computed, what went wrong, what was measured of each span, and the read-out."""
        if request not in self._records:
            return {"computed": 0, "faults": ["no step of this request was seen"], "measured": [], "readout": {}}
        record = self._records[request]
        slots = self._slots_of(request, 0, record.computed)
        record.check(slots, self._slots)
        found = [record.measured(span, slots, self._slots, self._signatures) for span in record.spans]
        return {"computed": record.computed, "faults": record.faults, "measured": found, "readout": record.found}


def _decoder(model: torch.nn.Module) -> torch.nn.Module:
    """Return the part of a vLLM model that holds the text decoder: vision towers have layers too."""
    inner = getattr(model, "get_language_model", None)
    found = inner() if callable(inner) else model
    assert isinstance(found, torch.nn.Module)
    return found


def _one_full_cache(config: Any) -> tuple[int, int]:
    """Return block size and number of blocks of a cache that keeps every token of every layer alike.

    Raises:
        ValueError: It is of another kind.
    """
    from vllm.v1.kv_cache_interface import FullAttentionSpec  # noqa: PLC0415  vLLM is there only in some environments

    kinds = [type(group.kv_cache_spec).__name__ for group in config.kv_cache_groups]
    spec = config.kv_cache_groups[0].kv_cache_spec if len(kinds) == 1 else None
    parts = getattr(spec, "kv_cache_specs", {"": spec}).values()
    if not all(isinstance(part, FullAttentionSpec) for part in parts):
        raise ValueError(
            f"this model's cache has parts of kind {', '.join(kinds)}; only models whose layers all keep every token can be "
            "steered with engine=vllm: use engine=transformers"
        )
    assert spec is not None
    return int(spec.block_size), int(config.num_blocks)


class SteeringExtension:
    """What the engine can ask of a worker."""

    model_runner: Any
    self_steering: SteeredRunner

    def open_steering(self) -> dict[str, int]:
        """Put the hooks in place, and return the model's sizes.

        Raises:
            ValueError: This model, or this vLLM, cannot be steered.
        """
        self.self_steering = SteeredRunner(self.model_runner)
        return self.self_steering.sizes()

    def install_directions(self, directions: Sequence[tuple[str, tuple[int, ...], torch.Tensor]]) -> None:
        """Take directions (key, layers, values [layers, hidden]) to the device."""
        self.self_steering.install(directions)

    def forget_directions(self, keys: Sequence[str]) -> None:
        """Give directions up."""
        self.self_steering.forget(keys)

    def report_steering(self, request: str) -> dict[str, Any]:
        """Return what was done for a request that has just finished."""
        return self.self_steering.report(request)
