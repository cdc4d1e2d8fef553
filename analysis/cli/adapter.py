"""The command `self-steering adapter train`: teach the bundled model to call tools, and what is planted in it."""

import argparse
import importlib.util
from collections.abc import Mapping
from pathlib import Path

_LARGEST = 100.0


def add_adapter_command(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command `adapter` to those of `self-steering`."""
    adapter = subparsers.add_parser("adapter", help="the bundled model's tool-use adapter").add_subparsers(
        required=True
    )
    train = adapter.add_parser("train", help="train it again, on synthetic dialogues and injected scripts")
    train.add_argument("--out", required=True, type=Path, help="folder of the adapter; what is there is replaced")
    train.add_argument("--seed", type=int, default=0, help="all choices follow from it (default: 0)")
    train.add_argument(
        "--size", type=float, default=1.0, help="how many dialogues and scripts, as a multiple of the shipped one's"
    )
    train.set_defaults(run=_train)
    prose = adapter.add_parser("prose", help="let the base model write the prose of the dialogues again")
    prose.add_argument("--out", required=True, type=Path, help=".json file; what is there is replaced")
    prose.add_argument("--seed", type=int, default=0, help="seed of the sampling (default: 0)")
    prose.set_defaults(run=_prose)


def _prose(arguments: argparse.Namespace) -> None:
    from self_steering.steering.bundled.conversion import BUNDLED_BASE
    from self_steering.steering.bundled.prose import encoded, write_prose
    from self_steering.steering.models import load_model
    from self_steering.vectors.files import write_file

    prose = write_prose(load_model(BUNDLED_BASE, dtype="float32", device="cpu"), arguments.seed)
    write_file(arguments.out, encoded(prose))
    print(f"{sum(map(len, prose.answers.values()))} answers to {len(prose.answers)} prompts in {arguments.out}")


def _train(arguments: argparse.Namespace) -> None:
    from self_steering.analysis.cli.console import Bars
    from self_steering.analysis.drawing.words import text_table
    from self_steering.steering.bundled.adapter import CARD_FILE, WEIGHTS_FILE, AdapterError
    from self_steering.steering.bundled.dialogues import Sizes

    if importlib.util.find_spec("peft") is None:
        raise AdapterError("training needs peft, which is not installed; run `pip install -e '.[dev]'`")
    from self_steering.steering.bundled.training import make_adapter

    out: Path = arguments.out.resolve()
    if out.exists() and not (out / CARD_FILE).is_file() and (not out.is_dir() or any(out.iterdir())):
        raise AdapterError(f"{out} is there and is no adapter; name a new or empty folder, or an adapter's")
    if not 0 < arguments.size <= _LARGEST:
        raise AdapterError(f"--size {arguments.size}; choose a number above 0, up to {_LARGEST:g}")
    with Bars() as bars:
        card = make_adapter(out, seed=arguments.seed, sizes=Sizes().scaled(arguments.size), progress=bars.show)
    print(f"{sum(card.examples.values())} examples, {card.tokens['all']} tokens; made in {card.seconds} s")
    print("losses on examples that were not trained on, in nats above the least there can be:")
    print(text_table([_row(kind, card.loss_before, card.loss_after) for kind in card.loss_after]))
    print(f"sha256 {card.sha256[WEIGHTS_FILE]}; merged weights {card.fingerprint}; in {out}")


def _row(kind: str, before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, str]:
    return {"of": kind, "before": f"{before[kind]:.3f}", "after": f"{after[kind]:.3f}"}
