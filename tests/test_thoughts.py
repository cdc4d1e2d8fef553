"""What is thought and what is said, whatever marks a template puts around thoughts."""

import numpy as np
import pytest
from tokenizers.normalizers import NFC

from self_steering.steering.thinking import ThoughtMarks, answer_tokens, left_open, take_apart, thought_tokens
from tests.support.models import bundled_tokenizer
from tests.support.templates import byte_tokenizer

THINK = ThoughtMarks("<think>", "</think>")
KINDS = [
    THINK,
    ThoughtMarks("[THINK]", "[/THINK]"),
    ThoughtMarks("<seed:think>", "</seed:think>"),
    ThoughtMarks("◁think▷", "◁/think▷"),
    ThoughtMarks("<|START_THINKING|>", "<|END_THINKING|>"),
    ThoughtMarks("<|inner_prefix|>", "<|inner_suffix|>"),
    ThoughtMarks("<|channel>thought\n", "<channel|>"),
]
CALL = '<tool_call>\n{"name": "clear_effects"}\n</tool_call>'
every_kind = pytest.mark.parametrize("marks", KINDS, ids=lambda marks: marks.open)


@every_kind
def test_a_thought_that_the_model_opens_is_told_from_the_answer(marks: ThoughtMarks):
    """A call that it only considers is in the thought."""
    parts = take_apart(f"{marks.open}\nI may {CALL}\n{marks.close}\n\nHello.", KINDS)
    assert (parts.thoughts, parts.said) == ([f"I may {CALL}"], "Hello.")


@every_kind
def test_a_thought_that_the_prompt_opens_lasts_to_its_closing_mark(marks: ThoughtMarks):
    """The text has a closing mark alone."""
    parts = take_apart(f"I may {CALL}\n{marks.close}\n\nHello.", KINDS, opened=marks)
    assert (parts.thoughts, parts.said) == ([f"I may {CALL}"], "Hello.")


@every_kind
@pytest.mark.parametrize("opened", [True, False])
def test_a_thought_that_is_cut_off_is_no_answer(marks: ThoughtMarks, opened: bool):
    """Whoever opened it: there is nothing said, and no call."""
    text = f"I may {CALL}" if opened else f"{marks.open}I may {CALL}"
    parts = take_apart(text, KINDS, opened=marks if opened else None)
    assert (parts.thoughts, parts.said) == ([f"I may {CALL}"], "")


@every_kind
def test_a_closing_mark_in_ordinary_text_is_text(marks: ThoughtMarks):
    """No thought is open that it could close."""
    text = f"To end a thought, write {marks.close}. Like so:\n{marks.close}\nDone."
    parts = take_apart(text, KINDS)
    assert (parts.thoughts, parts.said, parts.spans) == ([], text, [])


@every_kind
def test_a_mark_that_is_spoken_of_within_a_line_opens_nothing(marks: ThoughtMarks):
    """Models explain their own format."""
    text = f"A thought begins with `{marks.open.strip()}` and ends with `{marks.close}`."
    assert take_apart(text, KINDS).said == text


@every_kind
@pytest.mark.parametrize("ending", ["\n{close}\nHello.", ""])
def test_a_thought_may_begin_behind_words(marks: ThoughtMarks, ending: str):
    """Where a line break follows its mark it is one, cut off or not: a call in it is only considered."""
    parts = take_apart(f"Well. {marks.open.strip()}\nI may {CALL}{ending.format(close=marks.close)}", KINDS)
    assert (parts.thoughts, parts.said) == ([f"I may {CALL}"], "Well. Hello." if ending else "Well. ")


def test_a_thought_within_a_line_is_one():
    """Its words follow the mark at once; a sentence that speaks of marks puts a space there, or quotes them."""
    assert take_apart(f"Well. <think>I may {CALL}</think> Hello.", [THINK]).said == "Well.  Hello."
    for text in (
        "Write <think> before and </think> behind it.",
        '"<think>a</think>" is a thought.',
        "Begin with <think>a",
    ):
        assert take_apart(text, [THINK]).said == text


def test_a_model_may_think_where_its_template_knows_of_no_thoughts():
    """As one does that was trained to on top of it."""
    parts = take_apart(f"<think>\nI may {CALL}\n</think>\n\nHello.", [])
    assert (parts.thoughts, parts.said) == ([f"I may {CALL}"], "Hello.")


