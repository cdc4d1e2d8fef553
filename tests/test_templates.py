"""Every ordinary conversation through every kind of chat template: nothing refused, every message's tokens exact."""

import asyncio
import datetime as dt
import logging
from collections.abc import Iterator, Sequence
from itertools import pairwise

import pytest
from inspect_ai.model import (
    ChatMessage,
    ChatMessageAssistant,
    ChatMessageSystem,
    ChatMessageTool,
    ChatMessageUser,
    GenerateConfig,
    get_model,
)
from inspect_ai.tool import ToolCall
from transformers import PreTrainedTokenizerBase
from transformers.utils import chat_template_utils

from self_steering.steering.chat import ChatRenderer, RenderedChat
from self_steering.steering.habits import stop_ids
from self_steering.steering.thinking import ThoughtMarks
from self_steering.steering.tool_calls import tool_schema
from self_steering.steering.tools import tool_infos
from tests.support import models_page
from tests.support.conversations import CONVERSATIONS, Conversation
from tests.support.templates import (
    DAY,
    OWN_TEMPLATES,
    STRICT_FAMILIES,
    byte_tokenizer,
    control_tokens,
    published_templates,
    save_family_model,
    template_renderer,
    template_tokenizer,
)

TOOLS = tool_infos("vectors")
PUBLISHED = published_templates()
NAMES = {"end_session", *(tool.name for tool in TOOLS)}  # which the tools block or the answer may have too
without_trl = pytest.mark.skipif(
    not PUBLISHED, reason="the package trl, which carries real models' templates, is missing"
)


def renderer_of(tokenizer: PreTrainedTokenizerBase) -> ChatRenderer:
    """Return a renderer that is told of no more than the tokenizer's end token."""
    return ChatRenderer(tokenizer, frozenset({int(tokenizer.eos_token_id)}), today=DAY)


def rendered(renderer: ChatRenderer, conversation: Conversation) -> RenderedChat:
    return renderer.render(conversation.messages, TOOLS if conversation.tools else [])


def texts(tokenizer: PreTrainedTokenizerBase, chat: RenderedChat) -> list[str]:
    """Return the text of each message's tokens."""
    return [tokenizer.decode(chat.ids[a:b]) for a, b in pairwise(chat.starts)]


def bare(text: str) -> str:
    # Answers may be printed as JSON text, within quotation marks of their own.
    return "".join(text.split()).replace("\\", "")


def faults(name: str) -> Iterator[str]:
    """Return what does not hold of the ordinary conversations in one template."""
    tokenizer, renderer = template_tokenizer(name), template_renderer(name)
    for title, conversation in CONVERSATIONS.items():
        chat = rendered(renderer, conversation)
        if chat.starts[0] != 0 or chat.starts != sorted(chat.starts) or chat.starts[-1] > len(chat.ids):
            yield f"{title}: messages do not tile the prompt: {chat.starts}"
        for index, (message, word, text) in enumerate(
            zip(conversation.messages, conversation.words, texts(tokenizer, chat), strict=True)
        ):
            moved = message.role == "system" and not text and word in tokenizer.decode(chat.ids)
            if bare(word) not in bare(text) and not moved:
                yield f"{title}: {word!r} is not in the tokens of message {index}: {text!r}"
            foreign = [
                one
                for other, one in enumerate(conversation.words)
                if other != index and one and one not in NAMES and conversation.messages[other].role != "system"
            ]
            if any(bare(one) in bare(text) for one in foreign):
                yield f"{title}: tokens of other messages are in message {index}: {text!r}"
            if chat.continued and not tokenizer.decode(chat.ids).rstrip().endswith(conversation.words[-1]):
                yield f"{title}: more stands behind what is continued: {text!r}"
            last = index + 1 == len(conversation.messages)
            if (
                message.role == "assistant"
                and not last
                and text
                and chat.ids[chat.starts[index + 1] - 1] not in renderer.end_ids
            ):
                yield f"{title}: message {index} does not end its turn: {text!r}"


