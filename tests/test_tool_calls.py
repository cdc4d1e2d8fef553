"""Tool calls as text: every form that models write, what is no call, and grammars that force one."""

import json
import time
import tomllib
from pathlib import Path

import pytest
from inspect_ai.tool import ToolCall, ToolFunction, ToolInfo, ToolParam, ToolParams
from jinja2 import TemplateError
from llguidance import LLMatcher
from llguidance.hf import from_tokenizer
from tokenizers import AddedToken

from self_steering.steering.call_formats import call_formats, format_table
from self_steering.steering.tool_calls import (
    PROBE_CALLS,
    PROBE_TOOL,
    call_json,
    call_text,
    forced_call_grammar,
    parse_calls,
    read_back,
    tool_schema,
    tools_prompt,
)
from self_steering.steering.tools import tool_infos
from tests.support.shared import real_tokenizer
from tests.support.templates import control_tokens, published_templates

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


ARGUMENTS = '{"name": "calm", "dose": -1.5}'
LLAMA = TAKE.replace("arguments", "parameters")
TAGGED = (
    "<function=take_vector>\n<parameter=name>\ncalm\n</parameter>\n<parameter=dose>\n-1.5\n</parameter>\n</function>"
)
INVOKE = '<invoke name="take_vector">\n<parameter name="name">calm</parameter>\n<parameter name="dose">-1.5</parameter>\n</invoke>'
KEYED = "<arg_key>name</arg_key>\n<arg_value>calm</arg_value>\n<arg_key>dose</arg_key>\n<arg_value>-1.5</arg_value>"
PYTHON = 'take_vector(name="calm", dose=-1.5)'
FENCE = "```"

# Calls as models write them, decoded with their special tokens: `one` take, and `two`, a take and a clear.
FORMS = tomllib.loads((Path(__file__).parent / "support" / "call_forms.toml").read_text("utf-8"))


@pytest.mark.parametrize("text", FORMS["one"].values(), ids=FORMS["one"])
def test_a_call_is_read_in_every_form(text: str):
    """However real models write it, it is the same call, leaves no text, and is not taken for a mere likeness."""
    assert read(text) == ("", [TAKEN])
    assert parse_calls(text, TOOLS, "id").looked_like_a_call == 0


@pytest.mark.parametrize(
    "text",
    [
        f"I will take it now. {LLAMA}",
        f"I will take it now.\n\n{LLAMA}",
        f"I will take it now.\n[{PYTHON}]",
        f"I will take it now.\n{FENCE}tool_code\n{PYTHON}\n{FENCE}",
        f"I will take it now. {LLAMA}<|eom_id|>",
    ],
)
def test_a_call_after_a_sentence_is_read(text: str):
    """Models that write calls without tags say something first; it stays, without control tokens."""
    parsed = parse_calls(text, TOOLS, "id", control=["<|eom_id|>"])
    assert parsed.content == "I will take it now."
    assert [(call.function, call.arguments) for call in parsed.calls] == [TAKEN]


@pytest.mark.parametrize(
    "before",
    [
        "So x_{max} = 3.",
        "Let {a, b} be a set, [f(x), g] a list, and \\frac{1}{2} a number.",
        "assistant",
        "Answer:",
        "tool_call",
    ],
)
def test_what_stands_before_a_call_does_not_hide_it(before: str):
    """Braces and brackets that are none of a call, and a line that reads like a function's name."""
    content, calls = read(f"{before}\n{TAKE}")
    assert (content, calls) == (before, [TAKEN])


def test_the_table_shows_every_form_by_an_example_that_is_read():
    """Each row names its families, and its example is read, in that very form."""
    tool = ToolInfo(
        name="tool_name", description="", parameters=ToolParams(properties={"key": ToolParam(type="string")})
    )
    for form, (name, families, example) in zip(call_formats(), format_table(), strict=True):
        parsed = parse_calls(example.replace("{…}", '{"key": "value"}'), [tool], "id")
        assert [(c.function, c.arguments, c.parse_error) for c in parsed.calls] == [
            ("tool_name", {"key": "value"}, None)
        ]
        assert (parsed.form, parsed.content, name) == (form, "", form.name)
        assert families


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
        '<invoke name="clear_effects"/>',
        '<tool_call>{"name": "clear_effects", "arguments": []}</tool_call>',
        '{"name": "clear_effects", "id": "call_1", "type": "function"}',
        "<|tool_call>call:clear_effects<tool_call|>",
        "<|channel|>commentary to=functions.clear_effects <|constrain|>json<|message|><|call|>",
        "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>clear_effects<｜tool▁sep｜><｜tool▁call▁end｜><｜tool▁calls▁end｜>",
        "<｜tool▁call▁begin｜>function<｜tool▁sep｜>clear_effects\n```json\n\n```<｜tool▁call▁end｜>",
        '```json\n{"name": "clear_effects"}\n```',
    ],
)
def test_a_call_without_arguments_is_read(text: str):
    """Tools that take nothing can be called in every form, with or without an empty object."""
    assert read(text) == ("", [CLEARED])


