"""From a model's name to a loaded model: the bundled one, a local folder, or a hub id. Never remote code."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
)

from self_steering.steering.bundled.conversion import BUNDLED, BUNDLED_BASE, bundled_model_folder
from self_steering.steering.identity import ModelError, ModelIdentity, end_of_turn_ids, fingerprint

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
) -> LoadedModel:
    """Load a causal language model.

    Args:
        name: `smollm2-135m-instruct` (the bundled model), `smollm2-135m-instruct-base` (it without its adapter), a folder
            (absolute, or starting with `./` or `~`), or a hub id.
        dtype: float32, bfloat16, float16 or auto; default bfloat16 on an accelerator and float32 on the CPU.
        device: Torch device such as `cuda:0`; default the first accelerator there is, else the CPU.
        device_map: Spreads the layers over several devices, as in transformers; not together with `device`.
        revision: Hub branch, tag or commit.

    Raises:
        ModelError: The model, its folder, or a valid choice of arguments is missing.
    """
    if device is not None and device_map is not None:
        raise ModelError("device and device_map were both given; give one of them")
    if dtype is not None and dtype not in _DTYPES:
        raise ModelError(f"dtype {dtype!r} is unknown; choose one of {', '.join(_DTYPES)}")
    if device is not None:
        _check_device(device)
    source = str(bundled_model_folder(name)) if name in (BUNDLED, BUNDLED_BASE) else _local_or_hub(name)
    place = device_map if device_map is not None else device or _default_device()
    on_cpu = place == "cpu"
    chosen = dtype or ("float32" if on_cpu else "bfloat16")
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, revision=revision, trust_remote_code=False)
        model = _from_pretrained(source, revision, chosen, place)
        # float16 has another range than bfloat16, so its values are not those that other types round to.
        own = model if chosen != "float16" else _from_pretrained(source, revision, "auto", "cpu")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
        raise ModelError(
            f"model {name!r} cannot be loaded from {source!r}: {error}\nName `{BUNDLED}` for the bundled model, "
            f"`{BUNDLED_BASE}` for it without its adapter, a folder with config.json and safetensors weights (start it with "
            "./), or a hub id that this machine can reach"
        ) from error
    return LoadedModel(
        model=model,
        tokenizer=tokenizer,
        name=name,
        source=source,
        revision=getattr(model.config, "_commit_hash", None),
        fingerprint=fingerprint(own),
        end_ids=end_of_turn_ids(model, tokenizer),
        context=_context(model),
        generation_config=model.generation_config,
    )


def _from_pretrained(source: str, revision: str | None, dtype: str, place: Any) -> PreTrainedModel:
    loaded: Any = AutoModelForCausalLM.from_pretrained(
        source,
        revision=revision,
        trust_remote_code=False,
        use_safetensors=True,
        dtype=dtype if dtype == "auto" else getattr(torch, dtype),
        device_map=place,
        output_loading_info=True,
    )
    model: PreTrainedModel = loaded[0]
    missing = sorted(loaded[1]["missing_keys"])
    if missing:
        raise ValueError(
            f"{len(missing)} weights are missing and would be random, the first: {missing[0]}; the files are incomplete, or "
            "not those of a causal language model"
        )
    return model


def _check_device(device: str) -> None:
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ModelError(
            f"device {device!r} cannot be used: {error}\nPass a torch device of this machine, such as {_default_device()!r}"
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


def _context(model: PreTrainedModel) -> int:
    config = model.config.get_text_config()
    length = getattr(config, "max_position_embeddings", None)
    if not isinstance(length, int):
        raise ModelError(f"{config.model_type}: the configuration does not say how long its context is")
    return length
