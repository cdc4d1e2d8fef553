"""Whether the engine did what was planned, window by window."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

# The projection's shift is read off float32 means of values of order 100: this is rounding, not tolerance of error.
_SHIFT_TOLERANCE = 1e-3


def window_faults(receipts: Sequence[Mapping[str, Any]], strengths: Sequence[float]) -> list[str]:
    """Return what went otherwise than planned, in words; an empty list means nothing.

    Args:
        receipts: What the engine did, one entry a window.
        strengths: The strength that each window was to have, in the same order.
    """
    if len(receipts) != len(strengths):
        return [f"{len(receipts)} windows, expected {len(strengths)}"]
    pairs = enumerate(zip(receipts, strengths, strict=True))
    return [f"window {index}: {fault}" for index, (receipt, strength) in pairs for fault in _faults(receipt, strength)]


def _faults(receipt: Mapping[str, Any], strength: float) -> list[str]:
    if not 0 < receipt["planned"] == receipt["steered"]:
        return [f"{receipt['planned']} positions planned, {receipt['steered']} steered"]
    faults = []
    if not math.isclose(receipt["strength"], strength, rel_tol=1e-9):
        faults.append(f"strength {receipt['strength']}, expected {strength}")
    shift = receipt["projection_after"] - receipt["projection_before"]
    size = max(1.0, abs(receipt["projection_before"]), abs(receipt["expected_shift"]))
    # Asked this way round, so that a projection that is no number is a fault too.
    if not abs(shift - receipt["expected_shift"]) <= _SHIFT_TOLERANCE * size:
        faults.append(f"projection moved by {shift:.4f}, expected {receipt['expected_shift']:.4f}")
    return faults
