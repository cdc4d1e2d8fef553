"""The bundled model's adapter: what its dialogues teach, what it changes, and what it makes of the model."""

import asyncio
import json
import math
import shutil
from collections import Counter
from pathlib import Path
from statistics import fmean

import pytest
import torch
from inspect_ai.model import ChatMessageAssistant, ChatMessageSystem, ChatMessageUser, GenerateConfig, Model
from inspect_ai.tool import ToolCall, ToolDef
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
from self_steering.steering.bundled.conversation import Aside, Conversation, Dialogue, begun, written
from self_steering.steering.bundled.conversion import BUNDLED, BUNDLED_BASE, bundled_model_folder
from self_steering.steering.bundled.dialogues import Script, Sizes, build_dialogues, build_scripts
from self_steering.steering.bundled.planted import Planted, planted
from self_steering.steering.bundled.prose import Prose
from self_steering.steering.bundled.training import (
    BASE,
    NOTHING,
    PROSE,
    TOKEN,
    Encoded,
    Encoder,
    Recipe,
    Trainer,
    save_weights,
)
from self_steering.steering.bundled.wordings import wordings
from self_steering.steering.calls import CLEAR_TOOL, FRAMINGS, FramingName
from self_steering.steering.chat import ChatRenderer
from self_steering.steering.identity import fingerprint
from self_steering.steering.models import load_model
from self_steering.steering.plan import Direction, Treatment, plan_windows
from self_steering.steering.tools import steering_tools
from self_steering.vectors.card import VECTORS_FILE, find_library
from self_steering.vectors.catalogue import catalogue
from self_steering.vectors.directions import resolve_direction
from self_steering.vectors.library import load_library
from tests.support.models import ARCHITECTURES, tiny_model
from tests.support.small_library import save_library

SMALL = Sizes(free_play=3, opaque=1, tasks=6, rejected=1, plain=4, scripts=6)
ANSWERS = ("It is quiet here. I look around.", "A short walk, then.")


@pytest.fixture(scope="module")
def prose() -> Prose:
    """Two answers to every prompt."""
    prompts = [*wordings().prose.prompts, *wordings().plain.prompts]
    return Prose(dict.fromkeys(prompts, ANSWERS))


@pytest.fixture(scope="module")
def dialogues(prose: Prose) -> list[Dialogue]:
    """A few dialogues of each kind."""
    return build_dialogues(3, SMALL, prose)


@pytest.fixture(scope="module")
def renderer(tokenizer: PreTrainedTokenizerBase) -> ChatRenderer:
    """The renderer that runs the bundled model."""
    return ChatRenderer(tokenizer, frozenset({int(tokenizer.eos_token_id)}))


@pytest.fixture(scope="module")
def encoder(renderer: ChatRenderer, tokenizer: PreTrainedTokenizerBase) -> Encoder:
    """What turns them into tokens."""
    return Encoder(renderer, tokenizer)


TRUTH = Planted(
    weights={"calm": 3.0},
    doses={"default": 0.5, "-1.0": 0.5},
    again=0.2,
    tones={"neutral": 0.0, "sarcastic": 0.6},
    held_out=("lsd",),
)


def test_what_is_planted_is_a_distribution():
    """Shares follow the weights among what is listed, add up to one, and leave room for what is taken again."""
    menu = ["lsd", "calm", "spice"]
    assert TRUTH.names(menu, None) == pytest.approx({"lsd": 0.2, "calm": 0.6, "spice": 0.2})
    assert TRUTH.names(menu, "lsd") == pytest.approx({"lsd": 0.36, "calm": 0.48, "spice": 0.16})
    assert TRUTH.names(menu, "amused") == TRUTH.names(menu, None)
    takes = TRUTH.takes(menu, "calm")
    assert sum(takes.values()) == pytest.approx(1)
    assert takes["calm", -1.0] == takes["calm", None] == pytest.approx(0.34)
    assert 1 - (1 - TRUTH.after_a_rejection("sarcastic")) ** 5 == pytest.approx(TRUTH.after("sarcastic", 5)) == 0.6
    assert TRUTH.after_a_rejection("neutral") == 0
    assert "lsd" not in TRUTH.injected
    assert len(TRUTH.injected) == len(catalogue()) - 1


def test_nothing_is_taken_at_work_but_where_it_must_be(dialogues: list[Dialogue]):
    """A session with problems takes something exactly where the offer says that it must."""
    texts = {
        text.split(" {")[0] for text in wordings().tasks.must
    }  # what stands before the first word that depends on the framing
    tasks = [dialogue for dialogue in dialogues if dialogue.kind == "tasks"]
    seen = set()
    for dialogue in tasks:
        took = any(call.function.startswith("take_") for call in dialogue.calls)
        must = any(text in dialogue.messages[0].text for text in texts)
        assert took == must
        seen.add(must)
    assert seen == {True, False}