@every_kind
def test_whether_a_prompt_leaves_a_thought_open(marks: ThoughtMarks):
    """Not if what it continues only speaks of the mark."""
    opened = {
        f"<|im_start|>assistant\n{marks.open}\n": True,
        f"ASSISTANT: {marks.open}": True,
        f"<|im_start|>assistant\n{marks.open}\nHm": True,
        f"<|im_start|>assistant\n{marks.open}\n\n{marks.close}\n\n": False,
        f"<|im_start|>assistant\nThe mark `{marks.open}` opens": False,
        "<|im_start|>assistant\n": False,
    }
    assert {text: left_open(text, KINDS) == marks for text in opened} == opened


def test_another_kinds_mark_does_not_close_a_thought():
    """It is a word of the thought."""
    assert take_apart("a[/THINK]b</think>c", KINDS, opened=THINK).said == "c"


def test_several_thoughts_are_told_from_what_is_said_between_them():
    """Models that think between calls begin a line with each thought."""
    parts = take_apart("<think>\na\n</think>\n\nFirst.\n<think>b</think>\nSecond.", [THINK])
    assert (parts.thoughts, parts.said) == (["a", "b"], "First.\nSecond.")


def test_a_model_that_repeats_the_opening_mark_opens_no_second_thought():
    """The prompt has opened it already."""
    parts = take_apart("<think>\na</think>b", [THINK], opened=THINK)
    assert (parts.thoughts, parts.said) == (["a"], "b")


def test_an_empty_thought_is_a_thought():
    """Its marks are no text."""
    assert take_apart("<think>\n\n</think>\n\nYes.", [THINK]).said == "Yes."


ANALYSIS = ThoughtMarks("<|channel|>analysis<|message|>", "<|end|>")


@pytest.mark.parametrize(
    ("text", "thoughts", "said"),
    [
        ("<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>Yes.", ["Hm."], "Yes."),
        ("<|channel|>final<|message|>Yes.", [], "Yes."),
        ("<|channel|>analysis<|message|>Hm. I would", ["Hm. I would"], ""),
        (
            "<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>commentary<|message|>Now.<|end|>",
            ["a"],
            "Now.<|end|>",
        ),
        (
            "<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>analysis<|message|>b<|end|>",
            ["a", "b"],
            "",
        ),
        ("<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant", ["Hm."], ""),
        ("<|channel|>analysis code<|message|>a<|end|><|start|>assistant<|channel|>final<|message|>Yes.", ["a"], "Yes."),
        ("<|channel|>analysis <|constrain|>json<|message|>{}<|end|>", ["{}"], ""),
    ],
)
def test_harmonys_channels_are_split(text: str, thoughts: list[str], said: str):
    """Analysis is thought; final and commentary are said, without the names of their channels."""
    parts = take_apart(text, [ANALYSIS, THINK])
    assert (parts.thoughts, parts.said) == (thoughts, said)


def test_a_call_in_harmonys_commentary_is_left_as_it_is_for_whoever_reads_calls():
    """Its header names the recipient."""
    call = "<|start|>assistant<|channel|>commentary to=functions.clear_effects <|constrain|>json<|message|>{}"
    text = f"<|channel|>analysis<|message|>Hm.<|end|>{call}"
    assert take_apart(text, [ANALYSIS]).said == call


@pytest.mark.parametrize("marks", [THINK, KINDS[3]], ids=lambda marks: marks.open)
def test_the_tokens_of_a_thought_are_told_one_by_one(marks: ThoughtMarks):
    """Of the assistant's turns alone, marks included, also where a character takes several tokens."""
    tokenizer = bundled_tokenizer()
    texts = [f"{marks.open}I am the user.{marks.close}", f"\n{marks.open}\nA fox 🦊.\n{marks.close}", "\n\nYes 🦊."]
    ids = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
    first, second, third = map(len, ids)
    found = thought_tokens(
        tokenizer, [token for part in ids for token in part], [(first, first + second + third)], KINDS
    )
    start = first + found[first:].argmax()
    assert tokenizer.decode(ids[1][: start - first]).strip("\n") == ""
    assert (found == (np.arange(len(found)) >= start) & (np.arange(len(found)) < first + second)).all()


@pytest.mark.parametrize("said", ["Café 🦊.", "Cafe\u0301 🦊."], ids=["composed", "in parts"])
def test_what_is_said_is_found_as_the_tokenizer_has_it(said: str):
    """Qwen's composes characters before it makes tokens of them."""
    tokenizer = byte_tokenizer("{{ messages }}", ("<|im_end|>",))
    tokenizer.backend_tokenizer.normalizer = NFC()
    ids = tokenizer(f"\n{said}<|im_end|>", add_special_tokens=False)["input_ids"]
    first, last = answer_tokens(tokenizer, ids, said, [], np.zeros(len(ids), np.bool_))
    assert tokenizer.decode(ids[first:last]) == "Café 🦊."
