"""Whether a refusal is a clear one: in time, in little memory, by an error of ours of one line, and naming what was wrong."""

import contextlib
import io
import signal
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from inspect_ai.tool import ToolError

from self_steering.analysis.cli import main as self_steering_command

MOST_SECONDS = 10  # of computing; on a busy machine the clock may go on for longer
MOST_MEMORY = 512 << 20  # bytes that an attempt may take, a model of some MB and what reads it among them
MOST_LETTERS = 4000  # of a message for a person
_WAITING = 12  # so many times as long may an attempt wait
_SAID = 40  # of a very long value, that a message must begin to say
_ROOT = Path(__file__).resolve().parents[2]


class Hang(BaseException):
    """The case took too long; code under test that catches errors does not catch this."""


@dataclass(frozen=True)
class Case:
    """One hostile input.

    Attributes:
        name: What it is, for a person.
        attempt: Uses it.
        says: Of these the error must name one: the value, the parameter, or the file.
        most_letters: Of the message.
        seconds: How long it may take.
    """

    name: str
    attempt: Callable[[], object]
    says: tuple[str, ...]
    most_letters: int = MOST_LETTERS
    seconds: int = MOST_SECONDS


def fault(case: Case) -> str | None:
    """Return what is wrong with how a hostile input is met; None if it is refused as it should be."""
    start = memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # from here on the highest is taken down
    problem = _met(case)
    grown = memory("VmHWM") - start
    if problem is None and grown > MOST_MEMORY:
        problem = f"it took {grown >> 20} MiB of memory"
    return None if problem is None else f"{case.name}: {problem}"


def _met(case: Case) -> str | None:
    try:
        with time_limit(case.seconds):
            found = case.attempt()
    except Hang:
        return f"hangs for more than {case.seconds} s"
    except Exception as error:  # noqa: BLE001  all of them are judged
        return _unclear(error, case)
    return f"accepted in silence ({str(found)[:80]})"


def memory(what: str) -> int:
    """Return the process's memory in bytes: `VmRSS` now, `VmHWM` at the highest."""
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    (line,) = (line for line in status.splitlines() if line.startswith(f"{what}:"))
    return int(line.split()[1]) << 10


def command(*arguments: str) -> None:
    """Run `self-steering`; what it refuses is raised, once it has said so in one line and with the right exit code.

    Raises:
        CommandError: It ended with an error.
    """
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        try:
            code = self_steering_command(list(arguments))
        except SystemExit as error:  # argparse's
            code = int(error.code or 0)
    lines = [line for line in said.getvalue().splitlines() if line.startswith("self-steering")]
    if code not in (0, 1, 2):
        raise AssertionError(f"exit code {code}")
    if code:
        raise CommandError(lines[-1] if lines else "")


class CommandError(ValueError):
    """A command ended with an error; the message is what it said."""


@contextmanager
def time_limit(seconds: int) -> Iterator[None]:
    """Raise `Hang` in the main thread after some seconds of computing, or far more of waiting."""

    def ring(*_: object) -> None:
        raise Hang

    before = {one: signal.signal(one, ring) for one in (signal.SIGALRM, signal.SIGPROF)}
    signal.alarm(_WAITING * seconds)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.setitimer(signal.ITIMER_PROF, 0)
        for one, handler in before.items():
            signal.signal(one, handler)


def _unclear(error: Exception, case: Case) -> str | None:
    message = str(error)
    if not _ours(error):
        return f"an error that is not ours: {type(error).__name__}: {message[:150]}"
    if len(message.splitlines()) > 1:
        return f"a message of {len(message.splitlines())} lines: {message[:200]!r}"
    if len(message) > case.most_letters:
        return f"a message of {len(message)} letters"
    if not any(text[:_SAID] in message for text in case.says):
        return f"the message names none of {[text[:_SAID] for text in case.says]}: {message[:200]}"
    return None


def _ours(error: Exception) -> bool:
    """Return whether an error is of a kind of ours, or a plain ValueError or TypeError that our code raised itself."""
    if isinstance(error, ToolError | CommandError) or type(error).__module__.startswith("self_steering"):
        return True
    raised_in = Path(traceback.extract_tb(error.__traceback__)[-1].filename).resolve()
    return type(error) in (ValueError, TypeError) and _ROOT in raised_in.parents
