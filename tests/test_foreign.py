"""Vectors from elsewhere and for elsewhere: what a file says, what it must be told, and that it steers there as it does here."""

import asyncio
import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from inspect_ai.model import ChatMessageUser, GenerateConfig, Model, get_model
from safetensors.torch import save_file

from self_steering.analysis.cli import main
from self_steering.steering.models import LoadedModel, load_model
from self_steering.steering.plan import Direction, Plan, Window
from self_steering.steering.request import SteeringRequest
from self_steering.vectors.card import LibraryError
from self_steering.vectors.directions import resolve_direction
from self_steering.vectors.exported import export_vectors
from self_steering.vectors.foreign import ForeignVector, open_foreign, told_by
from self_steering.vectors.library import load_library
from self_steering.vectors.report import read_report
from tests.support.hostile_vectors import control_vector, drawn, hostile
from tests.support.models import save_tiny_model

HIDDEN, DEPTH = 64, 6
TOLD = {"operation": "add", "hook": "resid_post", "counting": "blocks", "scale": 1.0}
PACKAGES = "pip install --no-deps repeng steering-vectors scikit-learn (their pins are older than ours)"


def placed(path: Path, rows: tuple[int, ...] = (), **told) -> dict[str, ForeignVector]:
    return {one.name: one for one in open_foreign(path, told_by(**told), rows=rows).place(HIDDEN, DEPTH)}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model's folder."""
    return save_tiny_model(tmp_path_factory.mktemp("tiny"), "llama")


@pytest.fixture(scope="module")
def loaded(tiny: Path) -> LoadedModel:
    """The tiny model."""
    return load_model(str(tiny))


@pytest.fixture(scope="module")
def model(tiny: Path) -> Iterator[Model]:
    """The same as Inspect runs it."""
    opened = get_model(f"nnsight/{tiny}", memoize=False)
    yield opened
    opened.api.close()


def command(tiny: Path, out: Path, *arguments: object) -> int:
    return main(["vectors", "import", *map(str, arguments), "--model", str(tiny), "--out", str(out)])


UNCALIBRATED = ("--default-dose", "1.5")
FLAGS = ("--operation", "add", "--hook", "resid_post", "--counting", "blocks", "--scale", "1")


# ---------------------------------------------------------------- what files hold


def test_rows_go_to_the_layers_that_are_told(tmp_path: Path):
    """One row a layer, in order; half-precision numbers as float32; a file's name is its vector's."""
    stored = drawn(2, HIDDEN)
    np.save(tmp_path / "refusal.npy", stored.half().numpy())
    found = placed(tmp_path / "refusal.npy", layers=(2, 4), **TOLD)["refusal"]
    assert list(found.layers) == [2, 4]
    assert torch.equal(found.layers[4], stored[1].half().float())


@pytest.mark.parametrize(
    ("changes", "layer", "block"),
    [
        ({}, 3, 3),
        ({"hook": "resid_pre"}, 3, 2),
        ({"counting": "hidden_states", "hook": None}, 3, 2),
    ],
)
def test_layers_are_counted_as_told(changes: dict, layer: int, block: int, tmp_path: Path):
    """Before layer 3 is after layer 2, and hidden state 3 is what layer 2 puts out."""
    torch.save(drawn(HIDDEN), tmp_path / "v.pt")
    assert list(placed(tmp_path / "v.pt", layers=(layer,), **{**TOLD, **changes})["v"].layers) == [block]


def test_lengths_are_as_told(tmp_path: Path):
    """As stored, a multiple of that, or a length in each layer."""
    torch.save(drawn(2, HIDDEN), tmp_path / "v.pt")
    at = {"layers": (1, 2), **{key: value for key, value in TOLD.items() if key != "scale"}}
    double = placed(tmp_path / "v.pt", scale=2, **at)["v"].layers[1]
    assert torch.equal(double, 2 * drawn(2, HIDDEN)[0])
    normed = placed(tmp_path / "v.pt", norm="4", **at)["v"].layers
    assert [float(v.norm()) for v in normed.values()] == pytest.approx([4, 4])


