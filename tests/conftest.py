"""Fixtures that several test files share."""

from collections.abc import Iterator
from functools import cache

import pytest
from inspect_ai._util import package
from inspect_ai.model import Model, get_model
from transformers import PreTrainedTokenizerBase

from self_steering.steering import provider
from self_steering.steering.bundled.conversion import BUNDLED
from self_steering.steering.engine.engine import Engine
from self_steering.steering.picture import steering_picture
from tests.support.models import ARCHITECTURES, bundled_tokenizer, make_engine, shared_model
from tests.support.scripted import Tiny, tiny_session_model


@pytest.fixture(scope="session", autouse=True)
def _no_pictures() -> Iterator[None]:
    """Leave out the pictures of what was steered, which take longer to draw than a tiny model takes to answer."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(provider, "steering_picture", lambda *_: "")
        yield


@pytest.fixture(scope="session", autouse=True)
def _packages_are_looked_up_once() -> Iterator[None]:
    """Let Inspect read what is installed at the first eval only; it takes half a second, and a tiny eval less than that."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(package, "packages_distributions", cache(package.packages_distributions))
        yield


@pytest.fixture
def pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have them drawn in this test."""
    monkeypatch.setattr(provider, "steering_picture", steering_picture)


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerBase:
    """The bundled model's tokenizer."""
    return bundled_tokenizer()


@pytest.fixture(params=ARCHITECTURES)
def engine(request: pytest.FixtureRequest, tokenizer: PreTrainedTokenizerBase) -> Iterator[Engine]:
    """An engine over a tiny random model, once for each architecture."""
    made = make_engine(shared_model(request.param, len(tokenizer)), tokenizer)
    yield made
    made.close()


@pytest.fixture(scope="session")
def bundled_model() -> Iterator[Model]:
    """The bundled model behind the provider, loaded once for all tests."""
    made = get_model(f"nnsight/{BUNDLED}", memoize=False, dtype="float32", device="cpu")
    yield made
    made.api.close()


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tiny]:
    """A tiny Qwen3 whose template knows tools, its words open to scripts, and a library strong enough to change what it writes."""
    with tiny_session_model(tmp_path_factory.mktemp("session")) as made:
        yield made