@pytest.mark.parametrize("name", OWN_TEMPLATES)
def test_every_ordinary_conversation_has_exact_spans_in_every_family_of_templates(name: str):
    """Templates that refuse, drop, move or repeat what is ordinary get it in another form, and no span is displaced."""
    assert list(faults(name)) == []


@without_trl
@pytest.mark.parametrize("name", PUBLISHED or ["none"])
def test_every_ordinary_conversation_has_exact_spans_in_every_published_template(name: str):
    """The templates of real models, as they are."""
    assert list(faults(name)) == []


@pytest.mark.parametrize("name", [*OWN_TEMPLATES, *PUBLISHED])
@pytest.mark.parametrize("title", ["a question", "several turns"])
def test_the_ids_are_the_templates_own_where_it_takes_the_conversation(name: str, title: str):
    """Nothing is changed of what a template expresses by itself."""
    tokenizer, renderer = template_tokenizer(name), template_renderer(name)
    conversation = CONVERSATIONS[title]
    dicts = [{"role": m.role, "content": m.text} for m in conversation.messages]
    if any(message["role"] == "system" for message in dicts) and name == "nemo":
        pytest.skip("this one drops the system text wherever the last message is no user's")
    tools = [tool_schema(tool) for tool in TOOLS] if conversation.tools and renderer.template_knows_tools else None
    try:
        own = tokenizer.apply_chat_template(
            dicts, tools=tools, add_generation_prompt=True, enable_thinking=False, tokenize=False
        )
    except Exception:  # noqa: BLE001  whatever a template raises
        pytest.skip("the template refuses the conversation")
    if conversation.tools and tools is None:
        conversation = Conversation(conversation.messages, conversation.words, tools=False)
    if not all(m.text in own for m in conversation.messages):
        pytest.skip("the template drops text")
    today = dt.datetime.now().astimezone().date()
    ours = tokenizer.decode(rendered(renderer, conversation).ids)
    for format_ in ("%Y-%m-%d", "%d %b %Y"):
        own = own.replace(today.strftime(format_), DAY.strftime(format_))
    assert ours == own


def test_a_system_text_that_moves_belongs_to_the_message_where_it_is_printed():
    """It has no tokens of its own, and those of the last user message hold it."""
    tokenizer = template_tokenizer("nemo")
    conversation = CONVERSATIONS["several turns"]
    chat = renderer_of(tokenizer).render(conversation.messages, [])
    spans = texts(tokenizer, chat)
    assert ["sigma" in span for span in spans] == [False] * 5 + [True]
    assert spans[0] == ""


def test_text_before_a_call_stands_before_it():
    """A template that prints it behind the tool's answer gets it as a message of its own, within the same turn."""
    tokenizer = template_tokenizer("gemma4")
    chat = rendered(template_renderer("gemma4"), CONVERSATIONS["a take with text before it"])
    _, take, answer, *_ = texts(tokenizer, chat)
    assert take.startswith("\n<|turn>model\nI take one.<|tool_call>call:take_vector")
    assert take.endswith("<|tool_response>")
    assert answer.startswith("response:take_vector{value:beta taken")


def test_ids_of_calls_are_what_the_template_wants():
    """Nine letters and digits where it insists on them, function and number where it prints nothing else of the function."""
    conversation = CONVERSATIONS["parallel calls"]
    nemo, kimi = (template_tokenizer(name) for name in ("nemo", "kimi"))
    spans = texts(nemo, rendered(template_renderer("nemo"), conversation))
    first, second = (part[:9] for part in spans[1].split('"id": "')[1:])
    assert (first + second).isalnum()
    assert first != second
    # They stand behind the answer's text, where what belongs to the next message begins.
    assert (first in spans[3], second in spans[4]) == (True, True)
    spans = texts(kimi, rendered(template_renderer("kimi"), conversation))
    assert ["functions.take_vector:0" in span for span in spans[1:4]] == [True, True, False]
    assert ["functions.take_vector:1" in span for span in spans[1:4]] == [True, False, True]


