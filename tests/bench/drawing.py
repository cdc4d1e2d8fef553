"""What choosing a token takes, on one thread, whatever the model."""

import time
from collections.abc import Mapping

import torch

from self_steering.steering.engine.sampling import Sampling, choose

ROWS, VOCABULARY, ROUNDS = 32, 151_936, 40
SETTINGS: Mapping[str, Sampling] = {
    "greedy": Sampling(1, temperature=0),
    "temperature 0.9": Sampling(1, temperature=0.9),
    "Qwen3's own, 0.6 / 0.95 / 20": Sampling(1, temperature=0.6, top_p=0.95, top_k=20),
    "0.9 / top_p 0.95": Sampling(1, temperature=0.9, top_p=0.95),
}


def milliseconds(rows: int = ROWS, vocabulary: int = VOCABULARY, rounds: int = ROUNDS) -> dict[str, float]:
    """Return the least milliseconds of a thread's time a row and token of each setting.

    The logits are normal with a spread of 3: flatter than a model's, so that as much as possible has to be looked at.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    logits = 3 * torch.randn(rows, vocabulary, generator=torch.Generator().manual_seed(0))
    found = dict.fromkeys(SETTINGS, float("inf"))
    try:
        for step in range(rounds):
            for name, sampling in SETTINGS.items():
                before = time.thread_time()
                choose(logits, [sampling] * rows, [step * rows + row for row in range(rows)])
                found[name] = min(found[name], 1e3 * (time.thread_time() - before) / rows)
    finally:
        torch.set_num_threads(threads)
    return found


if __name__ == "__main__":
    for name, value in milliseconds().items():
        print(f"{value:.3f} ms a row and token: {name}")  # noqa: T201  a command prints
