"""Loading models: what identifies one, what is refused, and what is never run."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from self_steering.steering.bundled.conversion import BUNDLED
from self_steering.steering.identity import ModelError, end_of_turn_ids, fingerprint
from self_steering.steering.models import load_model
from self_steering.vectors.card import find_library
from self_steering.vectors.library import load_library
from tests.support.models import ARCHITECTURES, CONTEXT, save_tiny_model, tiny_model

WEIGHTS = "model.safetensors"


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
    ],
    ids=["dtype", "device", "both"],
)
def test_arguments_that_make_no_sense_are_refused(folder: Path, arguments: dict, says: str):
    """Unknown types and devices raise and name what can be chosen."""
    with pytest.raises(ModelError, match=says):
        load_model(str(folder), **arguments)