def test_answers_to_calls_that_share_an_id_keep_their_own():
    """Agents that edit their history make ids recur; the first answer is the first call's."""
    tokenizer = template_tokenizer("kimi")
    calls = [ToolCall(id="same", function=name, arguments={}) for name in ("take_vector", "clear_effects")]
    messages: list[ChatMessage] = [
        ChatMessageUser(content="alpha?"),
        ChatMessageAssistant(content="", tool_calls=calls),
        *(ChatMessageTool(content="done", tool_call_id="same", function=call.function) for call in calls),
    ]
    spans = texts(tokenizer, renderer_of(tokenizer).render(messages, TOOLS))
    assert ["Return of functions.take_vector:0" in spans[2], "Return of functions.clear_effects:1" in spans[3]] == [
        True,
        True,
    ]


def test_templates_by_name_show_calls_when_no_tool_is_on_offer_any_more():
    """The one for conversations without tools knows no calls; they are written as text, as the model wrote them."""
    tokenizer = template_tokenizer("hermes")
    chat = rendered(template_renderer("hermes"), CONVERSATIONS["a debrief without tools"])
    assert '<tool_call>\n{"name": "take_vector"' in texts(tokenizer, chat)[2]
    assert "Tools:" not in tokenizer.decode(chat.ids)


@pytest.mark.parametrize(
    ("name", "messages"),
    [
        (
            "gemma",
            [
                ChatMessageAssistant(content="alpha."),
                ChatMessageAssistant(content="beta."),
                ChatMessageUser(content="gamma?"),
            ],
        ),
        (
            "ministral",
            [
                ChatMessageSystem(content="alpha."),
                ChatMessageSystem(content="beta."),
                ChatMessageUser(content="gamma?"),
            ],
        ),
        (
            "nemo",
            [
                ChatMessageSystem(content="alpha."),
                ChatMessageUser(content=""),
                ChatMessageSystem(content="beta."),
                ChatMessageAssistant(content="gamma"),
            ],
        ),
        (
            "harmony",
            [
                ChatMessageUser(content="alpha?"),
                ChatMessageTool(content="beta.", tool_call_id="lost"),
                ChatMessageUser(content="gamma?"),
            ],
        ),
    ],
    ids=["two turns first", "two system texts", "a system text amid", "an answer without its call"],
)
def test_what_a_template_refuses_is_said_in_another_form(name: str, messages: Sequence[ChatMessage]):
    """Odd conversations too come through whole, each message with its own tokens."""
    tokenizer = template_tokenizer(name)
    spans = texts(tokenizer, renderer_of(tokenizer).render(messages, TOOLS))
    for word in ("alpha", "beta", "gamma"):
        assert [i for i, span in enumerate(spans) if word in span] == [
            next(i for i, message in enumerate(messages) if word in message.text)
        ]


def test_what_is_changed_is_said_once_when_the_model_is_loaded(caplog: pytest.LogCaptureFixture):
    """One line names all of it; a template that expresses everything has none."""
    with caplog.at_level(logging.WARNING, logger="self_steering"):
        renderer = renderer_of(template_tokenizer("gemma"))
        rendered(renderer, CONVERSATIONS["two user messages"])
        renderer_of(template_tokenizer("qwen"))
    (record,) = caplog.records
    assert "user messages in a row are one" in record.getMessage()
    assert "\n" not in record.getMessage()


# ------------------------------------------------------------ ends of turns


@pytest.mark.parametrize(
    ("name", "known", "stops"),
    [
        ("qwen", (), {"<|im_end|>"}),
        ("llama", (), {"<|eot_id|>"}),
        ("nemo", ("</s>",), {"</s>"}),
        ("harmony", ("<|return|>",), {"<|return|>", "<|call|>"}),
        ("gemma4", ("<turn|>",), {"<turn|>", "<|tool_response>"}),
        ("glm", (), {"<|user|>", "<|observation|>"}),
        ("r1", (), {"<｜end▁of▁sentence｜>"}),
    ],
)
def test_what_ends_a_turn_is_found_in_the_template(name: str, known: tuple[str, ...], stops: set[str]):
    """Beside what the model's configuration names; what ends a thought within the turn does not stop the generation."""
    tokenizer = (
        template_tokenizer(name)
        if name in STRICT_FAMILIES
        else byte_tokenizer(OWN_TEMPLATES[name], {*control_tokens(OWN_TEMPLATES[name]), *stops})
    )
    found = stop_ids(tokenizer, tokenizer.convert_tokens_to_ids(list(known)))
    assert set(tokenizer.convert_ids_to_tokens(sorted(found))) == stops