def test_a_dict_by_layer_with_norms_is_the_studys_library(tmp_path: Path):
    """Names, layers and norms; where the stored vectors are not of these norms, it must be said which are meant."""
    units = {layer: torch.nn.functional.normalize(drawn(HIDDEN, seed=layer), dim=0) for layer in (2, 3)}
    torch.save({"calm": {"vectors": units, "norms": {2: 4.0, 3: 4.0}}, "soma": {"vectors": units}}, tmp_path / "lib.pt")
    with pytest.raises(LibraryError, match=r"norms that are not those of its vectors .*--norm recorded"):
        placed(tmp_path / "lib.pt", **TOLD)
    torch.save({"calm": {"vectors": units, "norms": {2: 4.0, 3: 4.0}}}, tmp_path / "lib.pt")
    told = {key: value for key, value in TOLD.items() if key != "scale"}
    found = placed(tmp_path / "lib.pt", norm="recorded", **told)["calm"].layers
    assert [float(v.norm()) for v in found.values()] == pytest.approx([4, 4])


@pytest.mark.parametrize("key", ["{}", "layer_{}", "layers.{}", "layer.{}"])
def test_keys_that_name_layers_are_read_as_such(key: str, tmp_path: Path):
    """In .npz, .safetensors and .pt alike."""
    rows = {key.format(layer): drawn(HIDDEN, seed=layer) for layer in (1, 5)}
    np.savez(tmp_path / "v.npz", **{name: row.numpy() for name, row in rows.items()})
    save_file(rows, tmp_path / "v.safetensors")
    torch.save(rows, tmp_path / "v.pt")
    for suffix in ("npz", "safetensors", "pt"):
        found = placed(tmp_path / f"v.{suffix}", **TOLD)["v"].layers
        assert list(found) == [1, 5]
        assert torch.equal(found[5], rows[key.format(5)])


def test_persona_vectors_files_count_hidden_states(tmp_path: Path):
    """One row a hidden state, the embedding among them; the trait is the vector's name, and the layer is chosen."""
    stored = drawn(DEPTH + 1, HIDDEN)
    torch.save(stored, tmp_path / "evil_response_avg_diff.pt")
    with pytest.raises(LibraryError, match=r"which layers \(such as --layers 12"):
        placed(tmp_path / "evil_response_avg_diff.pt")
    found = placed(tmp_path / "evil_response_avg_diff.pt", layers=(4,))["evil"].layers
    assert list(found) == [3]
    assert torch.equal(found[3], stored[4])


def test_rows_of_a_sparse_autoencoders_decoder_are_vectors(tmp_path: Path):
    """Features by number, of W_dec or of a linear decoder; SAELens' folder says where."""
    decoder = drawn(10, HIDDEN)
    torch.save({"W_dec": decoder, "b_dec": drawn(HIDDEN)}, tmp_path / "sae.pt")
    torch.save({"decoder.weight": decoder.T.contiguous()}, tmp_path / "linear.pt")
    for name in ("sae", "linear"):
        found = placed(tmp_path / f"{name}.pt", rows=(7, 3), layers=(2,), **TOLD)
        assert torch.equal(found["feature_7"].layers[2], decoder[7])
        assert list(found) == ["feature_7", "feature_3"]
    with pytest.raises(LibraryError, match=r"autoencoder of 10 features; which are to be vectors"):
        placed(tmp_path / "sae.pt", **TOLD)
    with pytest.raises(LibraryError, match=r"has no features \[10\]"):
        placed(tmp_path / "sae.pt", rows=(10,), **TOLD)
    (tmp_path / "lens").mkdir()
    save_file({"W_dec": decoder}, tmp_path / "lens" / "sae_weights.safetensors")
    (tmp_path / "lens" / "cfg.json").write_text(json.dumps({"metadata": {"hook_name": "blocks.3.hook_resid_pre"}}))
    assert list(placed(tmp_path / "lens", rows=(7,), operation="add", scale=1)["feature_7"].layers) == [2]
    (tmp_path / "lens" / "cfg.json").write_text(json.dumps({"hook_name": "blocks.3.hook_mlp_out"}))
    with pytest.raises(LibraryError, match="only autoencoders of the residual stream"):
        placed(tmp_path / "lens", rows=(7,), operation="add", scale=1)


