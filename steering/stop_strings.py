"""The text of generated tokens, up to the first string that ends it."""

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase


def text_until(tokenizer: PreTrainedTokenizerBase, tokens: Sequence[int], stop: Sequence[str]) -> tuple[str, bool]:
    """Return the text of `tokens` before the first of the `stop` strings, and whether there is one."""
    text = str(tokenizer.decode(list(tokens), skip_special_tokens=True))
    found = [position for position in map(text.find, stop) if position >= 0]
    return (text[: min(found)], True) if found else (text, False)
