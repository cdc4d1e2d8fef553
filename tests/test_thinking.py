"""The thinking switch of real chat templates, by whatever name each has it."""

import pytest

from self_steering.steering.template import ChatError, ChatTemplate
from self_steering.steering.thinking import find_thinking
from tests.support.models import bundled_tokenizer
from tests.support.templates import published_templates

CHATML = (
    "{{ lead }}{%- for m in messages -%}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{%- endfor -%}"
    "{%- if add_generation_prompt -%}<|im_start|>assistant\nTAIL{%- endif -%}"
)


def template(tail: str = "", lead: str = "") -> ChatTemplate:
    """Return a ChatML template with something in its generation prompt, or before all."""
    tokenizer = bundled_tokenizer()
    tokenizer.chat_template = CHATML.replace("TAIL", tail).replace("{{ lead }}", lead)
    return ChatTemplate(tokenizer)


@pytest.mark.parametrize("name", ["enable_thinking", "thinking", "reasoning", "do_think"])
def test_a_switch_is_told_by_what_it_does(name: str):
    """Whatever it is called: on and off are passed under its name, off unless asked for."""
    made = template(f"{{% if {name} %}}<think>{{% else %}}<think></think>{{% endif %}}")
    for wanted, on in ((True, True), (False, False), (None, False)):
        found = find_thinking(made, wanted=wanted)
        assert (dict(found.options), found.line, found.on) == ({name: on}, None, on)


def test_an_inverted_switch_gets_the_inverse():
    """Its name says no."""
    made = template("{% if disable_thinking %}<think></think>{% endif %}")
    assert dict(find_thinking(made, wanted=False).options) == {"disable_thinking": True}


def test_a_level_is_passed_under_its_name():
    """As it was given; on is what such a template does anyway, and off it has only if it says so."""
    lead = "Reasoning: {{ reasoning_effort | default('medium') }}"
    made = template(lead=lead)
    assert dict(find_thinking(made, wanted="low").options) == {"reasoning_effort": "low"}
    assert (dict(find_thinking(made, wanted=True).options), find_thinking(made, wanted=None).on) == ({}, True)
    with pytest.raises(ChatError, match=r"thinking=false.*levels.*reasoning_effort.*thinking=low"):
        find_thinking(made, wanted=False)
    quiet = template("{% if reasoning_effort == 'none' %}<think></think>{% endif %}")
    assert (dict(find_thinking(quiet, wanted=False).options), find_thinking(quiet, wanted=False).on) == (
        {"reasoning_effort": "none"},
        False,
    )


def test_a_system_line_is_a_switch_too():
    """Of a template that looks for it in the system text."""
    made = template("{% if '/no_think' in messages[0].content %}<think></think>{% endif %}")
    assert [find_thinking(made, wanted=wanted).line for wanted in (True, False, None)] == ["/think", "/no_think", None]


def test_a_template_without_a_switch_refuses_what_it_cannot_do():
    """One that always opens a thought thinks, and cannot be told not to; others cannot be told either."""
    always = template("<think>\\n")
    assert find_thinking(always, wanted=True).on
    with pytest.raises(ChatError, match=r"thinking=false: the chat template has no switch.*always thinks"):
        find_thinking(always, wanted=False)
    for wanted in (True, False, "low", 3):
        with pytest.raises(ChatError, match="thinking="):
            find_thinking(template(), wanted=wanted)
    assert find_thinking(template(), wanted=None).on is None


def real(name: str) -> ChatTemplate:
    """Return a template of trl's wheel."""
    published = published_templates()
    if name not in published:
        pytest.skip("the package trl, which carries real models' templates, is missing")
    tokenizer = bundled_tokenizer()
    tokenizer.chat_template = published[name]
    return ChatTemplate(tokenizer)


@pytest.mark.parametrize("name", ["qwen3", "qwen3_5_think", "glm4moe", "gemma4", "nemotron_3_nano"])
def test_real_templates_with_a_switch_take_it(name: str):
    """All of these call it enable_thinking."""
    assert dict(find_thinking(real(name), wanted=True).options) == {"enable_thinking": True}


@pytest.mark.parametrize("name", ["llama3_2", "qwen2_5", "qwen3_instruct_2507", "gemma3"])
def test_real_templates_without_a_switch_refuse_it(name: str):
    """Where it would be ignored."""
    with pytest.raises(ChatError, match="no switch"):
        find_thinking(real(name), wanted=True)


def test_gpt_oss_takes_levels():
    """It cannot be told not to think."""
    assert dict(find_thinking(real("gptoss"), wanted="high").options) == {"reasoning_effort": "high"}
    with pytest.raises(ChatError, match="levels"):
        find_thinking(real("gptoss"), wanted=False)
