"""Steering in a notebook: load a model, steer it, see what was done, and read it out.

A thin door to what the evals use: Inspect's model, plans, the `nnsight` provider and its engine, with the same receipts.
"""

import base64
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

import pandas as pd
from anyio.from_thread import start_blocking_portal
from inspect_ai.model import (
    ChatMessage,
    ChatMessageAssistant,
    ChatMessageSystem,
    ChatMessageUser,
    GenerateConfig,
    Model,
    ModelOutput,
    get_model,
)

from self_steering.steering.operations import OPERATIONS, Operation, in_words
from self_steering.steering.plan import MAX_DOSE, Direction, Plan, Treatment, Window, check_dose
from self_steering.steering.provider import NNsightAPI
from self_steering.steering.request import SteeringRequest, steering_report
from self_steering.vectors.card import LibraryCard, library_folder
from self_steering.vectors.shown import shown

Messages = str | Sequence[ChatMessage | Mapping[str, str]]
Where = int | Sequence[int] | Literal["answer"] | None
_KINDS = {"system": ChatMessageSystem, "user": ChatMessageUser, "assistant": ChatMessageAssistant}
_T = TypeVar("_T")


def load(model: str = "smollm2-135m-instruct", library: str | None = None, **model_args: Any) -> "SteerableModel":
    """Load a model that can be steered.

    Args:
        model: The bundled model's name, a folder (./…), or a hub id.
        library: Folder of the vector library; default the shipped one that fits the model.
        model_args: Those of the `nnsight` provider, such as `dtype`, `device`, `engine`.

    Raises:
        ModelError: The model cannot be loaded.
        LibraryError: There is no library that fits it.

    Example:
        >>> model = load("smollm2-135m-instruct")
        >>> with model.steer("calm", dose=1):
        ...     answer = model.generate("How are you?", max_tokens=8, seed=1)
        >>> answer.receipts[0]["steered"] == answer.receipts[0]["planned"] > 0
        True
        >>> list(answer.frame().columns)
        ['message', 'role', 'token', 'steered by', 'calm before', 'calm']
        >>> sorted(model.readout("Is Paris in France?", {"yes": ["Yes", "yes"], "no": ["No", "no"]}))
        ['no', 'yes']
        >>> model.close()
    """
    return SteerableModel(get_model(f"nnsight/{model}", memoize=False, **model_args), library)


@dataclass(frozen=True)
class Answer:
    """What was generated, and what was done meanwhile.

    Attributes:
        text: What the model said.
        output: Inspect's output, with the message to go on from.
        messages: The conversation that it answers.
        plan: What was to be steered.
        receipts: What was: one a window, as in the logs of evals.
    """

    text: str
    output: ModelOutput
    messages: Sequence[ChatMessage]
    plan: Plan
    receipts: Sequence[Mapping[str, Any]]

    def __str__(self) -> str:
        return self.text

    def picture(self) -> bytes:
        """Return a PNG of the steered tokens, coloured by what was added, and of the projections below.

        Raises:
            ValueError: Nothing was steered.
        """
        shown = steering_report(self.output).get("picture")
        if not shown:
            raise ValueError(
                "nothing was steered, so there is no picture; generate within model.steer(…), or with steer="
            )
        return base64.b64decode(shown.partition("base64,")[2].removesuffix(")"))

    def _repr_markdown_(self) -> str:
        return f"{self.text}\n\n{steering_report(self.output).get('picture') or ''}"

    def frame(self) -> pd.DataFrame:
        """Return one row a token that the model read or wrote, by position.

        `message` and `role` are of the conversation, the answer's own among them; `steered by` names the vectors that were added
        there, or what else was done. For each vector of the plan a column holds h·v/‖v‖ at its middle layer after that, and one,
        ` before`, before it; NaN where its windows do not reach, and for the last token that was written, which nothing has read.
        """
        report = steering_report(self.output)
        logprobs = self.output.choices[0].logprobs
        written = [one.token for one in logprobs.content] if logprobs else []
        roles = [message.role for message in self.messages]
        rows = [
            {
                "message": place,
                "role": roles[place] if place < len(roles) else "assistant",
                "token": text,
                "steered by": "",
            }
            for text, place, _ in report["tokens"]
        ]
        rows += [{"message": len(roles), "role": "assistant", "token": text, "steered by": ""} for text in written]
        frame = pd.DataFrame(rows).rename_axis("position")
        steered: list[list[str]] = [[] for _ in rows]
        for receipt, (before, after) in zip(self.receipts, report["traces"], strict=False):
            last = min(receipt["start"] + len(after), len(rows))
            at = slice(receipt["start"], last)
            for name, values in ((f"{receipt['label']} before", before), (receipt["label"], after)):
                if name not in frame:
                    frame[name] = float("nan")
                frame.iloc[at, frame.columns.get_loc(name)] = values[: last - receipt["start"]]
            if receipt["strength"]:
                how = in_words(receipt.get("operation", "add"), receipt["strength"], receipt.get("target"))
                for position in range(receipt["start"], last):
                    steered[position].append(f"{receipt['label']} {how}")
        frame["steered by"] = [", ".join(names) for names in steered]
        return frame


