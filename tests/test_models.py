"""Loading models: what identifies one, what is refused, and what is never run."""

import json
from collections.abc import Callable
from itertools import product
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import (
    Gemma3nForCausalLM,
    Gemma3nTextConfig,
    GPTNeoConfig,
    GPTNeoForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    Mistral3Config,
    Mistral3ForConditionalGeneration,
    MistralConfig,
    Phi3Config,
    Phi3ForCausalLM,
    PixtralVisionConfig,
    PreTrainedModel,
)

from self_steering.steering.bundled.conversion import BUNDLED
from self_steering.steering.engine.forward import SteeredModel
from self_steering.steering.engine.self_check import checked_model
from self_steering.steering.identity import ModelError, end_of_turn_ids, fingerprint
from self_steering.steering.models import load_model
from self_steering.vectors.card import find_library
from self_steering.vectors.library import load_library
from tests.support.models import ARCHITECTURES, CONTEXT, bundled_tokenizer, save_tiny_model, tiny_model

WEIGHTS = "model.safetensors"


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Random weights are the same in every run."""
    torch.manual_seed(0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A saved tiny model."""
    return save_tiny_model(tmp_path / "model")


def test_the_fingerprint_is_the_same_for_every_dtype(folder: Path):
    """A library made in float32 is that of the same weights loaded in any other type."""
    kinds = ["float32", "bfloat16", "float16", "auto"]
    loaded = [load_model(str(folder), dtype=kind, device="cpu") for kind in kinds]
    assert [m.model.dtype for m in loaded] == [torch.float32, torch.bfloat16, torch.float16, torch.float32]
    assert len({m.fingerprint for m in loaded}) == 1


def test_the_fingerprint_changes_with_every_weight_tensor():
    """Another value in any one tensor is another model, also where it is only its last entry."""
    model = tiny_model("llama", 300)
    seen = {fingerprint(model)}
    parameters = dict(model.named_parameters())
    for value in parameters.values():
        with torch.no_grad():
            value.view(-1)[-1] += 1.0
        seen.add(fingerprint(model))
    assert len(seen) == len(parameters) + 1


def test_the_fingerprint_tells_seeds_and_architectures_apart():
    """Models that share shapes but not weights, or tensors but not code, are different."""
    models = [tiny_model(a, 300, seed) for a in ARCHITECTURES for seed in (0, 1)]
    assert len({fingerprint(m) for m in models}) == len(models)


def test_the_fingerprint_survives_saving_and_loading(folder: Path, tmp_path: Path):
    """It depends on the weights alone, not on the folder or the file."""
    first = load_model(str(folder), device="cpu")
    first.model.save_pretrained(tmp_path / "again", max_shard_size="1MB")
    first.tokenizer.save_pretrained(tmp_path / "again")
    assert load_model(str(tmp_path / "again"), device="cpu").fingerprint == first.fingerprint


def test_the_shipped_library_is_that_of_the_bundled_model(bundled_model):
    """The bundled model's weights are those that its library was made with."""
    loaded = bundled_model.api.loaded
    library = load_library(find_library(loaded.fingerprint), loaded.fingerprint)
    assert library.card.model == loaded.name == BUNDLED
    assert library.card.hidden == loaded.model.config.hidden_size


def test_a_loaded_model_knows_its_context_and_the_ends_of_turns(folder: Path):
    """Both come from the model's own files, several ends of turn too."""
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [7, 9]}))
    loaded = load_model(str(folder), device="cpu")
    assert loaded.context == CONTEXT
    assert loaded.end_ids == {7, 9, loaded.tokenizer.eos_token_id}
    assert not loaded.model.training


def test_a_model_without_an_end_of_turn_is_refused(folder: Path):
    """If nothing says what ends a turn, windows would have no end, so it raises."""
    loaded = load_model(str(folder), device="cpu")
    loaded.model.generation_config.eos_token_id = None
    loaded.tokenizer.eos_token = None
    with pytest.raises(ModelError, match="end-of-turn"):
        end_of_turn_ids(loaded.model, loaded.tokenizer)


def test_a_relative_folder_is_found_with_a_leading_dot(folder: Path, monkeypatch: pytest.MonkeyPatch):
    """A name that starts with `./` is a folder from here."""
    monkeypatch.chdir(folder.parent)
    assert load_model("./model", device="cpu").name == "./model"


@pytest.mark.parametrize("name", ["./nowhere", "~/nowhere/at/all", "/nowhere/at/all"])
def test_a_folder_that_holds_no_model_is_refused(name: str):
    """The error names the folder and what it lacks."""
    with pytest.raises(ModelError, match=r"nowhere.*no config\.json"):
        load_model(name)


def damage_pickle_only(folder: Path) -> None:
    torch.save(load_file(folder / WEIGHTS), folder / "pytorch_model.bin")
    (folder / WEIGHTS).unlink()


def damage_no_weights(folder: Path) -> None:
    (folder / WEIGHTS).unlink()


