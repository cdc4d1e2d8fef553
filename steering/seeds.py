"""Seeds that follow from what they are for."""

import hashlib


def derived_seed(*parts: str | int) -> int:
    """Return a seed of 31 bits (what every model API takes) that follows from `parts`."""
    digest = hashlib.sha256("\0".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:4]) >> 1
