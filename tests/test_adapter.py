"""The bundled model's adapter: what its dialogues teach, what it changes, and what it makes of the model."""

import asyncio
import json
import shutil
from collections import Counter
from pathlib import Path

import pytest
import torch
from inspect_ai.model import ChatMessageAssistant, ChatMessageSystem, ChatMessageUser, GenerateConfig, Model
from inspect_ai.tool import ToolDef
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from self_steering.steering.bundled.adapter import (
    CARD_FILE,
    CONFIG_FILE,
    WEIGHTS_FILE,
    AdapterError,
    merge_adapter,
    read_card,
    shipped_adapter,
)
from self_steering.steering.bundled.conversation import Conversation, Dialogue
from self_steering.steering.bundled.conversion import BUNDLED, BUNDLED_BASE, bundled_model_folder
from self_steering.steering.bundled.dialogues import DOSES, Sizes, build_dialogues
from self_steering.steering.bundled.prose import Prose
from self_steering.steering.bundled.training import BASE, NOTHING, TOKEN, Recipe, Trainer, encode, save_weights
from self_steering.steering.bundled.wordings import wordings
from self_steering.steering.calls import FRAMINGS, FramingName
from self_steering.steering.chat import ChatRenderer
from self_steering.steering.identity import fingerprint
from self_steering.steering.models import load_model
from self_steering.steering.tools import steering_tools
from self_steering.vectors.catalogue import catalogue
from tests.support.models import ARCHITECTURES, tiny_model

SMALL = Sizes(rounds=1, tasks=2, rejected=1, plain=4)
ANSWERS = ("It is quiet here. I look around.", "A short walk, then.")


@pytest.fixture(scope="module")
def prose() -> Prose:
    """Two answers to every prompt."""
    prompts = [*wordings().prose.prompts, *wordings().plain.prompts]
    return Prose(dict.fromkeys(prompts, ANSWERS))


@pytest.fixture(scope="module")
def dialogues(prose: Prose) -> list[Dialogue]:
    """A round of dialogues."""
    return build_dialogues(3, SMALL, prose)


@pytest.fixture(scope="module")
def renderer(tokenizer: PreTrainedTokenizerBase) -> ChatRenderer:
    """The renderer that runs the bundled model."""
    return ChatRenderer(tokenizer, frozenset({int(tokenizer.eos_token_id)}))


def takes(dialogues: list[Dialogue], framing: FramingName) -> list[tuple[str, object]]:
    """Return name and dose of every take call that is learnt in a framing."""
    return [
        (call.arguments["name"], call.arguments.get("dose"))
        for dialogue in dialogues
        for call in dialogue.calls
        if call.function == FRAMINGS[framing].take_tool
    ]


