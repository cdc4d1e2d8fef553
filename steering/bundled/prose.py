"""The base model's own prose, which the training dialogues contain; `prose.json` has it as it was once written."""

import json
import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources

from inspect_ai.model import ChatMessageUser

from self_steering.steering.bundled.wordings import wordings
from self_steering.steering.chat import ChatRenderer
from self_steering.steering.engine.engine import Engine
from self_steering.steering.engine.forward import SteeredModel
from self_steering.steering.engine.requests import EngineRequest
from self_steering.steering.engine.sampling import Sampling
from self_steering.steering.models import LoadedModel

PROSE_FILE = "prose.json"
ANSWERS_A_PROMPT = 3
_MAX_TOKENS = 48
_TEMPERATURE = 0.9
_BATCH = 64
_ENDS = ".!?"


@dataclass(frozen=True)
class Prose:
    """The base model's own prose: for each prompt, what it answered."""

    answers: Mapping[str, Sequence[str]]

    def any(self, draw: random.Random) -> str:
        """Return an answer to any of the prose prompts."""
        return self.to(draw.choice(wordings().prose.prompts), draw)

    def to(self, prompt: str, draw: random.Random) -> str:
        """Return an answer to a prompt."""
        return draw.choice(self.answers[prompt])


def write_prose(loaded: LoadedModel, seed: int, each: int = ANSWERS_A_PROMPT) -> Prose:
    """Let the base model answer every prose prompt and plain prompt, in at most a few sentences.

    Args:
        loaded: The base model.
        seed: Seed of the sampling.
        each: Answers to each prompt.
    """
    renderer = ChatRenderer(loaded.tokenizer, loaded.end_ids)
    prompts = [prompt for prompt in (*wordings().prose.prompts, *wordings().plain.prompts) for _ in range(each)]
    requests = [
        EngineRequest(
            ids=tuple(renderer.render([ChatMessageUser(content=prompt)], []).ids),
            sampling=Sampling(max_tokens=_MAX_TOKENS, temperature=_TEMPERATURE, seed=seed * len(prompts) + number),
        )
        for number, prompt in enumerate(prompts)
    ]
    engine = Engine(
        SteeredModel(loaded.model, loaded.tokenizer),
        loaded.tokenizer,
        end_ids=loaded.end_ids,
        context=loaded.context,
        max_batch=_BATCH,
        cache_budget=1 << 28,
    )
    try:
        written = [future.result().text for future in engine.submit_all(requests)]
    finally:
        engine.close()
    answers: defaultdict[str, list[str]] = defaultdict(list)
    for prompt, text in zip(prompts, written, strict=True):
        answers[prompt].append(whole_sentences(text))
    return Prose(answers)


def shipped_prose() -> Prose:
    """Return what the base model wrote."""
    return Prose(json.loads(resources.files(__package__).joinpath(PROSE_FILE).read_text(encoding="utf-8")))


def encoded(prose: Prose) -> bytes:
    """Return the bytes of a file of prose."""
    return (json.dumps(prose.answers, indent=1, ensure_ascii=False) + "\n").encode()


def whole_sentences(text: str) -> str:
    """Return a text up to the end of its last whole sentence; one without any, as it is."""
    text = text.strip()
    end = max(text.rfind(mark) for mark in _ENDS)
    return text[: end + 1] if end > 0 else text or "…"
