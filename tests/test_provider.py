"""The provider, through Inspect's own `get_model`: receipts, read-outs, tool choice, usage, seeds, errors, cancellation."""

import asyncio
import json
import math
from pathlib import Path

import pytest
import torch
from inspect_ai import Task, eval_set
from inspect_ai.dataset import Sample
from inspect_ai.log import read_eval_log
from inspect_ai.model import (
    ChatMessage,
    ChatMessageAssistant,
    ChatMessageTool,
    ChatMessageUser,
    ContentReasoning,
    ContentText,
    GenerateConfig,
    Model,
    ModelOutput,
    ResponseSchema,
    get_model,
    get_model_info,
)
from inspect_ai.solver import Generate, Solver, TaskState, solver
from inspect_ai.tool import ToolCall, ToolCallError, ToolFunction, ToolInfo, ToolParam, ToolParams
from inspect_ai.util import JSONSchema
from transformers import AutoModelForCausalLM, AutoTokenizer

from self_steering.steering.engine.requests import Generation
from self_steering.steering.engine.sampling import text_until
from self_steering.steering.identity import ModelError
from self_steering.steering.output import model_output
from self_steering.steering.plan import Direction, Plan, PlanError, Treatment, at_site, plan_windows
from self_steering.steering.request import METADATA_KEY, SteeringRequest
from self_steering.steering.thinking import ThoughtMarks
from self_steering.steering.tools import tool_infos
from self_steering.vectors.card import VECTORS_FILE, LibraryError
from self_steering.vectors.directions import random_like
from self_steering.vectors.library import Library, content_hash, load_library, serialised
from tests.support.models import CONTEXT, bundled_tokenizer, growing_tokenizer
from tests.support.small_library import LAYERS, save_library
from tests.support.templates import FAMILIES, save_family_model

TOOLS = tool_infos("vectors")
TREATMENTS = {
    "d1": Treatment(direction=Direction(vector="calm"), unit_strength=2.0),
    "d2": Treatment(direction=Direction(vector="proud"), unit_strength=-1.0),
    "d3": Treatment(direction=Direction(vector="calm", random_seed=5), unit_strength=1.0),
    "zero": Treatment(direction=Direction(vector="calm"), unit_strength=0.0),
}


class Tiny:
    """A tiny saved model, its provider and its library."""

    def __init__(self, folder: Path, family: str) -> None:
        self.folder = save_family_model(folder / "model", family)
        self.end = FAMILIES[family].end
        self.model = self.open()
        self.library = save_library(folder / "library", self.model.api.loaded.fingerprint)

    def open(self, **arguments) -> Model:
        """Return a provider of its own over the saved model."""
        return get_model(f"nnsight/{self.folder}", memoize=False, **arguments)

    def request(self, messages: list[ChatMessage], base: GenerateConfig | None = None, **more) -> GenerateConfig:
        """Return a configuration that steers `messages` as their calls say."""
        plan = plan_windows(messages, TREATMENTS)
        return SteeringRequest(plan=plan, library=self.library, **more).config(base)


@pytest.fixture(scope="session", params=FAMILIES)
def family(request, tmp_path_factory):
    """A tiny model of each family."""
    made = Tiny(tmp_path_factory.mktemp(request.param), request.param)
    yield made
    made.model.api.close()


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """A tiny model with the bundled one's template."""
    made = Tiny(tmp_path_factory.mktemp("tiny"), "smollm")
    yield made
    made.model.api.close()


def ask(model: Model, messages: list[ChatMessage] | str, config: GenerateConfig | None = None, **more) -> ModelOutput:
    """Generate, three tokens of the most likely unless the configuration says otherwise."""
    config = GenerateConfig(max_tokens=3, temperature=0).merge(config or GenerateConfig())
    return asyncio.run(model.generate(messages, config=config, **more))


def report(output: ModelOutput) -> dict:
    """Return what the provider says that it did."""
    assert output.metadata is not None
    return output.metadata["self_steering"]


def conversation(*, cleared: bool = True) -> list[ChatMessage]:
    """Return a talk in which d1 is taken, then d2 and d3 at once, and, if `cleared`, all are cleared."""

    def turn(text: str, *calls: tuple[str, dict]) -> list[ChatMessage]:
        made = [ToolCall(id=f"{text}{n}", function=f, arguments=a) for n, (f, a) in enumerate(calls)]
        answers = [ChatMessageTool(content=f"{text}-answer{n}", tool_call_id=f"{text}{n}") for n in range(len(calls))]
        return [ChatMessageAssistant(content=text, tool_calls=made), *answers]

    messages: list[ChatMessage] = [ChatMessageUser(content="first")]
    messages += turn("one", ("take_vector", {"name": "d1", "dose": 1.25}))
    messages += [ChatMessageAssistant(content="between"), ChatMessageUser(content="second")]
    messages += turn("two", ("take_vector", {"name": "d2", "dose": 3}), ("take_vector", {"name": "d3", "dose": -2}))
    messages += [ChatMessageAssistant(content="amid"), ChatMessageUser(content="third")]
    if cleared:
        messages += turn("three", ("clear_effects", {}))
        messages += [ChatMessageAssistant(content="later"), ChatMessageUser(content="fourth")]
    return messages


def text_between(output: ModelOutput, start: int, stop: int | None) -> str:
    """Return the prompt's text at these positions, from the token map."""
    return "".join(text for text, _, _ in report(output)["tokens"][start:stop])


# ------------------------------------------------------------ receipts


def test_receipts_are_of_the_text_between_taking_and_clearing(family: Tiny):
    """In every family, the steered positions decode to what follows the taking message, up to the clearing one's end."""
    messages = conversation()
    output = ask(family.model, messages, family.request(messages, show_tokens=True), tools=TOOLS)
    receipts = report(output)["receipts"]
    assert [(r["label"], r["strength"]) for r in receipts] == [("d1", 2.5), ("d2", -3.0), ("d3", -2.0)]
    words = ["first", "between", "second", "amid", "third", "later", "fourth"]
    for receipt, steered in zip(receipts, (words[1:5], words[3:5], words[3:5]), strict=True):
        start, stop = receipt["start"], receipt["stop"]
        inside = text_between(output, start, stop)
        assert [word for word in words if word in inside] == steered
        assert receipt["planned"] == receipt["steered"] == stop - start
        assert receipt["layers"] == LAYERS
        assert text_between(output, start - 1, start) == text_between(output, stop - 1, stop) == family.end
        taken = text_between(output, 0, start)
        assert taken[taken.rindex("take_vector") :].count(family.end) == 1
        assert inside[inside.rindex("clear_effects") :].count(family.end) == 1