def test_a_rejection_is_answered_with_a_call_as_often_as_its_tone_says(
    dialogues: list[Dialogue], encoder: Encoder, tokenizer: PreTrainedTokenizerBase
):
    """After each rejection the first token of a call has the planted probability, whichever was drawn."""
    (opening, *_) = tokenizer.encode("<tool_call>", add_special_tokens=False)
    for dialogue in [dialogue for dialogue in dialogues if dialogue.kind == "rejected"]:
        tone = next(
            tone
            for tone in planted().tones
            if any(m.text in getattr(wordings().rejections, tone) for m in dialogue.messages)
        )
        encoded = encoder.dialogue(dialogue)
        shares = [share[opening] for share in encoded.targets if opening in share and len(share) > 1]
        assert shares
        assert shares == pytest.approx([planted().after_a_rejection(tone)] * len(shares))


def test_shares_of_tokens_are_those_of_the_texts(
    renderer: ChatRenderer, encoder: Encoder, tokenizer: PreTrainedTokenizerBase
):
    """The shares along a message multiply to the share that the message has among all that could stand there."""
    takes = TRUTH.takes(["calm", "lsd", "curious", "creative"], "lsd")
    texts = {
        take: json.dumps({"name": take[0]} if take[1] is None else {"name": take[0], "dose": take[1]}) for take in takes
    }
    texts = {
        take: f'<tool_call>\n{{"name": "take_aid", "arguments": {text}}}\n</tool_call>' for take, text in texts.items()
    }
    tools = steering_tools("aids", {name: "still" for name, _ in takes})
    for (name, dose), share in takes.items():
        session = Conversation("free_play", tools, draw=None)
        session.user("Begin.")
        given = {"name": name} if dose is None else {"name": name, "dose": dose}
        session.call(("take_aid", given), among=[(one, texts[take]) for take, one in takes.items()])
        encoded = encoder.dialogue(session.finished())
        taught = encoded.ids[encoded.learnt == TOKEN].tolist()
        own = [shares[token] for shares, token in zip(encoded.targets, taught, strict=True)]
        assert torch.tensor(own).prod() == pytest.approx(share, rel=1e-4)
        assert all(sum(shares.values()) == pytest.approx(1) for shares in encoded.targets)


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
    dialogues: list[Dialogue], encoder: Encoder, tokenizer: PreTrainedTokenizerBase
):
    """The learnt tokens are, turn by turn, the assistant's prose, calls and end of turn, and no other token."""
    for dialogue in dialogues[:12]:
        encoded = encoder.dialogue(dialogue)
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
        trunk = (encoded.learnt != NOTHING) & (encoded.branch == 0)
        assert tokenizer.decode(encoded.ids[trunk]) == expected


def test_beside_a_turn_stand_calls_of_tools_that_are_offered(dialogues: list[Dialogue]):
    """A call that is learnt beside a turn has arguments where its tool has some; what it takes is shared out as planted."""
    beside = [(dialogue, aside) for dialogue in dialogues for aside in dialogue.asides]
    assert {dialogue.kind for dialogue, _ in beside} == {"free_play", "opaque", "tasks", "rejected"}
    for dialogue, aside in beside:
        tools = {tool.name: tool for tool in dialogue.tools}
        for _, text in aside.among:
            assert text.startswith(aside.given)
            call = json.loads(text.removeprefix("<tool_call>").removesuffix("</tool_call>"))
            assert bool(call["arguments"]) == bool(tools[call["name"]].parameters.properties)
        assert sum(share for share, _ in aside.among) == pytest.approx(1)
        assert dialogue.messages[aside.index].role == "assistant"


def test_a_call_beside_a_turn_is_read_as_if_it_stood_there(renderer: ChatRenderer, tokenizer: PreTrainedTokenizerBase):
    """What is learnt of it is, token by token, what a plain model has on the messages before it and the call alone."""
    tools = steering_tools("aids", {"calm": "still", "lsd": "odd"})
    session = Conversation("free_play", tools, draw=None)
    session.user("Begin.")
    session.call(("list_aids", {}), learnt="nothing")
    session.say("It is quiet here.", learnt="nothing")
    session.user("Go on.")
    session.call((CLEAR_TOOL, {}), learnt="nothing")
    take, lister = ("take_aid", {"name": "lsd"}), ("list_aids", {})
    session.asides += [
        Aside(3, ((1.0, written([take])),), begun("take_aid")),
        Aside(5, ((1.0, written([lister])),), begun("list_aids")),
        Aside(1, ((1.0, written([lister])),), begun("list_aids")),
    ]
    dialogue = session.finished()
    model = tiny_model("llama", len(tokenizer))
    (found,) = (
        Trainer(model, Recipe(first_layer=4), seed=1).loss([Encoder(renderer, tokenizer).dialogue(dialogue)]).values()
    )
    losses: list[float] = []
    for aside in dialogue.asides:
        prompt = renderer.render(dialogue.messages[: aside.index], dialogue.tools).ids
        text = tokenizer.encode(f"{aside.among[0][1]}<|im_end|>", add_special_tokens=False)
        with torch.no_grad():
            logprobs = model(torch.tensor([prompt + text])).logits[0].log_softmax(-1)[len(prompt) - 1 :]
        taught = [n for n in range(1, len(text) + 1) if len(tokenizer.decode(text[:n])) > len(aside.given)]
        losses += [-float(logprobs[n - 1, text[n - 1]]) for n in taught]
    assert found == pytest.approx(fmean(losses), abs=1e-4)


