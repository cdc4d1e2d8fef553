"""The commands `self-steering vectors build` and `vectors stories`: make a library, write a corpus."""

import argparse
import shutil
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from self_steering.analysis.cli.console import Bars, layer_list, name_list
from self_steering.vectors.card import CALIBRATION_FILE, PAGE_FILE, REPORT_FILE, VECTORS_FILE, Construction, LibraryCard
from self_steering.vectors.making.layers import presets

if TYPE_CHECKING:
    from self_steering.vectors.making.build import Recipe
    from self_steering.vectors.making.stories import Written

_MISSING_SHOWN = 3  # missing stories that are named


def add_build_command(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command `build` to those of `self-steering vectors`."""
    build = subparsers.add_parser("build", help="make a library from stories, for any decoder-only model")
    build.add_argument("--model", required=True, help="bundled model's name, ./folder, or hub id")
    build.add_argument("--out", required=True, type=Path, help="folder of the library")
    build.add_argument("--stories", help="folder, .parquet, .csv or .jsonl file, or hub data set (default: ours)")
    build.add_argument("--unpaired", action="store_true", help="the neutral stories have topics of their own")
    build.add_argument("--states", type=name_list, help="comma-separated; default all there are")
    build.add_argument("--layers", type=layer_list, help="such as 13-20 or 13,15; default 44 to 67 %% of the depth")
    build.add_argument("--construction", choices=get_args(Construction), help="default centred")
    build.add_argument("--preset", choices=sorted(presets()), help="layers, construction and norms as published")
    build.add_argument("--default-dose", type=float, help="one multiple for all vectors, instead of calibrating each")
    build.add_argument("--max-batch", type=int, default=64, help="answers that are generated together (default 64)")
    build.add_argument("--dtype", help="float32, bfloat16, float16 or auto")
    build.add_argument("--device", help="torch device")
    build.add_argument("--revision", help="hub branch, tag or commit")
    build.add_argument("--context", type=int, help="most tokens that the model will be given")
    build.add_argument("--fresh", action="store_true", help="do not go on with an interrupted build")
    build.set_defaults(run=_build)


def _recipe(arguments: argparse.Namespace) -> "Recipe":
    from self_steering.vectors.making.build import Recipe

    preset = presets()[arguments.preset] if arguments.preset else None
    published = range(preset.layers[0], preset.layers[1] + 1) if preset else None
    return Recipe(
        layers=arguments.layers or published,
        construction=arguments.construction or ("difference" if preset else "centred"),
        scaled_to=preset.norm if preset else None,
        default_dose=1.0 if preset and arguments.default_dose is None else arguments.default_dose,
        max_batch=arguments.max_batch,
    )


def _build(arguments: argparse.Namespace) -> None:
    from self_steering.analysis.library.library_page import library_page
    from self_steering.steering.models import load_model
    from self_steering.vectors.library import check_target
    from self_steering.vectors.making.build import build_library, encoded
    from self_steering.vectors.making.corpus import bundled_stories, open_corpus

    started = time.monotonic()
    check_target(arguments.out)
    recipe = _recipe(arguments)
    corpus = open_corpus(arguments.stories or bundled_stories(), arguments.states, unpaired=arguments.unpaired)
    chosen = {name: getattr(arguments, name) for name in ("dtype", "device", "revision", "context")}
    loaded = load_model(arguments.model, **chosen)
    if arguments.preset:
        presets()[arguments.preset].band(loaded.model.config.get_text_config().num_hidden_layers)
    work = arguments.out.resolve().parent / f".{arguments.out.resolve().name}.work"
    if arguments.fresh:
        shutil.rmtree(work, ignore_errors=True)
    with Bars() as bars:
        library, report = build_library(loaded, corpus, recipe, work=work, progress=bars.show)
    evidence = {REPORT_FILE: encoded(report), PAGE_FILE: library_page(report).encode()}
    if report.calibration is not None:
        evidence[CALIBRATION_FILE] = encoded(report.calibration)
    library.save(arguments.out, evidence)
    shutil.rmtree(work, ignore_errors=True)
    _print_library(library.card, arguments.out, time.monotonic() - started)


def _print_library(card: LibraryCard, folder: Path, seconds: float) -> None:
    doses = sorted(card.default_doses.values())
    found = "calibrated" if card.calibrated else "not calibrated"
    print(
        f"{len(card.default_doses)} vectors for {card.model} at layers {card.layers[0]}-{card.layers[-1]} in {folder}"
    )
    print(f"default doses {doses[0]:g} to {doses[-1]:g}, {found}; made in {seconds:.0f} s")
    for name, faults in sorted(card.faults.items()):
        print(f"marked bad: {name}: {'; '.join(faults)}")
    print(f"sha256 of the vectors {card.sha256[VECTORS_FILE]}; read {folder / PAGE_FILE}")


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

    from self_steering.vectors.making.corpus import read_settings
    from self_steering.vectors.making.stories import StoryError, write_stories

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
        first = ", ".join(map(str, written.missing[:_MISSING_SHOWN]))
        raise StoryError(
            f"{len(written.missing)} stories are missing after {arguments.attempts} attempts each: {first}"
            f"{', …' if len(written.missing) > _MISSING_SHOWN else ''}; read {arguments.out}.rejected.jsonl, and run the same "
            f"command with --attempts {2 * arguments.attempts} to go on"
        )


def _summary(written: "Written", out: Path) -> str:
    from self_steering.vectors.making.stories import REASONS

    counts = ", ".join(f"{written.dropped[reason]} {reason}" for reason in REASONS if written.dropped[reason])
    return (
        f"{written.there} stories were there, {written.written} written to {out}; "
        f"{written.dropped.total()} attempts dropped{f': {counts}' if counts else ''}"
    )
