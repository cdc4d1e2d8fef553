"""An estimate as text: what an engine's memory holds, and what each eval takes."""

from collections.abc import Sequence

from self_steering.analysis.page.text_table import text_table
from self_steering.evals.estimate import Engine, Work, work_of
from self_steering.evals.sharding import deal
from self_steering.evals.sweep import TASKS, Planned
from self_steering.evals.token_counts import TokenCounts, all_parameters, sizes_of
from self_steering.vectors.catalogue import catalogue


class EstimateError(ValueError):
    """An estimate that cannot be made; the message names the remedy."""


def estimate_text(evals: Sequence[Planned], counts: TokenCounts, engine: Engine, card: str, engines: int) -> str:
    """Return the estimate of a grid, to be read.

    Args:
        evals: The grid.
        counts: Tokens that were measured.
        engine: One engine.
        card: What its card is called.
        engines: How many engines share the work.

    Raises:
        EstimateError: The model does not fit, not with a single rollout.
        TokenCountsError: A task was not measured.
        SweepError: There are more engines than the work can be dealt over.
    """
    vectors = len(catalogue())
    works = [work_of(planned, counts) for planned in evals]
    longest = max(work.longest for work in works)
    if engine.batch(longest, vectors) < 1:
        raise EstimateError(
            f"{engine.shape.name} does not fit on {engine.cards} {card} with one rollout of {longest:,} tokens: weights "
            f"{_gb(engine.shape.weight_bytes)} of {engine.cards * engine.card.memory * engine.memory_share:.1f} GB; give a larger "
            "--tensor-parallel"
        )
    shards = [[work_of(one, counts) for one in share] for share in deal(evals, engines, counts).shares]
    rows = [_row([work], shards, engine, vectors) for work in works]
    whole = _row(works, shards, engine, vectors)
    return "\n\n".join(
        [
            _about(engine, card, vectors, longest),
            text_table(_memory(engine, vectors, longest)),
            text_table([*rows, {**whole, "eval": "all"}]),
            *_notes(works, counts),
        ]
    )


def _about(engine: Engine, card: str, vectors: int, longest: int) -> str:
    shape, batch = engine.shape, engine.batch(longest, vectors)
    prefill = "stated" if engine.prefill else f"{engine.compute_share:.0%} of the data sheet's arithmetic, assumed"
    decode = "stated" if engine.decode else f"{engine.bandwidth_share:.0%} of the data sheet's bandwidth, assumed"
    return "\n".join(
        [
            (
                f"{shape.name}: {shape.parameters / 1e9:.2f} billion parameters, {shape.layers} layers, {shape.hidden} wide, "
                f"{shape.kv_heads} heads of keys and values of {shape.head_dim}"
            ),
            f"an engine: {engine.cards} x {card}; {batch} rollouts at a time",
            f"prefill: {engine.prefill_rate:,.0f} tokens a second ({prefill})",
            f"decode: {engine.decode_rate(batch, longest):,.0f} tokens a second, all rollouts together ({decode})",
        ]
    )


def _memory(engine: Engine, vectors: int, longest: int) -> list[dict[str, str]]:
    shape, batch = engine.shape, engine.batch(longest, vectors)
    memory, free = engine.cards * engine.card.memory * 1e9 * engine.memory_share, engine.free_tokens(vectors)
    held = {
        f"memory of an engine, {engine.memory_share:.0%} of it": memory,
        "weights": shape.weight_bytes,
        f"vector library, {vectors} vectors": shape.library_bytes(vectors),
        "keys and values, one token": shape.token_bytes,
        f"keys and values, one rollout of {longest:,} tokens": longest * shape.token_bytes,
        f"keys and values, {batch} rollouts": batch * longest * shape.token_bytes,
        "left for the prefix cache": (free - batch * longest) * shape.token_bytes,
    }
    return [{"memory": name, "size": _gb(size)} for name, size in held.items()]


def _row(works: Sequence[Work], shards: Sequence[Sequence[Work]], engine: Engine, vectors: int) -> dict[str, str]:
    """Return what some evals take, together."""
    primer = works[0].eval.parameters.get("primer")
    hours, least, limit = (
        sum(work.hours(engine, vectors, getattr(work, tokens)) for work in works)
        for tokens in ("decoded", "least", "limit")
    )
    return {
        "eval": works[0].eval.name + (f" ({primer})" if primer else ""),
        "samples": f"{sum(work.samples for work in works):,}",
        "computed": _million(sum(work.computed for work in works)),
        "reused": _million(sum(work.reused for work in works)),
        "decoded": _million(sum(work.decoded for work in works)),
        "one engine": _time(hours),
        "shortest to limit": f"{_time(least)} to {_time(limit)}",
        f"longest of {len(shards)} shards": _time(max(_hours_in(shard, works, engine, vectors) for shard in shards)),
    }


def _hours_in(shard: Sequence[Work], works: Sequence[Work], engine: Engine, vectors: int) -> float:
    """Return the hours that a shard has of some evals."""
    evals = [(work.eval.name, work.eval.parameters) for work in works]
    return sum(
        part.hours(engine, vectors, part.decoded) for part in shard if (part.eval.name, part.eval.parameters) in evals
    )


def _notes(works: Sequence[Work], counts: TokenCounts) -> list[str]:
    """Return what keeps the estimate from being of this very grid."""
    models = ", ".join(sorted({count.model for count in counts.rows}))
    notes = [
        (
            f"Tokens in millions, as measured with {models}; shortest: every sample as short as the shortest measured; limit: "
            "all turns that the tasks allow, as long as allowed. Graders, starting, and idle rows at an eval's end are not counted."
        )
    ]
    measured = {count.task: count.sizes for count in counts.rows}
    for name in dict.fromkeys(work.eval.name for work in works):
        of_task = [work for work in works if work.eval.name == name]
        sizes = {sizes_of(all_parameters(TASKS[name], work.eval.parameters)) for work in of_task}
        if others := sorted(sizes - {measured[name]}):
            notes.append(
                f"{name} is planned with {others[0]}, and was measured with {measured[name]}: measure it again."
            )
        if unmeasured := sorted({one for work in of_task for one in work.unmeasured}):
            notes.append(f"{name}: not measured, taken from what is most like it: {', '.join(unmeasured)}.")
    return notes


def _gb(size: float) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e8 else f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{size / 1e3:.0f} kB"


def _million(tokens: float) -> str:
    return f"{tokens / 1e6:.2f}"


def _time(hours: float) -> str:
    return f"{hours:,.1f} h" if hours >= 1 else f"{hours * 60:.1f} min"
