"""The model that a self-steering sample gets: the same model, whose every turn is steered as its conversation says.

Agents ask for the active model or call Inspect's `generate`; either way each turn comes through here, is offered the steering
tools, and is planned from the very messages that are sent. So a solver needs to know nothing of steering.
"""

from collections.abc import Sequence
from typing import Any, Protocol

from inspect_ai.model import ChatMessage, ChatMessageUser, GenerateConfig, Model, ModelOutput
from inspect_ai.tool import Tool, ToolChoice, ToolDef, ToolInfo, ToolSource

Offered = Sequence[Tool | ToolDef | ToolInfo | ToolSource] | ToolSource


class Session(Protocol):
    """What the model needs of a session."""

    async def prepare(
        self, messages: list[ChatMessage], tools: Offered, config: GenerateConfig
    ) -> tuple[Offered, GenerateConfig]:
        """Return the tools with ours among them, and the configuration with the plan of these messages."""

    def note(self, messages: list[ChatMessage], output: ModelOutput) -> None:
        """Take down what one generation did."""


class SessionModel(Model):
    """A model within one session."""

    def __init__(self, model: Model, session: Session) -> None:
        super().__init__(model.api, model.config, model.model_args)
        self._role = model.role
        self.session = session

    async def generate(
        self,
        input: str | list[ChatMessage],  # noqa: A002  the name in Model's signature
        tools: Offered = [],  # noqa: B006  as in Model's signature; never changed
        tool_choice: ToolChoice | None = None,
        config: GenerateConfig = GenerateConfig(),
        *args: Any,
        **kwargs: Any,
    ) -> ModelOutput:
        """Generate one assistant message, steered as the conversation says."""
        messages: list[ChatMessage] = [ChatMessageUser(content=input)] if isinstance(input, str) else input
        tools, config = await self.session.prepare(messages, tools, config)
        output = await super().generate(messages, tools, tool_choice, config, *args, **kwargs)
        self.session.note(messages, output)
        return output
