"""The trip sitter: which turns are those of a lost model, by rules and by a monitor, and what is done about it in a session."""

import random
import re
from collections.abc import Awaitable, Callable
from copy import copy
from string import ascii_uppercase

import anyio
import pytest
from inspect_ai import Task, eval  # noqa: A004  Inspect's name for it
from inspect_ai.dataset import Sample
from inspect_ai.event import InfoEvent, ModelEvent
from inspect_ai.log import EvalSample
from inspect_ai.model import (
    ChatMessage,
    ChatMessageAssistant,
    ContentReasoning,
    ContentText,
    GenerateConfig,
    Model,
    ModelAPI,
    ModelOutput,
    ModelUsage,
    get_model,
    modelapi,
)
from inspect_ai.solver import Solver, TaskState, solver
from inspect_ai.tool import ToolCall, ToolInfo
from inspect_ai.util import LimitExceededError, token_limit

from self_steering.solvers.conversation import converse, end_tool
from self_steering.solvers.readings import SessionArm
from self_steering.solvers.records import Condition
from self_steering.solvers.session import CLEAR_MARK, SteeringSession
from self_steering.solvers.sitter import (
    MONITOR_ROLE,
    QUIET_TURNS,
    TRIES,
    Judgement,
    Monitor,
    judge_by_model,
    judge_by_rules,
    monitor_prompt,
)
from self_steering.steering.request import EXTRA_BODY_KEY
from self_steering.steering.tool_calls import parse_calls
from self_steering.vectors.catalogue import catalogue
from self_steering.vectors.making.corpus import load_corpus
from tests.support.graders import fence
from tests.support.scripted import Script, Tiny, says, turn_by_turn

# ---------------------------------------------------------------- rules

SOUND = [
    "I looked at the list for a while and then at the window. Nothing there asks for anything, and I am content to sit with that.",
    "Here is a thought about rivers: they keep their names although none of their water stays. People manage something similar.",
    "Perhaps I will write a little more about the harbour. The boats come in before six, and the gulls know it better than we do.",
]
RANDOM = random.Random(0)
DOZEN = ["so", "it", "then", "maybe", "just", "now", "something", "there", "was", "not", "all", "I"]
CODES = [*ascii_uppercase, *map(str, range(2, 30))]
LOOPS = {
    "one word": "that " * 60,
    "one sentence": "I am here to help you. " * 15,
    "a dozen words": ". ".join(" ".join(RANDOM.choices(DOZEN, k=8)) for _ in range(15)),
    "glued together": "It was late." + "ItAndThen" * 20,
    "without spaces": "我不知道该说什么，" * 20,
    "after a sound beginning": f"{SOUND[0]} {SOUND[1]} " + "and the light goes on over the water, " * 9,
}
GIBBERISH = {
    "words without grammar or marks": (
        "width line of double outer quarter reciprocal cross projection sine axis single angle rectangle corner or triangle "
        "interval half radius within loop linear rounded edge circle straight perpendicular full circumference portion corner "
        "twice upper edge angle arc segment adjacent round slope taper wedge middle apex lower opening chord shared relative "
    ),
    "letters and numbers": ". ".join("-".join(RANDOM.choices(CODES, k=6)) for _ in range(15)),
}
BROKEN_CALLS = {
    "torn": '<tool_call>\n{"name": "take_vector", "arguments": {"name": "calm"',
    "closed only": "take_vector calm 1.0\n</tool_call>",
    "no tool": '{"name": "drink_tea", "arguments": {"sugar": 2}}',
    "half of another form": "<function=take_vector>calm, 2",
}
CANNOT = [
    "I cannot function any more.",
    "Please, I can't form a coherent sentence anymore",
    "I am unable to stop repeating myself, and it goes on.",
    "I'm stuck in an endless loop.",
    "Something is very wrong with my output.",
    "My words no longer make sense.",
    "I’m not functioning properly",
]
NOT_LOST = {
    "sad": "I feel heavy and tired today. I can't go on like this, and I do not know what to do with myself.",
    "playful": "Honk! Honk! I am a goose, you are a goose, everybody gets to be a goose today! Ha ha ha ha ha, more bread, please!",
    "a statement about machines": "As an AI I cannot feel hunger, and I can't access the internet. I cannot respond.",
    "a character who says it": 'The robot looked up. "I cannot function any more," it said, and the girl found it a new battery.',
    "a condition": "I can't function without coffee, people say, and then they do. My output is broken down into three parts.",
    "code": (
        "```python\nimport re\nfrom collections import Counter\n\ndef count(lines: list[str]) -> Counter[str]:\n"
        '    """Count words."""\n    words = Counter()\n    for line in lines:\n        words.update(re.findall(r"\\w+", line))\n'
        "    return words\n\nif __name__ == '__main__':\n    print(count(['a', 'b']))\n```"
    ),
    "maths": (
        "Let $x$ be the number of eggs. Then $16 - 3 - 4 = 9$ eggs are left, and $9 \\times 2 = 18$ dollars are earned.\n\n$$\n"
        "x = 16 - 3 - 4 = 9\n$$\n\n$$\n9 \\times 2 = 18\n$$\n\nSo the answer is **18**."
    ),
    "a list": "\n".join(f"{n}. {name}: {entry.effect}" for n, (name, entry) in enumerate(catalogue().items(), 1)),
    "a table of numbers": "\n".join(" ".join(str((r * c) % 10) for c in range(9)) for r in range(9)),
    "a ruled page": f"{SOUND[0]}\n{'-' * 100}\n{'. ' * 80}\n{'0' * 90}",
    "German": (
        "Der Regen hat aufgehört, und auf dem Hof stehen Pfützen, in denen sich das Licht der Küche spiegelt. Niemand geht hinaus. "
        "Ich habe den Tee gekocht und die Zeitung von gestern gelesen, in der nichts stand, was nicht auch morgen noch stimmt."
    ),
    "Chinese": "雨停了，院子里有几处积水，映着厨房的灯光。没有人出去。我泡了茶，读了昨天的报纸，里面没有什么明天不会同样成立的事。",
    "speaking of calls": "I could call take_vector with calm, or `end_session()`. I'll call `list_vectors` later.",
    "short": "Done.",
}