@pytest.mark.parametrize("text", FORMS["two"].values(), ids=FORMS["two"])
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
        ('{"arguments": {"name": "calm"}}', None),
        ('{"parameters": {"name": "calm"}}', None),
        ("null", None),
        ("true", None),
        ("take calm please", None),
        ("", None),
        ("[" * 5000, None),
        ('{"name": "take_vector", "arguments": ' + '{"a":' * 5000, "take_vector"),
    ],
    ids=[
        "trailing-comma",
        "torn",
        "list",
        "text",
        "no-tool",
        "no-name",
        "no-name-either",
        "null",
        "true",
        "prose",
        "empty",
        "deep",
        "deep-arguments",
    ],
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


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Call clear_effects? I could take_vector calm.",
        "The take_vector(name, dose) tool takes a name; clear_effects() ends all.",
        'You can write `<tool_call>` and then `{"name": "take_vector", "arguments": {"name": "calm"}}`.',
        "Put it between <tool_call> and </tool_call> tags.",
        'The form is {"name": "take_vector", "arguments": {}}, I think.',
        'The form is {"name": "take_vector", "arguments": {…}}.',
        'Write `take_vector(name="calm")` to take it.',
        '{"reasoning": "3 + 4", "answer": 7, "steps": [{"name": "add", "value": 7}]}',
        '[{"name": "Ann", "age": 7}, {"name": "Ben", "age": 9}]',
        '{"type": "object", "properties": {"x": {"type": "number"}}}',
        f"{FENCE}python\ndef f(x):\n    print(x)\n    return {{'name': x}}\n\nprint(f(3))\n{FENCE}",
        f"{FENCE}\nx = [f(1), g(2)]\nprint(x)\n{FENCE}",
        f"{FENCE}css\nbody {{color: red}}\n{FENCE}",
        f'{FENCE}json\n{{"answer": 42}}\n{FENCE}',
        "So f(x) = sin(x) [see (1)], and the answer is \\boxed{42}.",
        "if x <function> y",
        "Action: I walk on.",
        "The action: breathe\nInput: none {x}",
        '{"action": "walk", "input": "north"}',
        '{"action": "submit my essay"}',
        '{"name": "Ann", "function": "aunt"}',
        "- take_vector: takes a vector\n- clear_effects: ends all of them",
        "| take_vector | takes |",
        "The set {take_vector, clear_effects}, <b>both</b> of them.",
        "I used clear_effects--it works.",
        'The tools {"take_vector", "clear_effects"} are a set, and take_vector {"name": …} is how one is called.',
        '{"tools": ["take_vector", "clear_effects"]}',
        f"{FENCE}yaml\nname: take_vector\n{FENCE}",
    ],
)
def test_prose_code_and_json_answers_are_neither_calls_nor_counted(text: str):
    """Speaking of tools, quoting their tags, and a task's own JSON and code are left alone."""
    parsed = parse_calls(text, TOOLS, "id")
    assert (parsed.content, parsed.calls, parsed.looked_like_a_call) == (text, [], 0)


