"""`make bench`: how fast steering is beside other ways to generate, how little is computed twice, and whether memory grows."""

import argparse
import importlib.metadata
import json
import os
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from transformers import AutoConfig

from self_steering.analysis.drawing.words import text_table
from self_steering.steering.bundled.conversion import BUNDLED, bundled_model_folder
from self_steering.vectors.making.layers import default_band
from tests.bench import decoding, drawing, launch, memory, on_vllm, reuse, rollouts
from tests.bench.contest import BAND, PLAIN, Speeds
from tests.bench.figures import FIGURES
from tests.support.models import save_tiny_model

TINY_BAND = (2, 3)
_PACKAGES = ("torch", "transformers", "nnsight", "inspect-ai")


class Results:
    """What was measured, in the order of measuring."""

    def __init__(self) -> None:
        self.figures: dict[str, float] = {}
        self.speeds: dict[str, decoding.Decoding] = {}
        self.launch: dict[str, Speeds] = {}
        self.race: rollouts.Race | None = None
        self.drawing: dict[str, float] = {}
        self.on_vllm: dict[str, Any] = {}

    def speed_rows(self) -> list[dict[str, str]]:
        """Return tokens a second as a table, a row a model and way."""
        return [row for model, speeds in {**self.speeds, **self.launch}.items() for row in speeds.rows_of_table(model)]

    def figure_rows(self) -> list[dict[str, str]]:
        """Return the figures as a table."""
        rows = []
        for key, value in self.figures.items():
            figure = FIGURES[key]
            sign = "≥" if figure.side == "least" else "≤"
            reached = "yes" if figure.reached(value) else "no"
            rows.append({"figure": figure.name, "is": f"{value:.3f}", "reach": f"{sign} {figure.reach}", "in": reached})
        return rows

    def as_json(self, rounds: int) -> dict[str, Any]:
        """Return all of it for a file."""
        return {
            "versions": {name: importlib.metadata.version(name) for name in _PACKAGES},
            "cores": os.cpu_count(),
            "rounds": rounds,
            "figures": [
                {
                    "name": FIGURES[key].name,
                    "value": value,
                    FIGURES[key].side: FIGURES[key].reach,
                    "reached": FIGURES[key].reached(value),
                }
                for key, value in self.figures.items()
            ],
            "seconds": {model: speeds.as_json() for model, speeds in {**self.speeds, **self.launch}.items()},
            "seconds_reading_weights": {model: list(speeds.read) for model, speeds in self.speeds.items()},
            "free_play": None if self.race is None else vars(self.race),
            "milliseconds_choosing": self.drawing,
            "vllm": self.on_vllm,
        }


def _decoding(results: Results, rounds: int) -> None:
    folder = bundled_model_folder(BUNDLED)
    layers = AutoConfig.from_pretrained(folder).num_hidden_layers
    bundled = decoding.measure(folder, default_band(layers, BUNDLED), rounds)
    with tempfile.TemporaryDirectory() as temporary:
        tiny = decoding.measure(save_tiny_model(Path(temporary) / "model", "qwen3"), TINY_BAND, rounds)
    results.speeds = {BUNDLED: bundled, "tiny Qwen3": tiny}
    for rows in decoding.ROWS:
        results.figures[f"steered_{rows}"] = bundled.ratio(BAND, PLAIN, rows)
    one, eight = (bundled.tokens_a_second(BAND, rows) for rows in decoding.ROWS)
    results.figures["batching"] = eight / one
    results.figures["step"] = bundled.step


def _launch(results: Results, rounds: int) -> None:
    results.launch = {name: launch.measure(shape, rounds) for name, shape in launch.SHAPES.items()}
    for rows in launch.NEW:
        results.figures[f"launch_{rows}"] = min(speeds.ratio(BAND, PLAIN, rows) for speeds in results.launch.values())


def _reuse(results: Results, _: int) -> None:
    results.figures["conversation"] = reuse.conversation_ratio()
    results.figures["introspection"] = reuse.introspection_sharing(rotations=10).computed
    two = reuse.introspection_sharing(rotations=2)
    results.figures["introspection_two"] = two.computed
    results.figures["avoidable_two"] = two.computed / two.distinct


def _rollouts(results: Results, _: int) -> None:
    results.race = rollouts.measure(bundled_model_folder(BUNDLED))
    results.figures["rollouts"] = results.race.ours / results.race.theirs


def _drawing(results: Results, _: int) -> None:
    results.drawing = drawing.milliseconds()
    results.figures["drawing"] = max(results.drawing.values())


def _memory(results: Results, _: int) -> None:
    results.figures["memory"] = memory.growth()


def _on_vllm(results: Results, rounds: int) -> None:
    if not on_vllm.installed():
        sys.stdout.write("vllm: not there (`make test-vllm` builds its environment)\n")
        return
    results.on_vllm = on_vllm.measure(rounds)
    for rows, ratio in results.on_vllm["steered ÷ plain"].items():
        results.figures[f"vllm_{rows}"] = ratio


PARTS: Mapping[str, Callable[[Results, int], None]] = {
    "decoding": _decoding,
    "launch": _launch,
    "reuse": _reuse,
    "rollouts": _rollouts,
    "drawing": _drawing,
    "memory": _memory,
    "vllm": _on_vllm,
}


def _vllm_rows(found: Mapping[str, Any]) -> list[dict[str, str]]:
    speeds = {f"tokens a second, {way}": value for way, value in found["tokens a second"].items()}
    rates = {f"introspection samples a minute, {k}": v for k, v in found["introspection, samples a minute"].items()}
    return [{"what": what, "is": f"{value:.1f}"} for what, value in {**speeds, **rates}.items()]


def main() -> None:
    """Run the parts, print the tables, and save all of it."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description="Measure speed and memory.")
    parser.add_argument("--only", choices=PARTS, action="append", help="one part; may be given again")
    parser.add_argument("--rounds", type=int, default=3, help="interleaved rounds of decoding (default: 3)")
    parser.add_argument(
        "--out", type=Path, default=Path("bench.json"), help="file of the results (default: bench.json)"
    )
    arguments = parser.parse_args()
    if arguments.rounds < 1:
        parser.error("--rounds must be 1 or more")
    results = Results()
    for name in arguments.only or PARTS:
        PARTS[name](results, arguments.rounds)
        sys.stdout.write(f"{name}: done\n")
        sys.stdout.flush()
        arguments.out.write_text(json.dumps(results.as_json(arguments.rounds), indent=1) + "\n", encoding="utf-8")
    if results.speeds or results.launch:
        sys.stdout.write(
            "\nNew tokens a second, all rows together, medians\n" + text_table(results.speed_rows()) + "\n"
        )
    if results.on_vllm:
        sys.stdout.write("\nOn vLLM\n" + text_table(_vllm_rows(results.on_vllm)) + "\n")
    sys.stdout.write("\n" + text_table(results.figure_rows()) + f"\n\nSaved in {arguments.out}\n")


if __name__ == "__main__":
    main()
