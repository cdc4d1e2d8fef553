"""Batched, cached, position-indexed generation. One thread owns the model.

Rows join and leave the decoding batch at every step. Prompts are computed one row at a time, in chunks whose boundaries
follow from the conversation alone: a read-out is therefore the same to the bit whoever else is running, and whether its
prefix was in the cache or not.

Where memory runs out, the cached prompts go first; where that is not enough, the batch is halved, and rows that have no
place wait for one. A step that failed has moved no row on, so it is run again as if nothing had happened.
"""

import itertools
import logging
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from self_steering.steering.engine.additions import AdditionMaker, Signatures, SteeringFault
from self_steering.steering.engine.forward import SteeredModel
from self_steering.steering.engine.grammar import GrammarCompiler, GrammarState
from self_steering.steering.engine.kv_cache import Arena, KeyValues
from self_steering.steering.engine.memory import DEFAULT_SIZES, OutOfMemory, Parked, empty_cache, is_out_of_memory
from self_steering.steering.engine.prefix_store import PrefixStore, Segment
from self_steering.steering.engine.requests import EngineRequest, EngineShape, Generation, Row, check_request
from self_steering.steering.engine.sampling import choose, set_logprobs, text_until, token_logprob
from self_steering.steering.engine.threads import OwningThread, deliver

MIN_CHUNK, MAX_CHUNK = 16, 256
_IN_FLIGHT = 64
_NO_NUMBERS = "the model's logits are not numbers; load it with dtype=float32, or use a smaller dose"
logger = logging.getLogger(__name__)
Result = TypeVar("Result")


@dataclass
class EngineStats:
    """What the engine has computed so far.

    Attributes:
        prompt_tokens: Prompt tokens of all requests.
        reused_tokens: Those found in the cache.
        prefill_steps: Forward steps over prompts.
        decode_steps: Forward steps of the decoding batch.
        decoded_tokens: Tokens that these ran, over all rows.
        batch_sizes: Number of decode steps by number of rows.
        out_of_memory: How often a step was run again because memory ran out.
    """

    prompt_tokens: int = 0
    reused_tokens: int = 0
    prefill_steps: int = 0
    decode_steps: int = 0
    decoded_tokens: int = 0
    batch_sizes: dict[int, int] = field(default_factory=dict)
    out_of_memory: int = 0