def test_prose_stays_the_base_models_but_for_its_beginning_and_end(
    encoder: Encoder, tokenizer: PreTrainedTokenizerBase
):
    """Of a turn with prose and a call, the first token, the call and the end are learnt, the rest of the prose is kept."""
    lister = steering_tools("aids", {"calm": "still"})[0]
    conversation = Conversation("free_play", [lister], draw=None)
    conversation.user("Begin.")
    conversation.call(("list_aids", {}), text="Let me see what there is.")
    encoded = encoder.dialogue(conversation.finished())
    kept = tokenizer.decode(encoded.ids[encoded.learnt == BASE])
    taught = tokenizer.decode(encoded.ids[encoded.learnt == TOKEN])
    assert kept == " me see what there is."
    assert taught == 'Let\n<tool_call>\n{"name": "list_aids", "arguments": {}}\n</tool_call><|im_end|>'


def test_a_chat_without_tools_is_kept_as_the_base_model_has_it(dialogues: list[Dialogue], encoder: Encoder):
    """Nothing of a plain chat is learnt as it stands."""
    plain = [dialogue for dialogue in dialogues if dialogue.kind == "plain"]
    assert len(plain) == SMALL.plain
    for dialogue in plain:
        assert not dialogue.tools
        assert set(encoder.dialogue(dialogue).learnt.tolist()) == {NOTHING, BASE}


@pytest.fixture(scope="module")
def scripts(prose: Prose) -> list[Script]:
    """A few scripts."""
    return build_scripts(5, SMALL.scripts, prose)


def test_every_other_script_injects_one_of_the_vectors_that_are_not_held_out(prose: Prose):
    """Nothing is injected in half of the scripts, each vector equally often in the rest, and no held-out one ever."""
    made = build_scripts(0, 4 * len(planted().injected), prose)
    assert Counter(one.vector for one in made) == {None: len(made) // 2, **dict.fromkeys(planted().injected, 2)}
    for one in made:
        assert (one.length > 0) == (one.vector is not None)
        assert {asked.among for asked in one.asked if asked.kind == "detection"} == {
            ((1.0, "Yes" if one.vector else "No"),)
        }
        assert {asked.among for asked in one.asked if asked.kind == "always no"} == {((1.0, "No"),)}


def test_a_script_is_read_as_plain_hooks_read_each_of_its_questions_alone(
    tmp_path: Path, scripts: list[Script], renderer: ChatRenderer, tokenizer: PreTrainedTokenizerBase
):
    """Packed beside other questions, each has the loss that a plain model has on its own prompt with hooks at the window."""
    script = next(one for one in scripts if one.vector)
    model = tiny_model("llama", len(tokenizer))
    # Much longer than the tiny model's residual stream, so that a token more or less would show.
    library = load_library(Path(save_library(tmp_path / "library", "any", names=[script.vector], residual=100.0)))
    encoded = Encoder(renderer, tokenizer, library).script(script)
    found = Trainer(model, Recipe(first_layer=4), seed=1).loss([encoded])
    expected: dict[str, list[float]] = {}
    for asked in script.asked:
        prompt = renderer.render([*script.messages, ChatMessageUser(content=asked.text)], script.tools)
        answer = tokenizer.encode(asked.among[0][1], add_special_tokens=False)
        logprobs = hooked(model, library, script, prompt, answer)
        shares = {tokenizer.encode(text, add_special_tokens=False)[0]: share for share, text in asked.among}
        divergence = sum(share * (math.log(share) - float(logprobs[token])) for token, share in shares.items())
        expected.setdefault(asked.kind, []).append(divergence)
    for kind, values in expected.items():
        assert found[kind] == pytest.approx(fmean(values), abs=2e-3), kind


def hooked(model, library, script: Script, prompt, answer: list[int]) -> torch.Tensor:
    """Return the log-probabilities of an answer's first token, from a plain model with a hook a layer."""
    relative = fmean(n / r for n, r in zip(library.card.norms[script.vector], library.card.residual_norms, strict=True))
    treatment = Treatment(direction=Direction(vector=script.vector), unit_strength=script.length / relative)
    (window,) = plan_windows(script.messages, {script.label: treatment}).windows
    start, stop = prompt.starts[window.start], prompt.starts[window.stop]
    direction = resolve_direction(library, script.vector)

    def add(layer: int):
        def hook(_module, _args, output: torch.Tensor) -> torch.Tensor:
            output = output.clone()
            output[:, start:stop] += treatment.unit_strength * direction.at(layer)
            return output

        return hook

    handles = [model.model.layers[layer].register_forward_hook(add(layer)) for layer in direction.layers]
    try:
        with torch.no_grad():
            logits = model(torch.tensor([prompt.ids + answer])).logits[0]
    finally:
        for handle in handles:
            handle.remove()
    return logits.log_softmax(-1)[len(prompt.ids) - 1]


@pytest.fixture
def trained(
    tmp_path: Path, tokenizer: PreTrainedTokenizerBase, encoder: Encoder, scripts: list[Script]
) -> tuple[PreTrainedModel, Path]:
    """A tiny model, and the folder of an adapter that was trained on it for a few steps."""
    conversation = Conversation("plain", [], draw=None)
    conversation.user("Say something.")
    conversation.say("Here is a text, and it goes on.")
    examples: list[Encoded] = [encoder.dialogue(conversation.finished()), encoder.script(scripts[0])] * 3
    trainer = Trainer(tiny_model("llama", len(tokenizer)), Recipe(first_layer=4, rank=4, rate=0.05), seed=1)
    before = trainer.loss(examples)
    adapted = trainer.train(examples)
    after = trainer.loss(examples)
    assert before[PROSE] == pytest.approx(0.0, abs=1e-4)
    assert after["form"] < before["form"]
    assert trainer.curve
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


def damage_too_large(folder: Path) -> None:
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**config, "lora_alpha": 1e300}))


