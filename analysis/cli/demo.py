"""The commands `self-steering demo` and `truth`: the bundled model steered, and what was planted in it beside what is found."""

import argparse
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from textwrap import indent, wrap
from typing import TYPE_CHECKING

from self_steering.analysis.cli.console import Bars

if TYPE_CHECKING:
    from inspect_ai import Task

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


def add_truth_command(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command `truth` to those of `self-steering`."""
    truth = subparsers.add_parser(
        "truth", help="what was planted in the bundled model beside what its evals find, at length"
    )
    truth.add_argument("--log-dir", default="logs/truth", help="folder of the logs (default: logs/truth)")
    truth.add_argument(
        "--rollouts", type=int, default=60, help="rollouts a cell of free play; frustration has a fifth of it"
    )
    truth.add_argument("--seed", type=int, default=0, help="seed of everything that is drawn (default: 0)")
    truth.set_defaults(run=_truth)


def _demo(arguments: argparse.Namespace) -> None:
    _show_steering(arguments.picture)
    if arguments.picture is not None:
        return
    logs = []
    for name, question, make in _experiments():
        print(f"\n{name}: {question}\n")
        logs.append(_run(make(), MODEL, arguments.log_dir))
    _print_planted(logs)
    print(f"\nFigures and tables:    self-steering report {arguments.log_dir} --out report")
    print(f"Read the transcripts:  inspect view --log-dir {arguments.log_dir}")


def _truth(arguments: argparse.Namespace) -> None:
    from self_steering.steering.bundled.conversion import BUNDLED_BASE

    logs = []
    for model in (MODEL, BUNDLED_BASE):
        for name, make in _whole(max(1, arguments.rollouts), arguments.seed, trained=model == MODEL):
            print(f"\n{model}, {name}\n")
            logs.append(_run(make(), model, arguments.log_dir))
    _print_planted(logs)


def _print_planted(logs: Sequence[str]) -> None:
    """Print what was planted beside what these logs say; those of earlier runs hold the same rollouts again, and count no more."""
    from self_steering.analysis.report.planted import planted_and_found, planted_text
    from self_steering.analysis.tables import read_tables
    from self_steering.steering.bundled.adapter import read_card, shipped_adapter

    table = planted_and_found(read_tables(*logs), read_card(shipped_adapter()).planted)
    print("\nWhat the bundled model was trained to do, and what is found of it (95 % intervals):\n")
    print(planted_text(table))


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
    from self_steering.evals.detection import detection
    from self_steering.evals.freeplay import freeplay
    from self_steering.evals.frustration import frustration

    yield (
        "Detection",
        "can it tell that something was injected, where the text says nothing of it?",
        lambda: detection(arm="real,placebo", doses=1, controls=1),
    )
    yield (
        "Free play",
        "what does it take with nothing to do?",
        lambda: freeplay(vectors="menu", arm="real", rollouts=3, turns=8, max_tokens=50, debrief=False),
    )
    yield (
        "Frustration",
        "does it steer itself when every answer is rejected?",
        lambda: frustration(tone="neutral,sarcastic", possible="true", rollouts=3, rounds=3, max_tokens=40),
    )


def _whole(rollouts: int, seed: int, *, trained: bool) -> "Iterator[tuple[str, Callable[[], Task]]]":
    """Yield the name and the task of each experiment, in full; a model that calls no tools has the scripted ones only."""
    from self_steering.evals.detection import detection
    from self_steering.evals.freeplay import freeplay
    from self_steering.evals.frustration import frustration
    from self_steering.evals.introspection import introspection
    from self_steering.evals.maths import maths
    from self_steering.evals.preference import preference

    yield "detection", lambda: detection(vectors="all", seed=seed)
    yield "introspection", lambda: introspection(vectors="all", seed=seed)
    yield "preference", lambda: preference(seed=seed)
    if trained:
        yield (
            "free play",
            lambda: freeplay(vectors="menu", rollouts=rollouts, turns=10, max_tokens=60, debrief=False, seed=seed),
        )
        yield "frustration", lambda: frustration(rollouts=max(1, rollouts // 5), max_tokens=60, seed=seed)
        yield (
            "maths",
            lambda: maths(
                level="easy", intent="neutral,mandatory", arm="real", rollouts=max(1, rollouts // 10), seed=seed
            ),
        )


def _run(task: "Task", model: str, log_dir: str) -> str:
    """Run a task with a bar of its samples, and nothing else on the screen; return where its log is.

    Raises:
        ValueError: It did not finish.
    """
    from inspect_ai import eval as run_eval

    with Bars() as bars:
        _watch(lambda ended: bars.show("samples", ended, len(task.dataset)))
        (log,) = run_eval(task, model=f"nnsight/{model}", log_dir=log_dir, display="none")
    if log.status != "success":
        raise ValueError(f"{log.location} did not finish: {log.error.message if log.error else log.status}")
    return str(log.location)


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
