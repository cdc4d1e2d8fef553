"""Which spellings of yes and no a model can write as one token."""

from inspect_ai.model import Model

from self_steering.solvers.detection_prompts import CASINGS

_SPACES = ("", " ")


def yes_no_answers(model: Model) -> dict[str, list[str]]:
    """Return the spellings that count as yes and as no.

    A casing counts only if both words are one token in it: where `NO` is one and `YES` is not, counting it would favour no.

    Raises:
        TypeError: The model is not one of ours.
        ValueError: There is no such casing.
    """
    if not hasattr(model.api, "loaded"):
        raise TypeError(f"{model} cannot be steered; run this with --model nnsight/MODEL")
    tokenizer = model.api.loaded.tokenizer

    def single(word: str) -> bool:
        return any(len(tokenizer.encode(space + word, add_special_tokens=False)) == 1 for space in _SPACES)

    pairs = [pair for pair in CASINGS if all(single(word) for word in pair)]
    if not pairs:
        raise ValueError(f"none of {CASINGS} are one token each for {model}; choose another model for this task")
    return {"yes": [yes for yes, _ in pairs], "no": [no for _, no in pairs]}
