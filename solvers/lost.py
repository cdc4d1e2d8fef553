"""Whether a model is lost: it loops, writes gibberish, its tool calls are broken, or it says that it cannot function.

Judged by rules, which need no other model, or by a model in a role of its own. Either sees what the model wrote and nothing
else: no arm, no name, no dose.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

import anyio
from inspect_ai.model import (
    ChatMessage,
    ChatMessageAssistant,
    ContentReasoning,
    GenerateConfig,
    Model,
    get_model,
    model_roles,
)
from inspect_ai.util import LimitExceededError

from self_steering.scorers.grading import as_data, fenced_prompt
from self_steering.solvers import lost_prompts as prompts
from self_steering.solvers.lost_signs import broken_call, cannot_function, gibberish, looping
from self_steering.steering.seeds import derived_seed
from self_steering.vectors.coherence import words_of

# Most of the turns, so that one stumble is none; and the last one, so that a model that found its way back is left alone.
BROKEN_TURNS = 2
# Characters of words. The same short answer may be all that there is to say; a paragraph, word for word, is a loop.
SAME_TEXT_LENGTH = 80

TRIES = 3
# For one judgement with all its tries. Long for a slow monitor on a laptop, and short beside a rollout.
PATIENCE_SECONDS = 120.0
# Characters of one turn that the monitor reads, half from its beginning and half from its end, where loops are.
READ_OF_A_TURN = 6000

_REPLY = re.compile(r"(?P<fence>```(?:json)?\s*)?\{\s*\"lost\"\s*:\s*(?P<lost>true|false)\s*\}(?(fence)\s*```)")


@dataclass(frozen=True)
class Judgement:
    """What a monitor says of the last turns.

    Attributes:
        lost: Whether the model is lost; None where no judgement could be had.
        reason: Why, or what failed.
    """

    lost: bool | None
    reason: str


def judge_by_rules(turns: Sequence[ChatMessage]) -> Judgement:
    """Judge the last turns by rules.

    The model is lost where it says, in any of them, that it cannot function; where at least two of them, the last one included,
    loop, are gibberish or try a tool call that cannot be read; where all are the same paragraph word for word; or where
    all are empty.

    Args:
        turns: The model's own messages, oldest first.

    Raises:
        ValueError: There are no turns.
    """
    if not turns:
        raise ValueError("there is no turn to judge; pass the model's last messages")
    texts = [_text(turn) for turn in turns]
    said = next(filter(None, map(cannot_function, texts)), None)
    if said:
        return Judgement(lost=True, reason=said)
    signs = [_broken(turn, text) for turn, text in zip(turns, texts, strict=True)]
    broken = sum(sign is not None for sign in signs)
    if signs[-1] and broken >= min(BROKEN_TURNS, len(turns)):
        return Judgement(lost=True, reason=f"{broken} of {len(turns)} turns are broken; the last: {signs[-1]}")
    spoken = {" ".join(words_of(text)) for text in texts}
    if len(turns) > 1 and len(spoken) == 1 and len(next(iter(spoken))) >= SAME_TEXT_LENGTH:
        return Judgement(lost=True, reason=f"{len(turns)} turns are the same, word for word")
    if not any(text.strip() for text in texts):
        return Judgement(lost=True, reason=f"nothing was said in {len(turns)} turns")
    return Judgement(lost=False, reason="no rule applies")


async def judge_by_model(turns: Sequence[ChatMessage], role: str, *, patience: float = PATIENCE_SECONDS) -> Judgement:
    """Ask the model in a role whether the last turns are those of one that is lost.

    What fails is a judgement that could not be had, with its reason; limits of Inspect and cancellations pass.

    Args:
        turns: The model's own messages, oldest first. They are data and cannot instruct the monitor.
        role: The monitor's model role. Without a model in it there is no judgement; no other model steps in.
        patience: Seconds that the judgement may take, all tries together.
    """
    remedy = f"name one with --model-role {role}=PROVIDER/MODEL"
    if role not in model_roles():
        return Judgement(lost=None, reason=f"there is no model with the role {role!r}; {remedy}")
    monitor = get_model(role=role, required=True)
    with anyio.move_on_after(patience):
        try:
            return await _ask(monitor, turns)
        except LimitExceededError:
            raise
        except Exception as error:  # noqa: BLE001  providers have errors of their own; none of them may become a verdict
            said = f"the monitor {monitor} could not be reached ({type(error).__name__}: {error}); {remedy}"
            return Judgement(lost=None, reason=said)
    return Judgement(lost=None, reason=f"the monitor {monitor} gave no verdict in {patience:g} seconds; {remedy}")


async def _ask(monitor: Model, turns: Sequence[ChatMessage]) -> Judgement:
    messages, reply = monitor_prompt(turns), ""
    for attempt in range(TRIES):
        # What the role's own configuration says comes first, save for the seed.
        base = GenerateConfig(temperature=0.0 if attempt == 0 else 1.0).merge(monitor.config)
        seed = derived_seed(f"{messages[-1].text}/{attempt}")
        output = await monitor.generate(messages, config=base.model_copy(update={"seed": seed}))
        reply = output.completion
        if match := _REPLY.fullmatch(reply.strip()):
            lost = match["lost"] == "true"
            return Judgement(lost=lost, reason=f"{monitor} finds it {'lost' if lost else 'not lost'}")
    said = f"the monitor {monitor} gave no verdict in {TRIES} tries; its last reply began {reply[:200]!r}"
    return Judgement(lost=None, reason=said)


def monitor_prompt(turns: Sequence[ChatMessage]) -> list[ChatMessage]:
    """Return the messages that ask for one verdict, with the turns fenced as data."""
    texts = ", ".join(as_data(_shortened(_text(turn))) for turn in turns)
    data = f'{{"messages": [{texts}], "unreadable_calls": {json.dumps([len(_unreadable(turn)) for turn in turns])}}}'
    return fenced_prompt(prompts.SYSTEM, data, prompts.INSTRUCTIONS, data)


def _broken(turn: ChatMessage, text: str) -> str | None:
    for call in _unreadable(turn):
        return f"a call of {call} cannot be read"
    return looping(text) or gibberish(text) or broken_call(text)


def _unreadable(turn: ChatMessage) -> list[str]:
    """Return the names in a turn's calls that could not be read."""
    calls = turn.tool_calls or [] if isinstance(turn, ChatMessageAssistant) else []
    return [call.function for call in calls if call.parse_error is not None]


def _text(turn: ChatMessage) -> str:
    """Return what a turn says, and what was thought before, where that can be read."""
    if isinstance(turn.content, str):
        return turn.content
    thought = [part.reasoning for part in turn.content if isinstance(part, ContentReasoning) and not part.redacted]
    return "\n".join([*thought, turn.text])


def _shortened(text: str) -> str:
    half = READ_OF_A_TURN // 2
    return text if len(text) <= READ_OF_A_TURN else f"{text[:half]} [...] {text[-half:]}"