class Engine:
    """Runs requests on one model.

    Args:
        model: The model.
        tokenizer: Its tokenizer.
        end_ids: Tokens that end a turn.
        context: Most tokens, prompt and generated, that the model takes.
        max_batch: Most rows that decode together.
        cache_budget: Bytes of keys and values to keep for later requests.
    """

    def __init__(
        self,
        model: SteeredModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        end_ids: frozenset[int],
        context: int,
        max_batch: int = DEFAULT_SIZES[0],
        cache_budget: int = DEFAULT_SIZES[1],
    ) -> None:
        self.model = model
        self.context = context
        self.stats = EngineStats()
        self.store = PrefixStore(cache_budget)
        self._tokenizer = tokenizer
        self._end_ids = end_ids
        self._max_batch = max_batch
        self._grammars = GrammarCompiler(tokenizer, model.vocabulary, end_ids)
        self._states: dict[Row, GrammarState] = {}
        self._signatures = Signatures()
        self._additions = AdditionMaker(self._signatures)
        self._prefill_arena = model.new_arena(1)
        self._decode_arena = model.new_arena(max_batch)
        self._work: OwningThread[Row] = OwningThread(self._run, "steering-engine", self._abandon)
        self._waiting: deque[Row] = deque()
        self._decoding: list[Row] = []
        self._parked: deque[Parked] = deque()

    @property
    def shape(self) -> EngineShape:
        """The sizes that requests must fit."""
        model = self.model
        return EngineShape(self.context, model.vocabulary, model.n_layers, model.hidden, model.dtype)

    @property
    def max_concurrency(self) -> int:
        """How many requests are worth having in flight: enough to refill the batch whenever a row leaves."""
        return max(_IN_FLIGHT, self._max_batch)

    def submit(self, request: EngineRequest) -> "Future[Generation]":
        """Queue a request; cancelling the future frees its row at the next step."""
        return self.submit_all([request])[0]

    def submit_all(self, requests: Sequence[EngineRequest]) -> "list[Future[Generation]]":
        """Queue requests together: which of them share a batch, step by step, then follows from their order alone."""
        for request in requests:
            check_request(request, self.shape)
        futures: list[Future[Generation]] = [Future() for _ in requests]
        rows = [Row(request, future, self._signatures) for request, future in zip(requests, futures, strict=True)]
        self._work.put(rows)
        return futures

    def call(self, function: Callable[[], Result]) -> "Future[Result]":
        """Run `function` in the thread that owns the model, between two steps."""
        return self._work.call(function)

    def close(self) -> None:
        """Stop the thread; requests that are still running fail."""
        self._work.close()

    # ------------------------------------------------------------ the engine's thread

    @torch.no_grad()
    def _run(self) -> None:
        while self._work.take(self._waiting.extend, idle=not self._rows()):
            self._drop_cancelled()
            free = len(self._decoding) < self._max_batch
            if free and self._parked:
                self._guarded([self._parked[0].row], partial(self._resume, self._parked[0]))
            elif free and self._waiting:
                # Prompts first: a fuller batch decodes more tokens for about the same time.
                row = self._waiting[0]
                self._guarded([row], partial(self._prefill_chunk, row))
            elif self._decoding:
                self._guarded(list(self._decoding), self._decode_step)

    def _abandon(self, left: list[Row], error: Exception) -> None:
        for row in [*left, *self._rows()]:
            deliver(row.future, error)

    def _rows(self) -> list[Row]:
        return [*self._waiting, *(parked.row for parked in self._parked), *self._decoding]

    def _guarded(self, rows: list[Row], action: Callable[[], None], *, again: bool = True) -> None:
        """Run one step; whatever it raises is the answer to the rows it was for, and to no others.

        Args:
            rows: The rows.
            action: The step.
            again: Whether a step that memory did not suffice for can be run again.
        """
        ran_out = None
        try:
            action()
        except Exception as error:  # noqa: BLE001  handed to the callers, which raise it
            if again and is_out_of_memory(error):
                ran_out = " ".join(str(error).split())
            else:
                # The others of a step in which one row's steering failed have not moved on: they run it again without it.
                guilty = error.rows if isinstance(error, SteeringFault) else ()
                self._end([rows[place] for place in guilty] or rows, error)
        # Not in the handler: the error's frames hold on to what the failed step had made.
        if ran_out is not None and not self._make_room(ran_out):
            self._end(rows, OutOfMemory(max(len(row.ids) for row in rows), ran_out))

    def _end(self, rows: Sequence[Row], error: Exception) -> None:
        for row in rows:
            self._forget(row, spoilt=True)
            deliver(row.future, error)

    def _make_room(self, ran_out: str) -> bool:
        """Give memory back: the cached prompts', or that of half the batch; False if there is no more to give."""
        self.stats.out_of_memory += 1
        if self.store.nbytes:
            self.store.budget = self.store.nbytes // 2
            self.store.clear()
            logger.warning("out of memory (%s): past prompts are forgotten, and half as much of them kept", ran_out)
        else:
            rows = min(self._max_batch, len(self._decoding)) // 2 or 1
            if rows == self._max_batch:
                return False
            views = [self._decode_arena.view(place, 0, row.computed) for place, row in enumerate(self._decoding)]
            self._parked.extendleft(map(Parked.from_view, reversed(self._decoding), reversed(views)))
            del views
            self._decoding.clear()
            self._max_batch, self._decode_arena = rows, self.model.new_arena(rows)
            logger.warning("out of memory (%s): from now on at most %d rows decode together", ran_out, rows)
        empty_cache()
        return True

    def _resume(self, parked: Parked) -> None:
        """Let a row decode on that memory had no place for."""
        self._decode_arena.load(len(self._decoding), 0, parked.back())
        self._parked.popleft()
        self._decoding.append(parked.row)

    def _drop_cancelled(self) -> None:
        for row in [row for row in self._rows() if row.future.cancelled()]:
            self._forget(row)

    def _forget(self, row: Row, spoilt: bool = False) -> None:
        """Take a row out of whichever place it is in; keys and values that may be `spoilt` do not stay in the batch's."""
        self._states.pop(row, None)
        if row in self._waiting:
            self._waiting.remove(row)
        elif parked := [one for one in self._parked if one.row is row]:
            self._parked.remove(parked[0])
        elif row in self._decoding:
            hole, last = self._decoding.index(row), len(self._decoding) - 1
            if hole != last:
                moved = self._decoding[last]
                self._decode_arena.load(hole, 0, self._decode_arena.view(last, 0, moved.computed))
                self._decoding[hole] = moved
            self._decoding.pop()
            if spoilt:
                self._decode_arena.clear(last, 0)
                if hole != last:
                    self._decode_arena.clear(hole, moved.computed)

    def _prefill_chunk(self, row: Row) -> None:
        """Compute the next chunk of the first waiting row; after its last one, choose its first token."""
        if row.segment is None:
            self._reuse(row)
        logits = row.segment.logits if row.segment is not None and row.computed == row.prompt_length else None
        if logits is None:
            logits = self._compute_chunk(row)
        if row.computed < row.prompt_length:
            return
        self._waiting.popleft()
        row.readout = set_logprobs(logits, dict(row.request.readout)) if row.request.readout else {}
        if row.request.grammar is not None:
            self._states[row] = self._grammars.start(row.request.grammar)
        (token,) = self._choose([row], logits[None])
        if self._advance(row, token, logits):
            self._forget(row)
        else:
            self._join(row)

    def _join(self, row: Row) -> None:
        """Give a row whose prompt is computed a place in the batch."""
        view = self._prefill_arena.view(0, 0, row.computed)
        try:
            self._decode_arena.load(len(self._decoding), 0, view)
        except Exception as error:
            if is_out_of_memory(error):
                self._parked.append(Parked.from_view(row, view))  # its first token is chosen, and cannot be again
            raise
        self._decoding.append(row)

    def _reuse(self, row: Row) -> None:
        """Copy what the store knows of a row's prompt into the prefill arena."""
        self._prefill_arena.reserve(row.prompt_length)  # before anything is noted, as memory may run out here
        ids, steering = np.array(row.ids, np.int64), row.steering(0, row.prompt_length)
        ends = chunk_ends(row.prompt_length, row.request.cuts)
        if row.request.canonical:
            path = self.store.find_canonical(ids, steering, ends)
            if path and sum(n for _, n in path) == row.prompt_length and path[-1][0].logits is None:
                path.pop()
        else:
            path = self.store.find_longest(ids[:-1], steering[:-1])
        row.segment = self.store.root
        for segment, count in path:
            self._prefill_arena.load(0, row.computed, segment.block.slice(count))
            row.adopt(segment, count)
            if count == len(segment):
                row.segment = segment
        chunks = list(itertools.accumulate(count for _, count in path))
        whole = all(segment.canonical and count == len(segment) for segment, count in path)
        row.canonical = whole and chunks == ends[: len(chunks)]
        self.stats.prompt_tokens += row.prompt_length
        self.stats.reused_tokens += row.reused

    def _compute_chunk(self, row: Row) -> torch.Tensor:
        """Run the model over the next chunk of a prompt, keep its keys and values, and return its last logits."""
        start = row.computed
        stop = next(end for end in chunk_ends(row.prompt_length, row.request.cuts) if end > start)
        self._prefill_arena.past = (start,)
        logits: torch.Tensor = self._step([row], stop - start, self._prefill_arena)[0]
        self.stats.prefill_steps += 1
        self._keep(row, self._prefill_arena, 0, logits if stop == row.prompt_length else None)
        return logits

    def _step(self, rows: list[Row], tokens: int, arena: Arena) -> torch.Tensor:
        """Run the next `tokens` of each row, steered, note what was measured, and return the last logits [rows, vocabulary]."""
        steering = np.stack([row.steering(row.computed, row.computed + tokens) for row in rows])
        directions = {key: direction for row in rows for key, direction in row.directions().items()}
        ids = torch.tensor([row.ids[row.computed : row.computed + tokens] for row in rows])
        result = self.model.step(ids, arena, self._additions.make(steering, directions))
        for place, row in enumerate(rows):
            if result.projections is not None:
                row.record(steering[place], result.projections[place])
            row.computed += tokens
        return result.logits

    def _keep(self, row: Row, arena: Arena, place: int, logits: torch.Tensor | None, canonical: bool = True) -> None:
        """Store what a row has computed beyond its last stored segment."""
        assert row.segment is not None
        start = _depth(row.segment)
        if row.computed == start:
            return
        row.canonical = row.canonical and canonical
        block = self._copied(arena, place, start, row.computed)
        segment = Segment(
            ids=np.array(row.ids[start : row.computed], np.int64),
            steering=row.steering(start, row.computed),
            block=block or KeyValues([], []),
            canonical=row.canonical,
            projections=row.measured(start, row.computed),
            logits=logits,
            parent=row.segment,
        )
        if block is None:
            row.segment = segment  # hangs nowhere: nobody will find it
            return
        row.segment = self.store.add(row.segment, segment)

    def _copied(self, arena: Arena, place: int, start: int, stop: int) -> KeyValues | None:
        """Return a copy of what a row holds from `start` to `stop`; None where memory does not suffice for it."""
        try:
            return arena.copy(place, start, stop)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            logger.warning("out of memory (%s): %d tokens are not kept for later requests", error, stop - start)
            return None

    def _decode_step(self) -> None:
        """Run the newest token of every decoding row, and choose the next one of each."""
        rows = list(self._decoding)
        self._decode_arena.past = tuple(row.computed for row in rows)
        logits = self._step(rows, 1, self._decode_arena)
        self.stats.decode_steps += 1
        self.stats.decoded_tokens += len(rows)
        self.stats.batch_sizes[len(rows)] = self.stats.batch_sizes.get(len(rows), 0) + 1
        for row, token, of_row in zip(rows, self._choose(rows, logits), logits, strict=True):
            self._guarded([row], partial(self._advance_decoding, row, token, of_row), again=False)

    def _choose(self, rows: Sequence[Row], logits: torch.Tensor) -> "list[int | Exception]":
        """Return each row's next token, or why it has none."""
        allowed: dict[int, torch.Tensor] = {}
        errors: dict[int, Exception] = {}
        for place, row in enumerate(rows):
            try:
                if row in self._states:
                    allowed[place] = self._states[row].allowed()
            except RuntimeError as error:
                errors[place] = error
        how = (
            [row.request.sampling for row in rows],
            [len(row.tokens) for row in rows],
            allowed,
            [row.ids for row in rows],
        )
        try:
            tokens = choose(logits, *how)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            tokens = choose(logits.cpu(), *how)  # the rows have moved on, so the step cannot be run again
        for place, token in enumerate(tokens):
            if token is None:
                errors.setdefault(place, ValueError(_NO_NUMBERS))
        return [errors.get(place, token) for place, token in enumerate(tokens)]  # type: ignore[misc]  # None has an error

    def _advance_decoding(self, row: Row, token: int | Exception, logits: torch.Tensor) -> None:
        if self._advance(row, token, logits):
            self._forget(row)

    def _advance(self, row: Row, token: int | Exception, logits: torch.Tensor) -> bool:
        """Take down a row's next token; True if that finished the row."""
        if isinstance(token, Exception):
            raise token
        sampling, state = row.request.sampling, self._states.get(row)
        if sampling.top_logprobs is not None:
            row.logprobs.append(token_logprob(logits, token, sampling.top_logprobs))
        row.ids.append(token)
        row.tokens.append(token)
        if state is not None and token not in self._end_ids:
            state.consume(token)
        reason, text = self._stop_reason(row, state)
        if reason is None:
            return False
        if row in self._decoding:
            self._keep(row, self._decode_arena, self._decoding.index(row), None, canonical=False)
        deliver(row.future, _generation(row, text, reason, self._end_ids))
        return True

    def _stop_reason(self, row: Row, state: GrammarState | None) -> tuple[str | None, str]:
        """Return why a row is finished, None if it is not, and its text if it is."""
        sampling = row.request.sampling
        ended = row.tokens[-1] in self._end_ids
        reason: str | None = None
        if ended or (state is not None and state.finished):
            reason = "stop"
        elif len(row.ids) >= self.context:
            reason = "model_length"
        elif len(row.tokens) >= sampling.max_tokens:
            reason = "max_tokens"
        if reason is None and not sampling.stop:
            return None, ""
        text, stopped = text_until(self._tokenizer, row.tokens[:-1] if ended else row.tokens, sampling.stop)
        return "stop" if stopped else reason, text


