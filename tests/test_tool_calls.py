"""Tool calls as text: every form that models write, what is no call, and grammars that force one."""

import json

import pytest
from inspect_ai.tool import ToolCall, ToolFunction, ToolInfo, ToolParam, ToolParams
from llguidance import LLMatcher
from llguidance.hf import from_tokenizer

from self_steering.steering.tool_calls import (
    call_json,
    call_text,
    forced_call_grammar,
    parse_calls,
    tool_schema,
    tools_prompt,
)
from self_steering.steering.tools import tool_infos

TOOLS = [
    *tool_infos("vectors"),
    ToolInfo(
        name="submit",
        description="Submit an answer.",
        parameters=ToolParams(properties={"answer": ToolParam(type="string", description="It.")}, required=["answer"]),
    ),
]
TAKE = '{"name": "take_vector", "arguments": {"name": "calm", "dose": -1.5}}'
CLEAR = '{"name": "clear_effects", "arguments": {}}'
TAKEN = ("take_vector", {"name": "calm", "dose": -1.5})
CLEARED = ("clear_effects", {})


def read(text: str) -> tuple[str, list[tuple[str, dict]]]:
    """Return content and calls of a text in which every call can be read."""
    parsed = parse_calls(text, TOOLS, "id")
    assert [c.parse_error for c in parsed.calls] == [None] * len(parsed.calls)
    return parsed.content, [(c.function, c.arguments) for c in parsed.calls]


@pytest.mark.parametrize(
    "text",
    [
        f"<tool_call>\n{TAKE}\n</tool_call>",
        f"<tool_call>{TAKE}</tool_call>",
        f"<tool_call>\n{TAKE}",
        TAKE.replace("arguments", "parameters"),
        "<|python_tag|>" + TAKE.replace("arguments", "parameters"),
        '<function=take_vector>{"name": "calm", "dose": -1.5}</function>',
        '<function=take_vector>\n{"name": "calm", "dose": -1.5}',
        TAKE,
        f"\n\n {TAKE}\n",
        json.dumps(json.loads(TAKE), indent=2),
        f"```json\n{TAKE}\n```",
        f"```\n{TAKE}\n```",
        f"```tool_call\n  {TAKE}  \n```",
        f"[{TAKE}]",
        json.dumps({"name": "take_vector", "arguments": json.dumps({"name": "calm", "dose": -1.5})}),
    ],
    ids=[
        "hermes",
        "hermes-inline",
        "hermes-unclosed",
        "llama",
        "llama-python-tag",
        "function-tag",
        "function-tag-unclosed",
        "plain",
        "plain-with-white-space",
        "plain-indented",
        "fenced-json",
        "fenced",
        "fenced-tool-call",
        "list",
        "arguments-as-text",
    ],
)
def test_a_call_is_read_in_every_form(text: str):
    """Hermes tags, Llama's JSON and function tags, plain and fenced JSON all give the same call and leave no text."""
    assert read(text) == ("", [TAKEN])


@pytest.mark.parametrize(
    "text",
    [
        f"<tool_call>\n{CLEAR}\n</tool_call>",
        '<tool_call>{"name": "clear_effects"}</tool_call>',
        '<tool_call>{"name": "clear_effects", "arguments": null}</tool_call>',
        '<tool_call>{"name": "clear_effects", "arguments": ""}</tool_call>',
        '{"name": "clear_effects", "parameters": {}}',
        '{"name": "clear_effects"}',
        "<function=clear_effects></function>",
        "<function=clear_effects>{}</function>",
        '```json\n{"name": "clear_effects"}\n```',
    ],
)
def test_a_call_without_arguments_is_read(text: str):
    """Tools that take nothing can be called in every form, with or without an empty object."""
    assert read(text) == ("", [CLEARED])


@pytest.mark.parametrize(
    "text",
    [
        f"<tool_call>\n{TAKE}\n</tool_call>\n<tool_call>\n{CLEAR}\n</tool_call>",
        f"<tool_call>{TAKE}<tool_call>{CLEAR}",
        f"{TAKE}\n{CLEAR}",
        f"\n{TAKE}\n{CLEAR}\n",
        f"{TAKE}; {CLEAR}",
        f"{TAKE},\r\n\t{CLEAR}",
        f"[{TAKE}, {CLEAR}]",
        f"```json\n[{TAKE}, {CLEAR}]\n```",
        f"```json\n{TAKE}\n```\n```json\n{CLEAR}\n```",
        '<function=take_vector>{"name": "calm", "dose": -1.5}</function><function=clear_effects></function>',
    ],
)
def test_several_calls_are_read_in_order(text: str):
    """Parallel calls come out as the model wrote them, first to last."""
    assert read(text) == ("", [TAKEN, CLEARED])


