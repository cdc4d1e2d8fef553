"""Fixtures that several test files share."""

from collections.abc import Iterator

import pytest
from self_steering.steering.engine import Engine
from transformers import PreTrainedTokenizerBase

from tests.models import ARCHITECTURES, bundled_tokenizer, make_engine, tiny_model


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerBase:
    """The bundled model's tokenizer."""
    return bundled_tokenizer()


@pytest.fixture(params=ARCHITECTURES)
def engine(request: pytest.FixtureRequest, tokenizer: PreTrainedTokenizerBase) -> Iterator[Engine]:
    """An engine over a tiny random model, once for each architecture."""
    made = make_engine(tiny_model(request.param, len(tokenizer)), tokenizer)
    yield made
    made.close()