def test_an_end_of_turn_that_is_no_token_is_found_as_text():
    """Many fine-tuned models write ChatML without tokens for it: spans end there, and so does a generation."""
    tokenizer = byte_tokenizer(OWN_TEMPLATES["qwen"], ())
    renderer = renderer_of(tokenizer)
    spans = texts(tokenizer, rendered(renderer, CONVERSATIONS["several turns"]))
    assert spans[2] == "\n<|im_start|>assistant\nbeta.<|im_end|>"
    assert renderer.stop_texts == ("<|im_end|>",)


# ------------------------------------------------------------ thoughts


@pytest.mark.parametrize(
    ("opening", "closing"),
    [
        ("<think>", "</think>"),
        ("<seed:think>", "</seed:think>"),
        ("[THINK]", "[/THINK]"),
        ("<|START_THINKING|>", "<|END_THINKING|>"),
        ("◁think▷", "◁/think▷"),
        ("<reasoning>", "</reasoning>"),
        ("<|begin_of_thought|>", "<|end_of_thought|>"),
        ("<|channel>thought", "<channel|>"),
        ("<|inner_prefix|>", "<|inner_suffix|>"),
    ],
)
def test_whatever_stands_around_thoughts_is_found_in_the_template(opening: str, closing: str):
    """From what it writes around one, and whether the prompt leaves one open from the prompt itself."""
    template = (
        (
            "{% for m in messages %}<|im_start|>{{ m.role }}\n"
            "{% if m.reasoning_content and loop.last %}OPEN\n{{ m.reasoning_content }}\nCLOSE\n{% endif %}"
            "{{ m.content }}<|im_end|>\n{% endfor %}"
            "{% if add_generation_prompt %}<|im_start|>assistant\nOPEN\n{% endif %}"
        )
        .replace("OPEN", opening)
        .replace("CLOSE", closing)
    )
    renderer = renderer_of(byte_tokenizer(template, ("<|im_start|>", "<|im_end|>")))
    marks = ThoughtMarks(opening, closing)
    assert marks in renderer.thought_marks
    user = ChatMessageUser(content=f"What is {opening}?")
    assert renderer.render([user], []).open_thought == marks
    assert renderer.render([user, ChatMessageAssistant(content="It is")], []).open_thought is None
    assert renderer.render([user, ChatMessageAssistant(content=f"{opening}Hm")], []).open_thought == marks
    assert renderer.render([user, ChatMessageAssistant(content=f"{opening}Hm{closing}So")], []).open_thought is None


@pytest.mark.parametrize(
    ("name", "marks"),
    [
        ("harmony", ("<|channel|>analysis<|message|>", "<|end|>")),
        ("gemma4", ("<|channel>thought", "<channel|>")),
        ("glm", ("<think>", "</think>")),
        ("r1", ("<think>", "</think>")),
        ("gemma", None),
    ],
)
def test_the_marks_of_each_family_are_found(name: str, marks: tuple[str, str] | None):
    """Channels as well as tags; and none where the template knows of no thoughts."""
    found = template_renderer(name).thought_marks
    assert [(one.open, one.close) for one in found] == ([] if marks is None else [marks])


