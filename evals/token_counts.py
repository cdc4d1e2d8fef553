"""How many tokens a sample of each task takes: measured from logs, kept as a table, looked up by condition."""

import csv
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from io import StringIO
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, NonNegativeInt, PositiveInt, ValidationError

SHIPPED_COUNTS = Path(__file__).parent / "data" / "token_counts.csv"
CONDITION = ("framing", "arm", "primer")
# What a sample's tokens depend on beside its condition, as far as a task has it.
SIZES = (
    *("turns", "max_tokens", "rounds", "max_tool_turns", "problems_per_rollout", "debrief", "opt_in"),
    *("options", "rotations", "random_directions", "no_vector_option", "controls", "sentences"),
)
# Decoding is bound by memory, reading a prompt by arithmetic: at a batch of 32 a token that is written takes about as long as
# ten that are read, on data-centre cards. Only shares of work follow from it, never hours.
DECODED_WEIGHT = 10


class TokenCountsError(ValueError):
    """Counts that cannot be used; the message names the remedy."""


class TokenCount(BaseModel):
    """Tokens that samples of one condition took, all of them together where nothing else is said.

    Attributes:
        task: Name of the task.
        framing: Of the condition; empty where there is none. Likewise `arm` and `primer`.
        arm: The arm.
        primer: The primer.
        model: The model that they were measured with.
        sizes: What their number depends on, as `name=value`, separated by spaces.
        samples: How many samples were measured.
        requests: Generations, read-outs among them.
        prompt: Prompt tokens of all requests.
        computed: Those of them that were computed; the others were found in the cache.
        decoded: Tokens that were generated in a step of their own: all but each request's first, which comes with its prompt.
        decoded_least: Those of the sample with the fewest.
        decoded_most: Those of the sample with the most.
        longest: Prompt and generated tokens of the longest request.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    task: str
    framing: str = ""
    arm: str = ""
    primer: str = ""
    model: str
    sizes: str
    samples: PositiveInt
    requests: PositiveInt
    prompt: NonNegativeInt
    computed: NonNegativeInt
    decoded: NonNegativeInt
    decoded_least: NonNegativeInt
    decoded_most: NonNegativeInt
    longest: NonNegativeInt


@dataclass(frozen=True, eq=False)
class TokenCounts:
    """All that was measured; two tables are the same only where they are one object, so that look-ups are remembered.

    Attributes:
        rows: One a task and condition.
    """

    rows: tuple[TokenCount, ...]


@dataclass(frozen=True)
class PerSample:
    """Tokens that one sample of a condition is expected to take.

    Attributes:
        computed: Prompt tokens that are computed.
        reused: Prompt tokens that are found in the cache.
        decoded: Tokens that are generated in a step of their own.
        least: Those of the measured sample with the fewest.
        longest: Prompt and generated tokens of the longest request.
        measured: Whether this very condition was measured; else these are means over those that are most like it.
    """

    computed: float
    reused: float
    decoded: float
    least: float
    longest: int
    measured: bool

    @property
    def cost(self) -> float:
        """Work, in tokens that are read."""
        return self.computed + DECODED_WEIGHT * self.decoded


def sizes_of(parameters: Mapping[str, Any]) -> str:
    """Return those of a task's parameters that its samples' tokens depend on."""
    return " ".join(f"{name}={parameters[name]}" for name in SIZES if name in parameters)


def all_parameters(task: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return a task's parameters, those that are not given by default."""
    defaults = {name: one.default for name, one in inspect.signature(task).parameters.items()}
    return {**defaults, **given}


@cache
def read_token_counts(path: Path = SHIPPED_COUNTS) -> TokenCounts:
    """Read counts.

    Raises:
        TokenCountsError: The file is not there, or is no table of counts.
    """
    try:
        rows = list(csv.DictReader(StringIO(path.read_text(encoding="utf-8"))))
        counts = tuple(TokenCount.model_validate(row) for row in rows)
    except FileNotFoundError as error:
        raise TokenCountsError(
            f"{path}: there is no such file; make it with `self-steering estimate --measure`"
        ) from error
    except (ValidationError, csv.Error, UnicodeDecodeError) as error:
        said = " ".join(str(error).split())[:200]
        raise TokenCountsError(
            f"{path} is no table of token counts ({said}); make it with `self-steering estimate --measure`"
        ) from error
    if not counts:
        raise TokenCountsError(f"{path} holds no count; make it with `self-steering estimate --measure`")
    return TokenCounts(counts)


def written_token_counts(counts: Sequence[TokenCount]) -> bytes:
    """Return counts as the file that `read_token_counts` reads."""
    buffer = StringIO()
    writer = csv.DictWriter(buffer, list(TokenCount.model_fields), lineterminator="\n")
    writer.writeheader()
    writer.writerows(count.model_dump() for count in counts)
    return buffer.getvalue().encode()


def per_sample(counts: TokenCounts, task: str, condition: Mapping[str, Any]) -> PerSample:
    """Return what a sample is expected to take: the mean over the measured conditions that agree with its own in most.

    Args:
        counts: What was measured.
        task: Name of the task.
        condition: Its framing, arm and primer, as far as it has them; other entries are passed over.

    Raises:
        TokenCountsError: The task was not measured.
    """
    said = tuple(str(condition.get(name, "")) for name in CONDITION)
    return _per_sample(counts, task, said)


@cache
def _per_sample(counts: TokenCounts, task: str, said: tuple[str, ...]) -> PerSample:
    of_task = [count for count in counts.rows if count.task == task]
    if not of_task:
        measured = ", ".join(sorted({count.task for count in counts.rows}))
        raise TokenCountsError(
            f"the tokens of {task} were not measured, only those of {measured}; run some and measure them"
        )
    agreeing = {
        id(count): sum(getattr(count, n) == v for n, v in zip(CONDITION, said, strict=True)) for count in of_task
    }
    most = max(agreeing.values())
    alike = [count for count in of_task if agreeing[id(count)] == most]
    samples = sum(count.samples for count in alike)
    return PerSample(
        computed=sum(count.computed for count in alike) / samples,
        reused=sum(count.prompt - count.computed for count in alike) / samples,
        decoded=sum(count.decoded for count in alike) / samples,
        least=min(count.decoded_least for count in alike),
        longest=max(count.longest for count in alike),
        measured=most == len(CONDITION),
    )
