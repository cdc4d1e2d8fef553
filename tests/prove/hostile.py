"""Hostile inputs to everything that takes some: each is refused clearly, and the eval goes on where it can."""

import ast
import importlib
import inspect
import tempfile
import tomllib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from inspect_ai.log import EvalSample
from inspect_ai.model import ChatMessage, ChatMessageAssistant, ChatMessageTool
from inspect_ai.tool import ToolError, ToolInfo

from self_steering.evals.freeplay import freeplay
from self_steering.steering.call_formats import fallback_format
from self_steering.steering.provider import NNsightAPI
from self_steering.steering.tool_calls import parse_calls
from self_steering.steering.tools import tool_infos
from tests.prove.hostile_files import (
    adapter_cases,
    import_cases,
    library_cases,
    log_cases,
    model_file_cases,
    story_cases,
)
from tests.prove.hostile_sources import checks
from tests.prove.judge import MOST_LETTERS, Case, fault
from tests.prove.outcome import Outcome
from tests.support.models import save_tiny_model
from tests.support.scripted import Tiny, says, tiny_session_model, turn_by_turn

_ROOT = Path(__file__).resolve().parents[2]
_DATA = tomllib.loads(Path(__file__).with_name("hostile.toml").read_text(encoding="utf-8"))
_STAND_INS = {"LONG": "a" * 100_000, "HUGE": int("9" * 400)}
_TEXTS = {"DEEP": "[" * 100_000, "DIGITS": "9" * 10_000}
# Which values suit a parameter, by its name; else by its annotation.
_KINDS = {
    "library": "library", "vectors": "names", "arm": "names", "framing": "names", "visibility": "names", "prompts": "names",
    "intent": "names", "tone": "names", "possible": "names", "operators": "names",
}  # fmt: skip
_BY_ANNOTATION = {int: "count", float: "number", bool: "flag"}
# Any value of them is one: a seed is whatever tells runs apart, a revision whatever a hub knows.
_FREE = {"seed", "revision", "task_args"}
# Values that are wrong for others of their kind, and right for these.
_RIGHT = {"doses": 5, "options": 5}


def run(seed: int = 0) -> Outcome:
    """Try every hostile input."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        tiny = stack.enter_context(tiny_session_model(folder / "session"))
        cases = [
            *task_cases(),
            *model_cases(folder),
            *model_file_cases(folder / "models"),
            *library_cases(folder / "libraries"),
            *import_cases(folder / "imports"),
            *story_cases(folder / "stories"),
            *log_cases(folder / "logs"),
            *adapter_cases(folder / "adapters"),
            *text_cases(),
        ]
        failures = [found for case in cases if (found := fault(case)) is not None]
        failures += takes_in_an_eval(tiny)
        held = checks(folder / "sources")
        failures += [f"{name}: {found}" for name, check in held for found in check()]
    return Outcome("hostile inputs", len(cases) + len(_DATA["takes"]) + 1 + len(held), failures)


def task_cases() -> Iterator[Case]:
    """Give every task every wrong value of each of its parameters."""
    for task in all_tasks():
        signature = inspect.signature(task)
        for name, parameter in signature.parameters.items():
            values = () if name in _FREE else _DATA["tasks"][_kind(name, parameter)]
            for value in [value for value in values if value != _RIGHT.get(name)]:
                wrong = _stand_in(value)
                base = (
                    {"task": f"{_ROOT / 'evals/introspection.py'}@introspection"} if task.__name__ == "any_task" else {}
                )
                title = f"{task.__name__} -T {name}={str(wrong)[:40]!r}"
                yield Case(title, partial(task, **{**base, name: wrong}), (name,))


def all_tasks() -> list[Callable[..., object]]:
    """Return every task of evals/, found by its decorator."""
    found = []
    for path in sorted((_ROOT / "evals").glob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
        names = [f.name for f in functions if any("task" in ast.unparse(d).split("(")[0] for d in f.decorator_list)]
        module = importlib.import_module(f"self_steering.evals.{path.stem}") if names else None
        found += [getattr(module, name) for name in names]
    return found


def _kind(name: str, parameter: inspect.Parameter) -> str:
    if name in _KINDS:
        return _KINDS[name]
    if name.endswith("max_dose"):
        return "number"
    return _BY_ANNOTATION.get(parameter.annotation, "one")


def model_cases(folder: Path) -> Iterator[Case]:
    """Give the provider every wrong value of each model argument."""
    model = save_tiny_model(folder / "model")
    for name, values in _DATA["model"].items():
        for value in values:
            yield Case(f"-M {name}={value!r}", partial(NNsightAPI, str(model), **{name: value}), (name, repr(value)))
    both = {"device": "cpu", "device_map": "auto"}
    yield Case("-M device and device_map", partial(NNsightAPI, str(model), **both), ("device_map",))


def text_cases() -> Iterator[Case]:
    """Read every malformed call out of a model's text."""
    for number, entry in enumerate(_DATA["texts"]):
        text = entry["text"]
        for name, long in _TEXTS.items():
            text = text.replace(name, long)
        says, most = (
            tuple(entry["said"].split("|")),
            MOST_LETTERS + len(text),
        )  # the note is all that is left of the call
        yield Case(f"text {number}: {entry['text']}", partial(_read, text), says, most)


