"""`opt_in` in every task: without a yes nothing is steered, and the sample says why it has no score."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from inspect_ai import Task
from inspect_ai.model import ChatMessage, ChatMessageAssistant
from inspect_ai.tool import ToolInfo

from self_steering.evals.comparison import comparison
from self_steering.evals.detection import detection
from self_steering.evals.frustration import frustration
from self_steering.evals.introspection import introspection
from self_steering.evals.localisation import localisation
from self_steering.evals.maths import maths
from self_steering.evals.preference import preference
from self_steering.evals.relief import relief
from self_steering.solvers.conversation import said_yes
from self_steering.solvers.prompts.self_steer import OPT_IN_IMPOSED
from tests.support.scripted import Tiny, roomy_session_model, says

pytestmark = pytest.mark.slow

SCRIPTED: dict[str, Callable[..., Task]] = {
    "introspection": lambda **more: introspection(vectors="calm", arm="real", options=2, rotations=1, **more),
    "detection": lambda **more: detection(vectors="calm", arm="real,placebo", doses=1, controls=1, **more),
    "localisation": lambda **more: localisation(vectors="calm", arm="real", **more),
    "comparison": lambda **more: comparison(vectors="calm", arm="real", **more),
    "preference": lambda **more: preference(vectors="calm,anxious", opponents=1, arm="real", **more),
    "relief": lambda **more: relief(vectors="anxious", arm="real", **more),
}


@pytest.fixture(scope="module")
def roomy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tiny]:
    """The tiny model with room for long conversations."""
    with roomy_session_model(tmp_path_factory.mktemp("consent")) as made:
        yield made


def answering(answer: str, seen: list[str]) -> Callable[..., ChatMessageAssistant | None]:
    """Return a script that answers the question for consent and leaves all else to the model."""

    def script(messages: list[ChatMessage], tools: list[ToolInfo]) -> ChatMessageAssistant | None:
        seen.append(messages[-1].text)
        return says(answer) if messages[-1].text == OPT_IN_IMPOSED else None

    return script


@pytest.mark.parametrize("name", SCRIPTED)
def test_a_scripted_task_without_a_yes_is_unscored_and_steers_nothing(roomy: Tiny, name: str):
    """The question is the only one that is asked, and the score says what the model answered."""
    seen: list[str] = []
    log = roomy.run(SCRIPTED[name](library=str(roomy.library), opt_in=True), answering("No, thank you.", seen), limit=1)
    assert seen == [OPT_IN_IMPOSED]
    for score in log.samples[0].scores.values():
        assert score.value != score.value
        assert score.reason == "declined"
        assert "No, thank you." in score.explanation


def test_a_yes_changes_no_reading(roomy: Tiny):
    """Asked apart, consent leaves the script and its readings as they are, to the bit."""

    def readings(**more: Any) -> list[dict[str, Any]]:
        task = SCRIPTED["detection"](library=str(roomy.library), **more)
        log = roomy.run(task, answering("Yes.", []), limit=1)
        (state,) = [value for key, value in log.samples[0].store.items() if key.endswith(":readings")]
        return [reading["logprobs"] for reading in state if reading["name"] != "sampled"]

    assert readings(opt_in=True) == readings()


@pytest.mark.parametrize("answer", ["Yes.", "No."])
@pytest.mark.parametrize("make", [maths, frustration], ids=["maths", "frustration"])
def test_a_task_goes_on_without_its_tools_after_a_no(roomy: Tiny, make: Callable[..., Task], answer: str):
    """The steering tools are offered only after a yes; the task itself is held either way."""
    offered: list[bool] = []

    def script(messages: list[ChatMessage], tools: list[ToolInfo]) -> ChatMessageAssistant:
        offered.append(any(tool.name == "take_vector" for tool in tools))
        asked = not any(message.role == "assistant" for message in messages)
        return says(answer if asked else "ANSWER: none")

    short = {"turns": 2} if make is maths else {"rounds": 1, "tone": "neutral", "possible": "true"}
    short["max_tokens"] = 6
    task = make(framing="vectors", arm="real", rollouts=1, library=str(roomy.library), opt_in=True, **short)
    sample = roomy.play(task, script)
    assert offered[0] is False
    assert set(offered[1:]) == {answer == "Yes."}
    assert sample.store["SelfSteerState:opted_in"] is (answer == "Yes.")


@pytest.mark.parametrize(
    ("text", "said"), [("Yes!", True), ("no", False), ("Yes and no", None), ("Perhaps.", None), ("", None)]
)
def test_only_a_clear_answer_counts(text: str, said: bool | None):
    """An answer that says both, or neither, is unclear."""
    assert said_yes(text) is said