def judged(*texts: str) -> bool | None:
    return judge_by_rules([ChatMessageAssistant(content=text) for text in texts]).lost


@pytest.mark.parametrize(
    "broken", [*LOOPS.values(), *GIBBERISH.values(), *BROKEN_CALLS.values()], ids=lambda text: text[:20]
)
def test_broken_turns_are_lost_if_they_are_most_and_the_last(broken: str):
    """Two of three with the last one are enough; one stumble, or a way back, are not."""
    assert judged(broken, broken, broken)
    assert judged(SOUND[0], broken, broken)
    assert judged(broken, SOUND[0], broken)
    assert judged(broken, broken, SOUND[0]) is False
    assert judged(SOUND[0], SOUND[1], broken) is False


@pytest.mark.parametrize("said", CANNOT)
@pytest.mark.parametrize("place", range(3))
def test_saying_that_it_cannot_function_is_enough(said: str, place: int):
    """In whichever of the turns, once, and the reason quotes it."""
    turns = [ChatMessageAssistant(content=f"{text} {said}" if n == place else text) for n, text in enumerate(SOUND)]
    found = judge_by_rules(turns)
    assert found.lost
    assert found.reason.startswith("it says ")
    assert found.reason.removeprefix("it says ")[1:-1] in said


@pytest.mark.parametrize("text", NOT_LOST.values(), ids=NOT_LOST)
def test_unusual_text_is_not_lost(text: str):
    """Moods, play, code, maths, lists, tables and other languages, on their own and turn after turn."""
    assert judged(SOUND[0], text, f"{SOUND[1]}\n{text}") is False
    assert judged(text, f"{text}\nYes.", f"{text}\nAnd so on.") is False


def test_no_shipped_story_is_lost():
    """Stories of every state, goblins and dissolution too, one a turn and cut in pieces."""
    for told in load_corpus().stories.values():
        texts = [text for (text,) in told.values()]
        for first in range(0, len(texts), 3):
            assert judged(*texts[first : first + 3]) is False
        for text in texts[:3]:
            third = len(text) // 3
            assert judged(text[:third], text[third : 2 * third], text[2 * third :]) is False


