"""What several windows add to h together, once what is left of windows that cancel is taken for what it is: nothing."""

import torch


def settled(delta: torch.Tensor, gross: torch.Tensor) -> torch.Tensor:
    """Return `delta` with zeros where only the rounding error of a sum that cancels is left.

    Args:
        delta: Sums of additions, float32.
        gross: Sums of their absolute values, of the same shape.
    """
    rounding = (delta.abs() <= 4 * torch.finfo(delta.dtype).eps * gross) & gross.isfinite()
    return delta.masked_fill(rounding, 0)
