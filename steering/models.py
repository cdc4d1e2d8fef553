"""From a model's name to a loaded model: the bundled one, a local folder, or a hub id. Never remote code."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.utils.hub import cached_file

from self_steering.steering.bundled.conversion import BUNDLED, BUNDLED_BASE, bundled_model_folder
from self_steering.steering.identity import ModelError, ModelIdentity, end_of_turn_ids, fingerprint
from self_steering.vectors.shown import in_one_line

_MAPS = ("auto", "balanced", "balanced_low_0", "sequential")
_DTYPES = ("float32", "bfloat16", "float16", "auto")


@dataclass(frozen=True)
class LoadedModel(ModelIdentity):
    """A model, its tokenizer, and what identifies them.

    Attributes:
        model: The model, on its device, in evaluation mode.
    """

    model: PreTrainedModel

    def identity(self) -> ModelIdentity:
        """Return the same without the weights, which can then be freed."""
        return ModelIdentity(**{field.name: getattr(self, field.name) for field in fields(ModelIdentity)})


def load_model(
    name: str,
    *,
    dtype: str | None = None,
    device: str | None = None,
    device_map: str | Mapping[str, Any] | None = None,
    revision: str | None = None,
    context: int | None = None,
) -> LoadedModel:
    """Load a causal language model.

    Args:
        name: `smollm2-135m-instruct` (the bundled model), `smollm2-135m-instruct-base` (it without its adapter), a folder
            (absolute, or starting with `./` or `~`), or a hub id.
        dtype: float32, bfloat16, float16 or auto; default bfloat16 on an accelerator and float32 on the CPU.
        device: Torch device such as `cuda:0`; default the first accelerator there is, else the CPU.
        device_map: Spreads the layers over several devices, as in transformers; not together with `device`.
        revision: Hub branch, tag or commit.
        context: Most tokens, prompt and generated, that it will be given; default as many as it takes.

    Raises:
        ModelError: The model, its folder, or a valid choice of arguments is missing, or it is of a kind that is not supported.
    """
    if device is not None and device_map is not None:
        raise ModelError("device and device_map were both given; give one of them")
    if dtype is not None and dtype not in _DTYPES:
        raise ModelError(f"dtype {dtype!r} is unknown; choose one of {', '.join(_DTYPES)}")
    if device is not None:
        _check_device(device)
    source = str(bundled_model_folder(name)) if name in (BUNDLED, BUNDLED_BASE) else _local_or_hub(name)
    place = device_map if device_map is not None else device or _default_device()
    chosen = dtype or ("float32" if _on_cpu(place) else "bfloat16")
    try:
        config = AutoConfig.from_pretrained(source, revision=revision, trust_remote_code=False)
        _auto_class(config)
        length = _context(config, context)
        check_kind(config, length)
        _check_adapter(source, revision)
        tokenizer = AutoTokenizer.from_pretrained(source, revision=revision, trust_remote_code=False)
        model = _from_pretrained(source, revision, chosen, place)
        # float16 has another range than bfloat16, so its values are not those that other types round to.
        own = model if chosen != "float16" else _from_pretrained(source, revision, "auto", "cpu")
    except ModelError:
        raise
    except Exception as error:
        # What goes wrong in a library's loading has any type, and may list all architectures that there are.
        raise ModelError(
            f"model {name!r} cannot be loaded from {source!r}: {in_one_line(error)}; name `{BUNDLED}` for the bundled "
            f"model, `{BUNDLED_BASE}` for it without its adapter, a folder with config.json and safetensors weights (start it "
            "with ./), or a hub id that this machine can reach"
        ) from error
    return LoadedModel(
        model=model,
        tokenizer=tokenizer,
        name=name,
        source=source,
        revision=getattr(model.config, "_commit_hash", None),
        fingerprint=fingerprint(own),
        end_ids=end_of_turn_ids(model, tokenizer),
        context=length,
        generation_config=model.generation_config,
    )


def _from_pretrained(source: str, revision: str | None, dtype: str, place: Any) -> PreTrainedModel:
    config = AutoConfig.from_pretrained(source, revision=revision, trust_remote_code=False)
    loaded: Any = _auto_class(config).from_pretrained(
        source,
        revision=revision,
        trust_remote_code=False,
        use_safetensors=True,
        dtype=dtype if dtype == "auto" else getattr(torch, dtype),
        device_map=place,
        output_loading_info=True,
        ignore_mismatched_sizes=True,  # its error does not say which
    )
    model: PreTrainedModel = loaded[0]
    odd = sorted(str(name) for name, *_ in loaded[1]["mismatched_keys"])
    if odd:
        raise ValueError(f"{len(odd)} weights have other sizes than config.json says, the first: {odd[0]}")
    missing = sorted(loaded[1]["missing_keys"])
    if missing:
        raise ValueError(
            f"{len(missing)} weights are missing and would be random, the first: {missing[0]}; the files are incomplete, or "
            "not those of a causal language model"
        )
    away = [name for name, parameter in model.named_parameters() if parameter.is_meta]
    if away:
        raise ModelError(
            f"{len(away)} weights of {source!r} do not fit on its devices and would be kept elsewhere between steps, the first: "
            f"{away[0]}; use more or larger devices, or -M dtype=bfloat16"
        )
    return model


def _auto_class(config: PreTrainedConfig) -> Any:
    """Return what loads a model: where a text model comes wrapped with eyes or ears only, the wrapper, which reads text too."""
    for auto in (AutoModelForCausalLM, AutoModelForImageTextToText):
        if type(config) in auto._model_mapping:  # noqa: SLF001  it has no public name
            return auto
    raise ValueError(f"{type(config).__name__} is not the configuration of a language model")


def _on_cpu(place: Any) -> bool:
    """Return whether all layers will lie on the CPU: also where a map of devices is made on a machine without another."""
    if isinstance(place, Mapping):
        return set(place.values()) == {"cpu"}
    return place == "cpu" or (place in _MAPS and _default_device() == "cpu")


def check_kind(config: PreTrainedConfig, context: int) -> None:
    """Refuse a model whose configuration says that its rows could not be steered or compared.

    Args:
        config: Its configuration.
        context: Most tokens that it will be given.

    Raises:
        ModelError: Its layers share keys and values, or its rotary embedding changes with the longest row of a batch.
    """
    text = config.get_text_config()
    shared = getattr(text, "num_kv_shared_layers", None) or 0
    if shared:
        raise ModelError(
            f"{text.model_type}: its last {shared} layers take keys and values from others and see only part of the sequence, so "
            "they cannot be read or steered; use a model with num_kv_shared_layers 0"
        )
    rope = getattr(text, "rope_parameters", None) or {}
    for kind in [rope] if "rope_type" in rope else [part for part in rope.values() if isinstance(part, Mapping)]:
        limit = text.max_position_embeddings
        if kind["rope_type"] == "longrope":
            limit = kind.get("original_max_position_embeddings") or limit
        elif "dynamic" not in kind["rope_type"]:
            continue
        if context > limit:
            raise ModelError(
                f"{text.model_type}: its rotary embedding ({kind['rope_type']}) changes for every row of a batch once one is "
                f"longer than {limit} tokens, so that rows would depend on their company; pass -M context={limit} (with "
                f"engine=vllm -M max_model_len={limit}), or use another model"
            )


def _check_adapter(source: str, revision: str | None) -> None:
    """Refuse full weights beside an adapter, which would be added to them, and a second time where it is merged in."""

    def has(name: str) -> bool:
        return cached_file(source, name, revision=revision, _raise_exceptions_for_missing_entries=False) is not None

    if has("adapter_config.json") and (has("model.safetensors") or has("model.safetensors.index.json")):
        raise ModelError(
            f"{source!r} holds full weights and beside them an adapter (adapter_config.json), which would be added to them, and "
            "twice if they were saved with it merged in; move the adapter's files to a folder of their own"
        )


def _check_device(device: str) -> None:
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ModelError(
            f"device {device!r} cannot be used: {in_one_line(error)}; pass a torch device of this machine, such as "
            f"{_default_device()!r}"
        ) from error


def _local_or_hub(name: str) -> str:
    path = Path(name).expanduser()
    if name.startswith((".", "~")) or path.is_absolute():
        if not (path / "config.json").is_file():
            raise ModelError(f"{path.resolve()} is no model folder: it has no config.json")
        return str(path)
    return name


def _default_device() -> str:
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    return "cpu" if accelerator is None else str(accelerator)


def _context(config: PreTrainedConfig, wanted: int | None) -> int:
    text = config.get_text_config()
    length = getattr(text, "max_position_embeddings", None)
    if not isinstance(length, int):
        raise ModelError(f"{text.model_type}: the configuration does not say how long its context is")
    if wanted is None:
        return length
    if isinstance(wanted, bool) or not isinstance(wanted, int) or not 2 <= wanted <= length:
        raise ModelError(f"context is {wanted!r}; pass a whole number from 2 to {length}, as many as the model takes")
    return wanted