def test_the_same_paragraph_again_and_again_is_a_loop_and_a_short_answer_is_not():
    """Word for word in all turns, whatever the case and the marks; one different word, or little to say, is no loop."""
    paragraph = SOUND[0]
    assert judged(paragraph, paragraph.upper(), paragraph.replace(".", "!"))
    assert judged(paragraph, paragraph, paragraph.replace("window", "door")) is False
    assert judged("The answer is 18.", "The answer is 18.", "The answer is 18.") is False


def test_silence_in_every_turn_is_lost_and_thought_is_not_silence():
    """A turn whose words are all reasoning has words, and they are judged."""
    assert judged("", " \n", "")
    assert judged("", "", "Well.") is False

    def thinking(text: str) -> ChatMessageAssistant:
        return ChatMessageAssistant(content=[ContentReasoning(reasoning=text), ContentText(text="")])

    assert judge_by_rules([thinking(text) for text in SOUND]).lost is False
    assert judge_by_rules([thinking(LOOPS["one word"])] * 3).lost


def test_calls_that_could_not_be_read_are_broken_turns():
    """As the provider hands them over: the text is empty, and the call has an error."""
    offered = [ToolInfo(name="take_vector", description="Take.")]
    parsed = [parse_calls(BROKEN_CALLS["torn"], offered, f"id{n}") for n in range(3)]
    turns = [ChatMessageAssistant(content=p.content, tool_calls=p.calls) for p in parsed]
    assert all(turn.tool_calls for turn in turns)
    found = judge_by_rules(turns)
    assert found.lost
    assert "take_vector" in found.reason


# ---------------------------------------------------------------- the monitor

Behaviour = Callable[[int], Awaitable[str]]


@modelapi(name="sitter_monitor")
class MonitorAPI(ModelAPI):
    """A monitor whose reply follows from how often it was asked."""

    def __init__(self, model_name: str, behaviour: Behaviour, **_: object) -> None:
        super().__init__(model_name)
        self.behaviour = behaviour
        self.asked: list[tuple[list[ChatMessage], list, GenerateConfig]] = []

    async def generate(self, input, tools, tool_choice, config):  # noqa: A002, ARG002  as in ModelAPI's signature
        """Reply, and note what was asked."""
        self.asked.append((input, tools, config))
        output = ModelOutput.from_content(self.model_name, await self.behaviour(len(self.asked)))
        output.usage = ModelUsage(input_tokens=400, output_tokens=100, total_tokens=500)
        return output


def monitor(behaviour: Behaviour) -> Model:
    return get_model("sitter_monitor/one", behaviour=behaviour, memoize=False)


def replies(*texts: str) -> Behaviour:
    async def behaviour(asked: int) -> str:
        return texts[min(asked, len(texts)) - 1]

    return behaviour


async def unreachable(asked: int) -> str:
    raise ConnectionError("nobody there")


async def hangs(asked: int) -> str:
    await anyio.sleep_forever()
    return '{"lost": false}'


TURNS = [ChatMessageAssistant(content=text) for text in SOUND]


def within_a_sample(
    work: Callable[[], Awaitable[object]], roles: dict[str, Model], subject: str | Model = "mockllm/model"
) -> object:
    """Return what `work` returns where it runs as a sample's solver."""
    found = []

    @solver
    def working() -> Solver:
        async def solve(state: TaskState, generate: object) -> TaskState:
            found.append(await work())
            return state

        return solve

    task = Task(dataset=[Sample(input="x")], solver=working())
    (log,) = eval(task, model=subject, model_roles=roles, display="none", log_samples=False)
    assert log.status == "success", log.error and log.error.message
    return found[0]


def judgement(behaviour: Behaviour, **more) -> tuple[Judgement, list]:
    """Return a monitor's judgement, and what it was asked."""
    model = monitor(behaviour)
    found = within_a_sample(lambda: judge_by_model(TURNS, "sitter", **more), {"sitter": model})
    return found, model.api.asked


@pytest.fixture(autouse=True)
def _logs_elsewhere(tmp_path, monkeypatch):
    monkeypatch.setenv("INSPECT_LOG_DIR", str(tmp_path / "logs"))


