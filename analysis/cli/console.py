"""What the commands have in common: values that are lists, and progress bars."""

import argparse
from typing import NoReturn, Self

from tqdm import tqdm


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


class Bars:
    """One progress bar a step; a new step ends the bar of the one before."""

    def __init__(self) -> None:
        self._step = ""
        self._bar: tqdm[NoReturn] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def show(self, step: str, done: int, total: int) -> None:
        """Show how much of a step is done."""
        if self._bar is None or step != self._step:
            if self._bar is not None:
                self._bar.close()
            self._step, self._bar = step, tqdm(total=total, desc=step)
        self._bar.total = total
        self._bar.update(done - self._bar.n)
