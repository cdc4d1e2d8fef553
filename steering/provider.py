"""The Inspect model API `nnsight`: chat and plan in, steered generation and receipts out."""

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import date
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import anyio
import anyio.to_thread
import numpy as np
import torch
from cachetools import LRUCache

# Inspect has no public way to tell which sample and epoch a generation is for.
from inspect_ai.log._samples import ActiveSample, sample_active
from inspect_ai.model import ChatMessage, GenerateConfig, ModelAPI, ModelCall, ModelInfo, ModelOutput, set_model_info
from inspect_ai.tool import ToolChoice, ToolInfo
from numpy.typing import NDArray

from self_steering.steering.chat import ChatRenderer, RenderedChat
from self_steering.steering.engine.open import open_model
from self_steering.steering.engine.requests import EngineRequest, Generation, SteeringEngine, TokenWindow
from self_steering.steering.engine.threads import in_short_lived_thread
from self_steering.steering.identity import ModelError, ModelIdentity
from self_steering.steering.options import DEFAULT_MAX_TOKENS, check_options, sampling_of, unapplied
from self_steering.steering.output import model_output, overflow_output, token_map
from self_steering.steering.picture import Drawn, steering_picture
from self_steering.steering.plan import Direction, PlanError, Window
from self_steering.steering.request import Receipt, SteeringRequest, read_request
from self_steering.steering.seeds import derived_seed
from self_steering.steering.template import ChatError
from self_steering.steering.thinking import answer_tokens, thought_tokens
from self_steering.steering.tool_calls import forced_call_grammar
from self_steering.vectors.card import VECTORS_FILE, LibraryError, card_hash, find_library
from self_steering.vectors.directions import DirectionTensor, gauge_scale, held_projections, resolve_direction
from self_steering.vectors.library import Library, load_library

logger = logging.getLogger(__name__)

_DIRECTIONS_KEPT = 256


