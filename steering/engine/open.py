"""From a model's name and the `-M` arguments to a running engine, of the kind that they ask for."""

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from self_steering.steering.engine.engine import Engine
from self_steering.steering.engine.memory import default_sizes
from self_steering.steering.engine.requests import SteeringEngine
from self_steering.steering.engine.self_check import checked_model
from self_steering.steering.engine.threads import in_short_lived_thread
from self_steering.steering.identity import ModelError, ModelIdentity
from self_steering.steering.models import load_model
from self_steering.steering.on_vllm.engine import VllmEngine
from self_steering.steering.on_vllm.settings import VLLM_ARGS, check_installed, refusals

_SHARED_ARGS = ("engine", "revision", "thinking", "date")
_LOADING_ARGS = ("dtype", "device", "device_map", "revision", "context")
ENGINE_ARGS: Mapping[str, tuple[str, ...]] = {
    "transformers": ("dtype", "device", "device_map", "context", "max_batch", "cache_gb"),
    "vllm": VLLM_ARGS,
}
DEFAULT_ENGINE = "transformers"
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class OpenedModel:
    """A model that is ready to run.

    Attributes:
        identity: The model without its weights; with engine=transformers, the loaded model itself.
        engine: What runs it.
    """

    identity: ModelIdentity
    engine: SteeringEngine


def open_model(name: str, arguments: Mapping[str, Any]) -> OpenedModel:
    """Load a model into the engine that the arguments name.

    Args:
        name: As in `models.load_model`.
        arguments: What was given with `-M`.

    Raises:
        ModelError: An argument is unknown, or not one of this engine's, or the model cannot be loaded.
    """
    engine = arguments.get("engine", DEFAULT_ENGINE)
    _check_names(engine, arguments)
    if engine == "vllm":
        return _on_vllm(name, arguments)
    return _on_transformers(name, arguments)


def _check_names(engine: Any, arguments: Mapping[str, Any]) -> None:
    if engine not in ENGINE_ARGS:
        raise ModelError(f"model argument engine is {engine!r}; choose one of {', '.join(ENGINE_ARGS)}")
    valid = (*_SHARED_ARGS, *ENGINE_ARGS[engine])
    unknown = sorted(set(arguments) - set(valid))
    if not unknown:
        return
    if engine == "vllm" and (reasons := refusals(arguments)):
        raise ModelError("; ".join(reasons))
    others = {arg: kind for kind, args in ENGINE_ARGS.items() for arg in args if kind != engine}
    theirs = [f"{arg} (of engine={others[arg]})" if arg in others else arg for arg in unknown]
    raise ModelError(f"unknown model arguments: {', '.join(theirs)}; valid with engine={engine}: {', '.join(valid)}")


def _on_transformers(name: str, arguments: Mapping[str, Any]) -> OpenedModel:
    max_batch, cache_gb = _checked_sizes(arguments)
    loading = {key: arguments[key] for key in _LOADING_ARGS if key in arguments}
    loaded = in_short_lived_thread(load_model, name, **loading)
    model = in_short_lived_thread(checked_model, loaded)  # packs the weights
    rows, cache = default_sizes(loaded.model, loaded.context)
    rows, cache = max_batch or rows, cache if cache_gb is None else int(cache_gb * 2**30)
    logger.info("max_batch=%d, cache_gb=%.3g: up to %d rows decode together", rows, cache / 2**30, rows)
    engine = Engine(
        model,
        loaded.tokenizer,
        end_ids=loaded.end_ids,
        context=loaded.context,
        max_batch=rows,
        cache_budget=cache,
    )
    return OpenedModel(loaded, engine)


def _on_vllm(name: str, arguments: Mapping[str, Any]) -> OpenedModel:
    check_installed()
    revision = arguments.get("revision")

    context = arguments.get("max_model_len")

    def identify() -> ModelIdentity:
        # vLLM renames and fuses weights, so what identifies them is read from the model as transformers loads it.
        return load_model(name, dtype="auto", device="cpu", revision=revision, context=context).identity()

    identity = in_short_lived_thread(identify)
    return OpenedModel(identity, VllmEngine(identity, {k: v for k, v in arguments.items() if k in VLLM_ARGS}, revision))


def _checked_sizes(arguments: Mapping[str, Any]) -> tuple[int | None, float | None]:
    """Return the sizes of the transformers engine that were given, once they are known to make sense."""
    max_batch, cache_gb = arguments.get("max_batch"), arguments.get("cache_gb")
    if "max_batch" in arguments and (isinstance(max_batch, bool) or not isinstance(max_batch, int) or max_batch < 1):
        raise ModelError(f"model argument max_batch is {max_batch!r}; pass a whole number of at least 1")
    if "cache_gb" in arguments and (
        isinstance(cache_gb, bool) or not isinstance(cache_gb, int | float) or not 0 <= cache_gb < math.inf
    ):
        raise ModelError(f"model argument cache_gb is {cache_gb!r}; pass a number of GiB, at least 0")
    return max_batch, cache_gb
