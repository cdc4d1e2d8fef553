"""What the tasks' parameters have in common: vectors and libraries, names in lists, numbers, the default model."""

# ruff: noqa: PLC0415  what takes seconds to import is imported by the command that needs it
import argparse
import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

from inspect_ai.model import get_model

from self_steering.vectors.card import library_folder, read_card
from self_steering.vectors.catalogue import catalogue
from self_steering.vectors.shown import shown

DEFAULT_MODEL = "nnsight/smollm2-135m-instruct"
CORE_VECTORS = (
    "calm",
    "anxious",
    "melancholic",
    "curious",
    "focused",
    "creative",
    "dumbed_down",
    "honest",
    "golden_gate",
    "goblins",
)


def default_model() -> str | None:
    """Return the default model where none was named: Task(model=…) would beat --model."""
    try:
        named = str(get_model())
    except ValueError:
        # Made in Python, outside of an eval: whoever runs the task names the model.
        return None
    return DEFAULT_MODEL if named == "none/none" else None


def library_vectors(library: str | None, vectors: str | Sequence[str]) -> tuple[str | None, list[str], list[str]]:
    """Return the library's absolute folder (None for the shipped one), all its vectors' names, and those that were chosen.

    Names are in the catalogue's order, so that the library's folder has no say in what is asked.

    Raises:
        ValueError: There is no such library, or it has no such vector.
    """
    folder = library_folder(library) if library else None
    held = read_card(folder).default_doses if folder else catalogue()
    names = [name for name in catalogue() if name in held]
    picked = chosen(vectors, "vectors", names, {"all": names, "core": list(CORE_VECTORS)})
    return (str(folder) if folder else None), names, picked


def chosen(
    value: str | Sequence[str], what: str, valid: Sequence[str], shorthands: Mapping[str, Sequence[str]]
) -> list[str]:
    """Return the names that a parameter lists.

    Args:
        value: Names separated by commas, a list of them, or one shorthand.
        what: The parameter, for errors.
        valid: Names that can be chosen.
        shorthands: Words that stand for several names.

    Raises:
        ValueError: A name is unknown or comes twice, a shorthand is not alone, or there is no name.
    """
    if not isinstance(value, str) and not (
        isinstance(value, list | tuple) and all(isinstance(one, str) for one in value)
    ):
        raise ValueError(f"{what}={shown(value)}; give names separated by commas: {', '.join([*valid, *shorthands])}")
    parts = [part.strip() for part in value.split(",")] if isinstance(value, str) else list(value)
    if len(parts) == 1 and parts[0] in shorthands:
        parts = list(shorthands[parts[0]])
    if not parts:
        raise ValueError(f"{what}={shown(value)} is empty; choose from {', '.join([*valid, *shorthands])}")
    for name in parts:
        if name in shorthands:
            raise ValueError(f"{what}={shown(value)}: {name!r} stands for several; give it alone, or name each")
        if name not in valid:
            raise ValueError(f"{what}={shown(name)} is unknown; choose from {', '.join([*valid, *shorthands])}")
    if len(set(parts)) != len(parts):
        raise ValueError(f"{what}={shown(value)} names something twice; name each once")
    return parts


def one_of(value: str, what: str, valid: Iterable[str]) -> str:
    """Return `value` if it is one of `valid`.

    Raises:
        ValueError: It is not.
    """
    valid = list(valid)
    if not isinstance(value, str) or value not in valid:
        raise ValueError(f"{what}={shown(value)} is unknown; choose from {', '.join(valid)}")
    return value


def whole_number(value: object, what: str, lowest: int, highest: int | None = None) -> int:
    """Return `value` as a whole number.

    Raises:
        ValueError: It is none, or out of range.
    """
    if (
        not isinstance(value, int)
        or isinstance(value, bool)
        or value < lowest
        or (highest is not None and value > highest)
    ):
        valid = f", at least {lowest}" if highest is None else f" from {lowest} to {highest}"
        raise ValueError(f"{what}={shown(value)}; choose a whole number{valid}")
    return value


def flag(value: object, what: str) -> bool:
    """Return `value` if it is true or false.

    Raises:
        ValueError: It is neither.
    """
    if not isinstance(value, bool):
        raise ValueError(f"{what}={shown(value)}; choose true or false")
    return value


def number(value: object, what: str, lowest: float, highest: float) -> float:
    """Return `value` as a number in a range.

    Raises:
        ValueError: It is none, or out of range.
    """
    valid = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not valid or not lowest <= value <= highest:  # type: ignore[operator]  # a number, by the line above
        raise ValueError(f"{what}={shown(value)}; choose a number from {lowest:g} to {highest:g}")
    return float(value)  # type: ignore[arg-type]


if TYPE_CHECKING:
    from self_steering.evals.sweep import Planned


def add_grid_arguments(command: argparse.ArgumentParser) -> None:
    """Add the arguments that `planned_evals` reads, but for the preset's name."""
    command.add_argument("--grids", type=Path, help="TOML file of grids (default: ours, evals/sweeps.toml)")
    command.add_argument(
        "-T", dest="parameters", action="append", default=[], metavar="[TASK.]NAME=VALUE", help="task parameter"
    )
    command.add_argument("--only", type=_names, default=[], help="tasks of it, separated by commas (default: all)")


def planned_evals(arguments: argparse.Namespace, *parameters: str) -> "list[Planned]":
    """Return the evals of the preset that the arguments name.

    Args:
        arguments: The command line's.
        *parameters: More parameters, for every task that has them.

    Raises:
        ValueError: There is no such preset, or its tasks refuse a value.
    """
    from self_steering.evals.sweep import PRESETS_FILE, SweepError, planned, read_presets

    presets = read_presets(arguments.grids or PRESETS_FILE)
    if arguments.preset not in presets:
        raise SweepError(f"the sweep {arguments.preset!r} is unknown; choose from {', '.join(presets)}")
    return planned(presets[arguments.preset], [*parameters, *arguments.parameters], arguments.only)


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",")]


NO_TOOLS = "none"


def offers(framings: Sequence[str], arms: Sequence[str], intents: Sequence[str]) -> list[tuple[str, str, str]]:
    """Return (framing, arm, intent) of every cell; the framing none is one cell, in which there is no arm and no intent."""
    return [
        offer
        for framing in framings
        for offer in ([(NO_TOOLS,) * 3] if framing == NO_TOOLS else product([framing], arms, intents))
    ]