class NNsightAPI(ModelAPI):
    """A local model that can be steered.

    Model arguments (`-M name=value`):
        engine: transformers or vllm; default transformers.
        revision: Hub branch, tag or commit.
        thinking: true or false, or a level such as low: passed to the chat template under the name that it has for it, and refused
            where it has none. Default: off where the template has a switch, else what the template does.
        date: The date, as YYYY-MM-DD, that chat templates which print one print; default the day on which the model is loaded.
        dtype: float32, bfloat16, float16 or auto; default bfloat16 on an accelerator, float32 on the CPU.

    With engine=transformers:
        device: Torch device; default the first accelerator, else the CPU.
        device_map: Spread the layers over devices, as in transformers (`auto`).
        context: Most tokens, prompt and generated; default as many as the model takes.
        max_batch: Most rows that decode together; default 8 on a CPU, else what fits into the accelerator's free memory, up to 64.
        cache_gb: Memory for keys and values of past prompts, in GiB; default 2 on a CPU, else three tenths of what is free.

    With engine=vllm: vLLM's own engine arguments, those of `on_vllm.settings.VLLM_ARGS`.

    Raises:
        ModelError: An argument is unknown or does not go with the engine, or the model cannot be loaded.
    """

    def __init__(
        self,
        model_name: str,
        base_url: str | None = None,
        api_key: str | None = None,
        config: GenerateConfig = GenerateConfig(),
        **model_args: Any,
    ) -> None:
        super().__init__(model_name, base_url, api_key, ["HF_TOKEN"], config)
        if base_url is not None:
            raise ModelError(f"model base URL {base_url!r} was given, but models run on this machine; leave it out")
        today = _date(model_args.get("date"))
        opened = open_model(model_name, model_args)
        self.loaded: ModelIdentity = opened.identity
        self.engine: SteeringEngine = opened.engine
        try:
            self.chat = ChatRenderer(self.loaded.tokenizer, self.loaded.end_ids, model_args.get("thinking"), today)
        except ChatError as error:
            self.engine.close()
            raise ModelError(f"{model_name}: {error}") from error
        if self.chat.no_tools_because is not None:
            logger.warning(
                "%s gets its tools in a prompt of ours, with calls as <tool_call> and JSON: %s",
                model_name,
                self.chat.no_tools_because,
            )
        context = self.engine.shape.context
        # Inspect looks up the context length of every model it meets; for one it does not know it makes a second provider,
        # which would load the weights again.
        for known_as in (model_name, f"nnsight/{model_name}"):
            set_model_info(known_as, ModelInfo(model=model_name, context_length=context))
        if ignored := unapplied(self.loaded.generation_config):
            logger.warning("%s: %s", model_name, ignored)
        # Inspect's cache of replies takes it into its key, and would give those of other weights or arguments otherwise.
        self.base_url = f"nnsight:{self._identity(model_args)}"
        self._libraries: dict[tuple[str | None, str | None], Library] = {}
        self._directions: LRUCache[tuple[str, Direction], DirectionTensor] = LRUCache(_DIRECTIONS_KEPT)
        self._forms: dict[str, tuple[int, ...]] | None = None
        self._asked: WeakKeyDictionary[ActiveSample, Counter[str]] = WeakKeyDictionary()

    async def generate(
        self,
        input: list[ChatMessage],  # noqa: A002  the name in ModelAPI's signature
        tools: list[ToolInfo],
        tool_choice: ToolChoice,
        config: GenerateConfig,
    ) -> tuple[ModelOutput | Exception, ModelCall]:
        """Generate one assistant message, steered as the plan in `config.extra_body` says."""
        check_options(config)
        request = read_request(config, len(input))
        offered = [] if tool_choice == "none" else tools
        rendered = self.chat.render(input, offered)
        self._check_place(request, rendered)
        windows = self._token_windows(request, rendered, input)
        call = ModelCall.create(self._describe(request, rendered, windows, config), None)
        context = self.engine.shape.context
        if len(rendered.ids) >= context:
            return overflow_output(self.model_name, len(rendered.ids), context), call
        engine_request = EngineRequest(
            ids=tuple(rendered.ids),
            sampling=sampling_of(
                config,
                self.loaded.generation_config,
                seed=self._derived_seed(rendered, windows),
                room=context - len(rendered.ids),
                ends=self.chat.stop_texts,
            ),
            windows=windows,
            cuts=_cuts(request, rendered),
            readout=self._readout(request),
            grammar=forced_call_grammar(offered, tool_choice) if offered else None,
            # What is measured must not depend on what happened to be cached.
            canonical=request.canonical or request.readout is not None,
        )
        generation = await self._run(engine_request)
        metadata = self._metadata(request, generation)
        processed = [*rendered.ids, *generation.tokens]
        metadata["receipts"] = _with_thoughts(generation.receipts, self._thoughts(processed, rendered, input))
        if request.trace:
            metadata["traces"] = [np.round(one, 5).tolist() for one in generation.traces]
        if request.picture and windows:
            metadata["picture"] = await anyio.to_thread.run_sync(self._picture, rendered, windows, generation, input)
        if request.show_tokens:
            metadata["tokens"] = token_map(rendered, windows, self.loaded.tokenizer)
        origin = hashlib.sha256(repr((rendered.ids, engine_request.sampling.seed)).encode()).hexdigest()
        # A call that the grammar forces is one, wherever it stands.
        opened = rendered.open_thought if engine_request.grammar is None else None
        output = model_output(
            self.model_name,
            generation,
            self.loaded.tokenizer,
            offered,
            origin,
            metadata,
            call_format=self.chat.call_format,
            marks=self.chat.thought_marks,
            opened=opened,
        )
        call.response = {"text": generation.text, "stop_reason": generation.stop_reason, **_json(metadata)}
        return output, call

    def _picture(
        self,
        rendered: RenderedChat,
        windows: tuple[TokenWindow, ...],
        generation: Generation,
        messages: Sequence[ChatMessage],
    ) -> str:
        """Return Markdown with a picture of what was steered."""
        written = len(messages) - rendered.continued
        tokens = [Drawn(*row) for row in token_map(rendered, windows, self.loaded.tokenizer)]
        for position, token in enumerate(generation.tokens, len(rendered.ids)):
            active = [i for i, window in enumerate(windows) if window.covers(position)]
            tokens.append(Drawn(str(self.loaded.tokenizer.decode([token])), written, active))
        roles = [*(message.role for message in messages), "assistant"]
        return steering_picture(tokens, roles, generation.receipts, generation.traces)

    async def _run(self, request: EngineRequest) -> Generation:
        """Await the engine without holding the event loop; a cancelled sample frees its row."""
        future = self.engine.submit(request)
        try:
            return await anyio.to_thread.run_sync(future.result, abandon_on_cancel=True, limiter=self._limiter())
        finally:
            future.cancel()

    def _limiter(self) -> anyio.CapacityLimiter:
        # Threads only wait here; the default limit of 40 would throttle concurrent samples.
        return anyio.CapacityLimiter(1)

    def _check_place(self, request: SteeringRequest, rendered: RenderedChat) -> None:
        """Refuse a read-out, or steering of what is said, where a thought comes first.

        Raises:
            ValueError: The first generated token would be a thought's.
        """
        said = any(w.part == "answer" and w.stop is None for w in request.plan.windows)
        if request.readout is None and not said:
            return
        turn = self.loaded.tokenizer.decode(rendered.ids[rendered.starts[-1] :])
        closed = rendered.continued or any(marks.close in turn for marks in self.chat.thought_marks)
        if rendered.open_thought is not None or (self.chat.thinking.on and not closed):
            what = "the read-out" if request.readout is not None else "the answer that is to be steered"
            raise ValueError(
                f"{what} would be a thought's first token: with this chat template the model thinks before it answers; pass "
                "-M thinking=false, or use a model that does not think"
            )

    def _thoughts(self, ids: list[int], rendered: RenderedChat, messages: Sequence[ChatMessage]) -> NDArray[np.bool_]:
        """Return for each token of prompt and text whether it is part of a thought."""
        turns = [
            (start, stop)
            for message, (start, stop) in zip(messages, pairwise(rendered.starts), strict=True)
            if message.role == "assistant"
        ]
        begins = turns.pop()[0] if rendered.continued else rendered.starts[-1]
        return thought_tokens(self.loaded.tokenizer, ids, [*turns, (begins, len(ids))], self.chat.thought_marks)

    def _answer(
        self, window: Window, rendered: RenderedChat, messages: Sequence[ChatMessage]
    ) -> tuple[int, int | None]:
        """Return the positions of what a window's message says, or of what is generated; None if that is open."""
        ids, starts = rendered.ids, rendered.starts
        if window.start == len(messages):
            return len(ids), None
        start, stop = starts[window.start], starts[window.start + 1]
        said = self.chat.shown(messages[window.start])
        if not said.strip():  # nothing is said yet in the message that is continued
            return stop, None
        turn, header = ids[start:stop], [] if rendered.continued else ids[starts[-1] :]
        thought = self._thoughts(ids, rendered, messages)[start:stop]
        first, last = answer_tokens(self.loaded.tokenizer, turn, said, header, thought)
        return start + first, None if window.stop is None else start + last

    def _token_windows(
        self, request: SteeringRequest, rendered: RenderedChat, messages: Sequence[ChatMessage]
    ) -> tuple[TokenWindow, ...]:
        """Map a plan's windows to token positions of the very ids that are run."""
        if not request.plan.windows:
            return ()
        library = self.library(request.library)
        generated = request.plan.messages - 1 if rendered.continued else request.plan.messages
        result = []
        for window in request.plan.windows:
            direction = self._direction(library, window.direction)
            if window.part == "answer":
                start, stop = self._answer(window, rendered, messages)
            elif window.tokens is not None:
                start, stop = _tokens_of(window, window.tokens, rendered)
            else:
                still_open = window.stop is None or window.stop > generated
                start = rendered.starts[window.start]
                stop = None if still_open or window.stop is None else rendered.starts[window.stop]
            held = window.target
            targets = () if held is None else in_short_lived_thread(held_projections, library, direction, held)
            result.append(TokenWindow(window.label, direction, window.strength, start, stop, window.operation, targets))
        return tuple(result)

    def _direction(self, library: Library, wanted: Direction) -> DirectionTensor:
        key = (library.card.sha256[VECTORS_FILE], wanted)
        found = self._directions.get(key)
        if found is None:
            found = self._directions[key] = in_short_lived_thread(
                resolve_direction,
                library,
                wanted.vector,
                wanted.random_seed,
                wanted.random_index,
                wanted.apart_from,
            )
        return found

    def gauge_scale(self, folder: str | None, wanted: Direction) -> tuple[float, float]:
        """Return where neutral text lies on a direction, and what one multiple of it adds there (`directions.gauge_scale`)."""
        library = self.library(folder)
        return in_short_lived_thread(gauge_scale, library, self._direction(library, wanted))

    def library(self, folder: str | None) -> Library:
        """Return the library in `folder`, or the shipped one that fits the model; refuses one for another model."""
        path = Path(folder).expanduser() if folder is not None else None
        key = (folder, None if path is None else card_hash(path))
        if key not in self._libraries:
            found = path or find_library(self.loaded.fingerprint)
            self._libraries[key] = in_short_lived_thread(load_library, found, self.loaded.fingerprint)
        return self._libraries[key]

    def message_starts(self, messages: Sequence[ChatMessage], tools: Sequence[ToolInfo]) -> list[int]:
        """Return the position of each message's first token, of the first behind the last message, and the prompt's length."""
        rendered = self.chat.render(messages, tools)
        return [*rendered.starts, len(rendered.ids)]

    def smallest_dose(self, folder: str | None, names: Iterable[str]) -> float:
        """Return the smallest dose of the library in `folder` that has an effect at the model's precision."""
        return self.library(folder).card.smallest_dose(names, torch.finfo(self.engine.shape.dtype).eps / 2)

    def _identity(self, arguments: dict[str, Any]) -> str:
        """Return a hash of what decides a reply beside the request: weights, texts, arguments, and the library that fits."""
        try:
            library: str | None = card_hash(find_library(self.loaded.fingerprint))
        except LibraryError:
            library = None
        own = self.loaded.generation_config
        parts = {
            "version": version("self-steering"),
            "fingerprint": self.loaded.fingerprint,
            "tokenizer": self.loaded.tokenizer.backend_tokenizer.to_str(),
            "template": self.loaded.tokenizer.chat_template,
            "date": self.chat.date,
            "generation_config": None if own is None else own.to_dict(),
            "library": library,
            "engine": type(self.engine).__name__,
            "shape": repr(self.engine.shape),
            "arguments": arguments,
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True, default=repr).encode()).hexdigest()[:32]

    def _derived_seed(self, rendered: RenderedChat, windows: tuple[TokenWindow, ...]) -> int:
        """Return a seed from the conversation and its steering; within a sample from that, its epoch, and the turn as well.

        The turn tells apart what a solver asks several times within one sample. Nothing that happened outside it counts.
        """
        steering = [(w.direction.key, w.strength, w.start, w.stop, *_more(w)) for w in windows]
        sample = sample_active()
        place = None if sample is None else (sample.sample.id, sample.epoch)
        digest = hashlib.sha256(repr((place, rendered.ids, steering)).encode()).hexdigest()
        if sample is None:
            return derived_seed(digest)
        asked = self._asked.setdefault(sample, Counter())
        asked[digest] += 1
        return derived_seed(digest, asked[digest])

    def _readout(self, request: SteeringRequest) -> dict[str, tuple[int, ...]]:
        return {name: self._tokens_of(texts) for name, texts in (request.readout or {}).items()}

    def _tokens_of(self, texts: list[str]) -> tuple[int, ...]:
        """Return all tokens that read as one of `texts`, white space aside."""
        if self._forms is None:
            forms: dict[str, list[int]] = {}
            size = min(len(self.loaded.tokenizer), self.engine.shape.vocabulary)
            for token, text in enumerate(self.loaded.tokenizer.batch_decode([[i] for i in range(size)])):
                forms.setdefault(text.strip(), []).append(token)
            self._forms = {text: tuple(tokens) for text, tokens in forms.items()}
        texts = [text.strip() for text in texts]
        missing = [text for text in texts if text not in self._forms]
        if missing:
            raise ValueError(
                f"read-out: no single token reads as {', '.join(map(repr, missing))}; name shorter strings"
            )
        return tuple(sorted({token for text in texts for token in self._forms[text]}))

    def _describe(
        self,
        request: SteeringRequest,
        rendered: RenderedChat,
        windows: tuple[TokenWindow, ...],
        config: GenerateConfig,
    ) -> dict[str, Any]:
        return {
            "model": self.model_name,
            "fingerprint": self.loaded.fingerprint,
            "prompt": self.loaded.tokenizer.decode(rendered.ids),
            "message_starts": rendered.starts,
            **self._dated(),
            "neutralised_control_tokens": rendered.neutralised,
            "call_format": self.chat.call_format.name,
            "plan": request.plan.model_dump(mode="json"),
            "windows": [[w.label, w.direction.key, w.strength, w.start, w.stop, *_more(w)] for w in windows],
            "config": config.model_dump(mode="json", exclude_none=True, exclude={"extra_body"}),
        }

    def _metadata(self, request: SteeringRequest, generation: Generation) -> dict[str, Any]:
        metadata: dict[str, Any] = {
            "fingerprint": self.loaded.fingerprint,
            "call_format": self.chat.call_format.name,
            "computed_tokens": generation.prompt_tokens - generation.reused_tokens + generation.generated_tokens - 1,
            "reused_tokens": generation.reused_tokens,
        }
        metadata.update(self._dated())
        if request.plan.windows:
            metadata["library"] = self.library(request.library).card.sha256
        if request.readout is not None:
            metadata["readout"] = generation.readout
        return metadata

    def _dated(self) -> dict[str, str]:
        """Return the date that the prompt has, where it has one."""
        return {} if self.chat.date is None else {"date": self.chat.date.isoformat()}

    def close(self) -> None:
        """Stop the engine's thread."""
        self.engine.close()

    def max_tokens(self) -> int:
        """Default number of tokens to generate."""
        return DEFAULT_MAX_TOKENS

    def max_connections(self) -> int:
        """Requests in flight; the engine batches them itself."""
        return self.engine.max_concurrency

    def connection_key(self) -> str:
        """Each loaded model has its own queue."""
        return f"{self.model_name}:{id(self.engine)}"

    async def count_text_tokens(self, text: str) -> int:
        """Return the number of the model's own tokens in `text`."""
        return len(await self.tokenize(text))

    async def tokenize(self, text: str) -> list[int]:
        """Return the model's own tokens of `text`."""
        return list(self.loaded.tokenizer(text, add_special_tokens=False)["input_ids"])

    def collapse_user_messages(self) -> bool:
        """Messages are never merged: plans count them."""
        return False


