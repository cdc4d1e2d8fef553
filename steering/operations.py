"""What can be done with a direction of the residual stream, and how several operations at one token combine.

At a steered token and layer h becomes h', with v the direction there, û = v/‖v‖, and m the mean of h·û over neutral stories:

- **add**: h' = h + s·v, s being the dose in multiples of v. Activation addition (Turner et al., arXiv 2308.10248; Rimsky et al.,
  arXiv 2312.06681).
- **clamp**: h' = h + k·(p - h·û)·û with k = 1: the projection is held at p = m + t·‖v‖, whatever it was, t being the dose in
  multiples of v. Clamping, as of features by Templeton et al. (Scaling Monosemanticity, 2024), about the mean of neutral text, as
  in affine concept editing (Marshall et al., arXiv 2411.09003).
- **ablate**: the clamp at t = 0, p = m. Directional ablation (Arditi et al., arXiv 2406.11717), to the neutral mean, not to zero.
- **gain**: h' = h + g·(h·û)·û: what there is along v is multiplied by 1 + g. Activation scaling (after Stoehr et al., arXiv
  2410.04962), of one direction.

s, k and g are an operation's *strength*: at zero it changes nothing, by the same way. Where several operations cover a token they
act at each layer one after the other, in the order in which they were called, each on what those before it left: a dose that is
taken after an ablation is felt, one taken before it is gone. Additions that follow on one another are summed first. All of it
is formed in float32. This module says what there is; `engine.additions` carries it out.
"""

from typing import Literal, get_args

Operation = Literal["add", "clamp", "ablate", "gain"]
ADD_ALONE: tuple[Operation, ...] = ("add",)
OPERATIONS: tuple[Operation, ...] = get_args(Operation)
# They hold on to a projection, which is measured from the mean over neutral stories.
HOLDING: frozenset[Operation] = frozenset({"clamp", "ablate"})


def in_words(operation: Operation, strength: float, target: float | None = None) -> str:
    """Return what an operation does, to be read behind a name.

    Args:
        operation: The operation.
        strength: Its strength.
        target: The projection that it holds, where it holds one.

    Example:
        >>> [in_words("clamp", 1, 12.3), in_words("ablate", 1, 4), in_words("gain", -0.5)]
        ['clamped at 12.3', 'ablated, to 4', 'gain -0.5']
    """
    if operation in HOLDING:
        held = f"clamped at {target:.4g}" if operation == "clamp" else f"ablated, to {target:.4g}"
        return held if strength else f"{held} at strength 0"
    return f"× {strength:g}" if operation == "add" else f"gain {strength:g}"
