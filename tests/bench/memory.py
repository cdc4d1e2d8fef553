"""Whether memory grows with the number of samples that a process has run."""

import tempfile
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import psutil
from inspect_ai import eval as inspect_eval
from inspect_ai.model import get_model

from self_steering.analysis.cli import main as self_steering_command
from self_steering.evals.introspection import introspection
from self_steering.steering.provider import NNsightAPI
from tests.support.models import save_tiny_model
from tests.support.small_library import small_stories

EVALS, AT_ONCE = 20, 50
# Full long before the first look, so that what is found to grow is not the cache that is allowed to.
_CACHE_GB = 0.001
# Two vectors, five arms, five trials each: `AT_ONCE` samples.
_EACH = {"vectors": "calm,anxious", "arm": "real,placebo,random,other,opposite", "n_per_vector": 5}
_SHORT = {"options": 4, "rotations": 2, "random_directions": 2}


def growth() -> float:
    """Return resident memory after `EVALS` evals of `AT_ONCE` steered samples on a tiny Qwen3, over that after the first."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        sizes = pool.submit(_sizes).result()
    return sizes[-1] / sizes[0]


def _sizes() -> list[int]:
    """Return resident bytes after each eval."""
    sizes = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        saved, library = save_tiny_model(folder / "model", "qwen3"), folder / "library"
        stories = small_stories(folder / "stories")
        build = ["--model", str(saved), "--out", str(library), "--stories", str(stories), "--default-dose", "1"]
        if self_steering_command(["vectors", "build", *build]):
            raise RuntimeError("the benchmark's library could not be built")
        model = get_model(f"nnsight/{saved}", memoize=False, cache_gb=_CACHE_GB)
        assert isinstance(model.api, NNsightAPI)
        for seed in range(EVALS):
            task = introspection(**_EACH, **_SHORT, library=str(library), seed=seed)
            (log,) = inspect_eval(task, model=model, log_dir=str(folder / "logs"), display="none")
            if log.status != "success" or log.results is None or log.results.completed_samples != AT_ONCE:
                raise RuntimeError(f"the benchmark's own run failed: {log.error}")
            sizes.append(psutil.Process().memory_info().rss)
        model.api.close()
    return sizes
