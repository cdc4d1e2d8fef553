"""What the tests of the experiments that steer stretches share: a tiny model with a library, hand-made readings, logs."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inspect_ai import Task, eval  # noqa: A004  Inspect's name for it
from inspect_ai.event import InfoEvent, ModelEvent
from inspect_ai.log import EvalLog, EvalSample, read_eval_log
from inspect_ai.model import get_model

from self_steering.solvers.readings import Cost, Reading
from self_steering.steering.models import load_model
from tests.support.small_library import save_library
from tests.support.templates import save_family_model

NAMES = ("calm", "goblins")
LAYERS = (2, 3)
DEFAULT_DOSE = 0.5
KEY = "self_steering"


@dataclass(frozen=True)
class Tiny:
    """A tiny model with a library of two random vectors.

    Attributes:
        model: Folder of the model.
        library: Folder of its library.
    """

    model: Path
    library: Path

    def run(self, task: Task) -> EvalLog:
        """Run a task on a freshly loaded model."""
        model = get_model(f"nnsight/{self.model}", memoize=False)
        try:
            quiet = {"display": "none", "log_realtime": False, "score_display": False}
            (log,) = eval(task, model=model, log_dir=str(self.model.parent / "logs"), **quiet)
        finally:
            model.api.close()
        assert log.status == "success", log.error
        return read_eval_log(log.location, resolve_attachments="full")


def make_tiny(folder: Path) -> Tiny:
    """Save a tiny Qwen3 and its library to `folder`; the vectors are strong enough to move its answers."""
    model = save_family_model(folder / "model", "qwen")
    fingerprint = load_model(str(model)).fingerprint
    save_library(folder / "library", fingerprint, names=NAMES, layers=LAYERS, size=3, default_dose=DEFAULT_DOSE)
    return Tiny(model, folder / "library")


def receipt(**changes: Any) -> dict[str, Any]:
    """Return a clean receipt of a window of strength 0.9, with changes."""
    clean = {"planned": 5, "steered": 5, "strength": 0.9, "projection_before": 2.0, "projection_after": 5.0}
    return {**clean, "expected_shift": 3.0, **changes}


def reading(name: str, kind: str, logprobs: dict[str, float], item: str = "item") -> Reading:
    """Return a reading without windows."""
    cost = Cost(computed_tokens=2, prompt_tokens=5)
    return Reading(name=name, kind=kind, item=item, logprobs=logprobs, strengths=[], receipts=[], cost=cost)


def values_of(sample: EvalSample) -> dict[str, float]:
    """Return a sample's own score, beside which stands what was imposed."""
    (score,) = (score for name, score in sample.scores.items() if name != "imposed_scorer")
    return score.value


def readouts(sample: EvalSample) -> list[tuple[str, list[float], dict[str, float]]]:
    """Return (question, strengths of the windows, read-out) of each read-out event of a sample."""
    found = []
    for event in sample.events:
        if isinstance(event, ModelEvent) and "readout" in event.output.metadata[KEY]:
            windows = event.config.extra_body[KEY]["plan"].get("windows", [])
            strengths = [window["strength"] for window in windows]
            found.append((event.input[-1].text, strengths, event.output.metadata[KEY]["readout"]))
    return found


def pages(sample: EvalSample) -> dict[str, str]:
    """Return the pages that the solver wrote to the transcript, by title."""
    return {event.source: event.data for event in sample.events if isinstance(event, InfoEvent)}


def marked_text(page: str) -> list[str]:
    """Return the stretches of text that a steering map marks as steered."""
    stretches: list[str] = []
    before = False
    for mark, text in re.findall(r"(●?)`([^`]*)`", page):
        if mark:
            stretches = stretches if before else [*stretches, ""]
            stretches[-1] += text.replace("·", " ").replace("⏎", "\n")
        before = bool(mark)
    return stretches
