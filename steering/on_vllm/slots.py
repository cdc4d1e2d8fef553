"""What every slot of vLLM's cache was steered by when it was computed: receipts follow the keys and values themselves."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from self_steering.steering.engine.spans import Signatures, Span

UNKNOWN = -1  # nothing was computed there yet, or something went wrong


class Slots:
    """A note for each token that the cache can hold.

    Attributes:
        steering: Signature of what steered the token in a slot [slots]; `UNKNOWN` where that is not certain.
        projections: Projection before and after [slots, 2, directions], directions in the order of the signature's keys.

    Args:
        count: Number of slots.
    """

    def __init__(self, count: int) -> None:
        self.steering = np.full(count, UNKNOWN, np.int64)
        self.projections = np.full((count, 2, 0), np.nan, np.float32)

    def note(
        self,
        slots: NDArray[np.int64],
        steering: NDArray[np.int64],
        steered: NDArray[np.int64],
        measured: NDArray[np.float32],
    ) -> None:
        """Note what a step computed.

        Args:
            slots: Slot of each of its tokens [tokens].
            steering: Signature of each [tokens].
            steered: Which of them are steered [steered tokens].
            measured: Projections of those [steered tokens, 2, directions].
        """
        self.steering[slots] = steering
        wanted = measured.shape[-1]
        if wanted > self.projections.shape[-1]:
            wider = np.full((*self.projections.shape[:2], wanted), np.nan, np.float32)
            wider[..., : self.projections.shape[-1]] = self.projections
            self.projections = wider
        if wanted:
            self.projections[slots[steered], :, :wanted] = measured


@dataclass
class RequestRecord:
    """One request, as a worker sees it.

    Attributes:
        spans: What steers which positions.
        planned: Signature of each position [prompt and all that may be generated].
        prompt_length: Number of prompt tokens.
        readout: Named sets of tokens that are read at the end of the prompt.
        computed: Tokens whose keys and values are in the cache by now.
        faults: What went wrong.
        found: Log-probability of each named set.
    """

    spans: list[Span]
    planned: NDArray[np.int64]
    prompt_length: int
    readout: dict[str, list[int]]
    computed: int = 0
    faults: list[str] = field(default_factory=list)
    found: dict[str, float] = field(default_factory=dict)


def check_slots(record: RequestRecord, slots: NDArray[np.int64], notes: Slots) -> None:
    """Compare the steering of the tokens that a request builds on with its plan; what differs is a fault.

    Args:
        record: The request.
        slots: Slots of its first tokens [tokens], whoever computed them.
        notes: What was noted of them.
    """
    wrong = notes.steering[slots] != record.planned[: len(slots)]
    if wrong.any() and not record.faults:
        record.faults.append(
            f"{int(wrong.sum())} of {len(slots)} tokens in the cache were computed under other steering, the first at "
            f"position {int(wrong.argmax())}"
        )


def measured(
    span: Span, record: RequestRecord, slots: NDArray[np.int64], notes: Slots, signatures: Signatures
) -> tuple[int, float | None, float | None]:
    """Return at how many positions a span was carried out, and its mean projection before and after.

    Args:
        span: One of the request's spans.
        record: The request.
        slots: Slots of all its computed tokens [tokens].
        notes: What was noted of them.
        signatures: What the numbers mean.
    """
    left, right = span.within(0, len(slots))
    if left >= right:
        return 0, None, None
    here = slots[left:right]
    carried_out = notes.steering[here] == record.planned[left:right]
    values: list[NDArray[np.float32]] = []
    for number in np.unique(record.planned[left:right][carried_out]):
        keys = sorted({key for key, _ in signatures.pairs(int(number))})
        chosen = here[carried_out & (record.planned[left:right] == number)]
        values.append(notes.projections[chosen, :, keys.index(span.key)])
    if not values:
        return 0, None, None
    together = np.concatenate(values).astype(np.float64)
    present = ~np.isnan(together).any(-1)
    if not present.any():
        return 0, None, None
    before, after = together[present].mean(0)
    return int(present.sum()), float(before), float(after)
