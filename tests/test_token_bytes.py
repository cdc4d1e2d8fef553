"""What bytes a token stands for, in real vocabularies of both kinds."""

import pytest

from self_steering.steering.token_bytes import token_bytes
from tests.support.models import bundled_tokenizer
from tests.support.shared import real_tokenizer

TEXTS = [
    "A fox 🦊, 👩🏽‍🚀 and ünïcode; naïve façade.",
    "  two  spaces,\ttabs\n\nand lines\r\n",
    "漢字かな交じり文 한국어 العربية हिन्दी ๏ ꙮ 𒀀 \U0010fffd",
    '<tool_call>\n{"name": "take_vector", "arguments": {"dose": 1.5}}\n</tool_call>',
    "▁ Ġ Ċ <0x41> \u200b\u00a0",
]


@pytest.mark.parametrize("name", ["bundled", "qwen3", "llama3_1", "gemma3"])
def test_the_bytes_of_a_texts_tokens_join_to_the_text(name: str):
    """Also where one character takes several tokens, none of which decodes to anything by itself."""
    tokenizer = bundled_tokenizer() if name == "bundled" else real_tokenizer(name)
    for text in TEXTS:
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        joined = b"".join(token_bytes(tokenizer, token) for token in ids).decode()
        assert joined == (text.replace("▁", " ") if name == "gemma3" else text)


def test_a_control_tokens_bytes_are_its_text():
    """As Inspect shows it."""
    tokenizer = bundled_tokenizer()
    assert token_bytes(tokenizer, tokenizer.convert_tokens_to_ids("<|im_end|>")) == b"<|im_end|>"
