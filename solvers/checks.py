"""Values that a person gives tasks and solvers: checked before anything runs, and refused in one line."""

import inspect
import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from difflib import get_close_matches
from functools import wraps
from typing import Any, NamedTuple, ParamSpec, TypeVar, cast

import click
from inspect_ai.model import Model, get_model
from pydantic import ValidationError

from self_steering.solvers.readings import check_neutral, library_card
from self_steering.solvers.records import CORE_VECTORS, TASK_MENU
from self_steering.steering.operations import OPERATIONS, Operation
from self_steering.steering.plan import MAX_DOSE, check_dose
from self_steering.steering.refusal import Refusal
from self_steering.vectors.card import library_folder, read_card
from self_steering.vectors.catalogue import NO_OWN, Own, catalogue, entry_of, in_order
from self_steering.vectors.shown import in_one_line, shown

P = ParamSpec("P")
T = TypeVar("T")
_TEN = 10
MOST = 100_000  # of anything that is counted: more would never end
NO_MODEL = "none/none"  # what Inspect calls it where none was named


def refusing(make: Callable[P, T]) -> Callable[P, T]:
    """Decorate what makes a task or a solver: mistakes in its parameters, and parameters that it has not, become a `Refusal`.

    A seed that it takes is a whole number.

    Inspect warns of a parameter that is unknown and runs the default. It does not where a function takes any.

    Example:
        >>> @refusing
        ... def rain(drops: int = 1) -> int:
        ...     return whole_number(drops, "drops", 1)
        >>> rain(drop=3)
        Traceback (most recent call last):
        self_steering.steering.refusal.Refusal: drop=3: rain has no parameter 'drop', did you mean 'drops'? Choose from drops
    """
    signature = inspect.signature(make)
    own = list(signature.parameters)

    @wraps(make)
    def made(*args: P.args, **named: P.kwargs) -> T:
        for name in named.keys() - set(own):
            near = "".join(f", did you mean {one!r}?" for one in get_close_matches(name, own, 1)) or "."
            valid = ", ".join(own)
            raise Refusal(
                f"{name}={shown(named[name])}: {make.__name__} has no parameter {name!r}{near} Choose from {valid}"
            )
        try:
            if "seed" in named:
                whole_number(named["seed"], "seed", 0, 2**63 - 1)
            return make(*args, **named)
        except ValidationError as error:
            raise Refusal(in_one_line(error)) from error
        except ValueError as error:
            raise Refusal(" ".join(str(error).split())) from error

    others = inspect.Parameter("others", inspect.Parameter.VAR_KEYWORD, annotation=Any)
    made.__signature__ = signature.replace(parameters=[*signature.parameters.values(), others])  # type: ignore[attr-defined]
    return cast("Callable[P, T]", made)


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
    value = [_word(one, valid) for one in value] if isinstance(value, list | tuple) else _word(value, valid)
    if not isinstance(value, str) and not (isinstance(value, list) and all(isinstance(one, str) for one in value)):
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


def _word(value: Any, valid: Collection[str]) -> Any:
    """Return a name as it was written: the command line reads `true` and `false` as YAML does, also where they are names."""
    word = str(value).lower()
    return word if isinstance(value, bool) and word in valid else value


def chosen_operators(value: str | Sequence[str]) -> tuple[Operation, ...]:
    """Return the operations that are to be offered, in their own order.

    Raises:
        ValueError: One is unknown or comes twice, or there is none.
    """
    picked = chosen(value, "operators", OPERATIONS, {"all": OPERATIONS})
    return tuple(one for one in OPERATIONS if one in picked)


def one_of(value: str, what: str, valid: Iterable[str]) -> str:
    """Return `value` if it is one of `valid`.

    Raises:
        ValueError: It is not.
    """
    valid = list(valid)
    value = _word(value, valid)
    if not isinstance(value, str) or value not in valid:
        raise ValueError(f"{what}={shown(value)} is unknown; choose from {', '.join(valid)}")
    return value


def whole_number(value: object, what: str, lowest: int, highest: int = MOST) -> int:
    """Return `value` as a whole number.

    Raises:
        ValueError: It is none, or out of range.
    """
    if not isinstance(value, int) or isinstance(value, bool) or not lowest <= value <= highest:
        raise ValueError(f"{what}={shown(value)}; choose a whole number from {lowest} to {highest}")
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


