"""Free play against Inspect's own provider for local models: the same prompts, turn by turn, in as many rollouts at once."""

import asyncio
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import torch
from inspect_ai.model import GenerateConfig, get_model

from self_steering.evals.freeplay import freeplay
from self_steering.steering.provider import NNsightAPI
from tests.bench.runs import model_events, run

ROLLOUTS, TURNS, MAX_TOKENS = 32, 4, 64


@dataclass(frozen=True)
class Race:
    """What two providers took for the same rollouts.

    Attributes:
        ours: Seconds, steered.
        theirs: Seconds of Inspect's provider, unsteered.
        our_tokens: Tokens that ours wrote.
        their_tokens: Tokens that theirs counts: its batches are as wide as their longest row, and it counts the padding.
        prompt_tokens: Tokens of all prompts, the same for both.
    """

    ours: float
    theirs: float
    our_tokens: int
    their_tokens: int
    prompt_tokens: int


def measure(folder: Path) -> Race:
    """Run `ROLLOUTS` free plays on our provider, then let Inspect's answer the very same prompts, nothing steered.

    Args:
        folder: The model, as a local folder that both load.
    """
    spawn = get_context("spawn")
    with ProcessPoolExecutor(1, spawn) as pool:
        ours, prompts, written = pool.submit(_ours, folder).result()
    with ProcessPoolExecutor(1, spawn) as pool:
        theirs, read, answered = pool.submit(_theirs, folder, prompts).result()
    return Race(ours, theirs, written, answered, read)


def _ours(folder: Path) -> tuple[float, list[list[str]], int]:
    """Return seconds, the prompts of every rollout, and the tokens written."""
    model = get_model(f"nnsight/{folder}", memoize=False)
    api = model.api
    assert isinstance(api, NNsightAPI)
    task = freeplay(
        vectors="core",
        framing="vectors",
        arm="real",
        rollouts=ROLLOUTS,
        turns=TURNS,
        max_tokens=MAX_TOKENS,
        debrief=False,
    )
    log, seconds = run(task, model, max_samples=ROLLOUTS)
    prompts, written = [], 0
    for events in model_events(log):
        written += sum(event.output.usage.output_tokens for event in events if event.output.usage)
        prompts.append([api.loaded.tokenizer.decode(api.chat.render(e.input, e.tools).ids) for e in events])
    api.close()
    return seconds, prompts, written


def _theirs(folder: Path, prompts: list[list[str]]) -> tuple[float, int, int]:
    """Return seconds, tokens read and tokens written."""
    # The prompts are rendered: they go in as they are.
    model = get_model("hf/local", model_path=str(folder), device="cpu", dtype=torch.float32, use_chat_template=False)
    config = GenerateConfig(max_tokens=MAX_TOKENS, temperature=0.9, max_connections=ROLLOUTS)
    read = written = 0

    async def rollout(turns: list[str]) -> None:
        nonlocal read, written
        for prompt in turns:
            usage = (await model.generate(prompt, config=config)).usage
            assert usage is not None
            read, written = read + usage.input_tokens, written + usage.output_tokens

    async def all_rollouts() -> None:
        await asyncio.gather(*(rollout(turns) for turns in prompts))

    started = time.perf_counter()
    asyncio.run(all_rollouts())
    return time.perf_counter() - started, read, written