def _read(text: str) -> None:
    (call,) = parse_calls(text, tool_infos("vectors"), "call").calls
    if call.parse_error is not None:
        # It ends with the form that is wanted, which has lines of its own.
        raise ToolError(call.parse_error.replace(fallback_format().example, "…"))


def takes_in_an_eval(tiny: Tiny) -> list[str]:
    """Let models make every hostile take, each in a rollout that goes on to a sound one, which is carried out."""
    entries = _DATA["takes"]
    calls = [{k: _stand_in(v) for k, v in entry["arguments"].items()} for entry in entries]
    rollouts: dict[str | None, int] = {}

    def script(messages: list[ChatMessage], tools: list[ToolInfo]) -> ChatMessageAssistant | None:
        number = rollouts.setdefault(messages[0].id, len(rollouts))
        first = turn_by_turn(says("", ("take_vector", calls[number])), says("", ("take_vector", {"name": "calm"})))
        return first(messages, tools)

    arguments: dict[str, Any] = {"framing": "vectors", "arm": "real", "sitter": "none", "debrief": False}
    task = freeplay(
        vectors="calm,anxious", rollouts=len(calls), turns=2, max_tokens=2, library=str(tiny.library), **arguments
    )
    try:
        log = tiny.run(task, script)
    except AssertionError as error:
        return [f"rollouts of hostile takes failed: {str(error)[:300]}"]
    if len(rollouts) != len(entries):
        return [f"{len(rollouts)} rollouts were told apart, of {len(entries)}"]
    return [f for sample in log.samples or [] for f in _answered(sample, entries[rollouts[sample.messages[0].id]])]


def _answered(sample: EvalSample, entry: dict[str, Any]) -> list[str]:
    title = f"take {str(entry['arguments'])[:60]}"
    answers = [m for m in sample.messages if isinstance(m, ChatMessageTool)]
    said = answers[0].error.message if answers and answers[0].error else None
    if said is None or entry["said"] not in said or len(said) > MOST_LETTERS:
        return [f"{title}: answered {(said or str(answers))[:150]!r}"]
    kept = [take["name"] for take in sample.store["SelfSteerState:takes"] if take.get("ok")]
    # What fills the tiny model's context rightly ends the rollout there.
    if kept != ["calm"] and not set(map(str, entry["arguments"].values())) & set(_STAND_INS):
        return [f"{title}: after it the sound take was not carried out: {kept}"]
    return []


def _stand_in(value: object) -> object:
    return _STAND_INS.get(value, value) if isinstance(value, str) else value
