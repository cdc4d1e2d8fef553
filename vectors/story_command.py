"""The command `self-steering vectors stories`: write a corpus with any Inspect model."""
# ruff: noqa: T201, PLC0415  a command prints, and what takes seconds to import is imported by the command that needs it

import argparse
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from self_steering.vectors.arguments import name_list

if TYPE_CHECKING:
    from self_steering.vectors.write_stories import Written

_SHOWN = 3


def add_stories_command(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command `stories` to those of `self-steering vectors`."""
    stories = subparsers.add_parser("stories", help="write a corpus of stories with any Inspect model")
    stories.add_argument("--model", required=True, help="Inspect model, such as openai/gpt-4o or nnsight/./folder")
    stories.add_argument("--out", required=True, type=Path, help=".jsonl file; what is there is kept and gone on with")
    stories.add_argument(
        "--states", type=name_list, help="comma-separated, neutral among them; default all and neutral"
    )
    stories.add_argument("--settings", type=Path, help="TOML file with a table [settings] (default: our thirty)")
    stories.add_argument("--per-setting", type=int, default=1, help="stories a state and setting (default: 1)")
    stories.add_argument("--attempts", type=int, default=3, help="most attempts a story, over all runs (default: 3)")
    stories.add_argument("--temperature", type=float, default=1.0, help="sampling temperature (default: 1.0)")
    stories.add_argument("--seed", type=int, default=0, help="each attempt's seed follows from it (default: 0)")
    stories.add_argument(
        "--max-tokens", type=int, default=1024, help="of one answer, reasoning included (default: 1024)"
    )
    stories.add_argument("--max-connections", type=int, help="requests in flight (default: the provider's)")
    stories.add_argument("--mix", action="store_true", help="go on with a file of another model, prompts or numbers")
    stories.set_defaults(run=_stories)


def _stories(arguments: argparse.Namespace) -> None:
    import anyio
    from tqdm import tqdm

    from self_steering.vectors.corpus import read_settings
    from self_steering.vectors.story_file import StoryError
    from self_steering.vectors.write_stories import write_stories

    options: dict[str, Any] = {
        name: getattr(arguments, name)
        for name in (
            "states",
            "per_setting",
            "attempts",
            "temperature",
            "seed",
            "max_tokens",
            "max_connections",
            "mix",
        )
    }
    settings = read_settings(arguments.settings)
    with tqdm(desc="stories", unit="story", delay=0.5) as bar:

        def progress(there: int, wanted: int) -> None:
            bar.total = wanted
            bar.update(there - bar.n)

        write = partial(write_stories, arguments.model, arguments.out, settings=settings, progress=progress, **options)
        written = anyio.run(partial(write, notice=bar.write))
    print(_summary(written, arguments.out))
    if written.missing:
        first = ", ".join(map(str, written.missing[:_SHOWN]))
        raise StoryError(
            f"{len(written.missing)} stories are missing after {arguments.attempts} attempts each: {first}"
            f"{', …' if len(written.missing) > _SHOWN else ''}; read {arguments.out}.rejected.jsonl, and run the same "
            f"command with --attempts {2 * arguments.attempts} to go on"
        )


def _summary(written: "Written", out: Path) -> str:
    from self_steering.vectors.write_stories import REASONS

    counts = ", ".join(f"{written.dropped[reason]} {reason}" for reason in REASONS if written.dropped[reason])
    return (
        f"{written.there} stories were there, {written.written} written to {out}; "
        f"{written.dropped.total()} attempts dropped{f': {counts}' if counts else ''}"
    )