@pytest.mark.parametrize(
    "call",
    [
        f"<tool_call>{TAKE}</tool_call>",
        f"```json\n{TAKE}\n```",
        f"<function=take_vector>{json.dumps(TAKEN[1])}</function>",
    ],
    ids=["hermes", "fenced", "function-tag"],
)
def test_the_text_around_a_call_is_kept(call: str):
    """What the model says before and after a call is its content, without the call."""
    content, calls = read(f"I will try it.\n{call}\nNow.")
    assert calls == [TAKEN]
    assert content.split() == ["I", "will", "try", "it.", "Now."]


def test_ids_of_calls_recur_neither_within_a_text_nor_between_generations():
    """Ids follow from the generation, its text and the call's place, and are nine letters or digits, as some templates want."""
    texts = [(f"{TAKE}\n{TAKE}\n{CLEAR}", "one"), (f"{TAKE}\n{TAKE}\n{CLEAR}", "two"), (f"{TAKE}\n{TAKE}", "one")]
    ids = [call.id for text, origin in texts for call in parse_calls(text, TOOLS, origin).calls]
    assert len(set(ids)) == len(ids) == 8
    assert all(len(i) == 9 and i.isalnum() and i.isascii() for i in ids)
    again = [call.id for text, origin in texts for call in parse_calls(text, TOOLS, origin).calls]
    assert again == ids


@pytest.mark.parametrize(
    ("body", "function"),
    [
        ('{"name": "take_vector", "arguments": {"name": "calm", }', "take_vector"),
        ('{"name": "take_vector", "arguments": {"name": "calm"', "take_vector"),
        ('{"name": "take_vector", "arguments": ["calm"]}', "take_vector"),
        ('{"name": "take_vector", "arguments": "calm"}', "take_vector"),
        ('{"tool": "take_vector"}', None),
        ("take calm please", None),
        ("", None),
        ("[" * 5000, None),
        ('{"name": "take_vector", "arguments": ' + '{"a":' * 5000, "take_vector"),
    ],
    ids=["trailing-comma", "torn", "list", "text", "no-name", "prose", "empty", "deep", "deep-arguments"],
)
def test_a_malformed_call_carries_an_error_that_shows_it(body: str, function: str | None):
    """What is tagged as a call but cannot be read becomes a call with an error for the model, never silence or a crash."""
    parsed = parse_calls(f"So: <tool_call>{body}</tool_call>", TOOLS, "id")
    (call,) = parsed.calls
    assert parsed.content == "So:"
    assert call.arguments == {}
    assert call.parse_error is not None
    assert body in call.parse_error
    assert '{"name": "tool_name", "arguments": {…}}' in call.parse_error
    assert function is None or call.function == function


@pytest.mark.parametrize(
    "text",
    [
        TAKE[:-3],
        f"```json\n{TAKE[:-3]}\n```",
        f"[{TAKE}, {CLEAR}",
        '<function=take_vector>{"name": calm}</function>',
        '{"name": "take_vector", "arguments": ' + '{"a":' * 5000,
    ],
)
def test_a_malformed_call_without_tags_carries_an_error_too(text: str):
    """JSON that names an offered tool but cannot be read is a call that failed, not ordinary text."""
    assert [(c.function, c.parse_error is None) for c in parse_calls(text, TOOLS, "id").calls] == [
        ("take_vector", False)
    ]


def test_one_malformed_call_does_not_spoil_its_neighbours():
    """Each call of a message is read on its own."""
    calls = parse_calls(f"<tool_call>{TAKE}</tool_call><tool_call>{{</tool_call>", TOOLS, "id").calls
    assert [c.parse_error is None for c in calls] == [True, False]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "  I feel calm.\n\n",
        "Call clear_effects? I could take_vector calm.",
        '{"name": "calm", "dose": 1}',
        ' {"answer": 42}\n',
        '[{"name": "focused"}, {"name": "take_vectors"}]',
        '```json\n{"name": "Ann", "age": 7}\n```',
        "```python\nprint({})\n```",
        '{"name": ',
        'The form is {"name": "take_vector", "arguments": {}}, I think.',
        "if x <function> y",
        "[" * 5000,
    ],
)
def test_ordinary_text_and_json_are_left_untouched(text: str):
    """What is no call comes back letter by letter, white space too."""
    parsed = parse_calls(text, TOOLS, "id")
    assert (parsed.content, parsed.calls) == (text, [])