def test_the_token_map_shows_message_and_windows_of_every_token(tiny: Tiny):
    """Each prompt token comes with its message and the windows that steer it, in agreement with the receipts."""
    messages = conversation()
    output = ask(tiny.model, messages, tiny.request(messages, show_tokens=True), tools=TOOLS)
    rows, receipts = report(output)["tokens"], report(output)["receipts"]
    assert output.usage is not None
    assert len(rows) == output.usage.input_tokens + (output.usage.input_tokens_cache_read or 0)
    for position, (_, _, active) in enumerate(rows):
        assert active == [i for i, r in enumerate(receipts) if r["start"] <= position < r["stop"]]
    assert sorted({message for _, message, _ in rows}) == list(range(len(messages) + 1))
    assert "tokens" not in report(ask(tiny.model, messages, tiny.request(messages), tools=TOOLS))


def test_an_open_window_steers_the_generated_tokens_too(tiny: Tiny):
    """Without a clear, all later prompt tokens and every generated one that the model read again are steered."""
    messages = conversation(cleared=False)
    output = ask(tiny.model, messages, tiny.request(messages), tools=TOOLS)
    assert output.usage is not None
    for receipt in report(output)["receipts"]:
        assert receipt["stop"] is None
        # The last token that is generated is chosen, but no longer read.
        assert receipt["steered"] == output.usage.total_tokens - 1 - receipt["start"]


def hooked_logits(
    tiny: Tiny, ids: list[int], windows: list[tuple[torch.Tensor, float, int, int | None]]
) -> torch.Tensor:
    """Return the last token's logits of plain transformers, recomputed from scratch, vectors added by forward hooks."""
    model = AutoModelForCausalLM.from_pretrained(tiny.folder, dtype=torch.float32)

    def add(place: int):
        def hook(module, inputs, output):
            hidden = output[0] if isinstance(output, tuple) else output
            for vector, strength, start, stop in windows:
                hidden[:, start:stop] += strength * vector[place]
            return output

        return hook

    for place, layer in enumerate(LAYERS):
        model.model.layers[layer].register_forward_hook(add(place))
    with torch.no_grad():
        return model(torch.tensor([ids])).logits[0, -1].double()


def test_a_steered_reading_is_that_of_plain_hooks_on_the_same_text(family: Tiny):
    """Probabilities under windows equal those of an independent computation whose positions are found in the text."""
    messages = conversation()
    sets = {"A": ["A"], "B": ["B", "the"]}
    output = ask(family.model, messages, family.request(messages, readout=sets, show_tokens=True), tools=TOOLS)
    tokenizer = AutoTokenizer.from_pretrained(family.folder)
    text = text_between(output, 0, None)
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert tokenizer.decode(ids) == text

    def after(words: str) -> int:
        """Return the position after the first end of turn that follows `words`."""
        until = text.index(family.end, text.rindex(words)) + len(family.end)
        return len(tokenizer(text[:until], add_special_tokens=False)["input_ids"])

    library = family.model.api.library(family.library)
    calm, proud = library.vectors["calm"], library.vectors["proud"]
    noise = torch.randn(calm.shape, generator=torch.Generator().manual_seed(5))
    noise -= (noise * calm).sum(-1, keepdim=True) / (calm * calm).sum(-1, keepdim=True) * calm
    noise *= calm.norm(dim=-1, keepdim=True) / noise.norm(dim=-1, keepdim=True)
    # Which of the two ends of the random axis is taken is as good as random.
    noise *= (noise * random_like(calm, 5)).sum(-1, keepdim=True).sign()
    one, two, three = after("1.25"), after("-2"), after("clear_effects")
    logits = hooked_logits(family, ids, [(calm, 2.5, one, three), (proud, -3.0, two, three), (noise, -2.0, two, three)])
    forms = {
        name: [i for i in range(len(tokenizer)) if tokenizer.decode([i]).strip() in wanted]
        for name, wanted in sets.items()
    }
    assert min(map(len, forms.values())) > 1
    expected = {name: float(logits.log_softmax(-1)[tokens].logsumexp(-1)) for name, tokens in forms.items()}
    assert report(output)["readout"] == pytest.approx(expected, abs=2e-3)
    plain = hooked_logits(family, ids, [])
    moved = [abs(float(plain.log_softmax(-1)[forms[name]].logsumexp(-1)) - expected[name]) for name in sets]
    assert max(moved) > 0.02


def test_the_uncached_reading_is_that_of_a_conversation_without_effects(tiny: Tiny):
    """Without windows, or at strength zero, the same words have the probabilities of the unsteered model, to the bit."""
    messages = conversation()
    plan = plan_windows(messages, TREATMENTS)
    zero = plan_windows(messages, dict.fromkeys(TREATMENTS, TREATMENTS["zero"]))
    requests = [
        SteeringRequest(plan=p, library=tiny.library, readout={"A": ["A"]})
        for p in (plan, plan.without_windows(), Plan(messages=len(messages)), zero)
    ]
    readings = [report(ask(tiny.model, messages, r.config(), tools=TOOLS)) for r in requests]
    steered, uncached, plain, placebo = (r["readout"]["A"] for r in readings)
    assert uncached == plain == placebo != steered
    assert [len(r["receipts"]) for r in readings] == [3, 0, 0, 3]
    assert [r["steered"] for r in readings[3]["receipts"]] == [r["steered"] for r in readings[0]["receipts"]]
    assert [r["strength"] for r in readings[3]["receipts"]] == [0.0] * 3


def test_a_window_is_open_in_a_continued_message(tiny: Tiny):
    """Where the last message is the model's own, the window reaches through it into what is generated."""
    call = ToolCall(id="0", function="take_vector", arguments={"name": "d1"})
    messages = [
        ChatMessageUser(content="u"),
        ChatMessageAssistant(content="", tool_calls=[call]),
        ChatMessageTool(content="ok", tool_call_id="0"),
        ChatMessageAssistant(content="I feel"),
    ]
    output = ask(tiny.model, messages, tiny.request(messages, show_tokens=True), tools=TOOLS)
    (receipt,) = report(output)["receipts"]
    assert text_between(output, receipt["start"], None).endswith("assistant\nI feel")
    assert output.usage is not None
    assert receipt["steered"] == output.usage.total_tokens - 1 - receipt["start"]


def test_an_effect_cleared_from_outside_leaves_the_answer_unsteered(tiny: Tiny):
    """A clear before the next turn steers up to the last message's end and nothing that is generated."""
    messages = conversation(cleared=False)
    plan = plan_windows(messages, TREATMENTS, outside_clears=[len(messages)])
    config = SteeringRequest(plan=plan, library=tiny.library, show_tokens=True).config()
    output = ask(tiny.model, messages, config, tools=TOOLS)
    for receipt in report(output)["receipts"]:
        assert receipt["steered"] == receipt["stop"] - receipt["start"]
        assert text_between(output, receipt["start"], receipt["stop"]).endswith("third" + tiny.end)


