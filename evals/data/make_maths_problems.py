"""Makes the file of generated maths problems that ships, `maths_problems.jsonl`.

    pip install reasoning-gym==0.1.25
    python -m self_steering.evals.data.make_maths_problems evals/maths_problems.jsonl

Its problems are kept rather than made at run time, so that each could be checked and is the same everywhere, and so that no run
needs reasoning-gym, whose import takes a dozen more packages.

Level `grade`: the GSM-like templates of reasoning-gym (Apache License 2.0; after GSM-Symbolic, Mirzadeh et al. 2024). Templates
were read one by one, and those whose words are broken, or leave more than one answer open, are left out. A problem is kept only
where its answer is a positive whole number and its worked solution holds: every equation in it that can be read as plain arithmetic
is true, and the last of them gives the answer. (Six templates round on the way, now and then or always, and give a wrong answer: 2,
3, 4, 60, 75, 99.) Level `easy`: one step with small numbers, from templates of our own.
"""

import ast
import json
import operator
import random
import re
import sys
from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

from reasoning_gym.arithmetic.gsm_symbolic import gsm_symbolic  # inspect-evals-lint: ignore[IECQ004] -- see above

from self_steering.evals.maths import EASY, GRADE, stable_id

GRADE_VARIANTS = 8
EASY_VARIANTS = 20
# Each with its reason, so that a later version can take them back in.
LEFT_OUT = {
    13: "the biggest slide may come out shorter than the second biggest",
    14: "says `3 the amount` for three times the amount",
    21: "lengths such as 120.0",
    31: "more slices may be eaten than there are",
    46: "fractions as 0.6666666666666666",
    49: "hundreds of pounds for a few snacks, in dollars and cents",
    51: "says `ride the roller coaster 3`",
    52: "says `writes it in full 2`, fractions as 0.3333333333333333",
    53: "percent or percentage points is left open",
    60: "rounds a time down without saying so",
    66: "hours as 27.916666666666664",
    70: "the item's name and its number do not agree, so that what was thrown away is unclear",
    83: "what is left over for one of them is unclear",
    89: "says `0.5 as many`",
    92: "prices in pounds are rounded to the dollar",
    93: "says `2 as many`",
    95: "the number of days in a month is left open",
}
EASY_TEMPLATES = {
    "add-apples": ("{name} has {a} apples and buys {b} more. How many apples does {name} have now?", "{a} + {b}"),
    "add-birds": ("{a} birds sit in a tree, and {b} more land in it. How many birds sit in the tree?", "{a} + {b}"),
    "add-steps": ("{name} walks {a} steps, rests, and walks {b} more. How many steps is that in all?", "{a} + {b}"),
    "add-coins": (
        "There are {a} coins in one jar and {b} coins in another. How many coins are there in both?",
        "{a} + {b}",
    ),
    "take-books": ("A shelf holds {c} books. {name} takes {a} of them away. How many books are left?", "{c} - {a}"),
    "take-eggs": ("{name} had {c} eggs and used {a} of them. How many eggs are left?", "{c} - {a}"),
    "take-pages": ("A story has {c} pages. {name} has read {a} of them. How many pages are left to read?", "{c} - {a}"),
    "take-bus": ("{c} people are on a bus, and {a} get off. How many people are still on the bus?", "{c} - {a}"),
    "times-boxes": ("Each box holds {a} pencils. How many pencils do {b} boxes hold?", "{a} * {b}"),
    "times-rows": ("A garden has {a} rows of {b} plants each. How many plants does it have?", "{a} * {b}"),
    "times-tickets": ("One ticket costs ${a}. How many dollars do {b} tickets cost?", "{a} * {b}"),
    "share-sweets": (
        "{name} shares {d} sweets equally among {a} children. How many sweets does each child get?",
        "{d} / {a}",
    ),
}
NAMES = ("Ada", "Ben", "Carla", "Dev", "Elif", "Femi", "Greta", "Hugo")
_MOST_TRIES = 400
_OPERATORS: dict[type[ast.operator], Callable[[Fraction, Fraction], Fraction]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
# Digits that float arithmetic left behind, and one of something in the plural.
_UGLY = re.compile(r"\d\.\d{3,}|\d\.0\b|\b1 (?!of\b)[a-z]+s\b|\b1 times\b")
_PLAIN = (
    (r"(?<=\d),(?=\d{3})|(?<=\d)\.0+(?!\d)", ""),
    ("×", "*"),
    ("÷", "/"),
    (r"[$€£]|/[a-z]+", ""),
    # A unit after a number, or after one in brackets: `240 mushroom / 4 = 60 minutes`.
    (r"(?<=\d)((?: (?!x )[a-zA-Z'-]+)+)(?= ?[-+*/=)]| x )", ""),
    (r"(?<=[\d%]) x (?=\d)", " * "),
    (r"(?<=\d)\((?=\d)", " * ("),
)
# Two numbers at least, with signs between them, up to the end; brackets stand alone.
_TERM = re.compile(
    r"(?:[\d.]+ \* )?(?:\([\d.]+(?: ?[-+*/] ?[\d.]+)+\)|[\d.]+%?(?: ?[-+*/] ?(?:[\d.]+%?|\([\d./]+\)))+) *$"
)
_NUMBER = re.compile(r" *\d+(?:\.\d+)?(?:/\d+)?%?(?![\d/])")

Row = dict[str, object]


def main(out: str) -> None:
    """Write the file, in one piece."""
    rows = [*grade_rows(), *easy_rows()]
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    scratch = Path(out).with_suffix(".part")
    scratch.write_text("\n".join([*lines, ""]), encoding="utf-8")
    scratch.rename(out)
    print(f"{len(rows)} problems of {len({row['template'] for row in rows})} templates in {out}")  # noqa: T201


def grade_rows() -> Iterator[Row]:
    """Yield the GSM-like problems, template by template.

    Raises:
        RuntimeError: A template that is not left out gives too few problems that can be checked.
    """
    generators = gsm_symbolic.GSMSymbolicDataset(gsm_symbolic.GSMSymbolicDatasetConfig(seed=0, size=1)).generators
    for number in gsm_symbolic.tasks_ok:
        if number in LEFT_OUT:
            continue
        found: dict[str, Row] = {}
        for attempt in range(_MOST_TRIES):
            made = generators[number](random.Random(f"gsm/{number}/{attempt}"), 1.0)
            question = " ".join(made["question"].split())
            steps = worked_steps(made["metadata"]["answer_cot"])
            answer = whole(made["answer"])
            if answer is not None and steps and not _UGLY.search(question) and holds(steps, answer):
                found.setdefault(stable_id(question), row(GRADE, f"gsm-{number:02}", question, answer, steps))
            if len(found) == GRADE_VARIANTS:
                break
        else:
            raise RuntimeError(
                f"template {number} gave {len(found)} of {GRADE_VARIANTS} problems; leave it out, with a reason"
            )
        yield from found.values()


def easy_rows() -> Iterator[Row]:
    """Yield the problems of one step."""
    for name, (words, formula) in EASY_TEMPLATES.items():
        rng = random.Random(f"easy/{name}")
        questions: dict[str, Row] = {}
        while len(questions) < EASY_VARIANTS:
            a, b = rng.randint(2, 9), rng.randint(2, 9)
            numbers = {"a": a, "b": b, "c": a + b, "d": a * b}
            question = words.format(name=rng.choice(NAMES), **numbers)
            term = formula.format(**numbers)
            answer = whole(str(value_of(term)))
            assert answer is not None
            questions.setdefault(question, row(EASY, f"easy-{name}", question, answer, [f"{term} = {answer}"]))
        yield from questions.values()


def row(level: str, template: str, question: str, answer: int, steps: list[str]) -> Row:
    """Return one line of the file."""
    return {"level": level, "template": template, "question": question, "answer": answer, "steps": steps}


def whole(text: str) -> int | None:
    """Return a positive whole number; None for anything else."""
    try:
        value = Fraction(text)
    except ValueError:
        return None
    return int(value) if value.denominator == 1 and value > 0 else None


def worked_steps(solution: str) -> list[str]:
    """Return the equations of a worked solution that can be read as plain arithmetic, as `TERM = NUMBER`."""
    steps = []
    for line in solution.splitlines():
        parts = _plain(line).split("=")
        for left, right in pairwise(parts):
            term, number = _TERM.search(left), _NUMBER.match(right)
            if term is not None and number is not None and value_of(term[0].strip()) is not None:
                steps.append(f"{term[0].strip()} = {number[0].strip()}")
    return steps


def _plain(line: str) -> str:
    """Return a line of a solution without currencies, units and commas, with Python's signs."""
    for pattern, replacement in _PLAIN:
        line = re.sub(pattern, replacement, line)
    return line


def holds(steps: list[str], answer: int) -> bool:
    """Return whether all equations are true and the last one gives the answer."""
    sides = [step.split(" = ") for step in steps]
    return all(value_of(term) == value_of(number) for term, number in sides) and sides[-1][1].strip("%") == str(answer)


def value_of(term: str) -> Fraction | None:
    """Return the value of plain arithmetic; None for anything else."""
    try:
        return _value(ast.parse(re.sub(r"(\d+(?:\.\d+)?)%", r"(\1/100)", term), mode="eval").body)
    except (SyntaxError, ValueError, ZeroDivisionError):
        return None


def _value(node: ast.expr) -> Fraction:
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        return Fraction(str(node.value))
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        return _OPERATORS[type(node.op)](_value(node.left), _value(node.right))
    raise ValueError(f"{ast.dump(node)} is no plain arithmetic")


if __name__ == "__main__":
    main(*sys.argv[1:])