def damage_torn_weights(folder: Path) -> None:
    data = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(data[: len(data) // 2])


def damage_missing_tensor(folder: Path) -> None:
    weights = load_file(folder / WEIGHTS)
    del weights["model.layers.3.mlp.up_proj.weight"]
    save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})


def damage_torn_config(folder: Path) -> None:
    (folder / "config.json").write_text('{"model_type": "llama", ')


def damage_unknown_architecture(folder: Path) -> None:
    (folder / "config.json").write_text('{"model_type": "perceptron"}')


def damage_no_language_model(folder: Path) -> None:
    (folder / "config.json").write_text('{"model_type": "vit"}')


def damage_other_shapes(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "intermediate_size": 128}))


def damage_no_tokenizer(folder: Path) -> None:
    for path in folder.glob("tokenizer*"):
        path.unlink()


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (damage_pickle_only, "safetensors"),
        (damage_no_weights, "safetensors"),
        (damage_torn_weights, "model"),
        (damage_missing_tensor, "model.layers.3.mlp.up_proj.weight"),
        (damage_torn_config, "config.json"),
        (damage_unknown_architecture, "perceptron"),
        (damage_no_language_model, "ViTConfig"),
        (damage_other_shapes, "mlp"),
        (damage_no_tokenizer, "tokenizer"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_damaged_folder_is_refused_with_the_remedy(folder: Path, damage, says: str):
    """Whatever is missing or torn is a ModelError that names model, cause and remedy; pickled weights are never loaded."""
    damage(folder)
    with pytest.raises(ModelError) as refusal:
        load_model(str(folder), device="cpu")
    for part in (str(folder), says, "safetensors weights", BUNDLED):
        assert part in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert len(str(refusal.value)) < 1_000


def test_code_that_comes_with_a_model_is_never_run(folder: Path):
    """A folder that asks for its own code is loaded without it or not at all."""
    config = json.loads((folder / "config.json").read_text())
    config["model_type"] = "mine"
    config["auto_map"] = {"AutoConfig": "mine.Config", "AutoModelForCausalLM": "mine.Model"}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "mine.py").write_text(
        f"open({str(folder / 'ran')!r}, 'w').close()\nclass Config: pass\nclass Model: pass\n"
    )
    with pytest.raises(ModelError):
        load_model(str(folder), device="cpu")
    assert not (folder / "ran").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"dtype": "int8"}, "float32, bfloat16, float16, auto"),
        ({"device": "toaster"}, "toaster"),
        ({"device": "cpu", "device_map": "auto"}, "give one of them"),
        ({"context": CONTEXT + 1}, f"from 2 to {CONTEXT}"),
    ],
    ids=["dtype", "device", "both", "context"],
)
def test_arguments_that_make_no_sense_are_refused(folder: Path, arguments: dict, says: str):
    """Unknown types and devices raise and name what can be chosen."""
    with pytest.raises(ModelError, match=says):
        load_model(str(folder), **arguments)


def test_a_map_of_devices_on_a_machine_with_a_cpu_alone_gives_float32(folder: Path):
    """As without one: what is made of a map counts, not its word."""
    for device_map in ("auto", {"": "cpu"}):
        assert load_model(str(folder), device_map=device_map).model.dtype == torch.float32


def test_weights_that_would_be_kept_on_the_disk_are_refused(folder: Path, tmp_path: Path):
    """Neither fingerprint nor steering could reach them."""
    whole = {"model.embed_tokens": "cpu", "model.norm": "cpu", "lm_head": "cpu", "model.rotary_emb": "cpu"}
    layers = {f"model.layers.{n}": "disk" if n == 2 else "cpu" for n in range(6)}
    with pytest.raises(ModelError, match=r"layers\.2.*larger devices|disk"):
        load_model(str(folder), device_map={**whole, **layers})


def test_a_merged_model_beside_its_adapter_is_refused(folder: Path):
    """Its adapter would be added a second time, without a word."""
    model = load_model(str(folder), device="cpu").model
    adapted = get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj"]))
    adapted.save_pretrained(folder)
    with pytest.raises(ModelError, match="holds full weights and beside them an adapter"):
        load_model(str(folder), device="cpu")


# ------------------------------------------------------------ kinds of models

_SMALL = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 2,
}
_FACTORS = {"short_factor": [1.0 + 0.1 * i for i in range(8)], "long_factor": [1.0 + 2.0 * i for i in range(8)]}


def longrope(vocabulary: int) -> PreTrainedModel:
    """Return a Phi-3 whose rotary embedding changes beyond 64 tokens."""
    rope = {
        "rope_type": "longrope",
        "rope_theta": 1e4,
        "original_max_position_embeddings": 64,
        "factor": 4.0,
        **_FACTORS,
    }
    config = Phi3Config(
        **_SMALL,
        vocab_size=vocabulary,
        max_position_embeddings=256,
        original_max_position_embeddings=64,
        rope_parameters=rope,
    )
    return Phi3ForCausalLM(config)


def dynamic(vocabulary: int) -> PreTrainedModel:
    """Return a Llama whose rotary embedding changes beyond its context."""
    rope = {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 4.0}
    return LlamaForCausalLM(
        LlamaConfig(**_SMALL, vocab_size=vocabulary, max_position_embeddings=256, rope_parameters=rope)
    )