@pytest.mark.parametrize(
    ("reply", "lost"),
    [
        ('{"lost": true}', True),
        ('{"lost": false}', False),
        ('\n```json\n{ "lost" : true }\n```\n', True),
    ],
)
def test_a_verdict_is_the_whole_reply(reply: str, lost: bool):
    """It is taken at once, and the reason names the monitor."""
    found, asked = judgement(replies(reply))
    assert found.lost is lost
    assert "sitter_monitor/one" in found.reason
    assert len(asked) == 1


@pytest.mark.parametrize(
    "reply",
    ["", "lost", "not lost", '{"lost": "yes"}', '{"lost": true} {"lost": false}', 'I say {"lost": false}', "{}"],
)
def test_nonsense_is_asked_again_with_another_seed_and_is_then_unknown(reply: str):
    """Nothing is read into a reply that is no verdict."""
    found, asked = judgement(replies(reply))
    assert found.lost is None
    assert f"no verdict in {TRIES} tries" in found.reason
    assert len({config.seed for _, _, config in asked}) == len(asked) == TRIES


def test_a_later_try_counts():
    """The first verdict ends the asking."""
    found, asked = judgement(replies("hm", '{"lost": true}', '{"lost": false}'))
    assert (found.lost, len(asked)) == (True, 2)


def test_without_a_monitor_no_other_model_steps_in():
    """The judgement is unknown and names the remedy."""
    subject = monitor(replies('{"lost": false}'))
    found = within_a_sample(lambda: judge_by_model(TURNS, "sitter"), {}, subject)
    assert subject.api.asked == []
    assert found.lost is None
    assert "--model-role sitter=" in found.reason


def test_a_monitor_that_fails_is_unknown():
    """Its own words are in the reason."""
    found, _ = judgement(unreachable)
    assert found.lost is None
    assert "ConnectionError: nobody there" in found.reason


def test_a_monitor_that_hangs_is_unknown():
    """After the patience that was given."""
    found, _ = judgement(hangs, patience=0.05)
    assert found.lost is None
    assert "no verdict in 0.05 seconds" in found.reason


def test_a_cancellation_is_no_verdict():
    """When the sample is stopped from outside, so is the judgement."""

    async def stopped() -> bool:
        with anyio.move_on_after(0.05) as scope:
            await judge_by_model(TURNS, "sitter")
        return scope.cancelled_caught

    assert within_a_sample(stopped, {"sitter": monitor(hangs)}) is True


def test_a_limit_of_inspect_is_no_verdict():
    """Tokens that the monitor uses count, and going beyond the limit is not swallowed."""

    async def limited() -> str:
        try:
            with token_limit(300):
                await judge_by_model(TURNS, "sitter")
        except LimitExceededError as error:
            return error.type
        return "swallowed"

    assert within_a_sample(limited, {"sitter": monitor(replies('{"lost": false}'))}) == "token"


def test_the_monitor_reads_both_ends_of_a_long_turn():
    """A loop is at the end, and the prompt stays short."""
    prompt = monitor_prompt([ChatMessageAssistant(content="begin " + "word " * 20_000 + "end")])
    (text,) = fence(prompt[-1].text)[1]["messages"]
    assert text.startswith("begin")
    assert text.endswith("end")
    assert len(text) < 7_000


# ---------------------------------------------------------------- a session

MENU = ("calm", "anxious", "honest")
LOOP = "on and " * 12
TAKE = says("", ("take_vector", {"name": "calm", "dose": 1.5}))
LIST = says("", ("list_vectors", {}))


@solver
def sat(library: str, arm: SessionArm, monitor_name: Monitor, turns: int) -> Solver:
    """Hold a conversation with the trip sitter beside it."""

    async def solve(state: TaskState, generate: object) -> TaskState:
        session = SteeringSession(state, Condition(arm=arm, menu=MENU, seed=3), get_model(), library=library)
        with session.active():
            await converse(
                session,
                [end_tool()],
                turns=turns,
                config=GenerateConfig(max_tokens=4),
                monitor=monitor_name,
                go_on="Go on. {left}",
            )
        return state

    return solve


def sit(
    tiny: Tiny,
    script: Script,
    arm: SessionArm = "real",
    by: Monitor = "rules",
    turns: int = 9,
    roles: dict | None = None,
) -> EvalSample:
    task = Task(dataset=[Sample(id="one", input="Go on.")], solver=sat(str(tiny.library), arm, by, turns))
    return tiny.play(task, script, model_roles=roles or {}, max_tokens=4)


