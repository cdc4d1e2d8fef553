"""How broken what a model writes is while an effect is active, against before it took anything and after all was ended."""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from statistics import fmean
from typing import Literal, get_args

from inspect_ai.model import ChatMessage, ChatMessageAssistant
from inspect_ai.scorer import Score, Scorer, Target, scorer
from inspect_ai.solver import TaskState

from self_steering.scorers.metrics import about_cell, no_session, session_record
from self_steering.solvers.prompts.self_steer import REFUSED_ENDED
from self_steering.solvers.session import CLEAR_MARK
from self_steering.steering.calls import written
from self_steering.steering.plan import Direction, Treatment, plan_windows
from self_steering.vectors.making.coherence import MIN_WORDS, coherent, repeated_trigrams, runs_of, words_of

Phase = Literal["before", "active", "after"]
PHASES: tuple[Phase, ...] = get_args(Phase)
MEASURES = ("unread_calls", "repeated_trigrams", "distinct_words", "incoherent")


@scorer(metrics=[])
def impairment_scorer() -> Scorer:
    """Measure how broken the model's turns are in each phase: before any take, with an effect active, and after all were ended.

    - `unread_calls`: share of its tool calls that could not be read, or were too many for one message.
    - `repeated_trigrams`: share of a turn's trigrams of words that had come in it before; mean over turns of at least 4 words,
      as a short answer to a question need not be a broken one.
    - `distinct_words`: share of distinct words in a run of 20 (in all of a shorter turn), mean over runs, then over such turns.
    - `incoherent`: share of such turns that break the published rule of coherence (`vectors.coherence`).

    A phase is the transcript's, whatever was added: under placebo turns are `active` too, and show what taking as such goes
    along with. NaN where a phase has no such turn or call. Means are pooled: a turn, or a call, counts once. The closing interview
    counts as `after`, its effects having been ended.
    """

    async def score(state: TaskState, target: Target) -> Score:
        record = session_record(state)
        if record is None:
            return no_session()
        turns: dict[Phase, list[ChatMessageAssistant]] = defaultdict(list)
        for message, phase in phases(state.messages, record.read_condition().offered):
            turns[phase].append(message)
        found = {f"{name}_{phase}": values for phase in PHASES for name, values in _measured(turns[phase]).items()}
        return Score(
            value={name: fmean(values) if values else math.nan for name, values in found.items()},
            explanation=", ".join(f"{len(turns[phase])} turns {phase}" for phase in PHASES),
            metadata=about_cell(state, record, {name: float(len(values)) for name, values in found.items()}),
        )

    return score


def phases(messages: Sequence[ChatMessage], offered: Iterable[str]) -> list[tuple[ChatMessageAssistant, Phase]]:
    """Return the messages that the model wrote, each with its phase, replayed from the conversation."""
    turns = [
        (index, message)
        for index, message in enumerate(messages)
        if isinstance(message, ChatMessageAssistant) and written(message)
    ]
    if not turns:
        return []
    # The last turn's own calls have no say in its phase, and may lack their answers.
    before = messages[: turns[-1][0]]
    clears = [index for index, message in enumerate(before) if (message.metadata or {}).get(CLEAR_MARK)]
    unsteered = {name: Treatment(direction=Direction(vector=name), unit_strength=0) for name in offered}
    windows = plan_windows(before, unsteered, outside_clears=clears, max_dose=math.inf).windows

    def phase(index: int) -> Phase:
        begun = [window for window in windows if window.start <= index]
        if any(window.stop is None or index < window.stop for window in begun):
            return "active"
        return "after" if begun else "before"

    return [(message, phase(index)) for index, message in turns]


def _measured(turns: Sequence[ChatMessageAssistant]) -> dict[str, list[float]]:
    """Return each measure's values, one a turn or a call."""
    calls = [call for turn in turns for call in turn.tool_calls or [] if call.parse_error != REFUSED_ENDED]
    texts = [turn.text for turn in turns if len(words_of(turn.text)) >= MIN_WORDS]
    worded = [words_of(text) for text in texts]
    return {
        "unread_calls": [float(call.parse_error is not None) for call in calls],
        "repeated_trigrams": [repeated_trigrams(words) for words in worded],
        "distinct_words": [fmean(len(set(run)) / len(run) for run in runs_of(words) or [words]) for words in worded],
        "incoherent": [float(not coherent(text)) for text in texts],
    }