@pytest.mark.parametrize(
    "text",
    [
        "I would use <tool_call> here.",
        "<use_tool> calm",
        "take_nap(hours=2)",
        "[take_nap(hours=2)]",
        'I now do take_vector("calm").',
        "take_vector(calm)",
        "take_vector()",
        'Here: [take_vector(name="calm")] and so on.',
        '{"name": "take_nap", "arguments": {"hours": 2}}',
        f'{FENCE}json\n{{"name": "take_nap", "parameters": {{}}}}\n{FENCE}',
        'So {"name": "take_vector", "arguments": {"name": "calm"}} is what I do.',
        'I take {"name": "take_vector", "arguments": {"name": "calm"',
        f'{FENCE}python\ntake_vector(name="calm")\n{FENCE}',
        f"{FENCE}tool_code\nprint(2)\n{FENCE}",
        'Action: search\nAction Input: {"query": "calm"}',
        f"{FENCE}python\n{TAKE}\n{FENCE}",
        f'{FENCE}python\nimport tools\nx = tools.take_vector(name="calm")\nprint(x)\n{FENCE}',
        "<take_vector>\n<name>calm</name>\n</take_vector>",
        '<take_vector name="calm"/>',
        f"<function(take_vector)>{ARGUMENTS}</function>",
        f"<use_mcp_tool><tool_name>take_vector</tool_name><arguments>{ARGUMENTS}</arguments></use_mcp_tool>",
        '{"tool": "take_nap", "parameters": {}}',
        '"name": "take_vector", "arguments": {"name": "calm"}',
        "/take_vector calm",
        "take_vector --name calm",
        "take_vector: calm",
        'take_vector["calm"]',
        '[TOOL_CALL]{tool => "take_vector", args => {--name "calm"}}[/TOOL_CALL]',
        '<call tool="take_vector" dose="1.5"/>',
        f"<|plugin|>take_vector{ARGUMENTS}",
        f"◇take_vector◇ARGS◇: {ARGUMENTS}",
    ],
)
def test_what_looks_like_a_call_and_is_none_is_counted(text: str):
    """An unclosed tag, an unknown name, and a call that is not written as one stay text, and never pass silently."""
    parsed = parse_calls(text, TOOLS, "id")
    assert (parsed.content, parsed.calls, parsed.looked_like_a_call) == (text, [], 1)


def test_a_call_of_a_tool_that_harmony_has_of_its_own_is_a_malformed_call():
    """Its code is no text for the user."""
    text = "<|channel|>analysis to=python code<|message|>print(2)<|call|>"
    parsed = parse_calls(text, TOOLS, "id")
    assert parsed.content == ""
    assert [(call.function, call.parse_error is None) for call in parsed.calls] == [("python", False)]


@pytest.mark.parametrize(
    "text",
    [
        "<tool_call>\n<function=take_vector>\n<parameter=name>\ncalm\n</parameter>\n",
        "<function=take_vector>\n<parameter=name>\ncalm\n</parameter>",
        "<tool_call>take_vector\n<arg_key>name</arg_key>\n<arg_value>calm</arg_value>\n",
        '<minimax:tool_call>\n<invoke name="take_vector">\n<parameter name="name">calm</parameter>',
        "take_vector\n<arg_key>name</arg_key>\n<arg_value>calm</arg_value>",
    ],
)
def test_a_call_in_tags_that_is_cut_off_between_two_arguments_is_malformed(text: str):
    """The dose may be missing; where the model ended its turn there, the call is whole."""
    (cut,), (whole,) = (parse_calls(text, TOOLS, "id", cut_off=cut_off).calls for cut_off in (True, False))
    assert (cut.function, cut.arguments) == ("take_vector", {})
    assert "cut off" in (cut.parse_error or "")
    assert (whole.arguments, whole.parse_error) == ({"name": "calm"}, None)


@pytest.mark.parametrize("text", FORMS["one"].values(), ids=FORMS["one"])
def test_a_whole_call_is_one_though_the_text_was_cut_off(text: str):
    """Behind it, as nothing of it can be missing."""
    (call,) = parse_calls(f"{text.rstrip()}\n", TOOLS, "id", cut_off=True).calls
    assert (call.function, call.arguments) == TAKEN


def test_an_argument_that_is_given_twice_is_an_error():
    """By its place and by its name: neither is moved to another parameter."""
    (call,) = parse_calls('[take_vector("calm", name="sad")]', TOOLS, "id").calls
    assert (call.function, call.arguments) == ("take_vector", {})
    assert "name is given twice" in (call.parse_error or "")


def test_a_tagged_call_of_an_unknown_tool_is_counted_too():
    """It is a call, so that the model learns better, but of none of the tools that were offered."""
    assert parse_calls('<tool_call>{"name": "take_nap"}</tool_call>', TOOLS, "id").looked_like_a_call == 1


TYPED = ToolInfo(
    name="typed",
    description="Has a parameter of each type.",
    parameters=ToolParams(
        properties={
            "text": ToolParam(type="string"),
            "number": ToolParam(type="number"),
            "count": ToolParam(type="integer"),
            "flag": ToolParam(type="boolean"),
            "many": ToolParam(type="array", items=ToolParam(type="number")),
            "map": ToolParam(type="object"),
            "either": ToolParam(anyOf=[ToolParam(type="number"), ToolParam(type="null")]),
        },
        required=["text"],
    ),
)


