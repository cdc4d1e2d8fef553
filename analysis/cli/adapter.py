"""The command `self-steering adapter train`: teach the bundled model the form of tool calls."""

import argparse
import importlib.util
from pathlib import Path


def add_adapter_command(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command `adapter` to those of `self-steering`."""
    adapter = subparsers.add_parser("adapter", help="the bundled model's tool-use adapter").add_subparsers(
        required=True
    )
    train = adapter.add_parser("train", help="train it again, on synthetic dialogues")
    train.add_argument("--out", required=True, type=Path, help="folder of the adapter; what is there is replaced")
    train.add_argument("--seed", type=int, default=0, help="all choices follow from it (default: 0)")
    train.add_argument("--rounds", type=int, help="how often each framing takes each vector (default: as shipped)")
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
    from self_steering.steering.bundled.adapter import CARD_FILE, WEIGHTS_FILE, AdapterError
    from self_steering.steering.bundled.dialogues import Sizes

    if importlib.util.find_spec("peft") is None:
        raise AdapterError("training needs peft, which is not installed; run `pip install -e '.[dev]'`")
    from self_steering.steering.bundled.training import make_adapter

    out: Path = arguments.out.resolve()
    if out.exists() and not (out / CARD_FILE).is_file() and (not out.is_dir() or any(out.iterdir())):
        raise AdapterError(f"{out} is there and is no adapter; name a new or empty folder, or an adapter's")
    sizes = Sizes() if arguments.rounds is None else Sizes(rounds=arguments.rounds)
    with Bars() as bars:
        card = make_adapter(out, seed=arguments.seed, sizes=sizes, progress=bars.show)
    before, after = card.loss_before, card.loss_after
    print(f"{sum(card.dialogues.values())} dialogues, {card.tokens['all']} tokens; made in {card.seconds} s")
    print(f"held-out loss a token: form {before.form} before, {after.form} after; prose KL to the base {after.prose}")
    print(f"sha256 {card.sha256[WEIGHTS_FILE]}; merged weights {card.fingerprint}; in {out}")