def chunk_ends(length: int, cuts: tuple[int, ...]) -> list[int]:
    """Return where the prefill chunks of a prompt end: at cuts that are not too close, and at least every MAX_CHUNK.

    Two prompts that agree up to a cut agree in their chunks up to there.
    """
    ends: list[int] = []
    last = 0
    for cut in [*sorted(c for c in cuts if 0 < c < length), length]:
        if cut < length and cut - last < MIN_CHUNK:
            continue
        while cut - last > MAX_CHUNK:
            last += MAX_CHUNK
            ends.append(last)
        ends.append(cut)
        last = cut
    return ends


def _depth(segment: Segment) -> int:
    """Return the position after a segment's last token."""
    total = 0
    node: Segment | None = segment
    while node is not None:
        total += len(node)
        node = node.parent
    return total


def _generation(row: Row, text: str, reason: str, end_ids: frozenset[int]) -> Generation:
    ended = row.tokens[-1] in end_ids
    return Generation(
        tokens=row.tokens[:-1] if ended else row.tokens,
        text=text,
        stop_reason=reason,
        logprobs=row.logprobs,
        readout=row.readout,
        receipts=row.receipts(),
        prompt_tokens=row.prompt_length,
        reused_tokens=row.reused,
        generated_tokens=len(row.tokens),
        traces=row.traces(),
    )
