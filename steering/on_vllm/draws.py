"""Random draws that follow from a request's seed and the token's position alone.

vLLM draws once for every request in a step, also where a prompt is not yet at its end, and winds the generator back, which the
CPU's generators cannot. Seeded anew before each draw, a request's tokens do not depend on chunks, preemption or company.
"""

import hashlib

import torch


class RowGenerator(torch.Generator):
    """A generator that has nothing to wind back."""

    def get_offset(self) -> int:
        """Return what `set_offset` ignores."""
        return 0

    def set_offset(self, offset: int) -> "RowGenerator":  # noqa: ARG002  torch's signature
        """Do nothing: the next draw begins with a seed of its own."""
        return self

    def seed_at(self, seed: int, position: int) -> "RowGenerator":
        """Make ready to draw the token at a position."""
        digest = hashlib.blake2b(f"{seed}/{position}".encode(), digest_size=8).digest()
        self.manual_seed(int.from_bytes(digest) >> 1)
        return self
