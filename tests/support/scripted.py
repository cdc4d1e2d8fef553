"""A tiny real model through the provider, whose words can be exchanged for scripted ones; what is steered stays real."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from inspect_ai import Task, eval  # noqa: A004  Inspect's name for it
from inspect_ai.log import EvalLog, EvalSample, read_eval_log
from inspect_ai.model import ChatMessage, ChatMessageAssistant, GenerateConfig, Model, get_model, modelapi
from inspect_ai.tool import ToolCall, ToolChoice, ToolInfo

from self_steering.steering.provider import NNsightAPI
from tests.support import models
from tests.support.small_library import STATES, save_library
from tests.support.templates import save_family_model

_EXCHANGED = 4  # tokens, generated tokens are steered too

Script = Callable[[list[ChatMessage], list[ToolInfo]], ChatMessageAssistant | None]
"""From the messages and the tools that reach the provider to the model's message; None leaves the turn to the model."""


def own_words(messages: list[ChatMessage], tools: list[ToolInfo]) -> ChatMessageAssistant | None:
    """Leave every turn to the model."""
    return None


class ScriptedAPI(NNsightAPI):
    """The provider over a tiny model, with scripted words."""

    script: Script = staticmethod(own_words)
    asked: tuple[ToolChoice, GenerateConfig]
    """What else the turn was asked with that a script is called for."""

    async def generate(self, input, tools, tool_choice, config):  # noqa: A002  the name in ModelAPI's signature
        """Generate really, and of words that are exchanged only the first few."""
        self.asked = (tool_choice, config)
        message = self.script(list(input), list(tools))
        if message is not None:
            config = config.model_copy(update={"max_tokens": min(config.max_tokens or _EXCHANGED, _EXCHANGED)})
        output, call = await super().generate(input, tools, tool_choice, config)
        if message is not None and output.metadata:
            output.choices[0].message = message.model_copy(update={"model": self.model_name, "source": "generate"})
            output.completion = message.text
        return output, call


modelapi(name="scripted_session")(ScriptedAPI)


def says(text: str = "", *calls: tuple[str, dict]) -> ChatMessageAssistant:
    """Return a message with text and calls of (tool, arguments)."""
    made = [ToolCall(id=f"{name}_{n}_{text}", function=name, arguments=a) for n, (name, a) in enumerate(calls)]
    return ChatMessageAssistant(content=text, tool_calls=made or None)


def turn_by_turn(*turns: ChatMessageAssistant) -> Script:
    """Return a script that says these in order, then the last one again and again."""

    def script(messages: list[ChatMessage], tools: list[ToolInfo]) -> ChatMessageAssistant:
        done = sum(m.role == "assistant" and m.source == "generate" for m in messages)
        turn = turns[min(done, len(turns) - 1)]
        calls = [replace(call, id=f"{call.id}_{done}") for call in turn.tool_calls or []]
        return ChatMessageAssistant(content=turn.content, tool_calls=calls or None)  # each turn with an id of its own

    return script


@dataclass(frozen=True)
class Tiny:
    """A tiny Qwen3 with a library of a few vectors (`small_library.STATES`).

    Attributes:
        library: Folder of its library.
        logs: Folder for logs.
        model: The model, through the provider.
    """

    library: Path
    logs: Path
    model: Model

    @contextmanager
    def scripted(self, script: Script) -> Iterator[None]:
        """Exchange the model's words."""
        self.model.api.script = script
        try:
            yield
        finally:
            del self.model.api.script

    def run(self, task: Task, script: Script = own_words, **more: object) -> EvalLog:
        """Run a task with scripted words; the log must be a success."""
        with self.scripted(script):
            quiet = {"display": "none", "log_realtime": False, "score_display": False}
            (log,) = eval(task, model=self.model, **{"log_dir": str(self.logs), **quiet, **more})
        assert log.status == "success", log.error and log.error.message
        return read_eval_log(log.location, resolve_attachments="full")

    def play(self, task: Task, script: Script, **more: object) -> EvalSample:
        """Run a task of one sample."""
        (sample,) = self.run(task, script, **more).samples
        return sample


@contextmanager
def roomy_session_model(folder: Path) -> Iterator[Tiny]:
    """Make the same with room for long conversations."""
    with ExitStack() as stack:
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(models._COMMON, "max_position_embeddings", 8192)
            made = stack.enter_context(tiny_session_model(folder))
        yield made


@contextmanager
def tiny_session_model(
    folder: Path, default_dose: float = 2.0, sizes: Mapping[str, int] | None = None, **arguments: object
) -> Iterator[Tiny]:
    """Make a tiny model and its library, strong enough to change what it writes, in `folder`.

    Args:
        folder: The folder.
        default_dose: The library's.
        sizes: The model's, where they are not the usual ones.
        arguments: What the provider is opened with.
    """
    model = save_family_model(folder / "model", "qwen", **(sizes or {}))
    made = get_model(f"scripted_session/{model}", memoize=False, **arguments)
    fingerprint = made.api.loaded.fingerprint
    strong = {"names": STATES, "layers": (3, 4), "size": 3, "residual": 100.0, "neutral": True}
    save_library(folder / "library", fingerprint, default_dose=default_dose, **strong)
    yield Tiny(folder / "library", folder / "logs", made)
    made.api.close()