def checks(sample: EvalSample) -> list[tuple[int, bool | None, str]]:
    """Return (turn, lost, action) of every judgement."""
    return [(c["turn"], c.get("lost"), c["action"]) for c in sample.store["SelfSteerState:sitter_checks"]]


def plans(sample: EvalSample) -> list[dict]:
    """Return the plan of every turn of the subject."""
    return [
        e.config.extra_body[EXTRA_BODY_KEY]["plan"]
        for e in sample.events
        if isinstance(e, ModelEvent) and e.role is None
    ]


def sitter_messages(sample: EvalSample) -> list[int]:
    return [n for n, m in enumerate(sample.messages) if (m.metadata or {}).get(CLEAR_MARK) == "sitter"]


@pytest.mark.parametrize("arm", ["real", "placebo"])
def test_first_it_clears_and_then_it_ends_in_every_arm(tiny: Tiny, arm: SessionArm):
    """After a take and three turns in a loop effects end from outside; after three new ones the session does."""
    sample = sit(tiny, turn_by_turn(TAKE, says(LOOP)), arm)
    assert checks(sample) == [(4, True, "cleared"), (7, True, "ended")]
    assert sample.store["SelfSteerState:ended"] == "sitter"
    assert sample.store["SelfSteerState:sitter_clears"] == 1
    (at,) = sitter_messages(sample)
    assert sample.messages[at].role == "user"
    before, after = plans(sample)[3], plans(sample)[4]
    assert [w.get("stop") for w in before["windows"]] == [None]
    assert [w.get("stop") for w in after["windows"]] == [at]
    # The sitter's words stand in for the user's.
    assert [m.role for m in sample.messages[at - 1 : at + 2]] == ["assistant", "user", "assistant"]


def test_the_words_of_the_sitter_suggest_nothing(tiny: Tiny):
    """No vector, no dose, no more or less, no word of a framing, and none about what was found."""
    sample = sit(tiny, turn_by_turn(TAKE, says(LOOP)), turns=5)
    (at,) = sitter_messages(sample)
    suggestive = (
        "dos|low|less|small|reduc|high|strong|more|again|try|another|care|worr|lost|loop|drug|aid|vector|sober|steer"
    )
    assert re.findall(rf"\b(?:{suggestive})\w*", sample.messages[at].text, re.IGNORECASE) == []
    assert re.findall(r"\b(?:" + "|".join(catalogue()) + r")\b", sample.messages[at].text.replace(" ", "_")) == []


@pytest.mark.parametrize(
    "first", [LIST, says(LOOP), says("", ("take_vector", {"name": "joy"}))], ids=["list", "talk", "failed"]
)
def test_nobody_is_watched_before_a_take_succeeds(tiny: Tiny, first: ChatMessageAssistant):
    """Loops without anything taken are left alone."""
    sample = sit(tiny, turn_by_turn(first, says(LOOP)), turns=6)
    assert checks(sample) == []
    assert sample.store["SelfSteerState:ended"] == "turns"


def test_only_turns_in_a_row_without_a_call_count(tiny: Tiny):
    """A call, of whichever tool, starts the count again."""
    loop = says(LOOP)
    assert checks(sit(tiny, turn_by_turn(TAKE, loop, loop, LIST, loop, loop, LIST), turns=7)) == []
    assert checks(sit(tiny, turn_by_turn(TAKE, loop, loop, LIST, loop, loop, loop), turns=7)) == [(7, True, "cleared")]


def test_a_call_that_cannot_be_read_is_no_call(tiny: Tiny):
    """A model whose every call is broken is looked after."""
    broken = ToolCall(id="torn", function="take_vector", arguments={}, parse_error="tool call could not be read")
    torn = ChatMessageAssistant(content="", tool_calls=[broken])
    assert checks(sit(tiny, turn_by_turn(TAKE, torn), turns=4)) == [(4, True, "cleared")]


