"""What is found out about a model when it is loaded: whether it computes a row in our steps as it does in one plain pass.

Some kinds of attention and of rotary embedding depend on the longest row of a batch or on how a prompt is cut. No list names
them all, so every model is tried: a row in two chunks, then it and its beginning from the cache, beside each other and beside one
that is as long as the context allows. That takes four steps, as nobody wants to wait for it.
"""

from collections.abc import Iterator

import torch
from transformers import PreTrainedTokenizerBase

from self_steering.steering.engine.forward import SteeredModel
from self_steering.steering.identity import ModelError
from self_steering.steering.models import LoadedModel
from self_steering.vectors.shown import in_one_line

_TEXT = "When the ferry reached the island, 27 people were waiting in the rain, and nobody had thought of an umbrella."
_LONG, _SHORT = 14, 6
# Keys that the far row has: more than the local windows that are in use see at once.
_FAR = 640
# Root mean square, of the logits' spread. Measured in float32: rounding 2e-6 over 30 layers, wrong positions or masks 2e-3 in a
# random model that hardly looks at positions, 0.5 in others. In 16 bits rounding alone comes to 0.03 over 30 layers.
_TOLERANCE = {torch.float32: 3e-4, torch.float64: 3e-4}
_TOLERANCE_16_BITS = 0.12


def checked_model(loaded: LoadedModel) -> SteeredModel:
    """Return a loaded model that can be steered.

    Raises:
        ModelError: It is of a kind that is not supported, or its rows depend on their company, their chunks, or the cache.
    """
    try:
        model = SteeredModel(loaded.model, loaded.tokenizer)
    except ValueError as error:
        raise ModelError(f"{loaded.name} cannot be steered: {error}") from error
    check_model(model, loaded.tokenizer, loaded.context)
    return model


def check_model(model: SteeredModel, tokenizer: PreTrainedTokenizerBase, context: int) -> None:
    """Refuse a model whose rows depend on their company, their chunks, or the cache.

    Args:
        model: The model.
        tokenizer: Its tokenizer.
        context: Most tokens that it will be given.

    Raises:
        ModelError: It cannot be run in our steps, or computes something else there than in one plain pass.
    """
    name = type(model.hf).__name__
    try:
        found = list(_differences(model, tokenizer, context))
    except Exception as error:
        cause = f"{type(error).__name__}: {in_one_line(error)}"
        raise ModelError(f"{name} cannot be run with a cache and in batches ({cause}); use another model") from error
    tolerance = _TOLERANCE.get(model.dtype, _TOLERANCE_16_BITS)
    # NaN is no agreement either.
    wrong = {where: size for where, size in found if not size <= tolerance}
    if wrong:
        raise ModelError(
            f"{name} computes something else for a row {' and '.join(wrong)} than for it alone in one pass (by "
            f"{max(wrong.values()):.2g} of the logits' spread): what it says would depend on its company; use another model"
        )


@torch.no_grad()
def _differences(model: SteeredModel, tokenizer: PreTrainedTokenizerBase, context: int) -> Iterator[tuple[str, float]]:
    """Yield in what company or chunks a row was computed, and how far its logits are from the plain pass's."""
    row = list(tokenizer(_TEXT, add_special_tokens=False)["input_ids"])[: min(_LONG, context - 1)]
    half, lengths = len(row) // 2, (len(row), min(_SHORT, context // 2))
    plain = _plain(model, row)
    alone, beside, far = model.new_arena(1), model.new_arena(3), min(_FAR, context - 1)
    alone.past = (0,)
    model.read(torch.tensor([row[:half]]), alone)  # raises where a layer's output is not one vector a token
    alone.past = (half,)
    yield "in two chunks", _distance(model.step(torch.tensor([row[half:]]), alone).logits[0], plain[-1])
    for place, length in enumerate(lengths):
        beside.load(place, 0, alone.copy(0, 0, length - 1))
    # What the third row holds, zeros, does not matter, only that it is long.
    beside.past = (*(length - 1 for length in lengths), far)
    last = torch.tensor([[row[length - 1]] for length in (*lengths, 1)])
    found = model.step(last, beside, furthest=context - 1).logits
    for length, logits in zip(lengths, found, strict=False):
        yield "from the cache, beside others", _distance(logits, plain[length - 1])


def _plain(model: SteeredModel, row: list[int]) -> torch.Tensor:
    """Return the logits of one pass without a cache [tokens, vocabulary], with the model's own masks and positions."""
    logits: torch.Tensor = model.hf(torch.tensor([row], device=model.device), use_cache=False).logits
    return logits[0].float()


def _distance(logits: torch.Tensor, expected: torch.Tensor) -> float:
    """Return the root mean square of the difference over the standard deviation of what was expected."""
    return float((logits - expected).square().mean().sqrt() / expected.std())
