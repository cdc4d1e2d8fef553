"""vLLM's prefix cache, made aware of steering: each block's hash covers what steers the block's own tokens.

Blocks are hashed in a chain, so a block is found again only behind blocks of the same tokens and steering. An unsteered
prefix stays shared by all, and a conversation stays cached when a new window opens behind it.
"""

import logging
from collections.abc import Callable, Sequence
from typing import Any

from self_steering.steering.engine.additions import Span

# Under this name a request's steering travels in `SamplingParams.extra_args`.
EXTRA_ARGS_KEY = "self_steering"
_BLOCK = 4
logger = logging.getLogger(__name__)


def spans_of(sampling_params: Any) -> list[Span]:
    """Return the spans that a request carries, in their order."""
    carried = (getattr(sampling_params, "extra_args", None) or {}).get(EXTRA_ARGS_KEY) or {}
    spans = (Span(*span) for span in carried.get("spans", ()))
    return [
        span._replace(targets=tuple(span.targets)) for span in spans
    ]  # lists, once they have been sent to a process


def steering_within(spans: Sequence[Span], start: int, stop: int) -> tuple[tuple[object, ...], ...]:
    """Return what steers the tokens from `start` to `stop`, as (key, strength, first, last + 1) counted from `start`.

    Of what is no addition operation and targets follow, and all stands in the order called; additions alone are sorted.
    """
    found: list[tuple[object, ...]] = []
    ordered = False
    for span in spans:
        left, right = span.within(start, stop)
        if left < right:
            more = () if span.operation == "add" else (span.operation, span.targets)
            found.append((span.key, span.strength, left - start, right - start, *more))
            ordered = ordered or bool(more)
    return tuple(found if ordered else sorted(found))


def install_block_keys() -> bool:
    """Make vLLM hash blocks with their steering, in the process that schedules.

    Returns:
        Whether it took effect, tried on requests of its own; where it did not, each plan needs a cache salt of its own.
    """
    try:
        from vllm.v1.core import kv_cache_utils  # noqa: PLC0415  vLLM is there only in some environments

        inner = kv_cache_utils.generate_block_hash_extra_keys
        if not hasattr(inner, "knows_steering"):
            kv_cache_utils.generate_block_hash_extra_keys = _with_steering(inner)
        return _takes_effect()
    except (ImportError, AttributeError, TypeError, KeyError, ValueError) as error:
        logger.warning(
            "vLLM's block hashes cannot be given steering (%s): the prefix cache is kept apart by plan", error
        )
        return False


def _with_steering(inner: Callable[..., Any]) -> Callable[..., Any]:
    def keys(request: Any, start: int, stop: int, *more: Any) -> Any:
        found, rest = inner(request, start, stop, *more)
        steering = steering_within(spans_of(request.sampling_params), start, stop)
        return ((*(found or ()), steering) if steering else found), rest

    keys.knows_steering = True  # type: ignore[attr-defined]  # marks it, so that it is not wrapped again
    return keys


def _takes_effect() -> bool:
    """Hash a plain and a steered conversation with vLLM's own hasher: they must part at the first steered block."""
    from vllm import SamplingParams  # noqa: PLC0415
    from vllm.utils.hashing import sha256  # noqa: PLC0415
    from vllm.v1.core import kv_cache_utils  # noqa: PLC0415
    from vllm.v1.request import Request  # noqa: PLC0415

    kv_cache_utils.init_none_hash(sha256)
    hasher = kv_cache_utils.get_request_block_hasher(_BLOCK, sha256)

    def hashes(*spans: Span) -> list[Any]:
        carried = {EXTRA_ARGS_KEY: {"spans": [tuple(span) for span in spans]}}
        sampling = SamplingParams(max_tokens=1, extra_args=carried if spans else None)
        return list(Request("probe", list(range(3 * _BLOCK)), sampling, None, block_hasher=hasher).block_hashes)

    start = _BLOCK + 1
    plain, steered = hashes(), hashes(Span("a", 1.0, start, start + 1))
    others = (
        Span("b", 1.0, start, start + 1),
        Span("a", 2.0, start, start + 1),
        Span("a", 1.0, start + 1, start + 2),
        Span("a", 1.0, start, start + 1, "gain"),
        Span("a", 1.0, start, start + 1, "clamp", (1.0,)),
    )
    apart = [hashes(span) for span in others]
    return (
        len(plain) == 3
        and plain[0] == steered[0]
        and not set(plain[1:]) & set(steered[1:])
        and all(steered[0] == other[0] and not set(steered[1:]) & set(other[1:]) for other in apart)
        and hashes(Span("a", 1.0, start, start + 1)) == steered
    )
