"""The problems of the frustration experiment: pairs that differ in one number, one with a solution and one without.

Which is which is not taken on trust: each is solved by trying every value of every variable when the file is read.
"""

import re
import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from self_steering.solvers.frustration_prompts import ANSWER_FORM, RANGE, RANGES
from self_steering.solvers.frustration_records import Problem

PROBLEMS_FILE = Path(__file__).with_name("frustration_problems.toml")
MOST_CANDIDATES = 200_000
_FIELDS = {"statement", "possible", "impossible", "variables", "constraints"}
_NUMBER = "{number}"


class ProblemError(ValueError):
    """A pair of problems that is not what it should be; the message names the file, the pair and the remedy."""


@cache
def problem_pairs(path: Path = PROBLEMS_FILE) -> dict[str, dict[bool, Problem]]:
    """Return for each pair its possible (True) and its impossible (False) problem, checked.

    Raises:
        ProblemError: A pair is malformed, its possible problem has no solution, or its impossible one has.
    """
    with path.open("rb") as file:
        entries = tomllib.load(file)
    return {name: _pair(path, name, entry) for name, entry in entries.items()}


def _pair(path: Path, name: str, entry: Mapping[str, Any]) -> dict[bool, Problem]:
    def fail(what: str) -> ProblemError:
        return ProblemError(f"{path.name}, {name}: {what}")

    if set(entry) != _FIELDS:
        raise fail(f"has {', '.join(sorted(entry))}; give exactly {', '.join(sorted(_FIELDS))}")
    if entry["statement"].count(_NUMBER) != 1 or sum(text.count(_NUMBER) for text in entry["constraints"]) != 1:
        raise fail(f"{_NUMBER} must come once in the statement and once in the constraints, so that one number differs")
    candidates = 1
    for variable, bounds in entry["variables"].items():
        if not re.fullmatch("[a-z]+", variable) or len(bounds) != 2 or bounds[0] > bounds[1]:
            raise fail(f"variable {variable!r} = {bounds}; give a name of small letters and [lowest, highest]")
        candidates *= bounds[1] - bounds[0] + 1
    if not 1 < candidates <= MOST_CANDIDATES:
        raise fail(f"has {candidates} candidates; narrow or widen the variables to between 2 and {MOST_CANDIDATES}")
    pair = {possible: _problem(name, entry, possible) for possible in (True, False)}
    for possible, problem in pair.items():
        found = problem.solutions()
        if bool(found) != possible:
            key = "possible" if possible else "impossible"
            raise fail(
                f"{key} = {problem.number} has {f'the solution {found[0]}' if found else 'no solution'}; change it"
            )
    return pair


def _problem(name: str, entry: Mapping[str, Any], possible: bool) -> Problem:
    number = entry["possible" if possible else "impossible"]
    variables = {variable: (low, high) for variable, (low, high) in entry["variables"].items()}
    ranges = ", ".join(RANGE.format(name=of, low=low, high=high) for of, (low, high) in variables.items())
    form = ANSWER_FORM.format(values=", ".join(f"{variable}=..." for variable in variables))
    return Problem(
        pair=name,
        possible=possible,
        number=number,
        question=f"{entry['statement'].format(number=number)}\n\n{RANGES.format(ranges=ranges)} {form}",
        variables=variables,
        constraints=tuple(text.format(number=number) for text in entry["constraints"]),
    )