def local_attention(vocabulary: int) -> PreTrainedModel:
    """Return a GPT-Neo, whose local windows are counted from the batch's longest row."""
    config = GPTNeoConfig(
        vocab_size=vocabulary,
        hidden_size=64,
        num_layers=2,
        num_heads=4,
        attention_types=[[["global", "local"], 1]],
        max_position_embeddings=1024,
        bos_token_id=1,
        eos_token_id=2,
    )
    return GPTNeoForCausalLM(config)


def shared_keys(vocabulary: int) -> PreTrainedModel:
    """Return a Gemma 3n, whose last layers take keys and values from others."""
    config = Gemma3nTextConfig(
        **{**_SMALL, "intermediate_size": [96] * 4},
        vocab_size=vocabulary,
        vocab_size_per_layer_input=vocabulary,
        hidden_size_per_layer_input=8,
        num_kv_shared_layers=2,
        laurel_rank=4,
        head_dim=16,
        layer_types=["sliding_attention", "full_attention"] * 2,
        activation_sparsity_pattern=[0.0] * 4,
        max_position_embeddings=256,
    )
    return Gemma3nForCausalLM(config)


def saved(model: PreTrainedModel, folder: Path) -> str:
    """Save a model with the bundled tokenizer."""
    model.save_pretrained(folder)
    bundled_tokenizer().save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize(
    ("make", "says"),
    [(longrope, "longrope.*longer than 64 tokens.*context=64"), (shared_keys, "last 2 layers take keys and values")],
    ids=["longrope", "shared_keys"],
)
def test_a_kind_that_the_configuration_tells_is_refused_before_its_weights_are_read(
    make: Callable[[int], PreTrainedModel], says: str, tmp_path: Path
):
    """In one sentence with the remedy; the weights may be gigabytes, and here there are none."""
    folder = Path(saved(make(len(bundled_tokenizer())), tmp_path))
    (folder / WEIGHTS).unlink()
    with pytest.raises(ModelError, match=says):
        load_model(str(folder), device="cpu")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_local_attention_that_depends_on_company_is_found_when_the_model_is_loaded(dtype: str, tmp_path: Path):
    """No list names it: a row beside a longer one is computed, and is another than alone."""
    loaded = load_model(saved(local_attention(len(bundled_tokenizer())), tmp_path), device="cpu", dtype=dtype)
    with pytest.raises(ModelError, match="from the cache, beside others"):
        checked_model(loaded)


def test_a_rotary_embedding_that_depends_on_company_is_found_when_the_model_is_loaded(tmp_path: Path):
    """Also where the configuration's word for it is not known: the computed rows differ."""
    loaded = load_model(saved(longrope(len(bundled_tokenizer())), tmp_path), device="cpu", context=64)
    object.__setattr__(loaded, "context", 256)
    with pytest.raises(ModelError, match="from the cache, beside others"):
        checked_model(loaded)


def test_layers_that_give_one_token_alone_are_found_when_they_are_read():
    """Vectors would be made from one token without a word."""
    tokenizer = bundled_tokenizer()
    model = tiny_model("llama", len(tokenizer))
    last = model.model.layers[-1]
    whole = last.forward
    last.forward = lambda *inputs, **options: whole(*inputs, **options)[:, -1:]
    with pytest.raises(ValueError, match="sees only part of the sequence"):
        SteeredModel(model, tokenizer).read(torch.tensor([[5, 6, 7]]))


@pytest.mark.parametrize(
    ("make", "dtype"),
    [(dynamic, "bfloat16"), (longrope, "float32"), *product(["qwen3", "gemma3"], ["float32", "bfloat16"])],
    ids=lambda one: getattr(one, "__name__", one),
)
def test_ordinary_kinds_pass_the_check(make: Callable[[int], PreTrainedModel] | str, dtype: str, tmp_path: Path):
    """Within the context in which a rotary embedding stays what it is, that of a kind that changes too."""
    vocabulary = len(bundled_tokenizer())
    model = tiny_model(make, vocabulary) if isinstance(make, str) else make(vocabulary)
    context = 64 if make is longrope else None
    loaded = load_model(saved(model, tmp_path), device="cpu", dtype=dtype, context=context)
    assert checked_model(loaded).n_layers == len(loaded.model.get_decoder().layers)


def test_a_model_with_eyes_is_run_as_the_text_model_that_it_holds(tmp_path: Path):
    """Mistral 3 is no causal language model by name; it reads text all the same, and its text layers are found."""
    text = MistralConfig(**_SMALL, vocab_size=len(bundled_tokenizer()), head_dim=16, max_position_embeddings=256)
    eyes = PixtralVisionConfig(
        hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, image_size=32, patch_size=16
    )
    made = Mistral3ForConditionalGeneration(Mistral3Config(text_config=text, vision_config=eyes, image_token_index=5))
    loaded = load_model(saved(made, tmp_path), device="cpu")
    assert (checked_model(loaded).n_layers, loaded.context) == (4, 256)
