"""What a worker knows of a step under way, of each request, and of what vLLM's cache holds.

Additions and their check are those of the other engine (`engine.additions`). What steered a token is noted for the slot of the
cache in which its keys and values lie, so that receipts follow them to whoever reads them.
"""

from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from self_steering.steering.engine.additions import Additions, Signatures, Span, SteeredStep, SteeringFault

UNKNOWN = -1  # nothing was computed there yet, or something went wrong

Output = torch.Tensor | tuple[torch.Tensor, ...]


class UnknownOutput(TypeError):  # noqa: N818  named for what it says
    """A decoder layer returned something that cannot be steered."""


class Step:
    """A step under way.

    Args:
        requests: The requests whose tokens it runs, in their order.
        owner: For each token the place of its request [tokens].
        slots: Slot of each token [tokens].
        steering: Signature of each token [tokens].
        additions: What is added to these tokens; None if nothing is.
    """

    def __init__(
        self,
        requests: list[str],
        owner: NDArray[np.int64],
        slots: NDArray[np.int64],
        steering: NDArray[np.int64],
        additions: Additions | None,
    ) -> None:
        self.requests, self.owner, self.slots, self.steering = requests, owner, slots, steering
        self._additions = additions
        self._steered = None if additions is None else SteeredStep(additions)
        self._misplaced: torch.Tensor | None = None

    def check_positions(self, given: torch.Tensor, planned: NDArray[np.int64]) -> None:
        """Compare the positions that the model is given with those by which the plan of its steered tokens was looked up.

        `fault` returns what differs.

        Args:
            given: The model's [tokens or more], or one row for each kind [kinds, tokens or more].
            planned: The plan's [tokens].
        """
        if self._steered is not None:
            first = (given if given.ndim == 1 else given[0])[: len(planned)]
            steered = torch.from_numpy(self.steering != 0).to(first.device)
            self._misplaced = steered & (first != torch.from_numpy(planned).to(first.device))

    def steer(self, layer: int, output: Output) -> None:
        """Steer the output of a layer in place.

        Raises:
            UnknownOutput: The output has another form than expected.
        """
        if self._additions is None or self._steered is None or layer not in self._additions.layers:
            return
        h, residual = stream_of(output)
        tokens = len(self.steering)  # what follows is padding
        self._steered.steer(layer, h[:tokens], None if residual is None else residual[:tokens])

    def fault(self) -> SteeringFault | None:
        """Return what went otherwise than planned, with the places of the requests that it concerns; none means all."""
        if self._steered is None:
            return None
        if self._misplaced is not None and self._misplaced.any():
            rows = sorted(set(self.owner[self._misplaced.cpu().numpy()].tolist()))
            return SteeringFault("the model was given other positions than those that were planned", rows)
        try:
            self._steered.verify(self.owner)
        except SteeringFault as fault:
            return fault
        return None

    def projections(self) -> NDArray[np.float32]:
        """Return the projections of each token [tokens, 2, directions], as `Additions.arrange` orders them."""
        return (
            np.empty((len(self.steering), 2, 0), np.float32) if self._steered is None else self._steered.projections()
        )


def stream_of(output: Output) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Return the tensor of a layer's output to add to, and what is still to be added to it.

    A vLLM layer returns its own part of the residual stream apart from what came before (`hidden_states, residual`), to be added
    up by the next layer's norm; some return the whole stream.

    Raises:
        UnknownOutput: The output has another form than expected.
    """
    parts = (output,) if isinstance(output, torch.Tensor) else output
    plain = isinstance(parts, tuple) and all(isinstance(part, torch.Tensor) and part.ndim == 2 for part in parts)
    if not plain or len(parts) not in (1, 2) or len({part.shape for part in parts}) != 1:
        raise UnknownOutput(f"a decoder layer returned {_form(output)}; expected one or two tensors [tokens, hidden]")
    if len(parts) == 1:
        return parts[0], None
    if parts[0].data_ptr() == parts[1].data_ptr():
        raise UnknownOutput("a decoder layer returned the same memory twice, where it adds up to the residual stream")
    return parts[0], parts[1]


def _form(output: object) -> str:
    if isinstance(output, torch.Tensor):
        return f"a tensor {list(output.shape)}"
    if isinstance(output, tuple | list):
        return f"{type(output).__name__} of {', '.join(map(_form, output))}"
    return type(output).__name__


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

    def note(self, slots: NDArray[np.int64], steering: NDArray[np.int64], measured: NDArray[np.float32]) -> None:
        """Note what a step computed.

        Args:
            slots: Slot of each of its tokens [tokens].
            steering: Signature of each [tokens].
            measured: Projections of each [tokens, 2, directions], NaN where there are none.
        """
        self.steering[slots] = steering
        wanted = measured.shape[-1]
        if wanted > self.projections.shape[-1]:
            wider = np.full((*self.projections.shape[:2], wanted), np.nan, np.float32)
            wider[..., : self.projections.shape[-1]] = self.projections
            self.projections = wider
        self.projections[slots, :, :wanted] = measured


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

    def check(self, slots: NDArray[np.int64], notes: Slots) -> None:
        """Compare the steering of the tokens that this request builds on with its plan; what differs is a fault.

        Args:
            slots: Slots of its first tokens [tokens], whoever computed them.
            notes: What was noted of them.
        """
        wrong = notes.steering[slots] != self.planned[: len(slots)]
        if wrong.any() and not self.faults:
            self.faults.append(
                f"{int(wrong.sum())} of {len(slots)} tokens in the cache were computed under other steering, the first at "
                f"position {int(wrong.argmax())}"
            )

    def measured(
        self, span: Span, slots: NDArray[np.int64], notes: Slots, signatures: Signatures
    ) -> tuple[int, float | None, float | None]:
        """Return at how many positions a span was carried out, and its mean projection before and after.

        Args:
            span: One of the request's.
            slots: Slots of all its computed tokens [tokens].
            notes: What was noted of them.
            signatures: What the numbers mean.
        """
        left, right = span.within(0, len(slots))
        here, planned = slots[left:right], self.planned[left:right]
        carried_out = notes.steering[here] == planned
        values = [np.empty((0, 2), np.float32)]
        for number in np.unique(planned[carried_out]).tolist():
            chosen = here[carried_out & (planned == number)]
            values.append(notes.projections[chosen, :, signatures.keys(number).index(span.key)])
        together = np.concatenate(values).astype(np.float64)
        present = together[~np.isnan(together).any(-1)]
        if not len(present):
            return 0, None, None
        before, after = present.mean(0).tolist()
        return len(present), before, after
