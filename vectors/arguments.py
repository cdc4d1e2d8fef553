"""Command-line values that are lists."""

import argparse


def name_list(text: str) -> list[str]:
    """Return the names in a comma-separated list."""
    return [name.strip() for name in text.split(",")]


def layer_list(text: str) -> list[int]:
    """Return the layers of a range such as `13-20` or a list such as `13,15`.

    Raises:
        argparse.ArgumentTypeError: It is neither.
    """
    first, dash, last = text.partition("-")
    try:
        layers = list(range(int(first), int(last) + 1)) if dash else [int(part) for part in text.split(",")]
    except ValueError:
        layers = []
    if not layers:
        raise argparse.ArgumentTypeError(
            f"{text!r} names no layers; write a range such as 13-20 or a list such as 13,15"
        )
    return layers