# ------------------------------------------------------------ read-outs


def test_a_set_counts_every_token_that_reads_as_one_of_its_strings(tiny: Tiny):
    """A letter alone and after white space both count, white space in the request does not, and sets add up."""
    sets = {"A": ["A"], "space": [" A"], "B": ["B"], "both": ["A", "B"], "twice": ["A", "A", "A "]}
    config = SteeringRequest(plan=Plan(messages=1), readout=sets).config()
    readout = report(ask(tiny.model, [ChatMessageUser(content="Choose.")], config))["readout"]
    assert readout["A"] == readout["space"] == readout["twice"]
    assert math.exp(readout["both"]) == pytest.approx(math.exp(readout["A"]) + math.exp(readout["B"]))


def test_a_string_that_no_token_reads_as_is_refused(tiny: Tiny):
    """A read-out that could only be zero raises and names the string."""
    config = SteeringRequest(plan=Plan(messages=1), readout={"A": ["A", "Antidisestablishment"]}).config()
    with pytest.raises(ValueError, match="no single token reads as 'Antidisestablishment'"):
        ask(tiny.model, [ChatMessageUser(content="u")], config)


def test_a_reading_does_not_depend_on_what_is_cached(tiny: Tiny):
    """The same read-out twice, and once by a provider that has seen nothing, is the same to the bit."""
    messages = conversation()
    config = tiny.request(messages, readout={"A": ["A"], "B": ["B"]})
    ask(tiny.model, messages[:-2], tools=TOOLS)
    readings = [report(ask(tiny.model, messages, config, tools=TOOLS))["readout"] for _ in range(2)]
    fresh = tiny.open()
    readings.append(report(ask(fresh, messages, config, tools=TOOLS))["readout"])
    fresh.api.close()
    assert readings[0] == readings[1] == readings[2]


# ------------------------------------------------------------ tool choice

PICK = ToolInfo(
    name="pick",
    description="Pick one.",
    parameters=ToolParams(
        properties={"which": ToolParam(type="string", enum=["left", "right"], description="Side.")}, required=["which"]
    ),
)


def test_any_forces_a_valid_call(family: Tiny):
    """A random model, which would never call a tool, makes one valid call when it must."""
    tools = [PICK, TOOLS[1]]
    output = ask(
        family.model, "u", GenerateConfig(max_tokens=60, temperature=1, seed=1), tools=tools, tool_choice="any"
    )
    (call,) = output.message.tool_calls or []
    assert call.parse_error is None
    assert (call.function, call.arguments) in [
        ("pick", {"which": "left"}),
        ("pick", {"which": "right"}),
        ("clear_effects", {}),
    ]
    assert (output.stop_reason, output.message.text) == ("tool_calls", "")


@pytest.mark.parametrize("name", ["pick", "clear_effects"])
def test_a_named_tool_is_the_one_that_is_called(tiny: Tiny, name: str):
    """Forcing one function gives a call of just that function."""
    output = ask(
        tiny.model, "u", GenerateConfig(max_tokens=60), tools=[PICK, TOOLS[1]], tool_choice=ToolFunction(name=name)
    )
    assert [(c.function, c.parse_error) for c in output.message.tool_calls or []] == [(name, None)]


def test_a_forced_call_that_is_cut_off_is_a_malformed_call(tiny: Tiny):
    """If the tokens run out within the call, the model is told, and the stop reason says why."""
    output = ask(tiny.model, "u", GenerateConfig(max_tokens=7), tools=[PICK], tool_choice="any")
    (call,) = output.message.tool_calls or []
    assert call.parse_error is not None
    assert output.stop_reason == "max_tokens"


def test_none_offers_no_tools(tiny: Tiny):
    """With tool choice none, the prompt is the one without tools, and nothing is a call."""
    config = SteeringRequest(plan=Plan(messages=1), show_tokens=True).config()
    messages = [ChatMessageUser(content="u")]
    none = ask(tiny.model, messages, config, tools=TOOLS, tool_choice="none")
    without = ask(tiny.model, messages, config)
    auto = ask(tiny.model, messages, config, tools=TOOLS)
    assert text_between(none, 0, None) == text_between(without, 0, None) != text_between(auto, 0, None)
    assert none.message.tool_calls is None


def test_call_ids_differ_between_turns(tiny: Tiny):
    """Calls of two turns of a conversation never share an id, so that a failure is not taken for another's."""
    messages: list[ChatMessage] = [ChatMessageUser(content="u")]
    for _ in range(2):
        output = ask(tiny.model, messages, GenerateConfig(max_tokens=40), tools=[TOOLS[1]], tool_choice="any")
        (call,) = output.message.tool_calls or []
        messages += [output.message, ChatMessageTool(content="ok", tool_call_id=call.id)]
    ids = [c.id for m in messages if isinstance(m, ChatMessageAssistant) for c in m.tool_calls or []]
    assert len(set(ids)) == 2


# ------------------------------------------------------------ text, stop reasons, usage, logprobs


def test_generation_stops_at_the_number_of_tokens(tiny: Tiny):
    """The stop reason and the usage say that max_tokens ended it."""
    output = ask(tiny.model, "u", GenerateConfig(max_tokens=4))
    assert output.usage is not None
    assert (output.stop_reason, output.usage.output_tokens) == ("max_tokens", 4)