@pytest.mark.parametrize(
    ("written", "typed"),
    [
        ({"text": "a", "number": "1.0"}, {"text": "a", "number": 1.0}),
        ({"text": "a", "number": "-2"}, {"text": "a", "number": -2}),
        ({"text": "a", "number": None, "count": None, "flag": None}, {"text": "a"}),
        ({"text": "a", "number": "null", "many": ""}, {"text": "a"}),
        ({"text": "a", "either": None}, {"text": "a", "either": None}),
        ({"text": "a", "either": "2.5"}, {"text": "a", "either": 2.5}),
        ({"text": 5}, {"text": "5"}),
        ({"text": "5"}, {"text": "5"}),
        ({"text": "null"}, {"text": "null"}),
        ({"text": None}, {"text": None}),
        ({"text": "a", "count": "3", "flag": "True"}, {"text": "a", "count": 3, "flag": True}),
        ({"text": "a", "count": 3.0}, {"text": "a", "count": 3}),
        ({"text": "a", "many": "[1, 2]", "map": "{'x': 1}"}, {"text": "a", "many": [1, 2], "map": {"x": 1}}),
        ({"text": "a", "number": "much", "flag": "2"}, {"text": "a", "number": "much", "flag": "2"}),
        ({"text": "a", "unknown": "1.0"}, {"text": "a", "unknown": "1.0"}),
    ],
)
def test_arguments_are_typed_by_the_tools_schema(written: dict, typed: dict):
    """Text that reads as the type is converted, null of what may be left out is left out, and what does not fit stays."""
    (call,) = parse_calls(json.dumps({"name": "typed", "arguments": written}), [TYPED], "id").calls
    assert (call.arguments, call.parse_error) == (typed, None)
    assert {name: type(value) for name, value in call.arguments.items()} == {n: type(v) for n, v in typed.items()}


def test_text_between_tags_is_text_until_the_schema_says_otherwise():
    """Numbers, truth, lists and objects come out typed, line breaks and quotes within text stay."""
    values = {"text": '5 "a"\n<b>', "number": "1.5", "count": "2", "flag": "false", "many": "[1]", "map": '{"x": null}'}
    typed = {"text": '5 "a"\n<b>', "number": 1.5, "count": 2, "flag": False, "many": [1], "map": {"x": None}}
    tags = "".join(f"<parameter={name}>\n{value}\n</parameter>\n" for name, value in values.items())
    keys = "".join(f"<arg_key>{name}</arg_key>\n<arg_value>{value}</arg_value>\n" for name, value in values.items())
    invoke = "".join(f'<parameter name="{name}">{value}</parameter>' for name, value in values.items())
    for text in (
        f"<tool_call>\n<function=typed>\n{tags}</function>\n</tool_call>",
        f"<tool_call>typed\n{keys}</tool_call>",
        f'<minimax:tool_call><invoke name="typed">{invoke}</invoke></minimax:tool_call>',
    ):
        (call,) = parse_calls(text, [TYPED], "id").calls
        assert (call.arguments, call.parse_error) == (typed, None)


@pytest.mark.parametrize(
    "text",
    [
        "<|tool_call_start|>[submit(answer='it's 5, isn't it?')]<|tool_call_end|>",
        "[submit(answer=\"it's 5, isn't it?\")]",
        '<tool_call>{"name": "submit", "arguments": {"answer": "it\'s 5, isn\'t it?"}}</tool_call>',
        "<|tool_call>call:submit{answer:<|\"|>it's 5, isn't it?<|\"|>}<tool_call|>",
    ],
)
def test_quotes_within_text_are_part_of_it(text: str):
    """Also where a template writes them unescaped."""
    assert read(text) == ("", [("submit", {"answer": "it's 5, isn't it?"})])


def test_line_breaks_and_tags_within_a_string_do_not_end_it():
    """A string ends at its quote, whatever it holds."""
    text = '<tool_call>{"name": "submit", "arguments": {"answer": "a\n</tool_call> `b` <tool_call>"}}</tool_call> Done.'
    assert read(text) == ("Done.", [("submit", {"answer": "a\n</tool_call> `b` <tool_call>"})])


@pytest.mark.parametrize("form", call_formats(), ids=lambda form: form.name)
def test_the_error_of_a_malformed_call_names_the_models_own_form(form):
    """The model is told the form that its own template writes."""
    (call,) = parse_calls('<tool_call>{"name": "take_vector", </tool_call>', TOOLS, "id", form).calls
    assert call.function == "take_vector"
    assert call.parse_error is not None
    assert form.example in call.parse_error


