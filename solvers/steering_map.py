"""A page for a reader of the transcript: every token of a prompt, and what steered it."""

from collections.abc import Sequence
from itertools import groupby
from typing import Any

_STEERED = "●"


def steering_map(tokens: Sequence[Sequence[Any]], roles: Sequence[str], receipts: Sequence[dict[str, Any]]) -> str:
    """Return Markdown that shows a prompt token by token.

    Args:
        tokens: For each token [text, index of its message, indices of the windows that steer it].
        roles: Role of each message; the generation prompt comes after the last.
        receipts: What the engine did, one entry a window.
    """
    lines = [_summary(receipt) for receipt in receipts] or ["Nothing is steered in this reading."]
    lines.append(f"\nOne token a box; {_STEERED} marks the steered ones. {len(tokens)} tokens.\n")
    for message, group in groupby(enumerate(tokens), key=lambda item: item[1][1]):
        members = list(group)
        first, last = members[0][0], members[-1][0]
        role = roles[message] if message < len(roles) else "generation prompt"
        steered = sum(bool(token[2]) for _, token in members)
        lines.append(f"\n**{message} · {role}** · positions {first}–{last} · {steered} of {len(members)} steered\n")
        lines.append(" ".join(f"{_STEERED if token[2] else ''}`{_visible(token[0])}`" for _, token in members))
    return "\n".join(lines)


def _summary(receipt: dict[str, Any]) -> str:
    before, after = receipt["projection_before"], receipt["projection_after"]
    moved = (
        ""
        if before is None
        else f"; projection {before:.2f} → {after:.2f} (expected shift {receipt['expected_shift']:.2f})"
    )
    return (
        f"- **{receipt['label']}**: strength {receipt['strength']:g} at layers {receipt['layers'][0]}–{receipt['layers'][-1]}, "
        f"positions {receipt['start']} to {receipt['stop']}: {receipt['planned']} planned, {receipt['steered']} steered"
        f"{moved} at layer {receipt['monitor_layer']}"
    )


# Inside a code span nothing but a backtick or the end of a line is special; the rest is only made visible.
_SHOWN = {"`": "ˋ", "\n": "⏎", " ": "·", "\t": "⇥", "\r": "␍"}


def _visible(text: str) -> str:
    shown = (_SHOWN.get(c) or (c if c.isprintable() else f"\\u{ord(c):04x}") for c in text)
    return "".join(shown) or "∅"