@pytest.mark.parametrize(
    ("name", "thinking", "opened"),
    [("r1", False, True), ("qwen", False, False), ("qwen", True, False), ("glm", False, False)],
)
def test_whether_a_prompt_opens_a_thought_is_known(name: str, thinking: bool, opened: bool):
    """The generation starts inside one only if the prompt has opened it and not closed it."""
    tokenizer = template_tokenizer(name)
    renderer = ChatRenderer(tokenizer, frozenset({int(tokenizer.eos_token_id)}), thinking or None)
    thought = renderer.render([ChatMessageUser(content="alpha </think>?")], []).open_thought
    assert (thought == ThoughtMarks("<think>", "</think>")) == opened


@pytest.mark.parametrize("name", [*OWN_TEMPLATES, *PUBLISHED])
def test_an_answer_that_speaks_of_a_closing_mark_keeps_its_words(name: str):
    """Templates take what stands before one for a thought, and drop it; where a thought is open it closes it."""
    renderer, tokenizer = template_renderer(name), template_tokenizer(name)
    close = renderer.thought_marks[0].close if renderer.thought_marks else "</think>"
    talk = [
        ChatMessageUser(content="alpha"),
        ChatMessageAssistant(content=f"bravo {close} charlie"),
        ChatMessageUser(content="delta"),
        ChatMessageAssistant(content=f"echo {close} foxtrot"),
    ]
    chat = renderer.render(talk, TOOLS)
    shown = texts(tokenizer, chat)
    assert all(word in shown[1] for word in ("bravo", "charlie"))
    assert all(word in shown[3] for word in ("echo", "foxtrot"))
    assert chat.open_thought is None


# ------------------------------------------------------------ dates


class Midnight(dt.datetime):
    """A clock on the day after."""

    @classmethod
    def now(cls, tz: dt.tzinfo | None = None) -> dt.datetime:
        """Return the day after."""
        return dt.datetime.now(tz) + dt.timedelta(days=1)


@pytest.mark.parametrize("name", ["ministral", "harmony"])
def test_a_date_in_the_template_stays_that_of_the_day_on_which_the_model_was_loaded(
    name: str, monkeypatch: pytest.MonkeyPatch
):
    """A run that goes on after midnight has the same prompts, and so the same seeds."""
    tokenizer = template_tokenizer(name)
    renderer = ChatRenderer(tokenizer, frozenset({int(tokenizer.eos_token_id)}))
    before = rendered(renderer, CONVERSATIONS["several turns"])
    assert str(renderer.date) in tokenizer.decode(before.ids)
    monkeypatch.setattr(chat_template_utils, "datetime", Midnight)
    assert rendered(renderer, CONVERSATIONS["several turns"]) == before


def test_a_run_has_the_date_that_it_is_given():
    """Whenever it is repeated, the prompt is the same; a template without a date has none."""
    tokenizer = template_tokenizer("ministral")
    text = tokenizer.decode(rendered(template_renderer("ministral"), CONVERSATIONS["a question"]).ids)
    assert "Today is 2026-02-03." in text
    assert template_renderer("qwen").date is None


def test_the_date_is_a_model_argument_and_in_the_log(tmp_path_factory: pytest.TempPathFactory):
    """As text or as the date that the command line makes of it; what is no date is refused."""
    model = save_family_model(tmp_path_factory.mktemp("ministral"), "ministral")
    for given in ("2026-02-03", DAY):
        api = get_model(f"nnsight/{model}", memoize=False, date=given).api
        try:
            output, call = asyncio.run(
                api.generate([ChatMessageUser(content="alpha?")], [], "none", GenerateConfig(max_tokens=1))
            )
        finally:
            api.close()
        assert "Today is 2026-02-03." in call.request["prompt"]
        assert (call.request["date"], output.metadata["self_steering"]["date"]) == ("2026-02-03", "2026-02-03")
    with pytest.raises(ValueError, match="date is 'today'; pass a day as YYYY-MM-DD"):
        get_model(f"nnsight/{model}", memoize=False, date="today")


# ------------------------------------------------------------ the page


def test_the_page_of_models_is_what_the_command_writes():
    """`python -m tests.support.models_page`; the rows of real models are compared where trl is the one that they name."""
    page = models_page.PAGE.read_text("utf-8")
    assert models_page.written_again(page) == page