def test_without_tools_nothing_is_a_call():
    """Where no tool was offered, even a perfect call is text."""
    text = f" <tool_call>{TAKE}</tool_call>"
    parsed = parse_calls(text, [], "id")
    assert (parsed.content, parsed.calls) == (text, [])


def test_a_tagged_call_of_an_unknown_tool_is_still_a_call():
    """A tag shows the intent, so that the model learns that there is no such tool."""
    assert read('<tool_call>{"name": "take_nap", "arguments": {}}</tool_call>') == ("", [("take_nap", {})])


ODD_ARGUMENTS = {"name": 'ümlaut "quoted" \\ </b>\n{x}', "dose": 1e-7, "more": [None, True, {"a": "日本"}]}


@pytest.mark.parametrize("arguments", [{}, {"name": "calm", "dose": -2}, ODD_ARGUMENTS])
@pytest.mark.parametrize("write", [call_text, call_json])
def test_what_is_written_is_read_back(write, arguments: dict):
    """A call written for the prompt, in either form, is the same call when read, odd characters too."""
    assert read(write(ToolCall(id="x", function="take_vector", arguments=arguments))) == (
        "",
        [("take_vector", arguments)],
    )


def test_the_fallback_prompt_shows_every_tool_and_the_form_that_is_read():
    """A model without a tools template is told each tool's schema, and the form it is told can be read."""
    prompt = tools_prompt(TOOLS)
    listed = [json.loads(line) for line in prompt.splitlines() if line.startswith('{"name"') and "description" in line]
    assert listed == [tool_schema(tool)["function"] for tool in TOOLS]
    example = prompt[prompt.index("<tool_call>") : prompt.index("</tool_call>")]
    assert read(example) == ("", [("tool_name", {})])


# ------------------------------------------------------------ forced calls


@pytest.fixture(scope="module")
def tables(tokenizer):
    return from_tokenizer(tokenizer)


@pytest.fixture
def admits(tables, tokenizer):
    """Tell whether a grammar admits a whole text and may end there."""

    def admits(grammar: str, text: str) -> bool:
        matcher = LLMatcher(tables, grammar)
        assert not matcher.is_error(), matcher.get_error()
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        return matcher.try_consume_tokens(ids) == len(ids) and matcher.is_accepting()

    return admits


@pytest.mark.parametrize("choice", ["auto", "none"])
def test_a_free_choice_has_no_grammar(choice):
    """Where the model may choose, nothing is forced."""
    assert forced_call_grammar(TOOLS, choice) is None


def test_any_admits_exactly_one_valid_call_of_any_tool(admits):
    """Every offered tool can be called, one call only, with arguments that fit its schema and in the form that is read."""
    grammar = forced_call_grammar(TOOLS, "any")
    assert grammar is not None
    for text in (TAKE, CLEAR, '{"name": "submit", "arguments": {"answer": "x"}}'):
        assert admits(grammar, text)
        assert len(read(text)[1]) == 1
    for text in (
        "Sure: " + TAKE,
        TAKE + TAKE,
        TAKE[:-1],
        '{"name": "take_nap", "arguments": {}}',
        '{"name": "take_vector"}',
        '{"name": "take_vector", "arguments": {"dose": 1.0}}',
        '{"name": "take_vector", "arguments": {"name": "calm", "dose": "1"}}',
        '{"name": "clear_effects", "arguments": {"answer": "x"}}',
        '{"name":  "clear_effects", "arguments": {}}',
    ):
        assert not admits(grammar, text), text


def test_a_named_tool_admits_only_that_tool(admits):
    """Forcing one function forbids the others."""
    grammar = forced_call_grammar(TOOLS, ToolFunction(name="clear_effects"))
    assert grammar is not None
    assert admits(grammar, CLEAR)
    assert not admits(grammar, TAKE)


@pytest.mark.parametrize(("tools", "choice"), [(TOOLS, ToolFunction(name="take_nap")), ([], "any")])
def test_a_choice_that_no_tool_meets_is_refused(tools, choice):
    """Forcing a tool that is not offered raises and lists those that are."""
    with pytest.raises(ValueError, match="offered: " + (", ".join(t.name for t in tools) or "none")):
        forced_call_grammar(tools, choice)
