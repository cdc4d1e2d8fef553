"""What a conversation's next token must be: everything computed again from scratch, steered by plain forward hooks."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.prove.talks import Talk


@dataclass(frozen=True)
class Span:
    """A stretch of tokens and what is done to it with a vector [layers, hidden], as long as dose 1 is; zero where nothing is."""

    start: int
    stop: int | None
    vector: torch.Tensor
    operation: str
    dose: float


class Reference:
    """A model of its own, loaded by transformers, that shares no code with the engine.

    Args:
        folder: The saved model.
        ends: The tokens that end a turn, as text.
        layers: The layers that are steered.
        vectors: For each label what dose 1 adds: [layers, hidden].
        neutral: Mean of the residual stream over neutral text [layers, hidden].
    """

    def __init__(
        self,
        folder: Path,
        ends: Sequence[str],
        layers: Sequence[int],
        vectors: Mapping[str, torch.Tensor],
        neutral: torch.Tensor,
    ) -> None:
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self._ends = re.compile("|".join(map(re.escape, ends)))
        self._layers = layers
        self._vectors = vectors
        self._neutral = neutral

    def spans(self, talk: Talk, ids: Sequence[int]) -> list[Span]:
        """Return what is steered, its places found by looking for the messages' own words in the text.

        Raises:
            AssertionError: A message's word is not there exactly once, or not in order.
        """
        text = self.tokenizer.decode(ids)
        encoding = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        assert encoding["input_ids"] == list(ids), "the ids are not those of their own text"
        assert all(text.count(word) == 1 for word in talk.words), "a message is missing, or there twice"
        places = [text.index(word) for word in talk.words]
        assert places == sorted(places), "messages are out of order"
        beginnings = [start for start, _ in encoding["offset_mapping"]]

        def after(message: int) -> int:
            end = self._ends.search(text, places[message])
            assert end is not None, "a turn does not end"
            return sum(start < end.end() for start in beginnings)

        return [
            Span(after(e.start), None if e.stop is None else after(e.stop), self._vectors[e.label], e.operation, e.dose)
            for e in talk.effects
            if e.stop != e.start
        ]

    @torch.no_grad()
    def logprobs(self, ids: Sequence[int], spans: Sequence[Span], last: int) -> torch.Tensor:
        """Return the log-probabilities [last, vocabulary] after each of the last positions, in one pass without cache."""
        handles = [
            self.model.model.layers[layer].register_forward_hook(self._adding(place, spans))
            for place, layer in enumerate(self._layers)
        ]
        try:
            hidden = self.model.model(torch.tensor([list(ids)]), use_cache=False).last_hidden_state[0, -last:]
        finally:
            for handle in handles:
                handle.remove()
        return self.model.lm_head(hidden).double().log_softmax(-1)

    def _adding(self, place: int, spans: Sequence[Span]):
        def hook(module: torch.nn.Module, inputs: object, output: torch.Tensor) -> torch.Tensor:
            steered = output.clone()
            for span in spans:  # in the order called, each on what those before it left
                here = slice(span.start, span.stop)
                steered[:, here] = self._steered(steered[:, here], place, span)
            return steered

        return hook

    def _steered(self, h: torch.Tensor, place: int, span: Span) -> torch.Tensor:
        """Return what becomes of h [rows, tokens, hidden] at the layer in a place."""
        vector = span.vector[place]
        length = vector.norm()
        if span.operation == "add" or not length:
            return h + span.dose * vector
        unit = vector / length
        along = (h @ unit)[..., None] * unit
        if span.operation == "gain":
            return h + span.dose * along
        return h - along + (self._neutral[place] @ unit + span.dose * length) * unit
