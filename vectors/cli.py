"""The command `self-steering`: making vector libraries."""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from self_steering.vectors.corpus import bundled_stories, load_corpus

DEFAULT_DOSE = 0.6


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; errors that a user can mend end in one line and exit code 1."""
    arguments = _parser().parse_args(argv)
    try:
        arguments.run(arguments)
    except (OSError, ValueError) as error:
        print(f"self-steering: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="self-steering", description="Tools around the self-steering evals.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    vectors = commands.add_parser("vectors", help="steering vector libraries").add_subparsers(required=True)
    build = vectors.add_parser("build", help="extract a library from stories, for any decoder-only model")
    build.add_argument("--model", required=True, help="bundled model's name, ./folder, or hub id")
    build.add_argument("--out", required=True, type=Path, help="folder of the library")
    build.add_argument("--stories", type=Path, default=bundled_stories(), help="folder of stories (default: ours)")
    build.add_argument("--states", type=_name_list, help="comma-separated; default all there are")
    build.add_argument("--layers", type=_layer_list, help="such as 13-20 or 13,15; default 44 to 67 %% of the depth")
    build.add_argument("--construction", choices=["difference", "centred"], default="centred")
    build.add_argument("--default-dose", type=float, default=DEFAULT_DOSE, help="multiple of a vector at dose 1.0")
    build.add_argument("--dtype", help="float32, bfloat16, float16 or auto")
    build.add_argument("--device", help="torch device")
    build.add_argument("--revision", help="hub branch, tag or commit")
    build.set_defaults(run=_build)
    return parser


def _name_list(text: str) -> list[str]:
    return [name.strip() for name in text.split(",")]


def _layer_list(text: str) -> list[int]:
    first, dash, last = text.partition("-")
    try:
        layers = list(range(int(first), int(last) + 1)) if dash else [int(part) for part in text.split(",")]
    except ValueError:
        layers = []
    if not layers:
        raise argparse.ArgumentTypeError(
            f"{text!r} names no layers; write a range such as 13-20 or a list such as 13,15"
        )
    return layers


def _build(arguments: argparse.Namespace) -> None:
    from tqdm import tqdm

    from self_steering.steering.forward import SteeredModel
    from self_steering.steering.models import load_model
    from self_steering.vectors.extract import build_library

    started = time.monotonic()
    if arguments.out.exists() and not arguments.out.is_dir():
        raise ValueError(f"--out {arguments.out} is a file; name a folder")
    corpus = load_corpus(arguments.stories, arguments.states)
    loaded = load_model(arguments.model, dtype=arguments.dtype, device=arguments.device, revision=arguments.revision)
    with tqdm(total=len(corpus.stories) * len(corpus.settings), desc="stories", unit="story") as bar:
        library = build_library(
            SteeredModel(loaded.model, loaded.tokenizer),
            loaded.tokenizer,
            corpus,
            name=loaded.name,
            revision=loaded.revision,
            fingerprint=loaded.fingerprint,
            layers=arguments.layers,
            construction=arguments.construction,
            default_dose=arguments.default_dose,
            progress=lambda done: bar.update(done - bar.n),
        )
    library.save(arguments.out)
    layers = library.card.layers
    print(
        f"{len(library.vectors)} vectors for {loaded.name} at layers {layers[0]}-{layers[-1]} in {arguments.out}, "
        f"{time.monotonic() - started:.0f} s"
    )


if __name__ == "__main__":
    sys.exit(main())
