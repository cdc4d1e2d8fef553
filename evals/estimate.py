"""Time and memory that a sweep takes on engines of a stated throughput: arithmetic over measured tokens, and no measurement.

    hours of an eval = computed prompt tokens / prefill rate + decoded tokens / decode rate

Reading a prompt is bound by arithmetic, two operations a parameter and token (attention itself, some percent more at these
lengths, counts among what the stated share leaves). Decoding is bound by memory: each step reads all weights, and the
keys and values of every rollout in the batch.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from self_steering.evals.model_shape import Card, ModelShape
from self_steering.evals.sweep import TASKS, Planned
from self_steering.evals.token_counts import CONDITION, TokenCounts, all_parameters, per_sample

HOUR = 3600.0
# Most messages that a sample of a task can have the model write; tasks that are not here have it write none.
_MOST_MESSAGES: Mapping[str, Callable[[Mapping[str, Any]], int]] = {
    "freeplay": lambda given: given["opt_in"] + given["turns"] + 2 * given["debrief"],
    "introspection_free_text": lambda given: (
        given["turns"] + 3
    ),  # a forced take, and the closing question cached and uncached
    "maths": lambda given: given["turns"] + 2 * given["debrief"],
    "frustration": lambda given: (given["rounds"] + 1) * (given["max_tool_turns"] + 1),
}


@dataclass(frozen=True)
class Engine:
    """One engine: a model on one or several cards.

    Attributes:
        shape: The model.
        card: The card.
        cards: How many hold the model together (tensor parallel).
        concurrent: Most rollouts in its batch.
        memory_share: Part of the cards' memory that it may use.
        compute_share: Part of the cards' arithmetic that prefill reaches; an assumption.
        bandwidth_share: Part of their bandwidth that decoding reaches; an assumption.
        prefill: Prompt tokens a second, where they are stated; else they follow from the card.
        decode: Generated tokens a second of the whole batch, where they are stated; likewise.
    """

    shape: ModelShape
    card: Card
    cards: int
    concurrent: int
    memory_share: float
    compute_share: float
    bandwidth_share: float
    prefill: float | None = None
    decode: float | None = None

    def free_tokens(self, vectors: int) -> int:
        """Return how many tokens' keys and values fit beside weights and vectors; below 0 where not even those fit."""
        memory = self.cards * self.card.memory * 1e9 * self.memory_share
        return math.floor(
            (memory - self.shape.weight_bytes - self.shape.library_bytes(vectors)) / self.shape.token_bytes
        )

    def batch(self, tokens: int, vectors: int) -> int:
        """Return how many rollouts of `tokens` decode together: those that fit, at most `concurrent`."""
        return max(0, min(self.concurrent, self.free_tokens(vectors) // max(1, tokens)))

    @property
    def prefill_rate(self) -> float:
        """Prompt tokens that are computed a second."""
        arithmetic = self.cards * self.card.tflops * 1e12 * self.compute_share
        return self.prefill or arithmetic / (2 * self.shape.parameters)

    def decode_rate(self, batch: int, tokens: int) -> float:
        """Return the tokens that a batch of rollouts of `tokens` generates a second, all rows together."""
        read = self.shape.weight_bytes + batch * tokens * self.shape.token_bytes
        return self.decode or batch * self.cards * self.card.bandwidth * 1e9 * self.bandwidth_share / read


@dataclass(frozen=True)
class Work:
    """What one eval takes.

    Attributes:
        eval: Which eval.
        samples: Its samples.
        computed: Prompt tokens that are computed.
        reused: Prompt tokens that are found in the cache.
        decoded: Tokens that are generated in a step of their own: all but each request's first, which comes with its prompt.
        least: Those if every sample were as short as the shortest that was measured.
        limit: Those if every sample had all the turns that its task allows, each as long as allowed.
        longest: Prompt and generated tokens of the longest request that was measured.
        unmeasured: Its conditions that were not measured, and stand by those that are most like them.
    """

    eval: Planned
    samples: int
    computed: float
    reused: float
    decoded: float
    least: float
    limit: float
    longest: int
    unmeasured: list[str]

    def hours(self, engine: Engine, vectors: int, decoded: float) -> float:
        """Return its hours on one engine, if `decoded` tokens are decoded."""
        # Evals run one after the other: no more rollouts are in a batch than the eval has.
        batch = min(engine.batch(self.longest, vectors), self.samples)
        rate = engine.decode_rate(batch, self.longest)
        return (self.computed / engine.prefill_rate + decoded / rate) / HOUR


def work_of(planned: Planned, counts: TokenCounts) -> Work:
    """Return what an eval takes: for each sample, what those of its condition took.

    Raises:
        TokenCountsError: Its task was not measured.
    """
    epochs = planned.task.epochs or 1
    given = all_parameters(TASKS[planned.name], planned.parameters)
    messages = _MOST_MESSAGES[planned.name](given) if planned.name in _MOST_MESSAGES else 0
    taken = [
        (sample.metadata or {}, per_sample(counts, planned.name, sample.metadata or {})) for sample in planned.dataset
    ]
    decoded = epochs * sum(one.decoded for _, one in taken)
    return Work(
        eval=planned,
        samples=planned.samples,
        computed=epochs * sum(one.computed for _, one in taken),
        reused=epochs * sum(one.reused for _, one in taken),
        decoded=decoded,
        least=epochs * sum(one.least for _, one in taken),
        limit=max(decoded, planned.samples * messages * (given.get("max_tokens", 1) - 1)),
        longest=max(one.longest for _, one in taken),
        unmeasured=sorted({_said(about) for about, one in taken if not one.measured}),
    )


def _said(about: Mapping[str, object]) -> str:
    return "/".join(str(about[name]) for name in CONDITION if name in about)
