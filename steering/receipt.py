"""What the engine really did, per window: the counterpart of the plan."""

from pydantic import BaseModel, ConfigDict


class Receipt(BaseModel):
    """What became of one window in one generation.

    Attributes:
        label: What the model called it.
        direction: Hash of the direction's values.
        strength: Multiple of the direction that was added.
        layers: Decoder layers it was added at.
        start: First token position of the window.
        stop: First position after it; None while it is open.
        planned: Positions of the window that the model processed.
        steered: Positions at which the addition was carried out and measured; always equal to `planned`.
        reused: How many of them were found in the cache, steered so when they were computed.
        monitor_layer: The layer whose projections follow.
        projection_before: Mean of h·v/‖v‖ over the steered positions, before the addition; None without positions.
        projection_after: The same after the addition.
        expected_shift: What this window adds to the projection: strength times ‖v‖ at that layer.
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
    monitor_layer: int
    projection_before: float | None
    projection_after: float | None
    expected_shift: float
