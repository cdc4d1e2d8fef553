"""Constrained decoding by llguidance: which tokens a grammar admits next, one state a row."""

from typing import cast

import numpy as np
import torch
from llguidance import LLMatcher, LLTokenizer
from llguidance.hf import from_tokenizer
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast


class GrammarState:
    """Where one row stands in its grammar."""

    def __init__(self, matcher: LLMatcher, vocabulary: int) -> None:
        self._matcher = matcher
        self._vocabulary = vocabulary

    @property
    def finished(self) -> bool:
        """Whether the grammar admits nothing more."""
        return bool(self._matcher.is_stopped())

    def allowed(self) -> torch.Tensor:
        """Return a boolean [vocabulary]: the tokens that may come next.

        Raises:
            RuntimeError: The grammar admits none, or failed.
        """
        bias = np.frombuffer(self._matcher.compute_logit_bias(), dtype=np.uint8)
        if self._matcher.is_error() or not bias.any():
            raise RuntimeError(f"the grammar admits no next token: {self._matcher.get_error() or 'dead end'}")
        # Models pad their vocabulary beyond the tokenizer's; what no token stands for is never allowed.
        allowed = np.zeros(self._vocabulary, dtype=bool)
        allowed[: len(bias)] = bias[: self._vocabulary] > 0
        return torch.from_numpy(allowed)

    def consume(self, token: int) -> None:
        """Move on by one token.

        Raises:
            RuntimeError: The grammar does not admit it.
        """
        if not self._matcher.consume_token(token):
            raise RuntimeError(f"token {token} is outside the grammar: {self._matcher.get_error()}")


class GrammarCompiler:
    """Compiles grammars for one tokenizer; the tokenizer's own tables are built at first use."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, vocabulary: int, end_ids: frozenset[int]) -> None:
        self._tokenizer = tokenizer
        self._vocabulary = vocabulary
        self._end_ids = sorted(end_ids)
        self._tables: LLTokenizer | None = None

    def start(self, grammar: str) -> GrammarState:
        """Return the state at the beginning of `grammar`.

        Raises:
            ValueError: The grammar is malformed, or a tool's schema cannot be expressed.
        """
        if self._tables is None:
            self._tables = from_tokenizer(cast(PreTrainedTokenizerFast, self._tokenizer), eos_token=self._end_ids)
        matcher = LLMatcher(self._tables, grammar)
        if matcher.is_error():
            raise ValueError(f"the grammar cannot be compiled: {matcher.get_error()}")
        return GrammarState(matcher, self._vocabulary)