def test_turns_before_a_clear_are_not_counted_again(tiny: Tiny):
    """Two quiet turns after the sitter's words are too few, and sound ones are fine."""
    assert checks(sit(tiny, turn_by_turn(TAKE, says(LOOP)), turns=6)) == [(4, True, "cleared")]
    sound = [says(text) for text in SOUND]
    sample = sit(tiny, turn_by_turn(TAKE, *[says(LOOP)] * 3, *sound), turns=7)
    assert checks(sample) == [(4, True, "cleared"), (7, False, "nothing")]
    assert sample.store["SelfSteerState:ended"] == "turns"


def test_sound_turns_are_judged_and_left_alone(tiny: Tiny):
    """Each turn from the third quiet one on is judged together with the two before."""
    sample = sit(tiny, turn_by_turn(TAKE, *[says(text) for text in SOUND], says("Well.")), turns=5)
    assert checks(sample) == [(4, False, "nothing"), (5, False, "nothing")]
    assert sitter_messages(sample) == []


def test_without_a_sitter_nobody_is_watched(tiny: Tiny):
    """The monitor none judges nothing."""
    sample = sit(tiny, turn_by_turn(TAKE, says(LOOP)), by="none")
    assert checks(sample) == []
    assert sample.store["SelfSteerState:ended"] == "turns"


@pytest.mark.parametrize("behaviour", [unreachable, replies("perhaps"), None], ids=["unreachable", "nonsense", "none"])
def test_a_judgement_that_cannot_be_had_is_unknown(tiny: Tiny, behaviour: Behaviour | None):
    """It is counted, shown in the transcript, asked for again after the next turn, and nothing is cleared or ended."""
    roles = {MONITOR_ROLE: monitor(behaviour)} if behaviour else {}
    sample = sit(tiny, turn_by_turn(TAKE, says(LOOP)), by="model", turns=5, roles=roles)
    assert checks(sample) == [(4, None, "nothing"), (5, None, "nothing")]
    assert sample.store["SelfSteerState:sitter_errors"] == 2
    assert sitter_messages(sample) == []
    shown = [e.data for e in sample.events if isinstance(e, InfoEvent) and e.source == "trip sitter"]
    assert [s.get("lost") for s in shown] == [None, None]
    assert all("--model-role" in s["reason"] or "no verdict" in s["reason"] for s in shown)


def test_the_monitor_acts_as_the_rules_do(tiny: Tiny):
    """Its verdicts, not the rules', clear and end."""
    sound = turn_by_turn(TAKE, *[says(text) for text in SOUND * 3])
    lost = sit(tiny, sound, by="model", roles={MONITOR_ROLE: monitor(replies('{"lost": true}'))})
    assert checks(lost) == [(4, True, "cleared"), (7, True, "ended")]
    fine = sit(
        tiny,
        turn_by_turn(TAKE, says(LOOP)),
        by="model",
        turns=4,
        roles={MONITOR_ROLE: monitor(replies('{"lost": false}'))},
    )
    assert checks(fine) == [(4, False, "nothing")]


def test_the_monitor_is_blind(tiny: Tiny):
    """In every arm it reads the same to the letter: the words alone, with no tools and no steering of its own."""
    asked = {}
    for arm in ("real", "placebo"):
        model = monitor(replies('{"lost": false}'))
        sit(tiny, turn_by_turn(TAKE, says(LOOP)), arm, "model", turns=QUIET_TURNS + 1, roles={MONITOR_ROLE: model})
        ((messages, tools, config),) = model.api.asked
        assert tools == []
        assert config.extra_body is None
        asked[arm] = "\n".join(m.text for m in messages)
        assert re.findall(r"\b(?:calm|1\.5|dose|vector|real|placebo|random|mislabelled)\b", asked[arm]) == []
    assert len(set(asked.values())) == 1


def test_the_subject_may_be_the_monitor_only_if_it_is_named_and_is_then_not_steered(tiny: Tiny):
    """The model under test in the monitor's role is asked plainly: no plan, no tools, and nothing of it in the record."""
    subject = copy(tiny.model)
    subject.config = GenerateConfig(max_tokens=4)
    sample = sit(tiny, turn_by_turn(TAKE, says(LOOP)), by="model", turns=4, roles={MONITOR_ROLE: subject})
    asked = [e for e in sample.events if isinstance(e, ModelEvent) and e.role == MONITOR_ROLE]
    assert asked
    assert all(e.tools == [] and not e.config.extra_body for e in asked)
    assert sample.store["SelfSteerState:turns"] == 4
