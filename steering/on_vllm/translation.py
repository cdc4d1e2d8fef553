"""Between our requests and generations, and vLLM's."""

from collections.abc import Mapping, Sequence
from typing import Any

from transformers import PreTrainedTokenizerBase

from self_steering.steering.engine.additions import SteeringFault
from self_steering.steering.engine.requests import EngineShape
from self_steering.steering.engine.row import EngineRequest, Generation, Measured
from self_steering.steering.engine.sampling import Sampling, TokenLogprob, text_until
from self_steering.steering.on_vllm.block_keys import EXTRA_ARGS_KEY

_SEEDS = 2**63  # torch takes no larger ones


def sampling_params_of(request: EngineRequest, end_ids: frozenset[int]) -> Any:
    """Return vLLM's parameters of a request; its steering and read-out travel in them.

    Raises:
        ValueError: It asks for what vLLM cannot do.
    """
    from vllm import SamplingParams  # noqa: PLC0415  vLLM is there only in some environments
    from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams  # noqa: PLC0415

    sampling = request.sampling
    if request.grammar is not None and sampling.top_logprobs is not None:
        raise ValueError(
            "engine=vllm reports log-probabilities after a grammar's mask, which are not the model's own; ask for logprobs or "
            "for a forced tool call, not for both, or use engine=transformers"
        )
    return SamplingParams(
        max_tokens=sampling.max_tokens,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        top_k=sampling.top_k,
        seed=sampling.seed % _SEEDS,
        stop=list(sampling.stop) or None,
        stop_token_ids=sorted(end_ids),
        logprobs=sampling.top_logprobs,
        output_kind=RequestOutputKind.FINAL_ONLY,
        structured_outputs=None if request.grammar is None else StructuredOutputsParams(grammar=request.grammar),
        extra_args={
            EXTRA_ARGS_KEY: {
                "spans": [tuple(window.span) for window in request.windows],
                "readout": {name: list(tokens) for name, tokens in request.readout.items()},
            }
        },
    )


def generation_of(
    request: EngineRequest,
    output: Any,
    reports: Sequence[Mapping[str, Any]],
    tokenizer: PreTrainedTokenizerBase,
    end_ids: frozenset[int],
    shape: EngineShape,
) -> Generation:
    """Return what came out of a request.

    Args:
        request: The request.
        output: vLLM's output of it, finished.
        reports: What each worker reports of it.
        tokenizer: The model's tokenizer.
        end_ids: Tokens that end a turn.
        shape: The engine's sizes.

    Raises:
        SteeringFault: What was measured is not what was planned, or not the same on all workers.
    """
    (choice,) = output.outputs
    tokens = list(choice.token_ids)
    ended = bool(tokens) and tokens[-1] in end_ids
    kept = tokens[:-1] if ended else tokens
    text, stopped = text_until(tokenizer, kept, request.sampling.stop)
    # The last token is chosen, and not read any more.
    processed = len(request.ids) + len(tokens) - 1
    counts = {report["computed"] for report in reports}
    if counts != {processed}:
        raise SteeringFault(f"{processed} tokens went through the model, but its workers count {sorted(counts)}")
    reused = int(output.num_cached_tokens or 0)
    shares = [[steered for steered, _, _ in report["measured"]] for report in reports]
    if any(share != shares[0] for share in shares):
        raise SteeringFault(f"the workers steered different positions: {shares}")
    receipts = [
        window.receipt(processed, reused, Measured(*found))
        for window, found in zip(request.windows, reports[0]["measured"], strict=True)
    ]
    return Generation(
        tokens=kept,
        text=text,
        stop_reason="stop" if stopped else _stop_reason(choice, len(request.ids) + len(tokens), shape),
        logprobs=_logprobs(choice, request.sampling),
        readout=next((dict(report["readout"]) for report in reports if report["readout"]), {}),
        receipts=receipts,
        prompt_tokens=len(request.ids),
        reused_tokens=reused,
        generated_tokens=len(tokens),
    )


def _stop_reason(choice: Any, length: int, shape: EngineShape) -> str:
    if choice.finish_reason == "stop":
        return "stop"
    if choice.finish_reason != "length":
        raise ValueError(f"vLLM ended the request for a reason of its own: {choice.finish_reason}")
    return "model_length" if length >= shape.context else "max_tokens"


def _logprobs(choice: Any, sampling: Sampling) -> list[TokenLogprob]:
    if sampling.top_logprobs is None:
        return []
    found = []
    for token, entries in zip(choice.token_ids, choice.logprobs, strict=True):
        best = sorted(((t, float(e.logprob)) for t, e in entries.items()), key=lambda pair: -pair[1])
        found.append(TokenLogprob(token, float(entries[token].logprob), tuple(best[: sampling.top_logprobs])))
    return found