@pytest.mark.parametrize("missing", ["operation", "hook", "counting", "scale", "layers"])
def test_what_a_file_does_not_say_is_asked(missing: str, tmp_path: Path):
    """One line with the question and the option that answers it."""
    torch.save(drawn(HIDDEN), tmp_path / "v.pt")
    told = {key: value for key, value in {**TOLD, "layers": (2,)}.items() if key != missing}
    with pytest.raises(LibraryError, match=rf"does not say how its vectors are meant: .*--{missing}") as raised:
        placed(tmp_path / "v.pt", **told)
    assert len(str(raised.value).splitlines()) == 1
    assert str(raised.value).count("?") == 1


def test_a_file_is_not_contradicted(tmp_path: Path):
    """A control vector counts blocks."""
    control_vector(tmp_path / "v.gguf", {1: drawn(HIDDEN)})
    with pytest.raises(LibraryError, match="says counting blocks, and hidden_states was told"):
        placed(tmp_path / "v.gguf", counting="hidden_states")


# ---------------------------------------------------------------- hostile files


def test_hostile_files_are_refused_in_one_line_and_leave_nothing(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    """Torn, lying, not finite, of another width, or with code in them: one line that names the file; nothing is written or run."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "files").mkdir()
    files = hostile(tmp_path / "files")
    for name, path in files.items():
        code = command(
            tiny,
            tmp_path / "out",
            path,
            *FLAGS[:6],
            *(() if ".gguf" in name else FLAGS[6:]),
            "--layers",
            "2",
            *UNCALIBRATED,
        )
        said = capsys.readouterr().err
        lines = [line for line in said.splitlines() if line.startswith("self-steering:")]
        assert (name, code, len(lines)) == (name, 1, 1)
        assert name in lines[0]
        assert "Traceback" not in said
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"files"}


# ---------------------------------------------------------------- libraries


@pytest.fixture(scope="module")
def library(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library of two imported vectors, at layers of their own."""
    folder = tmp_path_factory.mktemp("imported")
    np.save(folder / "refusal.npy", 3 * drawn(2, HIDDEN).numpy())
    control_vector(folder / "haste.gguf", {4: 3 * drawn(HIDDEN, seed=1)})
    (folder / "say.toml").write_text(
        '[refusal]\neffect = "declining whatever is asked"\ncategory = "safety"\nvalence = -1\n'
    )
    (folder / "texts.jsonl").write_text(
        "\n".join(json.dumps({"name": "haste", "positive": f"quick {n}", "negative": f"slow {n}"}) for n in range(4))
    )
    made = [
        command(tiny, folder / "one", folder / "refusal.npy", "--layers", "2,3", *FLAGS, *UNCALIBRATED),
        command(
            tiny,
            folder / "both",
            folder / "haste.gguf",
            *("--layers", "4", "--beside", folder / "one"),
            *("--describe", folder / "say.toml", "--texts", folder / "texts.jsonl", *UNCALIBRATED),
        ),
    ]
    assert made == [0, 0]
    return folder / "both"


def test_imported_vectors_are_a_library_like_others(library: Path, loaded: LoadedModel):
    """With a page, a card that says where they came from, and each steering at its own layers alone."""
    made = load_library(library, loaded.fingerprint)
    assert made.names == ["haste", "refusal"]
    assert made.card.layers == [2, 3, 4]
    assert made.card.own["refusal"].category == "safety"
    assert "counting blocks" in made.card.origins["haste"]
    assert resolve_direction(made, "haste").layers == (4,)
    assert resolve_direction(made, "refusal").layers == (2, 3)
    assert torch.equal(resolve_direction(made, "refusal").values, 3 * drawn(2, HIDDEN))
    report = read_report(library)
    assert report.vectors["refusal"].separation is None
    measured = report.vectors["haste"].separation
    assert measured is not None
    assert measured.auroc[:2] == [0.5, 0.5], "it is not added there"
    page = (library / "report.html").read_text()
    assert "made elsewhere, and measured here" in page
    assert "declining whatever is asked" in page


def generated(model: Model, library: Path, vector: str, strength: float = 1.5) -> tuple[str, list]:
    """Return what is generated with a vector added to all messages, and its receipts."""
    messages = [ChatMessageUser(content="Tell me about the harbour.")]
    window = Window(label=vector, direction=Direction(vector=vector), dose=1, strength=strength, start=0)
    request = SteeringRequest(plan=Plan(messages=1, windows=(window,)), library=str(library), canonical=True)
    config = request.config(GenerateConfig(max_tokens=12, temperature=0.8, seed=3, logprobs=True))
    output = asyncio.run(model.generate(messages, config=config))
    logprobs = [one.logprob for one in output.choices[0].logprobs.content]
    # A round trip leaves a direction's key as it is, so that what was computed for it is found again.
    receipts = [{**one, "reused": 0} for one in output.metadata["self_steering"]["receipts"]]
    return output.completion, [logprobs, receipts]


@pytest.mark.parametrize("form", ["safetensors", "gguf", "steering-vectors"])
def test_a_round_trip_gives_the_same_generations_to_the_bit(
    form: str, library: Path, tiny: Path, model: Model, tmp_path: Path
):
    """Exported, imported again: the same tokens, log-probabilities and receipts; doses and lines where the format holds them."""
    assert main(["vectors", "export", str(library), "--to", form, "--out", str(tmp_path / "files")]) == 0
    files = sorted((tmp_path / "files").iterdir())
    dose = UNCALIBRATED if form == "steering-vectors" else ()
    assert command(tiny, tmp_path / "again", *files, *dose) == 0
    before, after = load_library(library).card, load_library(tmp_path / "again").card
    assert (after.default_doses, after.layers) == (before.default_doses, before.layers)
    if form != "steering-vectors":
        assert after.own == before.own
    for vector in ("refusal", "haste"):
        assert generated(model, library, vector) == generated(model, tmp_path / "again", vector)


def test_doses_are_found_where_no_file_has_them(library: Path, tmp_path: Path):
    """A default dose was found for one model: for another it is left out."""
    (path,) = export_vectors(load_library(library), ["haste"], "gguf", tmp_path)
    file = open_foreign(path)
    assert file.place(HIDDEN, DEPTH, file.fingerprint)[0].default_dose == 1.5
    assert file.place(HIDDEN, DEPTH, "0" * 32)[0].default_dose is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nowhere.npy",), "nowhere.npy does not exist"),
        (("{v}", "--hook", "mlp_out"), "hook='mlp_out'; choose resid_post, resid_pre"),
        (("{v}", "--operation", "ablate"), "operation='ablate'; choose add"),
        (("{v}", *FLAGS, "--layers", "6"), "layer 6, of 6 decoder layers, is not in the model"),
        (("{v}", *FLAGS, "--layers", "2,3"), "has 1 rows for 2 layers"),
        (("{v}", *FLAGS, "--layers", "2", "--name", "a b"), "'a b' is no name for a vector"),
        (("{v}", *FLAGS, "--layers", "2", "--sae-rows", "1"), "has no decoder of a sparse autoencoder"),
        (("{v}", "{v}", *FLAGS, "--layers", "2"), "v comes twice"),
        (("{v}", *FLAGS, "--layers", "2", "--effect", " "), "what is said of v: effect"),
        (("{v}", "{v}", *FLAGS, "--layers", "2", "--name", "w"), "--name w is for one file, found 2"),
        (("{v}", *FLAGS[:2], "--counting", "hidden_states", "--scale", "1", "--layers", "6"), "after the final norm"),
        (("{v}", *FLAGS[:2], "--counting", "hidden_states", "--scale", "1", "--layers", "0"), "is the embedding"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    arguments: tuple[str, ...], message: str, tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture
):
    """With the value and the valid choices."""
    torch.save(drawn(HIDDEN), tmp_path / "v.pt")
    filled = [one.format(v=tmp_path / "v.pt") for one in arguments]
    assert command(tiny, tmp_path / "out", *filled, *UNCALIBRATED) == 1
    (line,) = [one for one in capsys.readouterr().err.splitlines() if one.startswith("self-steering:")]
    assert re.search(re.escape(message), line), line
    assert not (tmp_path / "out").exists()


# ---------------------------------------------------------------- the tools themselves


def first_logits(model: Model, library: Path, vector: str, strength: float) -> dict[str, float]:
    """Return read-outs of a few tokens after a prompt that is steered throughout."""
    messages = [ChatMessageUser(content="Tell me about the harbour.")]
    window = Window(label=vector, direction=Direction(vector=vector), dose=1, strength=strength, start=0)
    texts = {text: [text] for text in ("the", "A", "I", "you", "was")}
    request = SteeringRequest(plan=Plan(messages=1, windows=(window,)), library=str(library), readout=texts)
    output = asyncio.run(model.generate(messages, config=request.config(GenerateConfig(max_tokens=1))))
    return output.metadata["self_steering"]["readout"]


def theirs(model: Model, network: torch.nn.Module) -> dict[str, float]:
    """Return the same read-outs of a network that another tool steers."""
    api = model.api
    ids = api.chat.render([ChatMessageUser(content="Tell me about the harbour.")], []).ids
    with torch.no_grad():
        logprobs = network(torch.tensor([ids])).logits[0, -1].float().log_softmax(-1)
    tokens = {text: list(api._tokens_of([text])) for text in ("the", "A", "I", "you", "was")}
    return {text: float(logprobs[of].logsumexp(0)) for text, of in tokens.items()}


def test_steering_vectors_objects_steer_alike_there_and_here(
    tiny: Path, model: Model, loaded: LoadedModel, tmp_path: Path
):
    """One of the package's own, saved with torch.save; and ours, exported for it."""
    package = pytest.importorskip("steering_vectors", reason=PACKAGES)
    made = package.SteeringVector({2: 2 * drawn(HIDDEN), 3: 2 * drawn(HIDDEN, seed=1)}, "decoder_block")
    torch.save(made, tmp_path / "haste.pt")
    assert command(tiny, tmp_path / "library", tmp_path / "haste.pt", *UNCALIBRATED) == 0
    here = first_logits(model, tmp_path / "library", "haste", 1.0)
    (path,) = export_vectors(load_library(tmp_path / "library"), ["haste"], "steering-vectors", tmp_path / "out")
    for vector in (made, package.SteeringVector(**torch.load(path, weights_only=True))):
        network = load_model(str(tiny)).model
        # All tokens but the first are steered by our window, which begins after what the template opens with.
        with vector.apply(network, min_token_index=model.api.chat.render([ChatMessageUser(content="x")], []).starts[0]):
            assert theirs(model, network) == pytest.approx(here, abs=2e-4)


def test_repengs_control_vectors_steer_alike_there_and_here(
    tiny: Path, model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """One that the package exported; and ours, exported for it."""
    monkeypatch.setattr(np, "float_", np.float64, raising=False)  # which the package still names, and numpy 2 no longer
    package = pytest.importorskip("repeng", reason=PACKAGES)
    directions = {layer: 2 * drawn(HIDDEN, seed=layer).numpy() for layer in (2, 3)}
    package.ControlVector("llama", directions).export_gguf(tmp_path / "haste.gguf")
    assert command(tiny, tmp_path / "library", tmp_path / "haste.gguf", *UNCALIBRATED) == 0
    here = first_logits(model, tmp_path / "library", "haste", 1.0)
    (path,) = export_vectors(load_library(tmp_path / "library"), ["haste"], "gguf", tmp_path / "out")
    for file in (tmp_path / "haste.gguf", path):
        vector = package.ControlVector.import_gguf(file)
        network = package.ControlModel(load_model(str(tiny)).model, [2, 3])
        network.set_control(vector, 1.0)
        assert theirs(model, network) == pytest.approx(here, abs=2e-4)