@dataclass(frozen=True)
class Steering:
    """A vector at a dose over some messages: a context in which a model is steered, or one call's `steer`.

    Attributes:
        model: The model.
        vector: Name of the vector.
        dose: Multiple of its default dose; negative inverts, 0 adds nothing by the same way.
        messages: Indices of the messages that are steered; `answer` is what is generated; None is all, and what is generated.
        tokens: Of one message, which of its tokens: first, and behind the last.
        random_seed: If set, a random direction of the vector's norm in its place.
        operation: What is done with it.
    """

    model: "SteerableModel"
    vector: str
    dose: float
    messages: Where = None
    tokens: tuple[int, int] | None = None
    random_seed: int | None = None
    operation: Operation = "add"

    def __enter__(self) -> Self:
        self.model.active.append(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.model.active.remove(self)

    def windows(self, card: LibraryCard, count: int) -> list[Window]:
        """Return its windows over a conversation of `count` messages.

        Raises:
            ValueError: It names messages that are not there, or none.
        """
        spans: list[tuple[int, int | None]] = [(0, None)]
        if self.messages == "answer":
            spans = [(count, None)]
        elif self.messages is not None:
            named = [self.messages] if isinstance(self.messages, int) else list(self.messages)
            places = sorted({one + count if isinstance(one, int) and one < 0 else one for one in named})
            if not places or not all(isinstance(one, int) and 0 <= one < count for one in places):
                raise ValueError(
                    f"steer({self.vector!r}, messages={shown(self.messages)}): the conversation has 0 to {count - 1}; name some "
                    'of them, or "answer" for what is generated'
                )
            runs = [list(run) for _, run in groupby(enumerate(places), key=lambda item: item[1] - item[0])]
            spans = [(run[0][1], run[-1][1] + 1) for run in runs]
        direction = Direction(vector=self.vector, random_seed=self.random_seed)
        treatment = Treatment(direction=direction, unit_strength=card.default_doses[self.vector])
        strength, target = treatment.at(self.operation, self.dose)
        return [
            Window(
                label=direction.label,
                direction=direction,
                dose=self.dose,
                strength=strength,
                start=start,
                stop=stop,
                tokens=self.tokens,
                operation=self.operation,
                target=target,
            )
            for start, stop in spans
        ]


class SteerableModel:
    """A model and a library of vectors for it; made by `load`.

    Attributes:
        model: Inspect's model.
        card: What the library is.
        active: What steers every call at the moment, by `with model.steer(…)`.
    """

    def __init__(self, model: Model, library: str | None) -> None:
        api = model.api
        if not isinstance(api, NNsightAPI):
            raise TypeError(f"{model} cannot be steered; load a model of the nnsight provider")
        self.model = model
        self._exit = ExitStack()
        self._exit.callback(api.close)
        try:
            self._library = str(library_folder(library)) if library is not None else None
            self.card: LibraryCard = api.library(self._library).card
        except ValueError:
            self._exit.close()
            raise
        # A notebook has a running event loop of its own.
        self._portal = self._exit.enter_context(start_blocking_portal())
        self.active: list[Steering] = []

    @property
    def vectors(self) -> list[str]:
        """Names of the vectors."""
        return list(self.card.default_doses)

    def steer(
        self,
        vector: str,
        dose: float = 1.0,
        *,
        messages: Where = None,
        tokens: tuple[int, int] | None = None,
        random_seed: int | None = None,
        operation: Operation = "add",
    ) -> Steering:
        """Return a steering, to be used as `with model.steer("calm"):` or as `model.generate(…, steer=model.steer("calm"))`.

        Args:
            vector: Name of a vector of the library.
            dose: Multiple of its default dose, from -10 to 10: of an addition what is added; of a clamp where the projection is
                held, from the mean of neutral text; of a gain how many times what there is comes on top. An ablation takes none.
            messages: Indices of the messages that are steered, or `answer`; default all, and what is generated.
            tokens: Of one message, which of its tokens (`tokens` shows them): first, and behind the last.
            random_seed: If set, a random direction of the vector's norm in its place.
            operation: add, clamp, ablate or gain (`operations`): what is done with the vector, after all that was steered before.

        Raises:
            ValueError: There is no such vector, no such dose or no such operation.
        """
        if operation not in OPERATIONS:
            raise ValueError(f"operation={shown(operation)}; choose from {', '.join(OPERATIONS)}")
        if vector not in self.card.default_doses:
            raise ValueError(f"no vector {shown(vector)} in this library; it has: {', '.join(self.vectors)}")
        if tokens is not None and not isinstance(messages, int):
            raise ValueError(f"tokens={tokens} of messages={shown(messages)}; name the one message that they are of")
        dose = check_dose(dose, MAX_DOSE, operation=operation)
        return Steering(self, vector, dose, messages, tokens, random_seed, operation)

    def generate(
        self, messages: Messages, *, steer: Steering | Sequence[Steering] = (), watch: Sequence[str] = (), **config: Any
    ) -> Answer:
        """Return what the model says, steered by what is active and by `steer`.

        Args:
            messages: What the user says, or a conversation: Inspect's messages, or dicts with `role` and `content`.
            steer: What steers this call, beside what is active.
            watch: Vectors that are measured over the whole conversation without being added.
            config: Inspect's options, such as `max_tokens`, `temperature`, `seed`.

        Raises:
            ValueError: Nothing would be steered where steering was asked for, or an option is not carried out.
        """
        conversation = _messages(messages)
        request = self._request(conversation, steer, watch)
        output = self._call(
            partial(self.model.generate, conversation, config=request.config(GenerateConfig(logprobs=True, **config)))
        )
        if output.error is not None:
            raise ValueError(output.error)
        return Answer(output.completion, output, conversation, request.plan, steering_report(output)["receipts"])

    def readout(
        self, messages: Messages, answers: Mapping[str, Sequence[str]], *, steer: Steering | Sequence[Steering] = ()
    ) -> dict[str, float]:
        """Return the log-probability, over the full vocabulary, that the model's answer begins with each of named sets of strings.

        Args:
            messages: As for `generate`.
            answers: Sets by name, such as {"yes": ["Yes", "yes"]}; each string is one token.
            steer: As for `generate`.
        """
        conversation = _messages(messages)
        sets = {name: list(texts) for name, texts in answers.items()}
        request = self._request(conversation, steer, ()).model_copy(update={"readout": sets})
        output = self._call(
            partial(self.model.generate, conversation, config=request.config(GenerateConfig(max_tokens=1)))
        )
        found: dict[str, float] = steering_report(output)["readout"]
        return found

    def project(
        self, messages: Messages, vectors: Sequence[str] | None = None, *, steer: Steering | Sequence[Steering] = ()
    ) -> pd.DataFrame:
        """Return one row a token of a conversation, with h·v/‖v‖ on each vector at the middle one of its layers.

        Args:
            messages: As for `generate`.
            vectors: Names; default all of the library.
            steer: As for `generate`.
        """
        names = self.vectors if vectors is None else list(vectors)
        frame = self.generate(messages, steer=steer, watch=names, max_tokens=1).frame()
        if missing := [name for name in names if name not in frame]:
            raise ValueError(
                f"this engine does not tell projections token by token ({missing[0]}); load with engine=transformers"
            )
        return frame[["message", "role", "token", "steered by", *names]].iloc[:-1]

    def tokens(self, messages: Messages) -> pd.DataFrame:
        """Return the tokens of a conversation, with each one's number within its message, as `steer(tokens=…)` counts them."""
        conversation = _messages(messages)
        frame = self.project(conversation, self.vectors[:1])[["message", "role", "token"]]
        frame = frame[frame["message"] < len(conversation)]  # what the template opens the answer with is no message's
        return frame.assign(number=frame.groupby("message").cumcount())

    def close(self) -> None:
        """Stop, and free the model."""
        self._exit.close()

    def _request(
        self, conversation: Sequence[ChatMessage], steer: Steering | Sequence[Steering], watch: Sequence[str]
    ) -> SteeringRequest:
        asked = [*self.active, *([steer] if isinstance(steer, Steering) else steer)]
        watched = [self.steer(name, 0.0) for name in watch]
        count = len(conversation)
        windows = [window for one in (*asked, *watched) for window in one.windows(self.card, count)]
        plan = Plan(messages=count, windows=tuple(windows))
        return SteeringRequest(
            plan=plan,
            library=self._library,
            show_tokens=True,
            trace=True,
            picture=True,
            must_steer=bool(asked),
            canonical=True,
        )

    def _call(self, call: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
        result: _T = self._portal.call(call)
        return result


def _messages(messages: Messages) -> list[ChatMessage]:
    if isinstance(messages, str):
        return [ChatMessageUser(content=messages)]
    made: list[ChatMessage] = []
    for one in messages:
        if not isinstance(one, Mapping):
            made.append(one)
        elif one.get("role") in _KINDS and isinstance(one.get("content"), str):
            made.append(_KINDS[one["role"]](content=one["content"]))
        else:
            raise ValueError(f"message {shown(dict(one))}; give role ({', '.join(_KINDS)}) and content")
    if not made:
        raise ValueError("there is no message; give a text, or a conversation")
    return made
