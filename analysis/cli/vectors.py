"""The commands `self-steering vectors …`: make a library, import one, export from one, write a corpus."""

import argparse
import shutil
import time
import tomllib
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from self_steering.analysis.cli.console import Bars, layer_list, name_list
from self_steering.vectors.card import (
    CALIBRATION_FILE,
    PAGE_FILE,
    REPORT_FILE,
    VECTORS_FILE,
    Construction,
    LibraryCard,
    LibraryError,
)
from self_steering.vectors.catalogue import VectorEntry
from self_steering.vectors.making.layers import presets
from self_steering.vectors.shown import in_one_line

if TYPE_CHECKING:
    from self_steering.steering.models import LoadedModel
    from self_steering.vectors.library import Library
    from self_steering.vectors.making.build import Progress, Recipe
    from self_steering.vectors.making.stories import Written
    from self_steering.vectors.report import LibraryReport

_MISSING_SHOWN = 3  # missing stories that are named


def add_build_command(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command `build` to those of `self-steering vectors`."""
    build = subparsers.add_parser("build", help="make a library from stories or pairs, for any decoder-only model")
    _add_common(build)
    build.add_argument(
        "--pairs", type=Path, help=".jsonl file of pairs (positive, negative, and if need be prompt, name)"
    )
    build.add_argument("--read", choices=("mean", "last"), default="mean", help="where pairs are read (default mean)")
    build.add_argument("--skip-tokens", type=int, help="tokens at the start of a text that do not count")
    build.add_argument("--stories", help="folder, .parquet, .csv or .jsonl file, or hub data set (default: ours)")
    build.add_argument("--unpaired", action="store_true", help="the neutral stories have topics of their own")
    build.add_argument("--states", type=name_list, help="comma-separated; default all there are")
    build.add_argument("--layers", type=layer_list, help="such as 13-20 or 13,15; default 44 to 67 %% of the depth")
    build.add_argument("--construction", choices=get_args(Construction), help="default centred")
    build.add_argument("--preset", choices=sorted(presets()), help="layers, construction and norms as published")
    build.set_defaults(run=_build)


def _add_common(parser: argparse.ArgumentParser) -> None:
    """Add what all commands that make a library take."""
    _add_model(parser)
    parser.add_argument("--out", required=True, type=Path, help="folder of the library")
    parser.add_argument("--describe", type=Path, help="TOML file: a table a vector with effect, category, valence")
    parser.add_argument(
        "--default-dose", type=float, help="one multiple for all vectors that have none, instead of calibrating"
    )
    parser.add_argument("--max-batch", type=int, default=64, help="answers that are generated together (default 64)")
    parser.add_argument("--fresh", action="store_true", help="do not go on with an interrupted build")


def _add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", required=True, help="bundled model's name, ./folder, or hub id")
    parser.add_argument("--dtype", help="float32, bfloat16, float16 or auto")
    parser.add_argument("--device", help="torch device")
    parser.add_argument("--revision", help="hub branch, tag or commit")
    parser.add_argument("--context", type=int, help="most tokens that the model will be given")


def add_import_command(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command `import` to those of `self-steering vectors`."""
    command = subparsers.add_parser("import", help="make a library of vectors from elsewhere")
    command.add_argument(
        "files",
        nargs="+",
        type=Path,
        metavar="FILE",
        help=".safetensors, .npy, .npz, .pt, .gguf, or a folder: SAELens, a library",
    )
    _add_common(command)
    command.add_argument(
        "--beside", nargs="+", type=Path, default=[], help="libraries whose vectors come along as they are"
    )
    command.add_argument("--name", help="what to call the one vector")
    command.add_argument("--effect", help="the line that a model is shown of it")
    command.add_argument("--category", help="its category (default other)")
    command.add_argument("--valence", type=int, choices=(-1, 0, 1), help="its valence, if it has one")
    command.add_argument("--operation", help="add: the vector is added to the residual stream")
    command.add_argument("--hook", help="resid_post: after layer L; resid_pre: before it")
    command.add_argument(
        "--counting", help="blocks: layer 0 is the first decoder layer; hidden_states: 0 is the embedding"
    )
    command.add_argument("--layers", type=layer_list, help="such as 12, 10-18 or 10,12")
    command.add_argument("--scale", type=float, help="multiple of the stored tensor that strength 1 adds, such as 1")
    command.add_argument("--norm", help="length that each layer is scaled to, or `recorded`: that in the file")
    command.add_argument("--sae-rows", type=layer_list, help="features of a sparse autoencoder, such as 1234,77")
    command.add_argument("--texts", type=Path, help=".jsonl file of pairs that the vectors are to tell apart")
    command.add_argument("--read", choices=("mean", "last"), default="mean", help="where these are read (default mean)")
    command.set_defaults(run=_import)


def add_export_command(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command `export` to those of `self-steering vectors`."""
    command = subparsers.add_parser("export", help="write vectors of a library for other tools")
    command.add_argument("library", type=Path, help="folder of the library")
    command.add_argument("--vectors", type=name_list, help="comma-separated; default all")
    command.add_argument("--to", required=True, choices=("safetensors", "gguf", "steering-vectors"), help="format")
    command.add_argument("--out", required=True, type=Path, help="folder for the files")
    command.set_defaults(run=_export)


def add_neutral_command(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command `neutral` to those of `self-steering vectors`."""
    command = subparsers.add_parser("neutral", help="measure the neutral mean of a library that lacks it")
    command.add_argument("library", type=Path, help="folder of the library")
    _add_model(command)
    command.set_defaults(run=_neutral)


def _neutral(arguments: argparse.Namespace) -> None:
    from self_steering.steering.models import load_model
    from self_steering.vectors.card import NEUTRAL_FILE, library_folder, read_card
    from self_steering.vectors.files import write_file
    from self_steering.vectors.library import neutral_file
    from self_steering.vectors.making.pairs import neutral_mean

    folder = library_folder(str(arguments.library))
    card = read_card(folder)
    loaded = load_model(arguments.model, **_chosen(arguments))
    if loaded.fingerprint != card.fingerprint:
        raise LibraryError(
            f"the library in {folder} was made for {card.model!r} (weights {card.fingerprint}), not for {arguments.model!r} "
            f"(weights {loaded.fingerprint}); name its model"
        )
    write_file(folder / NEUTRAL_FILE, neutral_file(neutral_mean(loaded, card.layers), card))
    print(f"{folder / NEUTRAL_FILE}: the neutral stories' mean at layers {card.layers[0]}-{card.layers[-1]}")


def _chosen(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return how the model is to be loaded."""
    return {name: getattr(arguments, name) for name in ("dtype", "device", "revision", "context")}


def _recipe(arguments: argparse.Namespace) -> "Recipe":
    from self_steering.vectors.making.build import Recipe

    preset = presets()[arguments.preset] if arguments.preset else None
    published = range(preset.layers[0], preset.layers[1] + 1) if preset else None
    from self_steering.vectors.making.extraction import SKIPPED_TOKENS

    skip = arguments.skip_tokens
    return Recipe(
        layers=arguments.layers or published,
        construction=arguments.construction or ("difference" if preset else "centred"),
        scaled_to=preset.norm if preset else None,
        default_dose=1.0 if preset and arguments.default_dose is None else arguments.default_dose,
        max_batch=arguments.max_batch,
        skip=(0 if arguments.pairs else SKIPPED_TOKENS) if skip is None else skip,
    )


def _build(arguments: argparse.Namespace) -> None:
    from self_steering.vectors.library import check_target
    from self_steering.vectors.making.build import build_library
    from self_steering.vectors.making.corpus import bundled_stories, open_corpus
    from self_steering.vectors.making.pairs import build_from_pairs, read_pairs

    check_target(arguments.out)
    recipe = _recipe(arguments)
    entries = _entries(arguments)
    make: Callable[..., tuple[Library, LibraryReport]]
    if arguments.pairs:
        if clash := [
            one for one in ("stories", "states", "preset", "construction", "unpaired") if getattr(arguments, one)
        ]:
            raise LibraryError(f"--pairs was given with --{', --'.join(clash)}, which are for stories; leave one out")
        make = partial(build_from_pairs, pairs=read_pairs(arguments.pairs), recipe=recipe, read_at=arguments.read)
    else:
        corpus = open_corpus(arguments.stories or bundled_stories(), arguments.states, unpaired=arguments.unpaired)
        make = partial(build_library, corpus=corpus, recipe=recipe)

    def checked(loaded: "LoadedModel", work: Path, progress: "Progress") -> "tuple[Library, LibraryReport]":
        if arguments.preset:
            presets()[arguments.preset].band(loaded.model.config.get_text_config().num_hidden_layers)
        return make(loaded, work=work, progress=progress)

    _make(arguments, checked, entries)


def _import(arguments: argparse.Namespace) -> None:
    from self_steering.vectors.foreign import open_foreign, told_by
    from self_steering.vectors.library import check_target
    from self_steering.vectors.making.build import Recipe
    from self_steering.vectors.making.imported import import_library
    from self_steering.vectors.making.pairs import read_pairs

    check_target(arguments.out)
    told = told_by(
        **{what: getattr(arguments, what) for what in ("operation", "hook", "counting", "layers", "scale", "norm")}
    )
    if arguments.name is not None and len(arguments.files) > 1:
        raise LibraryError(
            f"--name {arguments.name} is for one file, found {len(arguments.files)}; import them one by one"
        )
    files = [open_foreign(path, told, rows=arguments.sae_rows or (), name=arguments.name) for path in arguments.files]
    entries = _entries(arguments)
    if arguments.effect is not None:
        names = [name for file in files for name in file.tensors]
        if len(names) != 1 or entries:
            raise LibraryError(
                f"--effect is for one vector, found {', '.join(names)}; describe several with --describe FILE.toml"
            )
        entries[names[0]] = _entry(
            names[0], {"effect": arguments.effect, "category": arguments.category, "valence": arguments.valence}
        )
    # What a library says of itself counts, whatever was told of the files.
    files += [open_foreign(path) for path in arguments.beside]
    texts = read_pairs(arguments.texts) if arguments.texts else None
    recipe = Recipe(default_dose=arguments.default_dose, max_batch=arguments.max_batch, skip=0)
    _make(
        arguments,
        partial(import_library, files=files, recipe=recipe, entries=entries, texts=texts, read_at=arguments.read),
        {},
    )


def _export(arguments: argparse.Namespace) -> None:
    from self_steering.vectors.card import library_folder
    from self_steering.vectors.exported import export_vectors
    from self_steering.vectors.library import load_library

    library = load_library(library_folder(str(arguments.library)))
    for path in export_vectors(library, arguments.vectors or library.names, arguments.to, arguments.out):
        print(path)


def _entries(arguments: argparse.Namespace) -> dict[str, VectorEntry]:
    """Return what the file of --describe says.

    Raises:
        LibraryError: It cannot be read, or an entry is not valid.
    """
    if arguments.describe is None:
        return {}
    try:
        told = tomllib.loads(arguments.describe.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:  # the last where it is nested too deep
        raise LibraryError(
            f"{arguments.describe} cannot be read as TOML: {in_one_line(error)}; mend the file"
        ) from error
    return {name: _entry(name, entry, f" in {arguments.describe}") for name, entry in told.items()}


def _entry(name: str, told: object, where: str = "") -> VectorEntry:
    from pydantic import ValidationError

    given = {key: value for key, value in told.items() if value is not None} if isinstance(told, dict) else told
    try:
        return VectorEntry.model_validate(given)
    except ValidationError as error:
        raise LibraryError(
            f"what is said of {name}{where}: {in_one_line(error)}; give effect (one line), category, valence"
        ) from error


def _make(
    arguments: argparse.Namespace,
    make: "Callable[..., tuple[Library, LibraryReport]]",
    entries: dict[str, VectorEntry],
) -> None:
    """Load the model, make the library, and write it with its page: all of it or nothing."""
    from self_steering.analysis.library.library_page import library_page
    from self_steering.steering.models import load_model
    from self_steering.vectors.making.build import encoded

    started = time.monotonic()
    loaded = load_model(arguments.model, **_chosen(arguments))
    work = arguments.out.resolve().parent / f".{arguments.out.resolve().name}.work"
    if arguments.fresh:
        shutil.rmtree(work, ignore_errors=True)
    with Bars() as bars:
        library, report = make(loaded, work=work, progress=bars.show)
    if odd := sorted(set(entries) - set(library.names)):
        raise LibraryError(f"{', '.join(odd)} is described and not there; vectors: {', '.join(library.names)}")
    if entries:
        library = replace(library, card=library.card.model_copy(update={"entries": entries}))
    evidence = {REPORT_FILE: encoded(report), PAGE_FILE: library_page(report, library.card.own).encode()}
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