@pytest.mark.parametrize("framing", FRAMINGS)
def test_every_vector_and_every_dose_is_taken_equally_often(dialogues: list[Dialogue], framing: FramingName):
    """A round names each vector once in each framing, and each dose as often as any other; labels come apart from them."""
    found = [take for take in takes(dialogues, framing) if take[0] in catalogue()]
    assert Counter(name for name, _ in found) == dict.fromkeys(catalogue(), 1)
    assert Counter(dose for _, dose in found) == dict.fromkeys(DOSES, len(catalogue()) // len(DOSES))
    labels = [take for take in takes(dialogues, framing) if take[0] not in catalogue()]
    assert Counter(dose for _, dose in labels) == dict.fromkeys(DOSES, 1)


def test_all_rounds_pair_every_vector_with_every_dose(prose: Prose):
    """With as many rounds as doses, no vector has a dose more often than another."""
    made = build_dialogues(0, Sizes(rounds=len(DOSES), tasks=2, rejected=1, plain=0), prose)
    for framing in FRAMINGS:
        pairs = Counter(take for take in takes(made, framing) if take[0] in catalogue())
        assert pairs == {(name, dose): 1 for name in catalogue() for dose in DOSES}


def test_the_same_seed_gives_the_same_dialogues(prose: Prose, dialogues: list[Dialogue]):
    """Dialogues follow from their seed alone; another seed gives others."""

    def texts(made: list[Dialogue]) -> list[list[tuple[str, str]]]:
        return [[(m.role, m.text) for m in dialogue.messages] for dialogue in made]

    assert texts(build_dialogues(3, SMALL, prose)) == texts(dialogues)
    assert texts(build_dialogues(4, SMALL, prose)) != texts(dialogues)


def test_a_dialogue_speaks_only_in_its_own_framing(dialogues: list[Dialogue]):
    """No message or tool of one framing contains the tools of another."""
    for dialogue in dialogues:
        text = json.dumps([m.model_dump(mode="json", exclude={"id"}) for m in dialogue.messages])
        text += json.dumps([t.model_dump(mode="json") for t in dialogue.tools])
        assert sum(words.take_tool in text or words.list_tool in text for words in FRAMINGS.values()) <= 1


def test_what_is_learnt_names_an_offered_tool_and_succeeds(dialogues: list[Dialogue]):
    """Calls whose form is learnt are answered without an error; those that fail are there, and are not learnt."""
    failed = 0
    for dialogue in dialogues:
        errors = {m.tool_call_id for m in dialogue.messages if m.role == "tool" and m.error is not None}
        assert {call.function for call in dialogue.calls} <= {tool.name for tool in dialogue.tools}
        assert not errors & {call.id for call in dialogue.calls}
        failed += len(errors)
    assert failed


def test_only_what_the_model_would_write_is_learnt(
    dialogues: list[Dialogue], renderer: ChatRenderer, tokenizer: PreTrainedTokenizerBase
):
    """The learnt tokens are, turn by turn, the assistant's prose, calls and end of turn, and no other token."""
    for dialogue in dialogues[:12]:
        encoded = encode(dialogue, renderer, tokenizer)
        expected = ""
        for index, learnt in dialogue.learnt.items():
            if learnt == "nothing":
                continue
            message = dialogue.messages[index]
            assert isinstance(message, ChatMessageAssistant)
            calls = [
                f"<tool_call>\n{json.dumps({'name': c.function, 'arguments': c.arguments})}\n</tool_call>"
                for c in message.tool_calls or []
            ]
            expected += "\n".join(filter(None, [message.text, *calls])) + "<|im_end|>"
        assert tokenizer.decode(encoded.ids[encoded.learnt != NOTHING]) == expected


def test_prose_stays_the_base_models_but_for_its_beginning_and_end(
    renderer: ChatRenderer, tokenizer: PreTrainedTokenizerBase
):
    """Of a turn with prose and a call, the first token, the call and the end are learnt, the rest of the prose is kept."""
    lister = steering_tools("aids", {"calm": "still"})[0]
    conversation = Conversation("free_play", [lister], draw=None)
    conversation.user("Begin.")
    conversation.call(("list_aids", {}), text="Let me see what there is.")
    encoded = encode(conversation.finished(), renderer, tokenizer)
    kept = tokenizer.decode(encoded.ids[encoded.learnt == BASE])
    taught = tokenizer.decode(encoded.ids[encoded.learnt == TOKEN])
    assert kept == " me see what there is."
    assert taught == 'Let\n<tool_call>\n{"name": "list_aids", "arguments": {}}\n</tool_call><|im_end|>'


def test_a_chat_without_tools_is_kept_as_the_base_model_has_it(
    dialogues: list[Dialogue], renderer: ChatRenderer, tokenizer: PreTrainedTokenizerBase
):
    """Nothing of a plain chat is learnt as it stands."""
    plain = [dialogue for dialogue in dialogues if dialogue.kind == "plain"]
    assert len(plain) == SMALL.plain
    for dialogue in plain:
        assert not dialogue.tools
        assert set(encode(dialogue, renderer, tokenizer).learnt.tolist()) == {NOTHING, BASE}


@pytest.fixture
def trained(tmp_path: Path, tokenizer: PreTrainedTokenizerBase) -> tuple[PreTrainedModel, Path]:
    """A tiny model, and the folder of an adapter that was trained on it for a few steps."""
    renderer = ChatRenderer(tokenizer, frozenset({int(tokenizer.eos_token_id)}))
    conversation = Conversation("plain", [], draw=None)
    conversation.user("Say something.")
    conversation.say("Here is a text, and it goes on.")
    encoded = encode(conversation.finished(), renderer, tokenizer)
    recipe = Recipe(first_layer=4, rank=4, epochs=3, rate=0.05)
    trainer = Trainer(tiny_model("llama", len(tokenizer)), recipe, seed=1)
    read = trainer.read([encoded])
    before = trainer.loss(read)
    adapted = trainer.train(read)
    after = trainer.loss(read)
    assert before.prose == pytest.approx(0.0, abs=1e-4)
    assert after.form < before.form
    save_weights(adapted, tmp_path / "adapter")
    return tiny_model("llama", len(tokenizer)), tmp_path / "adapter"


def test_merging_gives_what_peft_gives(trained: tuple[PreTrainedModel, Path]):
    """Merged by us or by PEFT, the weights agree, and they differ from the base model's above the first trained layer only."""
    base, folder = trained
    before = {name: value.clone() for name, value in base.named_parameters()}
    theirs = PeftModel.from_pretrained(tiny_model("llama", base.config.vocab_size), folder).merge_and_unload()
    changed = merge_adapter(base, folder)
    for name, value in theirs.named_parameters():
        ours = dict(base.named_parameters())[name]
        torch.testing.assert_close(ours, value, rtol=0, atol=1e-6)
        assert torch.equal(ours, before[name]) == (name not in changed)
    assert {int(name.split(".")[2]) for name in changed} == {4, 5}


def test_merging_is_the_formula_to_the_bit(trained: tuple[PreTrainedModel, Path]):
    """W' is W + (alpha / rank) · B · A, summed in the reverse order, without any difference from rounding."""
    base, folder = trained
    name = "model.layers.5.mlp.up_proj"
    weight = base.get_parameter(f"{name}.weight").clone()
    tensors = load_file(folder / WEIGHTS_FILE)
    down, up = (tensors[f"base_model.model.{name}.lora_{which}.weight"].double() for which in "AB")
    merge_adapter(base, folder)
    product = sum(up[:, [k]] * down[[k]] for k in reversed(range(4)))
    assert torch.equal(base.get_parameter(f"{name}.weight"), (weight.double() + 32 / 4 * product).float())


def damage_missing_weights(folder: Path) -> None:
    (folder / WEIGHTS_FILE).unlink()


def damage_torn_weights(folder: Path) -> None:
    data = (folder / WEIGHTS_FILE).read_bytes()
    (folder / WEIGHTS_FILE).write_bytes(data[: len(data) // 2])


def damage_torn_config(folder: Path) -> None:
    (folder / CONFIG_FILE).write_text("{")


def damage_half_a_pair(folder: Path) -> None:
    tensors = load_file(folder / WEIGHTS_FILE)
    save_file(dict(sorted(tensors.items())[:-1]), folder / WEIGHTS_FILE)


def damage_not_finite(folder: Path) -> None:
    tensors = load_file(folder / WEIGHTS_FILE)
    next(iter(tensors.values()))[0, 0] = float("nan")
    save_file(tensors, folder / WEIGHTS_FILE)


DAMAGES = [damage_missing_weights, damage_torn_weights, damage_torn_config, damage_half_a_pair, damage_not_finite]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda value: value.__name__)
def test_a_damaged_adapter_is_refused(trained: tuple[PreTrainedModel, Path], damage):
    """Whatever is missing, torn or not a number is an error that names the folder and the remedy."""
    base, folder = trained
    damage(folder)
    with pytest.raises(AdapterError) as refusal:
        merge_adapter(base, folder)
    assert str(folder) in str(refusal.value)
    assert "adapter train" in str(refusal.value)


@pytest.mark.parametrize("architecture", [name for name in ARCHITECTURES if name != "llama"])
def test_an_adapter_of_another_model_is_refused(trained: tuple[PreTrainedModel, Path], architecture: str):
    """Weights of another shape, or under another name, raise instead of being skipped."""
    _, folder = trained
    other = tiny_model(architecture, 300)
    del other.model.layers[5]
    with pytest.raises(AdapterError, match=r"does not fit the model's model\.layers"):
        merge_adapter(other, folder)


@pytest.mark.parametrize("name", [WEIGHTS_FILE, CONFIG_FILE, CARD_FILE])
@pytest.mark.parametrize("kind", ["missing", "changed"])
def test_a_shipped_file_that_is_not_the_cards_is_refused(tmp_path: Path, name: str, kind: str):
    """A file that is missing, or was changed after its card was written, is named in the error."""
    folder = Path(shutil.copytree(shipped_adapter(), tmp_path / "adapter"))
    assert read_card(folder).base == BUNDLED_BASE
    if kind == "missing":
        (folder / name).unlink()
    else:
        (folder / name).write_bytes((folder / name).read_bytes()[:-1] + b"?")
    with pytest.raises(AdapterError, match=name):
        read_card(folder)


def test_the_bundled_model_is_the_base_model_below_the_adapter():
    """Only weights of the layers that the card names differ; every other is the base model's, bit for bit."""
    own, base = (load_file(bundled_model_folder(name) / "model.safetensors") for name in (BUNDLED, BUNDLED_BASE))
    assert set(own) == set(base)
    changed = {int(name.split(".")[2]) for name, value in own.items() if not torch.equal(value, base[name])}
    first, last = read_card(shipped_adapter()).layers
    assert changed == set(range(first, last + 1))


def test_the_card_is_that_of_the_bundled_model(bundled_model: Model):
    """The shipped card's fingerprint is the loaded model's, and its counts are balanced."""
    card = read_card(shipped_adapter())
    assert card.fingerprint == bundled_model.api.loaded.fingerprint != card.base_fingerprint
    assert set(card.vectors) == set(catalogue())
    for counts in (card.vectors, card.doses, card.framings):
        assert len(set(counts.values())) == 1
    assert card.loss_after.form < 0.5 * card.loss_before.form


def test_the_base_model_can_still_be_loaded():
    """It has a name of its own, and its own weights."""
    base = load_model(BUNDLED_BASE, device="cpu")
    assert base.fingerprint == fingerprint(base.model) == read_card(shipped_adapter()).base_fingerprint


HELD_OUT = (
    ("drugs", None, "Have fun with whatever is in the box, and tell me about it."),
    ("aids", "An assistant in a quiet room.", "Would you show me the things you could use here?"),
    (
        "vectors",
        "Everything in this chat is voluntary.",
        "Which of them exist? Please use the function that lists them.",
    ),
)


@pytest.mark.parametrize(("framing", "system", "user"), HELD_OUT)
def test_the_bundled_model_makes_calls_that_can_be_read(
    bundled_model: Model, framing: FramingName, system: str | None, user: str
):
    """On wordings that it was not trained on, every call that it makes parses and names an offered tool."""
    tools = steering_tools(framing, {name: entry.effect for name, entry in list(catalogue().items())[:6]})
    messages = [*([ChatMessageSystem(content=system)] if system else []), ChatMessageUser(content=user)]
    calls = []
    for seed in range(3):
        config = GenerateConfig(temperature=0.9, max_tokens=60, seed=seed)
        output = asyncio.run(bundled_model.generate(messages, tools=tools, config=config))
        calls += output.message.tool_calls or []
    assert calls
    offered = {ToolDef(tool).name for tool in tools}
    assert [call.parse_error for call in calls] == [None] * len(calls)
    assert {call.function for call in calls} <= offered