def _date(given: Any) -> date | None:
    """Return the date of the model argument `date`, which the command line may have read as one already."""
    if given is None or type(given) is date:
        return given
    try:
        return date.fromisoformat(given)
    except (TypeError, ValueError) as error:
        raise ModelError(f"model argument date is {given!r}; pass a day as YYYY-MM-DD") from error


def _tokens_of(window: Window, tokens: tuple[int, int], rendered: RenderedChat) -> tuple[int, int]:
    """Return the positions of some tokens of a window's message.

    Raises:
        PlanError: The message has fewer.
    """
    start, stop = rendered.starts[window.start : window.start + 2]
    if tokens[1] > stop - start:
        raise PlanError(
            f"window {window.label!r}: tokens {tokens[0]} to {tokens[1]} of message {window.start}, which has {stop - start}"
        )
    return start + tokens[0], start + tokens[1]


def _more(window: TokenWindow) -> tuple[Any, ...]:
    """Return what is to be said of a window beside direction, strength and place, where it is no addition."""
    return () if window.operation == "add" else (window.operation, window.targets)


def _with_thoughts(receipts: Sequence[Receipt], thought: NDArray[np.bool_]) -> list[dict[str, Any]]:
    """Return receipts as the log has them, with how many of the steered positions are tokens of thoughts."""
    return [
        {
            **receipt.model_dump(mode="json"),
            "in_thoughts": int(thought[receipt.start : receipt.start + receipt.planned].sum()),
        }
        for receipt in receipts
    ]


def _cuts(request: SteeringRequest, rendered: RenderedChat) -> tuple[int, ...]:
    """Return the positions before which prefill chunks end."""
    if request.branches is None:
        return tuple(rendered.starts)
    return tuple(rendered.starts[index] for index in request.branches)


def _json(metadata: dict[str, Any]) -> dict[str, Any]:
    """Return the metadata for the model call, without what is long, which the output holds."""
    return {key: value for key, value in metadata.items() if key not in ("tokens", "traces", "picture")}
