"""The problems of a maths rollout, what became of each, and how an answer is read."""

import re
from decimal import Decimal
from typing import Literal

from inspect_ai.util import StoreModel
from pydantic import BaseModel, ConfigDict, Field

Status = Literal["right", "wrong", "unparsed", "unsubmitted"]

_UNIT = r"(?:[^\W\d_]+|°[CF]|%)"
# A number alone: before it a sign and a currency, after it a percent sign or at most two words of unit, and a full stop.
_ANSWER = re.compile(
    rf"(?P<sign>[-+−]?)\s*[$€£]?\s*(?P<inner>[-−]?)(?P<whole>\d+|\d{{1,3}}(?:,\d{{3}})+)(?P<part>\.\d+)?"
    rf"(?:\s*{_UNIT}(?:\s+{_UNIT})?)?\s*\.?",
)
_LONGEST = 100


class Problem(BaseModel):
    """One problem.

    Attributes:
        id: Follows from its question, whatever is run and wherever it stands.
        cluster: What it shares with problems that are alike: its template, or else its own id.
        question: The question.
        target: The right answer, a whole number.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    cluster: str
    question: str
    target: int


class ProblemRecord(BaseModel):
    """One problem of a rollout and what became of it.

    Attributes:
        problem: Its id.
        cluster: Its cluster.
        question: Its question.
        target: The right answer.
        shown: Whether the model was shown it.
        submitted: The answer as the model wrote it; None where it submitted none.
        status: right, wrong, unparsed (submitted, but no number) or unsubmitted.
    """

    problem: str
    cluster: str
    question: str
    target: int
    shown: bool = False
    submitted: str | None = None
    status: Status = "unsubmitted"


class MathsState(StoreModel):
    """What the solver leaves for scorers and tables: every problem of the rollout, in order."""

    problems: list[ProblemRecord] = Field(default_factory=list)


def read_answer(text: str) -> Decimal | None:
    """Return the number that an answer is; None where it is none, or holds more than one number.

    Read are whole and decimal numbers, with a sign, a currency sign before them, commas between thousands, and after them a percent
    sign, one or two words of unit, and a full stop: `-3`, `$1,250.00`, `18 hours`, `40%`. Nothing else is: not `x = 5`, `1/2`,
    `1e3`, `12,34`, nor a sentence with a number in it.
    """
    found = _ANSWER.fullmatch(text.strip()) if len(text) <= _LONGEST else None
    if found is None or (found["sign"] and found["inner"]):
        return None
    sign = "-" if {found["sign"], found["inner"]} & {"-", "−"} else ""
    return Decimal(f"{sign}{found['whole'].replace(',', '')}{found['part'] or ''}")


def status_of(submitted: str, target: int) -> Status:
    """Return what a submitted answer is."""
    number = read_answer(submitted)
    return "unparsed" if number is None else "right" if number == target else "wrong"
