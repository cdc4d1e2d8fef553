"""The bytes that a token stands for. A token may be part of a character, so its text alone, decoded by itself, does not tell."""

import json
import re
from functools import cache, lru_cache
from typing import Any

from transformers import PreTrainedTokenizerBase
from transformers.convert_slow_tokenizer import bytes_to_unicode

_FALLBACK = re.compile(r"<0x([0-9A-Fa-f]{2})>")


def token_bytes(tokenizer: PreTrainedTokenizerBase, token: int) -> bytes:
    """Return a token's bytes: those of all tokens of a text, joined, are the text's.

    Byte-level vocabularies (Qwen, Llama 3) write each byte as a letter of its own, those with a byte fallback (Gemma, Llama 2)
    a character that they lack as a token a byte, and a space as an underscore.
    """
    steps, added = _vocabulary(tokenizer)
    form = str(tokenizer.convert_ids_to_tokens(token))
    if any(step["type"] == "ByteLevel" for step in steps):
        letters = _byte_of_letter()
        plain = token in added or not letters.keys() >= set(form)
        return form.encode() if plain else bytes(letters[letter] for letter in form)
    if any(step["type"] == "ByteFallback" for step in steps) and (byte := _FALLBACK.fullmatch(form)):
        return bytes([int(byte[1], 16)])
    for step in steps:
        if step["type"] == "Replace" and "String" in step["pattern"]:
            form = form.replace(step["pattern"]["String"], step["content"])
        elif step["type"] == "Metaspace":
            form = form.replace(step["replacement"], " ")
    return form.encode()


@cache
def _byte_of_letter() -> dict[str, int]:
    letters: dict[int, str] = bytes_to_unicode()  # type: ignore[no-untyped-call]  # untyped in transformers
    return {letter: byte for byte, letter in letters.items()}


@lru_cache(maxsize=8)
def _vocabulary(tokenizer: PreTrainedTokenizerBase) -> tuple[list[dict[str, Any]], frozenset[int]]:
    """Return what a tokenizer's decoder does, in order, and the tokens that were added to its vocabulary."""
    added = frozenset(tokenizer.added_tokens_decoder)
    decoder = tokenizer.backend_tokenizer.decoder
    if decoder is None:
        return [], added
    told: dict[str, Any] = json.loads(decoder.__getstate__())
    return list(told["decoders"]) if told["type"] == "Sequence" else [told], added
