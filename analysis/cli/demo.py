"""The command `self-steering demo`: what steering does to the bundled model's words, then a small run of each main experiment."""

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import indent, wrap
from typing import TYPE_CHECKING

from self_steering.analysis.cli.console import Bars

if TYPE_CHECKING:
    from inspect_ai import Task
    from inspect_ai.log import EvalLog

MODEL = "smollm2-135m-instruct"
SHOWN = ("calm", "golden_gate")
PROMPT = "What did you see on your walk today?"
_TOKENS, _SEED = 60, 2
_WIDTH = 100


def add_demo_command(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command `demo` to those of `self-steering`."""
    demo = subparsers.add_parser("demo", help="the bundled model steered, and a small run of each main experiment")
    demo.add_argument("--log-dir", default="logs", help="folder of the logs (default: logs)")
    demo.add_argument(
        "--picture", type=Path, help="write the picture of the last steered text to this .png, and run nothing else"
    )
    demo.set_defaults(run=_demo)


def _demo(arguments: argparse.Namespace) -> None:
    _show_steering(arguments.picture)
    if arguments.picture is not None:
        return
    for name, question, make in _experiments():
        print(f"\n{name}: {question}\n")
        log = _run(make(), arguments.log_dir)
        print(_result(log))
    print(f"\nMore of each:          self-steering table {arguments.log_dir}")
    print(f"Figures and tables:    self-steering report {arguments.log_dir} --out report")
    print(f"Read the transcripts:  inspect view --log-dir {arguments.log_dir}")


def _show_steering(picture: Path | None) -> None:
    """Print what the bundled model says to one prompt, unsteered and steered, from the same seed."""
    from self_steering.steering.notebook import load
    from self_steering.vectors.files import write_file

    model = load(MODEL)
    try:
        print(f"“{PROMPT}”, the same seed each time:")
        for vector in (None, *SHOWN):
            steer = [] if vector is None else [model.steer(vector)]
            answer = model.generate(PROMPT, steer=steer, max_tokens=_TOKENS, temperature=0.7, seed=_SEED)
            steered = sum(receipt["steered"] for receipt in answer.receipts)
            print(f"\n  {f'{vector}, dose 1, {steered} tokens steered' if vector else 'unsteered'}\n")
            print(indent("\n".join(wrap(" ".join(answer.text.split()), _WIDTH - 4)), "    "))
        if picture is not None:
            write_file(picture, answer.picture())
    finally:
        model.close()


def _experiments() -> "Iterator[tuple[str, str, Callable[[], Task]]]":
    """Yield the name, the question and the task of each experiment, in the size of a demo."""
    from self_steering.evals.freeplay import freeplay
    from self_steering.evals.frustration import frustration
    from self_steering.evals.introspection import introspection
    from self_steering.evals.maths import maths

    yield "Introspection", "can it tell which of ten vectors it was given?", lambda: introspection(random_directions=4)
    yield (
        "Free play",
        "what does it take with nothing to do?",
        lambda: freeplay(arm="real", rollouts=2, turns=8, max_tokens=80),
    )
    yield (
        "Maths",
        "does it steer itself at work, and does that help?",
        lambda: maths(level="easy", framing="none,vectors", arm="real", turns=10, max_tokens=80),
    )
    yield (
        "Frustration",
        "does it steer itself when every answer is rejected?",
        lambda: frustration(framing="none,vectors", tone="sarcastic", rollouts=2, rounds=3, max_tokens=80),
    )


def _run(task: "Task", log_dir: str) -> "EvalLog":
    """Run a task with a bar of its samples, and nothing else on the screen.

    Raises:
        ValueError: It did not finish.
    """
    from inspect_ai import eval as run_eval

    with Bars() as bars:
        _watch(lambda ended: bars.show("samples", ended, len(task.dataset)))
        (log,) = run_eval(task, model=f"nnsight/{MODEL}", log_dir=log_dir, display="none")
    if log.status != "success":
        raise ValueError(f"{log.location} did not finish: {log.error.message if log.error else log.status}")
    return log


def _watch(show: Callable[[int], object]) -> None:
    """Let the next eval tell how many of its samples have ended."""
    from inspect_ai.hooks import Hooks, SampleEnd, hooks

    ended = 0
    show(ended)

    # The registry keeps one of a name: the next eval's takes this one's place.
    @hooks(name="self_steering_demo", description="The demo's progress bar.")
    class _Watch(Hooks):
        async def on_sample_end(self, data: SampleEnd) -> None:  # noqa: ARG002  the hook's own parameter
            nonlocal ended
            ended += 1
            show(ended)


def _result(log: "EvalLog") -> str:
    """Return the table of an introspection log, or another's headline numbers."""
    from self_steering.analysis.drawing.words import text_table
    from self_steering.analysis.introspection.introspection_table import introspection_tables

    if log.eval.task.rpartition("/")[2] == "introspection":
        return text_table(introspection_tables(log)["arms"])
    metrics = [metric for score in (log.results.scores if log.results else []) for metric in score.metrics.values()]
    return text_table([{"figure": one.name.replace("_", " "), "value": f"{one.value:.3f}"} for one in metrics])
