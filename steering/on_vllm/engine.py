"""Generation on vLLM: continuous batching, tensor parallelism and paged caches are its own, steering and receipts are ours.

One thread owns vLLM's engine and steps it; requests come over a queue, and leave with a report of what its workers measured.
"""

import hashlib
import itertools
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from transformers import PreTrainedTokenizerBase

from self_steering.steering.engine.additions import SteeringFault
from self_steering.steering.engine.grammar import GrammarCompiler
from self_steering.steering.engine.requests import (
    EngineRequest,
    EngineShape,
    Generation,
    Measured,
    TokenWindow,
    check_request,
)
from self_steering.steering.engine.sampling import Sampling, TokenLogprob, text_until
from self_steering.steering.engine.threads import OwningThread, deliver
from self_steering.steering.identity import ModelError, ModelIdentity
from self_steering.steering.on_vllm.block_keys import EXTRA_ARGS_KEY, install_block_keys, steering_within
from self_steering.steering.on_vllm.settings import engine_arguments, prepare_environment
from self_steering.vectors.directions import DirectionTensor
from self_steering.vectors.shown import in_one_line

_DIRECTIONS_INSTALLED = 512
_PROBE = EngineRequest((0, 0, 0), Sampling(max_tokens=1, temperature=0.0))
_PROBE_STRENGTH = 8.0
_BROKEN: list[Any] = []  # engines that are never taken apart
_SEEDS = 2**63  # torch takes no larger ones
Result = TypeVar("Result")


class EngineDead(RuntimeError):  # noqa: N818  vLLM's own word for it
    """The engine broke down, and takes no more requests; the message names the remedy."""

    def __init__(self, cause: str) -> None:
        super().__init__(
            f"vLLM's engine broke down, perhaps because a worker process died ({cause}); what was running is lost. Go on "
            "with `inspect eval-retry` and the log, which starts a new engine"
        )


@dataclass
class VllmStats:
    """What the engine has run so far.

    Attributes:
        prompt_tokens: Prompt tokens of all finished requests.
        reused_tokens: Those found in the cache.
        steps: Steps of vLLM's engine.
        most_running: Most requests that were in it at once.
    """

    prompt_tokens: int = 0
    reused_tokens: int = 0
    steps: int = 0
    most_running: int = 0


@dataclass(eq=False)
class _Row:
    request: EngineRequest
    future: "Future[Generation]"
    outside: str = ""  # its name in what vLLM returns
    inside: str = ""  # its name in vLLM's workers


