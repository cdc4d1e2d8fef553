"""What a part of the proof came to."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Outcome:
    """One part's result.

    Attributes:
        part: Its name.
        cases: How many cases were tried.
        failures: What did not hold, one text a case.
    """

    part: str
    cases: int
    failures: list[str] = field(default_factory=list)