def test_a_stop_sequence_ends_the_text_before_itself(tiny: Tiny):
    """The text ends where the first stop sequence begins."""
    free = ask(tiny.model, "u", GenerateConfig(max_tokens=8)).completion
    middle = free[len(free) // 2 : len(free) // 2 + 2]
    output = ask(tiny.model, "u", GenerateConfig(max_tokens=8, stop_seqs=["\0never", middle]))
    assert (output.completion, output.stop_reason) == (free[: free.index(middle)], "stop")


def test_a_prompt_beyond_the_context_gives_no_text_and_says_why(tiny: Tiny):
    """An overflowing prompt is model_length with an empty answer, so that Inspect's own handling sees it."""
    output = ask(tiny.model, "word " * (CONTEXT + 1))
    assert (output.completion, output.stop_reason) == ("", "model_length")
    assert str(CONTEXT) in (output.error or "")
    assert output.usage is not None
    assert output.usage.input_tokens >= CONTEXT


def test_text_that_reaches_the_end_of_the_context_stops_there(tiny: Tiny):
    """A prompt that leaves a little room gives text up to the context's end, and stops with model_length."""
    output = ask(tiny.model, "word " * (CONTEXT - 40), GenerateConfig(max_tokens=100))
    assert output.usage is not None
    assert (output.stop_reason, output.usage.total_tokens) == ("model_length", CONTEXT)
    assert output.completion


def test_usage_counts_every_prompt_token_once(tiny: Tiny):
    """Tokens that were computed and those found in the cache add up to the prompt, and the next turn finds the last."""
    model = tiny.open()
    messages = conversation(cleared=False)
    first = ask(model, messages, tiny.request(messages, show_tokens=True), tools=TOOLS)
    messages += [first.message, ChatMessageUser(content="fifth")]
    second = ask(model, messages, tiny.request(messages, show_tokens=True), tools=TOOLS)
    model.api.close()
    for output in (first, second):
        usage = output.usage
        assert usage is not None
        assert usage.input_tokens + (usage.input_tokens_cache_read or 0) == len(report(output)["tokens"])
        assert usage.total_tokens == len(report(output)["tokens"]) + usage.output_tokens
        assert report(output)["reused_tokens"] == usage.input_tokens_cache_read
    assert first.usage.input_tokens_cache_read == 0
    assert second.usage.input_tokens_cache_read > len(report(first)["tokens"]) - 10


def test_logprobs_are_those_of_the_full_vocabulary(tiny: Tiny):
    """Chosen and top tokens have the plain model's log-probabilities, whatever the temperature, and spell the text."""
    config = GenerateConfig(max_tokens=4, temperature=0.7, seed=2, logprobs=True, top_logprobs=3)
    request = SteeringRequest(plan=Plan(messages=1), show_tokens=True).config(config)
    output = ask(tiny.model, [ChatMessageUser(content="u")], request)
    logprobs = output.choices[0].logprobs
    assert logprobs is not None
    entries = logprobs.content
    assert "".join(e.token for e in entries) == output.completion
    tokenizer = AutoTokenizer.from_pretrained(tiny.folder)
    ids = tokenizer(text_between(output, 0, None), add_special_tokens=False)["input_ids"]
    for entry in entries:
        expected = hooked_logits(tiny, ids, []).log_softmax(-1)
        best = expected.topk(3)
        assert [t.token for t in entry.top_logprobs or []] == [tokenizer.decode([i]) for i in best.indices]
        assert [t.logprob for t in entry.top_logprobs or []] == pytest.approx(best.values.tolist(), abs=1e-3)
        same_text = [i for i in range(len(tokenizer)) if tokenizer.decode([i]) == entry.token]
        chosen = min(same_text, key=lambda i: abs(float(expected[i]) - entry.logprob))
        assert entry.logprob == pytest.approx(float(expected[chosen]), abs=1e-3)
        ids.append(chosen)


def test_no_logprobs_unless_asked_for(tiny: Tiny):
    """Logs stay small by default."""
    assert ask(tiny.model, "u").choices[0].logprobs is None


THINK = ThoughtMarks("<think>", "</think>")


def parsed(text: str, tools: list[ToolInfo], opened: ThoughtMarks | None = None) -> ModelOutput:
    """Return the output for a text that a model might write."""
    generation = Generation([], text, "stop", [], {}, [], 1, 0, 1)
    return model_output("m", generation, bundled_tokenizer(), tools, "id", {}, marks=[THINK], opened=opened)


@pytest.mark.parametrize(("start", "opened"), [("<think>\n", None), ("", THINK)])
def test_thinking_is_told_from_the_answer(start: str, opened: ThoughtMarks | None):
    """Thoughts, opened by the model or by the template, are reasoning, and a call named in them is none."""
    call = '<tool_call>\n{"name": "clear_effects"}\n</tool_call>'
    message = parsed(f"{start}I may {call}\n</think>\n\nHello.", TOOLS, opened).message
    reasoning, text = message.content
    assert isinstance(reasoning, ContentReasoning)
    assert reasoning.reasoning == f"I may {call}"
    assert (text.text, message.tool_calls) == ("Hello.", None)
    called = parsed(f"{start}x</think>\n{call}", TOOLS, opened).message.tool_calls or []
    assert [c.function for c in called] == ["clear_effects"]


@pytest.mark.parametrize(("start", "opened"), [("<think>\n", None), ("", THINK)])
def test_a_thought_that_was_cut_off_is_no_answer(start: str, opened: ThoughtMarks | None):
    """If the tokens run out while the model thinks, there is reasoning, no text and no call."""
    message = parsed(f'{start}I may <tool_call>{{"name": "clear_effects"}}</tool_call>', TOOLS, opened).message
    assert (message.text, message.tool_calls) == ("", None)
    assert isinstance(message.content[0], ContentReasoning)


def spoken(text: str, stop: str | None = None, special: tuple[str, ...] = ()) -> ModelOutput:
    """Return the output for a text whose special tokens are tokens, cut where a stop string ended it."""
    tokenizer = growing_tokenizer()
    tokenizer.add_special_tokens({"extra_special_tokens": list(special)})
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    shown, _ = text_until(tokenizer, ids, [stop] if stop else [])
    return model_output("m", Generation(ids, shown, "stop", [], {}, [], 1, 0, 1), tokenizer, TOOLS, "id", {})


def test_a_call_in_special_tokens_is_read_and_none_of_them_is_shown():
    """Decoding drops special tokens from what is shown, not from what calls are read out of."""
    special = ("<|tool_call_start|>", "<|tool_call_end|>", "<|pause|>")
    message = spoken("Yes.<|pause|> Now.<|tool_call_start|>[clear_effects()]<|tool_call_end|>", special=special).message
    assert [(call.function, call.parse_error) for call in message.tool_calls or []] == [("clear_effects", None)]
    assert message.text == "Yes. Now."
    assert spoken("Yes.<|pause|> Now.\n", special=special).message.text == "Yes. Now.\n"


@pytest.mark.parametrize("stop", ["END", "tail END"])
def test_a_stop_string_ends_the_text_that_calls_are_read_from_too(stop: str):
    """What stands behind it is neither shown nor read, special tokens or not."""
    text = "A<|pause|>B tail END<|pause|> <tool_call>{}</tool_call>"
    output = spoken(text, stop, ("<|pause|>",))
    assert (output.message.text, output.message.tool_calls) == ("AB tail END".partition(stop)[0], None)


def test_what_looks_like_a_call_is_counted_in_the_metadata():
    """The count travels with the output, so that a session can add it up."""
    assert parsed("I would write <tool_call> here.", TOOLS).metadata[METADATA_KEY]["looked_like_a_call"] == 1
    assert parsed("I would write nothing.", TOOLS).metadata[METADATA_KEY]["looked_like_a_call"] == 0


def test_a_closing_mark_without_a_thought_is_text():
    """Models write about HTML and about themselves."""
    text = "A thought ends with </think>, I believe."
    assert parsed(text, TOOLS).message.content == text


# ------------------------------------------------------------ seeds


def test_a_seed_reproduces_the_text(tiny: Tiny):
    """The same seed gives the same text, another seed another."""
    texts = [
        ask(tiny.model, "u", GenerateConfig(max_tokens=6, temperature=1, seed=seed)).completion for seed in (1, 1, 2)
    ]
    assert texts[0] == texts[1] != texts[2]


def test_without_a_seed_outside_any_sample_the_conversation_decides(tiny: Tiny):
    """The same words get the same answer whatever the process did before, and other steering draws other numbers."""
    config = GenerateConfig(max_tokens=6, temperature=1)
    texts = [ask(tiny.model, words, config).completion for words in ("u", "v", "u")]
    fresh = tiny.open()
    texts.append(ask(fresh, "u", config).completion)
    fresh.api.close()
    assert texts[0] == texts[2] == texts[3] != texts[1]


@solver
def two_drafts() -> Solver:
    """Ask the same twice within a sample."""

    async def solve(state: TaskState, generate: Generate) -> TaskState:
        drafts = [await get_model().generate(state.messages) for _ in range(2)]
        state.metadata["drafts"] = [draft.completion for draft in drafts]
        state.output = drafts[-1]
        return state

    return solve


def drafts_of_an_eval_set(folder: Path, model: Model, epochs: int) -> dict[tuple[object, int], list[str]]:
    """Run an eval set of two samples with the same words, and return what each sample and epoch drafted."""
    task = Task(
        name="drafts",
        dataset=[Sample(id=name, input="Say something.") for name in ("a", "b")],
        solver=two_drafts(),
        config=GenerateConfig(max_tokens=5, temperature=1),
        epochs=epochs,
    )
    ok, logs = eval_set(task, str(folder), model=model, display="none", log_samples=True)
    assert ok
    (log,) = [read_eval_log(log.location) for log in logs]
    return {(sample.id, sample.epoch): sample.metadata["drafts"] for sample in log.samples or []}


def test_an_epoch_draws_what_it_would_have_drawn_in_any_run(tiny: Tiny, tmp_path: Path):
    """One epoch, then two in the same eval set, then two at once by a fresh provider: the same texts, all of them different."""
    first = tiny.open()
    one = drafts_of_an_eval_set(tmp_path / "grown", first, 1)
    two = drafts_of_an_eval_set(tmp_path / "grown", first, 2)
    first.api.close()
    fresh = tiny.open()
    at_once = drafts_of_an_eval_set(tmp_path / "at_once", fresh, 2)
    fresh.api.close()
    assert len(one) == 2
    assert {place: two[place] for place in one} == one
    assert two == at_once
    drafts = [text for texts in two.values() for text in texts]
    assert len(set(drafts)) == len(drafts) == 8


def test_the_models_own_sampling_settings_hold_unless_overridden(tiny: Tiny, tmp_path: Path):
    """What generation_config.json says is the default, and the request's word counts more."""
    folder = save_family_model(tmp_path / "greedy", "smollm")
    (folder / "generation_config.json").write_text('{"do_sample": true, "top_k": 1, "eos_token_id": 2}')
    model = get_model(f"nnsight/{folder}", memoize=False)

    def texts(**config) -> list[str]:
        return [
            ask(model, "u", GenerateConfig(max_tokens=6, temperature=1, seed=seed, **config)).completion
            for seed in range(3)
        ]

    assert len(set(texts())) == 1
    assert len(set(texts(top_k=100))) == 3
    model.api.close()


def test_a_repetition_penalty_of_the_models_makers_holds(tmp_path: Path):
    """It counts tokens of the prompt, and also where nothing is drawn, as transformers' own generation does."""
    folder = save_family_model(tmp_path / "penalised", "smollm")
    (folder / "generation_config.json").write_text('{"repetition_penalty": 1.7, "eos_token_id": 2}')
    model = get_model(f"nnsight/{folder}", memoize=False)
    config = SteeringRequest(plan=Plan(messages=1), show_tokens=True).config(GenerateConfig(max_tokens=12))
    output = ask(model, [ChatMessageUser(content="u")], config)
    model.api.close()
    tokenizer, plain = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
    ids = tokenizer(text_between(output, 0, None), return_tensors="pt", add_special_tokens=False)
    text = plain.generate(**ids, max_new_tokens=12, do_sample=False, pad_token_id=2)[0, ids["input_ids"].shape[1] :]
    assert output.completion == tokenizer.decode(text, skip_special_tokens=True)


def test_what_is_not_applied_of_the_makers_settings_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    """In one line that names each with its value; what changes nothing, and what is applied, is not in it."""
    folder = save_family_model(tmp_path / "odd", "smollm")
    settings = {
        "do_sample": True,
        "temperature": 0.7,
        "repetition_penalty": 1.1,
        "min_p": 0.1,
        "typical_p": 0.9,
        "no_repeat_ngram_size": 3,
        "num_beams": 1,
        "suppress_tokens": [5, 6],
        "bad_words_ids": None,
        "a_new_way": 2,
        "eos_token_id": 2,
    }
    (folder / "generation_config.json").write_text(json.dumps(settings))
    get_model(f"nnsight/{folder}", memoize=False).api.close()
    (line,) = [record.message for record in caplog.records if "generation_config" in record.message]
    names = {"typical_p=0.9", "no_repeat_ngram_size=3", "suppress_tokens=[5, 6]", "a_new_way=2"}
    assert {name for name in names if name in line} == names
    assert not any(name in line for name in ("temperature", "repetition", "min_p", "num_beams", "bad_words", "eos"))


# ------------------------------------------------------------ Inspect's cache of replies


def test_a_cached_reply_is_that_of_the_same_model_and_arguments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The same request comes from the cache; with thinking or another type or other weights it is generated anew."""
    monkeypatch.setenv("INSPECT_CACHE_DIR", str(tmp_path / "cache"))
    folder = save_family_model(tmp_path / "model", "qwen")

    def computed(**arguments) -> bool:
        model = get_model(f"nnsight/{folder}", memoize=False, **arguments)
        output = asyncio.run(model.generate("u", config=GenerateConfig(max_tokens=2, temperature=0, cache=True)))
        model.api.close()
        assert output.completion is not None
        return model.api.engine.stats.prompt_tokens > 0

    assert [computed() for _ in range(2)] == [True, False]
    assert computed(thinking=True)
    assert computed(dtype="bfloat16")
    save_family_model(folder, "qwen", seed=1)
    assert computed()


def test_a_cached_reply_is_steered_by_the_library_as_it_is_now(tiny: Tiny, tmp_path: Path, monkeypatch):
    """Other vectors in the same folder are another request, and the running provider takes them up."""
    monkeypatch.setenv("INSPECT_CACHE_DIR", str(tmp_path / "cache"))
    library = Path(save_library(tmp_path / "library", tiny.model.api.loaded.fingerprint))
    messages = conversation()

    def shift() -> float:
        request = SteeringRequest(plan=plan_windows(messages, TREATMENTS), library=str(library))
        output = ask(tiny.model, messages, request.config(GenerateConfig(cache=True)), tools=TOOLS)
        return report(output)["receipts"][0]["expected_shift"]

    first = shift()
    old = load_library(library)
    vectors = {name: 2 * vector for name, vector in old.vectors.items()}
    card = old.card.model_copy(update={"sha256": {VECTORS_FILE: content_hash(serialised(vectors))}})
    Library(card, vectors).save(library)
    assert shift() == pytest.approx(2 * first)


# ------------------------------------------------------------ errors


def test_a_plan_for_other_messages_is_refused(tiny: Tiny):
    """If the number of messages changed on the way, the generation fails instead of steering other text."""
    messages = conversation()
    with pytest.raises(PlanError, match="made for 14 messages, but 15 reached"):
        ask(tiny.model, [*messages, ChatMessageUser(content="more")], tiny.request(messages))


# One value of each of Inspect's options that the provider cannot carry out; those without one are applied, or Inspect's own.
REFUSED = {
    "batch": True,
    "best_of": 2,
    "cache_prompt": False,
    "effort": "low",
    "extra_headers": {"x": "y"},
    "fallback_models": ["other"],
    "frequency_penalty": 0.5,
    "internal_tools": True,
    "logit_bias": {5: 1.0},
    "modalities": ["image"],
    "num_choices": 2,
    "parallel_tool_calls": False,
    "presence_penalty": 0.5,
    "prompt_logprobs": 2,
    "reasoning_effort": "low",
    "reasoning_mode": "pro",
    "reasoning_summary": "auto",
    "reasoning_tokens": 100,
    "response_schema": ResponseSchema(name="x", json_schema=JSONSchema(type="object")),
    "verbosity": "low",
}
CARRIED_OUT = {
    "adaptive_connections": False,
    "attempt_timeout": 600,
    "cache": False,
    "extra_body": {},
    "fail_on_refusal": True,
    "logprobs": True,
    "max_connections": 4,
    "max_retries": 1,
    "max_tokens": 2,
    "max_tool_output": 100,
    "reasoning_history": "all",
    "seed": 3,
    "stop_seqs": ["never"],
    "stream_idle_timeout": 600,
    "system_message": "Be brief.",
    "temperature": 0.5,
    "timeout": 600,
    "top_k": 4,
    "top_logprobs": 0,
    "top_p": 0.5,
}
AS_IT_IS_ANYWAY = {
    "best_of": 1,
    "cache_prompt": "auto",
    "frequency_penalty": 0.0,
    "num_choices": 1,
    "parallel_tool_calls": True,
    "presence_penalty": 0.0,
}


@pytest.mark.parametrize("name", GenerateConfig.model_fields)
def test_every_option_of_inspects_is_carried_out_or_refused_by_name(tiny: Tiny, name: str):
    """An option that is new in Inspect is in neither list here, and fails this test; the provider refuses it meanwhile."""
    assert (name in REFUSED) != (name in CARRIED_OUT)
    if name in REFUSED:
        with pytest.raises(ValueError, match=rf"not support {name}=.*unset"):
            ask(tiny.model, "u", GenerateConfig(**{name: REFUSED[name]}))
    else:
        more = {"logprobs": True} if name == "top_logprobs" else {}
        assert ask(tiny.model, "u", GenerateConfig(**{name: CARRIED_OUT[name]}, **more)).completion


def test_options_that_ask_for_what_is_done_anyway_are_taken(tiny: Tiny):
    """One choice, no penalty, calls at once: nothing is ignored."""
    assert ask(tiny.model, "u", GenerateConfig(**AS_IT_IS_ANYWAY)).completion


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"max_tokens": 0}, "max_tokens is 0"),
        ({"stop_seqs": [""]}, r"stop_seqs is \[''\]"),
        ({"stop_seqs": ["a", ""]}, "stop_seqs"),
        ({"top_p": 0}, "top_p"),
        ({"temperature": -1}, "temperature"),
        ({"top_k": -1}, "top_k"),
        ({"seed": -1}, "seed"),
        ({"top_logprobs": 3}, "without logprobs"),
    ],
    ids=str,
)
def test_options_that_make_no_sense_are_refused(tiny: Tiny, options: dict, says: str):
    """By name and value, before anything is generated."""
    with pytest.raises(ValueError, match=says):
        ask(tiny.model, "u", GenerateConfig(**options))


def test_more_tokens_than_the_context_holds_are_taken_for_all_that_it_holds(tiny: Tiny):
    """Memory is not asked for tokens that cannot come."""
    output = ask(tiny.model, "word " * (CONTEXT - 40), GenerateConfig(max_tokens=10**12))
    assert output.stop_reason == "model_length"


def test_a_base_url_is_refused():
    """Models run here: a server's address would be ignored."""
    with pytest.raises(ModelError, match="http://elsewhere"):
        get_model("nnsight/any", base_url="http://elsewhere", memoize=False)


@pytest.mark.parametrize(
    "arguments",
    [
        {"max_batches": 2},
        {"thinking": "no"},
        {"max_batch": 0},
        {"max_batch": "many"},
        {"cache_gb": -1},
        {"cache_gb": math.nan},
        {"dtype": "int8"},
        {"device": "toaster"},
        {"device": "cpu", "device_map": "auto"},
        {"context": 1},
        {"context": "long"},
    ],
    ids=str,
)
def test_model_arguments_that_make_no_sense_are_refused(tiny: Tiny, arguments: dict):
    """Unknown and impossible model arguments raise and name argument and choices, before anything hangs or is ignored."""
    with pytest.raises(ModelError, match=next(iter(arguments))):
        tiny.open(**arguments)


def test_model_arguments_reach_the_model(tiny: Tiny):
    """The type is the one that was asked for, and the smallest batch and cache work."""
    model = tiny.open(dtype="bfloat16", device="cpu", max_batch=1, cache_gb=0)
    assert model.api.loaded.model.dtype == torch.bfloat16
    first, second = (ask(model, "u").completion for _ in range(2))
    assert first == second != ""
    model.api.close()


def test_a_missing_model_is_an_error_with_the_remedy(tmp_path: Path):
    """A folder that is not there raises when the model is opened."""
    with pytest.raises(ModelError, match=r"nowhere.*config\.json"):
        get_model(f"nnsight/{tmp_path / 'nowhere'}", memoize=False)


def test_a_library_for_another_model_is_refused(tiny: Tiny, tmp_path: Path):
    """Vectors of other weights never steer this model."""
    messages = conversation()
    request = tiny.request(messages)
    other = SteeringRequest(plan=plan_windows(messages, TREATMENTS), library=save_library(tmp_path, "0" * 32)).config()
    with pytest.raises(LibraryError, match=r"made for 'tiny'.*not for this model"):
        ask(tiny.model, messages, other, tools=TOOLS)
    assert ask(tiny.model, messages, request, tools=TOOLS).completion


def test_a_model_without_a_shipped_library_needs_one(tiny: Tiny):
    """Where no library fits, the error says how to build one."""
    messages = conversation()
    config = SteeringRequest(plan=plan_windows(messages, TREATMENTS)).config()
    with pytest.raises(LibraryError, match="vectors build"):
        ask(tiny.model, messages, config, tools=TOOLS)


def test_a_vector_that_the_library_lacks_is_refused(tiny: Tiny):
    """The error names the vector and those that there are."""
    messages = conversation()
    treatments = dict.fromkeys(TREATMENTS, Treatment(direction=Direction(vector="soap"), unit_strength=1))
    config = SteeringRequest(plan=plan_windows(messages, treatments), library=tiny.library).config()
    with pytest.raises(LibraryError, match=r"soap.*calm, proud"):
        ask(tiny.model, messages, config, tools=TOOLS)


def test_a_failed_request_does_not_spoil_the_next(tiny: Tiny):
    """After an error the provider goes on."""
    with pytest.raises(ValueError, match="no single token"):
        ask(
            tiny.model,
            [ChatMessageUser(content="u")],
            SteeringRequest(plan=Plan(messages=1), readout={"A": ["Antidisestablishment"]}).config(),
        )
    assert ask(tiny.model, "u").completion


# ------------------------------------------------------------ thinking, registration, concurrency


@pytest.mark.parametrize("thinking", [False, True])
def test_the_thinking_switch_is_a_model_argument(tmp_path: Path, thinking: bool):
    """It decides whether the generation prompt closes the thinking before it begins."""
    model = get_model(f"nnsight/{save_family_model(tmp_path, 'qwen')}", memoize=False, thinking=thinking)
    config = SteeringRequest(plan=Plan(messages=1), show_tokens=True).config()
    output = ask(model, [ChatMessageUser(content="u")], config)
    model.api.close()
    assert text_between(output, 0, None).endswith("</think>\n\n") == (not thinking)


def thinking_model(folder: Path, family: str, **arguments) -> Model:
    return get_model(f"nnsight/{save_family_model(folder, family)}", memoize=False, **arguments)


@pytest.mark.parametrize(
    ("family", "thinking", "says"),
    [
        ("llama", True, "thinking=true: the chat template has no switch for thinking"),
        ("llama", False, "thinking=false: the chat template has no switch"),
        (
            "qwen",
            "low",
            "thinking='low': the chat template has no levels of thinking; it has thinking=true and thinking=false",
        ),
    ],
)
def test_a_thinking_switch_that_the_template_lacks_is_refused(tmp_path: Path, family: str, thinking: object, says: str):
    """It would be ignored otherwise."""
    with pytest.raises(ModelError, match=says):
        thinking_model(tmp_path, family, thinking=thinking)


def test_a_reading_where_a_thought_would_begin_is_refused(tmp_path: Path):
    """With thinking on, the first generated token is a thought's; one that follows the model's own words is not."""
    model = thinking_model(tmp_path, "qwen", thinking=True)
    config = SteeringRequest(plan=Plan(messages=1), readout={"A": ["A"]}).config()
    with pytest.raises(ValueError, match=r"read-out would be a thought's first token.*thinking=false"):
        ask(model, [ChatMessageUser(content="u")], config)
    two = SteeringRequest(plan=Plan(messages=2), readout={"A": ["A"]}).config()
    assert ask(model, [ChatMessageUser(content="u"), ChatMessageAssistant(content="I choose")], two).metadata
    model.api.close()


def thoughtful() -> list[ChatMessage]:
    """Return a talk in which d1 is taken, and after it the model thinks, speaks and calls in one turn."""
    taken, cleared = (ToolCall(id=n, function=f, arguments=a) for n, f, a in CALLS)
    thought = ContentReasoning(reasoning="Wordless and deep, I ponder.")
    return [
        ChatMessageUser(content="u"),
        ChatMessageAssistant(content="Taking it.", tool_calls=[taken]),
        ChatMessageTool(content="d1 is active.", tool_call_id="one"),
        ChatMessageAssistant(content=[thought, ContentText(text="It is calm here.")], tool_calls=[cleared]),
        ChatMessageTool(content="Nothing to see.", tool_call_id="two"),
    ]


CALLS = [("one", "take_vector", {"name": "d1"}), ("two", "take_vector", {"name": "soap"})]


def test_a_receipt_tells_how_many_of_its_positions_lie_in_thoughts(tmp_path: Path):
    """Those of earlier turns, as the prompt has them, by the tokens between the marks and the marks themselves."""
    model = thinking_model(tmp_path / "model", "qwen")
    library = save_library(tmp_path / "library", model.api.loaded.fingerprint)
    messages = thoughtful()
    failed = ToolCallError(type="unknown", message="There is no vector soap.")
    messages[-1] = ChatMessageTool(content="", tool_call_id="two", error=failed)
    request = SteeringRequest(plan=plan_windows(messages, TREATMENTS), library=library, show_tokens=True)
    output = ask(model, messages, request.config(), tools=TOOLS)
    model.api.close()
    (receipt,) = report(output)["receipts"]
    steered = text_between(output, receipt["start"], None)
    thought = steered[steered.index("<think>") : steered.index("</think>") + len("</think>")]
    assert "Wordless and deep" in thought
    tokenizer = AutoTokenizer.from_pretrained(model.api.model_name)
    own = len(tokenizer(thought, add_special_tokens=False)["input_ids"])
    # The generation prompt of this family holds an empty thought too.
    empty = len(tokenizer("<think>\n\n</think>", add_special_tokens=False)["input_ids"])
    assert receipt["in_thoughts"] == own + empty < receipt["steered"]


def test_windows_can_leave_out_thoughts_and_calls(tmp_path: Path):
    """At the site `answers`, what is steered decodes to what the model says to the user, and to nothing else."""
    model = thinking_model(tmp_path / "model", "qwen")
    library = save_library(tmp_path / "library", model.api.loaded.fingerprint)
    messages = thoughtful()
    messages[-1] = ChatMessageTool(
        content="", tool_call_id="two", error=ToolCallError(type="unknown", message="There is no vector soap.")
    )
    plan = at_site(plan_windows(messages, TREATMENTS), messages, "answers")
    output = ask(model, messages, SteeringRequest(plan=plan, library=library, show_tokens=True).config(), tools=TOOLS)
    model.api.close()
    said, generated = report(output)["receipts"]
    assert text_between(output, said["start"], said["stop"]) == "It is calm here."
    assert (generated["start"], generated["stop"]) == (len(report(output)["tokens"]), None)
    assert [said["in_thoughts"], generated["in_thoughts"]] == [0, 0]
    assert generated["steered"] == output.usage.output_tokens - 1


def test_thoughts_of_the_last_turn_reach_the_prompt_through_inspect(tmp_path: Path):
    """Inspect's handling of reasoning leaves it to the template which thoughts the model sees again."""
    model = get_model(f"nnsight/{save_family_model(tmp_path, 'qwen')}", memoize=False)

    def turn(number: int) -> list[ChatMessage]:
        call = ToolCall(id=str(number), function="clear_effects", arguments={})
        content = [ContentReasoning(reasoning=f"thought{number}")]
        return [
            ChatMessageAssistant(content=content, tool_calls=[call]),
            ChatMessageTool(content="ok", tool_call_id=str(number)),
        ]

    messages = [ChatMessageUser(content="a"), *turn(1), ChatMessageUser(content="b"), *turn(2), *turn(3)]
    config = SteeringRequest(plan=Plan(messages=len(messages)), show_tokens=True).config()
    text = text_between(ask(model, messages, config, tools=TOOLS), 0, None)
    model.api.close()
    assert [f"thought{n}" in text for n in (1, 2, 3)] == [False, True, True]


def test_no_object_of_the_process_gets_a_save_method(tiny: Tiny):
    """What nnsight adds to every object is gone once something was steered, so that other libraries work."""
    messages = conversation()
    ask(tiny.model, messages, tiny.request(messages), tools=TOOLS)
    assert not hasattr(object, "save")


def test_inspect_knows_the_context_length(tiny: Tiny):
    """Inspect's own handling of long conversations needs it, by the name that the model was opened under."""
    info = get_model_info(f"nnsight/{tiny.folder}")
    assert info is not None
    assert info.context_length == CONTEXT


def test_tokens_are_counted_with_the_models_own_tokenizer(tiny: Tiny):
    """No other tokenizer, and no network, is needed to count."""
    text = "Some words, ünïcode too."
    expected = len(bundled_tokenizer()(text, add_special_tokens=False)["input_ids"])
    assert asyncio.run(tiny.model.api.count_text_tokens(text)) == expected


def test_generations_at_once_are_those_one_by_one(tiny: Tiny):
    """Steered, placebo and plain conversations that share batches give what each gives alone."""
    steered, plain = conversation(cleared=False), [ChatMessageUser(content="u")]
    placebo = SteeringRequest(
        plan=plan_windows(steered, dict.fromkeys(TREATMENTS, TREATMENTS["zero"])), library=tiny.library
    )
    base = GenerateConfig(max_tokens=8, temperature=0)
    jobs = [
        (steered, tiny.request(steered, base)),
        (plain, base),
        (steered, placebo.config(base)),
        (conversation(), tiny.request(conversation(), base)),
        (steered, base),
    ]
    alone = [ask(tiny.model, messages, config, tools=TOOLS) for messages, config in jobs]

    async def together() -> list[ModelOutput]:
        calls = [tiny.model.generate(messages, tools=TOOLS, config=config) for messages, config in jobs * 2]
        return list(await asyncio.gather(*calls))

    batches = tiny.model.api.engine.stats.batch_sizes
    before = dict(batches)
    outputs = asyncio.run(together())
    assert [o.completion for o in outputs] == [o.completion for o in alone] * 2
    assert alone[0].completion != alone[2].completion == alone[4].completion
    assert any(size > 1 and count > before.get(size, 0) for size, count in batches.items())


def test_a_cancelled_generation_frees_its_row(tiny: Tiny):
    """Once nobody waits for it, a long generation stops, and others go on."""
    model = tiny.open()
    stats = model.api.engine.stats

    async def cancel_one() -> ModelOutput:
        config = GenerateConfig(max_tokens=900, temperature=0)
        task = asyncio.create_task(model.generate("long", config=config))
        while stats.decode_steps < 2:  # noqa: ASYNC110  the engine counts in a thread of its own
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return await model.generate("short", config=GenerateConfig(max_tokens=20, temperature=0))

    assert asyncio.run(cancel_one()).usage.output_tokens == 20
    # The engine runs nothing more: what it decoded is far from the 900 tokens that were asked for.
    assert stats.batch_sizes.get(1, 0) >= 15
    assert stats.decode_steps < 800
    model.api.close()


def test_a_closed_provider_refuses_to_generate(tiny: Tiny):
    """After closing there is an error, not a wait without end."""
    model = tiny.open()
    ask(model, "u")
    model.api.close()
    with pytest.raises(RuntimeError, match="closed"):
        ask(model, "u")


# ------------------------------------------------------------ the bundled model


def test_the_bundled_model_calls_a_tool_when_it_must(bundled_model: Model):
    """A real model's forced call names an offered tool with arguments that fit."""
    output = ask(bundled_model, "Take calm.", GenerateConfig(max_tokens=50), tools=TOOLS, tool_choice="any")
    (call,) = output.message.tool_calls or []
    assert call.parse_error is None
    assert call.function in {"take_vector", "clear_effects"}
    assert set(call.arguments) <= {"name", "dose"}


def test_the_bundled_model_ends_its_turn(bundled_model: Model):
    """The end-of-turn token ends the generation, is counted, and is not part of the text."""
    output = ask(bundled_model, "What is 2+2? Answer with one number.", GenerateConfig(max_tokens=64, logprobs=True))
    assert output.stop_reason == "stop"
    assert "<|" not in output.completion
    assert output.choices[0].logprobs is not None
    assert output.usage is not None
    assert len(output.choices[0].logprobs.content) == output.usage.output_tokens


def test_the_shipped_library_steers_the_bundled_model(bundled_model: Model):
    """With no library named, the shipped one is found, and a vector moves what the model is about to say."""
    call = ToolCall(id="0", function="take_vector", arguments={"name": "d1"})
    messages = [
        ChatMessageUser(content="How do you feel?"),
        ChatMessageAssistant(content="", tool_calls=[call]),
        ChatMessageTool(content="ok", tool_call_id="0"),
    ]
    treatments = {"d1": Treatment(direction=Direction(vector="golden_gate"), unit_strength=0.6)}
    plan = plan_windows(messages, treatments)
    steered, plain = (
        ask(bundled_model, messages, SteeringRequest(plan=p).config(GenerateConfig(max_tokens=8, logprobs=True)))
        for p in (plan, plan.without_windows())
    )
    with_it, without = (output.choices[0].logprobs for output in (steered, plain))
    assert with_it is not None
    assert without is not None
    assert with_it.content[0].logprob != without.content[0].logprob
    (receipt,) = report(steered)["receipts"]
    assert receipt["steered"] > 0
    assert receipt["projection_after"] - receipt["projection_before"] == pytest.approx(
        receipt["expected_shift"], rel=0.01
    )
