"""What the tasks' parameters have in common: names in lists, one of several, the default model."""

from collections.abc import Iterable, Mapping, Sequence

from inspect_ai.model import get_model

DEFAULT_MODEL = "nnsight/smollm2-135m-instruct"


def default_model() -> str | None:
    """Return the default model where none was named: Task(model=…) would beat --model."""
    try:
        named = str(get_model())
    except ValueError:
        # Made in Python, outside of an eval: whoever runs the task names the model.
        return None
    return DEFAULT_MODEL if named == "none/none" else None


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
    parts = [part.strip() for part in value.split(",")] if isinstance(value, str) else list(value)
    if len(parts) == 1 and parts[0] in shorthands:
        parts = list(shorthands[parts[0]])
    if not parts:
        raise ValueError(f"{what}={value!r} is empty; choose from {', '.join([*valid, *shorthands])}")
    for name in parts:
        if name in shorthands:
            raise ValueError(f"{what}={value!r}: {name!r} stands for several; give it alone, or name each")
        if name not in valid:
            raise ValueError(f"{what}={name!r} is unknown; choose from {', '.join([*valid, *shorthands])}")
    if len(set(parts)) != len(parts):
        raise ValueError(f"{what}={value!r} names something twice; name each once")
    return parts


def one_of(value: str, what: str, valid: Iterable[str]) -> str:
    """Return `value` if it is one of `valid`.

    Raises:
        ValueError: It is not.
    """
    if value not in valid:
        raise ValueError(f"{what}={value!r} is unknown; choose from {', '.join(valid)}")
    return value