def checked_max_dose(value: object) -> float:
    """Return the largest dose that a model may take.

    Raises:
        ValueError: It is no number above 0, or larger than any dose may be.
    """
    largest = number(value, "max_dose", 0, MAX_DOSE)
    if not largest:
        raise ValueError(
            f"max_dose={value!r}; choose a number above 0, up to {MAX_DOSE:g}, so that something can be taken"
        )
    return largest


def imposed_dose(dose: object) -> float:
    """Return the dose at which a task injects.

    Raises:
        ValueError: It is no number, out of range, or zero.
    """
    found = check_dose(dose)
    if not found:
        raise ValueError(
            f"dose={shown(dose)} injects nothing; choose another from -{MAX_DOSE:g} to {MAX_DOSE:g}, or arm=placebo"
        )
    return found


def parse_doses(doses: str | float | Sequence[str | float]) -> list[float]:
    """Return the doses that a parameter lists.

    Raises:
        ValueError: One is no number, out of range, zero, or comes twice.
    """
    parts = doses.split(",") if isinstance(doses, str) else doses if isinstance(doses, Sequence) else [doses]
    found = []
    for part in parts:
        try:
            found.append(check_dose(float(part) if isinstance(part, str) else part))
        except ValueError as error:
            raise ValueError(f"doses={doses!r}: {error}; give numbers separated by commas, such as 0.5,1,2") from error
    if not found or 0 in found or len(set(found)) != len(found):
        raise ValueError(f"doses={doses!r}; give each dose once, and none that is zero: the placebo arm has that")
    return found


class Vectors(NamedTuple):
    """Vectors that an eval asks about.

    Attributes:
        folder: The library's absolute folder; None for the shipped one.
        names: All vectors of the library, in the catalogue's order, those that it lacks behind them by name, so that the library's
            folder has no say in what is asked.
        picked: Those that were chosen.
        own: What the library says of vectors that the catalogue lacks or tells otherwise.
    """

    folder: str | None
    names: list[str]
    picked: list[str]
    own: Own


def library_vectors(library: str | None, vectors: str | Sequence[str]) -> Vectors:
    """Return a library's vectors and those that were chosen.

    Args:
        library: Folder of the library; None for the shipped one, which has the forty of the catalogue.
        vectors: Names separated by commas, or a word that stands for several: `all`; `core` and `menu`, the ten of that name where
            the library has them all, else its first ten; `negative`, those whose valence is.

    Raises:
        ValueError: There is no such library, or it has no such vector.
    """
    folder = None if library is None else library_folder(library)
    card = read_card(folder) if folder else None
    names = in_order(card.default_doses) if card else list(catalogue())
    own = card.own if card else NO_OWN
    words = {
        "all": names,
        "core": _ten(names, CORE_VECTORS),
        "menu": _ten(names, TASK_MENU),
        "negative": [name for name in names if entry_of(name, own).valence == -1],
    }
    picked = chosen(vectors, "vectors", names, words)
    return Vectors(str(folder) if folder else None, names, picked, own)


def _ten(names: Sequence[str], published: Sequence[str]) -> Sequence[str]:
    """Return the ten of a name where a library has them all, else its first ten."""
    return published if set(published) <= set(names) else names[:_TEN]


def check_active_model(library: str | None, *, neutral: bool = False) -> None:
    """Make sure that the model which a command has named can be steered from a library, before anything runs.

    Where Python makes a task, its model is not known yet, and `get_model()` may give that of an earlier eval.

    Raises:
        ValueError: As for `check_steerable`.
    """
    if click.get_current_context(silent=True) is not None and str(get_model()) != NO_MODEL:
        check_steerable(get_model(), library, neutral=neutral)


def check_steerable(model: Model, library: str | None, *, neutral: bool = False) -> None:
    """Make sure that a model can be steered from a library, and where it is needed that there is a mean of neutral text.

    Raises:
        ValueError: It is not one of ours, the library is for another one, or has no such mean.
    """
    try:
        library_card(model, library)
        if neutral:
            check_neutral(model, library)
    except TypeError as error:
        raise ValueError(str(error)) from error