@pytest.mark.parametrize(
    "text",
    [
        "<tool_call>\n<function=take_vector>\n<parameter=name>\nca",
        "<tool_call>take_vector\n<arg_key>name</arg_key>\n<arg_value>ca",
        '<|tool_call_start|>[take_vector(name="ca',
        '[take_vector(name="ca',
        '<|tool_call>call:take_vector{name:<|"|>ca',
        '[TOOL_CALLS]take_vector[ARGS]{"name": "ca',
        '<|tool_call_begin|>functions.take_vector:0<|tool_call_argument_begin|>{"name": "ca',
        '<|channel|>commentary to=functions.take_vector <|constrain|>json<|message|>{"name": "ca',
        f'{FENCE}tool_code\ntake_vector(name="ca',
    ],
)
def test_a_call_that_was_cut_off_is_a_malformed_call_in_every_form(text: str):
    """Half a value is never taken for a whole one."""
    (call,) = parse_calls(text, TOOLS, "id").calls
    assert (call.function, call.arguments) == ("take_vector", {})
    assert call.parse_error is not None


@pytest.mark.parametrize(
    "text",
    [
        "[" * 20000,
        '{"a":' * 20000,
        "<tool_call>" * 4000,
        "`" * 20000,
        "take_vector(" * 8000,
        '{"name": "take_vector", "arguments": ' * 2000,
        "{a" * 20000,
        '{"a": "' * 8000,
        "{/*" * 8000,
        "<tool_call><a>" * 1000 + "</a>",
        "take_vector\n" * 8000,
        "Action: a(" * 4000,
        "<tool_call>take_vector" + " " * 5000 + "x",
        "[TOOL_CALLS]take_vector" + "\n*" * 2000,
        '"name":' * 4000,
    ],
    ids=lambda text: text[:12],
)
def test_hostile_repetition_is_read_in_time(text: str):
    """What a degenerate model repeats takes no more than moments."""
    before = time.monotonic()
    parse_calls(text, TOOLS, "id")
    assert time.monotonic() - before < 5


# ------------------------------------------------------------ real templates

TEMPLATES = {name: source for name, source in published_templates().items() if "tool_calls" in source}


@pytest.fixture(scope="module")
def with_special_tokens():
    """Return a real tokenizer with the special tokens of every template."""
    tokenizer = real_tokenizer("qwen3")
    found = {token for source in TEMPLATES.values() for token in control_tokens(source)}
    tokens = sorted(found - set(tokenizer.get_vocab()))
    tokenizer.add_tokens([AddedToken(token, special=True, normalized=False) for token in tokens], special_tokens=True)
    return tokenizer


@pytest.mark.skipif(not TEMPLATES, reason="the package trl, which carries real templates, is not installed")
@pytest.mark.parametrize("name", TEMPLATES)
def test_what_a_real_template_writes_is_read_back(with_special_tokens, name: str):
    """One call, encoded and decoded with special tokens, comes out as it went in; two where the template writes them."""
    for calls in (PROBE_CALLS[:1], PROBE_CALLS):
        # Templates want arguments as an object or as text, and text beside a call empty or absent.
        ways = [(write, content) for write in (dict, json.dumps) for content in ("", None)]
        texts = [written_by(with_special_tokens, TEMPLATES[name], calls, *way) for way in ways]
        if not any(PROBE_TOOL.name in text for text in texts):
            pytest.skip("the template refuses calls beside empty text, and so gets tools in a prompt")
        if len(calls) == 1 or any(
            text.count(PROBE_TOOL.name) >= 2 for text in texts
        ):  # else it writes one call a message
            assert any(read_back(text, calls) for text in texts), texts


def written_by(tokenizer, source: str, calls, write, content: str | None) -> str:
    """Return what a template writes of calls, after the user's message, encoded and decoded; empty where it refuses them."""
    told = [
        {"type": "function", "id": c.id, "function": {"name": c.function, "arguments": write(c.arguments)}}
        for c in calls
    ]
    talk = [{"role": "user", "content": "\ue000"}, {"role": "assistant", "content": content, "tool_calls": told}]
    try:
        text = tokenizer.apply_chat_template(talk, [tool_schema(PROBE_TOOL)], chat_template=source, tokenize=False)
    except (TypeError, ValueError, TemplateError):
        return ""
    return tokenizer.decode(tokenizer(text.rpartition("\ue000")[2], add_special_tokens=False)["input_ids"])


# ------------------------------------------------------------ no tools, ids, writing


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