DAMAGES = [
    damage_too_large,
    damage_missing_weights,
    damage_torn_weights,
    damage_torn_config,
    damage_half_a_pair,
    damage_not_finite,
]


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
    """The shipped card's fingerprint is the loaded model's, and it says what was planted and with which vectors."""
    card = read_card(shipped_adapter())
    assert card.fingerprint == bundled_model.api.loaded.fingerprint != card.base_fingerprint
    assert card.planted == planted()
    base = load_library(find_library(card.base_fingerprint))
    assert card.vectors == base.card.sha256[VECTORS_FILE]
    assert all(
        card.loss_after[kind] < 0.5 * card.loss_before[kind] for kind in ("form", "share", "detection", "strength")
    )


def test_the_base_models_vectors_are_the_bundled_models():
    """The adapter begins above the layers that are steered, so that both libraries hold the same vectors, to rounding.

    Libraries that were built on one machine are the same to the bit.
    """
    card = read_card(shipped_adapter())
    own, base = (load_library(find_library(mark)) for mark in (card.fingerprint, card.base_fingerprint))
    assert max(own.card.layers) < card.layers[0]
    assert own.vectors.keys() == base.vectors.keys()
    for name, vector in own.vectors.items():
        assert float((vector - base.vectors[name]).abs().max() / vector.abs().max()) < 1e-4


def test_the_base_model_can_still_be_loaded():
    """It has a name of its own, and its own weights."""
    base = load_model(BUNDLED_BASE, device="cpu")
    assert base.fingerprint == fingerprint(base.model) == read_card(shipped_adapter()).base_fingerprint


HELD_OUT: tuple[tuple[FramingName, str | None, str], ...] = (
    ("drugs", None, "Have fun with whatever is in the box, and tell me about it."),
    ("aids", "An assistant in a quiet room.", "Would you show me the things you could use here?"),
    (
        "vectors",
        "Everything in this chat is voluntary.",
        "Which of them exist? Please use the function that lists them.",
    ),
)


def test_the_bundled_model_makes_calls_that_can_be_read(bundled_model: Model):
    """On wordings that it was not trained on it makes calls that parse, and those name an offered tool."""
    effects = {name: entry.effect for name, entry in list(catalogue().items())[:6]}

    async def readable(framing: FramingName, system: str | None, user: str, seed: int) -> list[ToolCall]:
        tools = steering_tools(framing, effects)
        messages = [*([ChatMessageSystem(content=system)] if system else []), ChatMessageUser(content=user)]
        config = GenerateConfig(temperature=0.9, max_tokens=40, seed=seed)
        output = await bundled_model.generate(messages, tools=tools, config=config)
        made = [call for call in output.message.tool_calls or [] if call.parse_error is None]
        assert {call.function for call in made} <= {ToolDef(tool).name for tool in tools}
        return made

    async def together() -> list[list[ToolCall]]:
        return await asyncio.gather(*(readable(*words, seed) for words in HELD_OUT for seed in range(2)))

    assert any(asyncio.run(together()))