class VllmEngine:
    """Runs requests on one model, in vLLM.

    Args:
        identity: The model.
        arguments: vLLM's engine arguments, of `settings.VLLM_ARGS`.
        revision: Hub branch, tag or commit.

    Raises:
        ModelError: vLLM cannot run this model, or it cannot be steered there.
    """

    def __init__(self, identity: ModelIdentity, arguments: Mapping[str, Any], revision: str | None = None) -> None:
        self.stats = VllmStats()
        self._identity = identity
        self._tokenizer = identity.tokenizer
        self._names = itertools.count()
        self._running: dict[str, _Row] = {}
        self._installed: dict[str, None] = {}  # those wanted last come last
        self._dead: EngineDead | None = None
        self._work: OwningThread[_Row] = OwningThread(self._run, "steering-vllm", self._abandon)
        try:
            # In the thread that steps it: what torch sets up is a thread's own.
            self._work.call(lambda: self._open(arguments, revision)).result()
        except ModelError:
            self.close()
            raise
        except Exception as error:
            self.close()
            raise ModelError(f"vLLM cannot run {identity.name!r}: {in_one_line(error)}") from error

    @property
    def shape(self) -> EngineShape:
        """The sizes that requests must fit."""
        return self._shape

    @property
    def max_concurrency(self) -> int:
        """How many requests are worth having in flight."""
        return int(self._llm.vllm_config.scheduler_config.max_num_seqs)

    def submit(self, request: EngineRequest) -> "Future[Generation]":
        """Queue a request; cancelling the future frees what it holds at the next step."""
        return self.submit_all([request])[0]

    def submit_all(self, requests: Sequence[EngineRequest]) -> "list[Future[Generation]]":
        """Queue requests together.

        Raises:
            ValueError: A request does not fit the model, or asks for what vLLM cannot do.
            EngineDead: The engine broke down earlier.
        """
        if self._dead is not None:
            raise self._dead
        for request in requests:
            check_request(request, self.shape)
            sampling_params_of(request, self._identity.end_ids)
        rows = [_Row(request, Future()) for request in requests]
        self._work.put(rows)
        return [row.future for row in rows]

    def call(self, function: Callable[[], Result]) -> "Future[Result]":
        """Run `function` in the thread that owns vLLM's engine, between two steps."""
        return self._work.call(function)

    def close(self) -> None:
        """Stop vLLM; requests that are still running fail."""
        self._work.close()

    # ------------------------------------------------------------ the engine's thread

    def _open(self, arguments: Mapping[str, Any], revision: str | None) -> None:
        prepare_environment(int(arguments.get("tensor_parallel_size", 1)))
        from vllm import EngineArgs  # noqa: PLC0415  vLLM is there only in some environments, and takes seconds
        from vllm.v1.engine.llm_engine import LLMEngine  # noqa: PLC0415

        self._keyed = install_block_keys()
        self._llm: Any = LLMEngine.from_engine_args(
            EngineArgs(**engine_arguments(self._identity.source, revision, arguments))
        )
        sizes = self._on_workers("open_steering")
        if any(size != sizes[0] for size in sizes):
            raise ModelError(f"vLLM's workers hold models of different sizes: {sizes}")
        config = self._llm.model_config
        self._shape = EngineShape(
            int(config.max_model_len), sizes[0]["vocabulary"], sizes[0]["n_layers"], sizes[0]["hidden"], config.dtype
        )
        self._grammars = GrammarCompiler(self._tokenizer, self._shape.vocabulary, self._identity.end_ids)
        self._self_check()

    def _self_check(self) -> None:
        """Steer a token at every layer, so that a model whose layers cannot be steered is found out when it is loaded."""
        shape = self._shape
        values = torch.randn(shape.n_layers, shape.hidden, generator=torch.Generator().manual_seed(0))
        direction = DirectionTensor("self-check", tuple(range(shape.n_layers)), values)
        window = TokenWindow("self-check", direction, _PROBE_STRENGTH, 1, 2)
        row = _Row(EngineRequest(_PROBE.ids, _PROBE.sampling, (window,)), Future())
        self._admit([row])
        while self._running:
            self._step()
        try:
            row.future.result()
        except Exception as error:
            raise ModelError(f"{self._identity.name!r} cannot be steered in vLLM: {error}") from error

    def _run(self) -> None:
        while self._work.take(self._admit, idle=not self._running):
            self._drop_cancelled()
            if self._running:
                try:
                    self._step()
                except Exception as error:  # noqa: BLE001  whatever it is, vLLM does not go on after it
                    self._die(error)

    def _abandon(self, left: "list[_Row]", error: Exception) -> None:
        for row in [*left, *self._running.values()]:
            deliver(row.future, error)
        self._shut_down()

    def _shut_down(self) -> None:
        if not hasattr(self, "_llm"):
            return
        core = self._llm.engine_core
        if self._dead is None:
            core.shutdown()
        else:
            # What a dead worker has left open would be waited for, without end, when vLLM's engine is taken apart.
            _BROKEN.append(self._llm)
            core.engine_core.model_executor.shutdown()

    def _die(self, error: Exception) -> None:
        self._dead = EngineDead(f"{type(error).__name__}: {in_one_line(error)}")
        for row in self._running.values():
            deliver(row.future, self._dead)
        self._running.clear()

    def _on_workers(self, method: str, *arguments: Any) -> list[Any]:
        answers: list[Any] = self._llm.engine_core.collective_rpc(method, args=arguments)
        return answers

    def _admit(self, rows: list[_Row]) -> None:
        """Hand requests to vLLM."""
        for row in rows:
            if self._dead is not None:
                deliver(row.future, self._dead)
                continue
            try:
                self._install([window.direction for window in row.request.windows])
            except Exception as error:  # noqa: BLE001  the workers do not answer
                self._die(error)
                deliver(row.future, self._dead or error)
                continue
            try:
                self._add(row)
            except Exception as error:  # noqa: BLE001  vLLM checks a request before anything else has to do with it
                self._llm.abort_request([row.outside])
                deliver(row.future, error)

    def _add(self, row: _Row) -> None:
        row.outside = str(next(self._names))
        if row.request.grammar is not None:
            self._grammars.start(row.request.grammar)  # vLLM's words for a malformed one differ from release to release
        prompt: dict[str, Any] = {"prompt_token_ids": list(row.request.ids)}
        params = sampling_params_of(row.request, self._identity.end_ids)
        spans = [window.span for window in row.request.windows]
        if not self._keyed and spans:
            whole = steering_within(spans, 0, self._shape.context)
            prompt["cache_salt"] = hashlib.sha256(repr(whole).encode()).hexdigest()
        row.inside = self._llm.add_request(row.outside, prompt, params)
        self._running[row.outside] = row
        self.stats.most_running = max(self.stats.most_running, len(self._running))

    def _install(self, directions: Sequence[DirectionTensor]) -> None:
        """See that the workers hold some directions; of others, those that were wanted least recently may have to go."""
        wanted = {direction.key: direction for direction in directions}
        new = [d for key, d in wanted.items() if key not in self._installed]
        if new:
            self._on_workers("install_directions", [(d.key, d.layers, d.values) for d in new])
        for key in wanted:
            self._installed.pop(key, None)
            self._installed[key] = None
        surplus = len(self._installed) - _DIRECTIONS_INSTALLED
        if surplus > 0:
            used = {w.direction.key for row in self._running.values() for w in row.request.windows} | set(wanted)
            spare = [key for key in self._installed if key not in used][:surplus]
            self._on_workers("forget_directions", spare)
            for key in spare:
                del self._installed[key]

    def _drop_cancelled(self) -> None:
        cancelled = [name for name, row in self._running.items() if row.future.cancelled()]
        if cancelled:
            self._llm.abort_request(cancelled)
            for name in cancelled:
                del self._running[name]

    def _step(self) -> None:
        self.stats.steps += 1
        for output in self._llm.step():
            row = self._running.get(output.request_id)
            if output.finished and row is not None:
                reports = self._on_workers("report_steering", row.inside)
                deliver(row.future, self._outcome(row, output, reports))
                # Not before: whatever is raised on the way goes to all that run.
                del self._running[output.request_id]

    def _outcome(self, row: _Row, output: Any, reports: list[dict[str, Any]]) -> Generation | Exception:
        """Return what came of a request, or the error that says why nothing did."""
        faults = [fault for report in reports for fault in report["faults"]]
        if faults:
            return SteeringFault("; ".join(dict.fromkeys(faults)))
        self.stats.prompt_tokens += len(row.request.ids)
        self.stats.reused_tokens += output.num_cached_tokens or 0
        try:
            return generation_of(row.request, output, reports, self._tokenizer, self._identity.end_ids, self._shape)
        except (SteeringFault, ValueError) as error:
            return error


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
        min_p=sampling.min_p,
        repetition_penalty=sampling.repetition_penalty,
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
