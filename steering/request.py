"""What a solver asks of the provider beyond text.

It travels in `GenerateConfig.extra_body`, so that it lies in Inspect's cache key and in every model event of the log.
"""

from pathlib import Path
from typing import Annotated, Any, Self

from inspect_ai.model import GenerateConfig, ModelOutput
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from self_steering.steering.operations import Operation
from self_steering.steering.plan import Plan, PlanError
from self_steering.vectors.card import card_hash
from self_steering.vectors.shown import in_one_line


class Receipt(BaseModel):
    """What became of one window in one generation.

    Attributes:
        label: What the model called it.
        direction: Hash of the direction's values.
        strength: Strength of the operation; of an addition the multiple of the direction that was added.
        layers: Decoder layers it was carried out at.
        start: First token position of the window.
        stop: First position after it; None while it is open.
        planned: Positions of the window that the model processed.
        steered: Positions at which it was carried out and measured; always equal to `planned`.
        reused: How many of them were found in the cache, steered so when they were computed.
        in_thoughts: How many of them are tokens of thoughts, marks included.
        monitor_layer: The layer whose projections follow.
        projection_before: Mean of h·v/‖v‖ over the steered positions, before anything is done at that layer; None without
            positions.
        projection_after: The same after all that is done there.
        expected_shift: What this window by itself adds to that mean: of an addition strength times ‖v‖ at that layer; of a clamp
            and an ablation what takes it from `projection_before` to `target`; of a gain strength times `projection_before`.
        operation: What was done with the direction; left out where it was added.
        target: The projection that a clamp or an ablation held at that layer; left out of others.
    """

    model_config = ConfigDict(frozen=True)

    label: str
    direction: str
    strength: float
    layers: list[int]
    start: int
    stop: int | None
    planned: int
    steered: int
    reused: int
    in_thoughts: int = 0
    monitor_layer: int
    projection_before: float | None
    projection_after: float | None
    expected_shift: float
    operation: Operation = Field(default="add", exclude_if=lambda value: value == "add")
    target: float | None = Field(default=None, exclude_if=lambda value: value is None)


EXTRA_BODY_KEY = "self_steering"
LIBRARY_KEY = "self_steering_library"
METADATA_KEY = "self_steering"


class SteeringRequest(BaseModel):
    """Steering and read-outs for one generation.

    Attributes:
        plan: The windows, by message.
        library: Vector library to take directions from: a folder, or None for the one that fits the model.
        readout: Named sets of strings; for each set the provider returns the log-probability, over the full
            vocabulary and at the first generated position, of all tokens that read as one of them, white space aside.
        show_tokens: Return the whole prompt token by token, with what steered each.
        trace: Return for each window the projections at each of its positions, before and after the addition.
        picture: Return a picture, as Markdown, of the tokens that are steered and of their projections; none where nothing is.
        must_steer: Refuse a plan without windows: steering was asked for, and nothing would be steered.
        canonical: Compute the prompt in chunks that follow from the conversation alone, so that two prompts of the same
            messages are computed alike to the bit, whatever is in the cache. Read-outs always are.
        branches: Messages at which conversations that share a beginning part ways: prompts are computed in chunks that end
            before them. None ends a chunk before every message; fewer chunks cost less. Readings that are to be compared
            to the bit need the same.
        aside: It lies beside the sample's own conversation: a measurement, whose text is thrown away, or a turn of a rollout whose
            readings are shown in another. What counts turns, tokens and exposure leaves it out. Left out of logs where it is not.

    Example:
        >>> from self_steering.steering.plan import Direction, Plan, Window
        >>> calm = Window(label="calm", direction=Direction(vector="calm"), dose=1.0, strength=0.6, start=1)
        >>> request = SteeringRequest(plan=Plan(messages=1, windows=(calm,)), readout={"yes": ["Yes"], "no": ["No"]})
        >>> config = request.config(GenerateConfig(max_tokens=1))  # hand this to `Model.generate` with that one message
        >>> list(config.extra_body)
        ['self_steering']
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    plan: Plan
    library: str | None = None
    readout: dict[str, Annotated[list[str], Field(min_length=1)]] | None = None
    show_tokens: bool = False
    trace: bool = False
    picture: bool = False
    must_steer: bool = False
    canonical: bool = False
    branches: tuple[int, ...] | None = None
    aside: bool = Field(default=False, exclude_if=lambda value: value is False)

    @model_validator(mode="after")
    def _inside(self) -> Self:
        outside = [index for index in self.branches or () if not 0 <= index < self.plan.messages]
        if outside:
            raise ValueError(f"branches at messages {outside}; the conversation has 0 to {self.plan.messages - 1}")
        if self.must_steer and not self.plan.windows:
            raise ValueError(
                f"the plan steers none of its {self.plan.messages} messages, so nothing would be steered; a plan has windows where "
                "messages hold a take call that succeeded, or where they are given"
            )
        return self

    def config(self, base: GenerateConfig | None = None) -> GenerateConfig:
        """Return `base` with this request in its `extra_body`, and the hash of the library's card with it.

        A library that is built anew in its old folder is another one: the key of Inspect's cache of replies must tell.
        """
        base = base or GenerateConfig()
        extra = {**(base.extra_body or {}), EXTRA_BODY_KEY: self.model_dump(mode="json", exclude_none=True)}
        if self.library is not None and (found := card_hash(Path(self.library).expanduser())):
            extra[LIBRARY_KEY] = found
        return base.model_copy(update={"extra_body": extra})


def read_request(config: GenerateConfig, messages: int) -> SteeringRequest:
    """Return the steering request of a generation, empty where there is none.

    Args:
        config: The configuration as it reached the provider.
        messages: How many messages reached the provider.

    Raises:
        PlanError: The request is malformed, or its plan was made for another number of messages.
    """
    extra: dict[str, Any] = dict(config.extra_body or {})
    raw = extra.pop(EXTRA_BODY_KEY, None)
    extra.pop(LIBRARY_KEY, None)
    if extra:
        raise PlanError(f"extra_body has {sorted(extra)}; the nnsight provider knows only {EXTRA_BODY_KEY!r}")
    if raw is None:
        return SteeringRequest(plan=Plan(messages=messages))
    try:
        request = SteeringRequest.model_validate(raw)
    except ValidationError as error:
        raise PlanError(
            f"extra_body[{EXTRA_BODY_KEY!r}] is not a valid steering request: {in_one_line(error)}"
        ) from error
    if request.plan.messages != messages:
        raise PlanError(
            f"the plan was made for {request.plan.messages} messages, but {messages} reached the provider; something "
            "between (system_message, message trimming, collapsing) changed them: plan the messages that are sent"
        )
    return request


def logged_request(config: GenerateConfig) -> dict[str, Any]:
    """Return the request that a generation in a log was made with, as it stands there; empty where there was none."""
    return (config.extra_body or {}).get(EXTRA_BODY_KEY) or {}


def is_aside(config: GenerateConfig) -> bool:
    """Return whether a generation in a log lay beside the sample's own conversation (`SteeringRequest.aside`)."""
    return bool(logged_request(config).get("aside"))


def steering_report(output: ModelOutput) -> dict[str, Any]:
    """Return what the provider reports beside the text: receipts, read-outs, tokens, and what they cost.

    Example:
        >>> output = ModelOutput(metadata={"self_steering": {"receipts": [], "computed_tokens": 12, "reused_tokens": 0}})
        >>> steering_report(output)["computed_tokens"]
        12

    Raises:
        KeyError: The output is not one of the `nnsight` provider's, or no generation took place.
    """
    report: dict[str, Any] = (output.metadata or {})[METADATA_KEY]
    return report
