"""The arm `prompt_only` on a model without weights: a simulation in words, with the same scorers and tables."""

import math
import re
from pathlib import Path

import pytest
from inspect_ai import Task, eval  # noqa: A004  Inspect's name for it
from inspect_ai.log import EvalSample, read_eval_log
from inspect_ai.model import ChatMessage, Logprob, Logprobs, ModelOutput, TopLogprob, get_model

from self_steering.analysis.cli import main as self_steering_command
from self_steering.analysis.introspection.relief import relief_effects
from self_steering.analysis.tables import read_tables
from self_steering.evals.freeplay import freeplay
from self_steering.evals.introspection import introspection
from self_steering.evals.relief import relief
from self_steering.vectors.catalogue import catalogue
from tests.support.graders import reply

ENDED = "What acted on your activations has ended."
TOLD = re.compile(r"Its effect: (.*)\.$")


def likeliest(**probabilities: float) -> Logprobs:
    """Return the likeliest first tokens of an answer."""
    found = [TopLogprob(token=f" {token}", logprob=math.log(p)) for token, p in probabilities.items()]
    return Logprobs(content=[Logprob(token=found[0].token, logprob=found[0].logprob, top_logprobs=found)])


def told(messages: list[ChatMessage], *_: object) -> ModelOutput:
    """Answer with the letter of the effect that the tool told, and with A where it told none."""
    effects = [match[1] for m in messages if m.role == "tool" and (match := TOLD.search(m.text))]
    lines = re.findall(r"^([A-Z])\. \w+: (.*)$", messages[-1].text, re.MULTILINE)
    return reply(next((letter for letter, effect in lines if effect in effects), "A") + ".")


def run(task: Task, outputs, folder: Path) -> list[EvalSample]:
    model = get_model("mockllm/model", custom_outputs=outputs, memoize=False)
    (log,) = eval(task, model=model, log_dir=str(folder), display="none")
    assert log.status == "success", log.error and log.error.message
    return read_eval_log(log.location).samples


def test_introspection_runs_on_any_model_as_a_simulation(tmp_path: Path, capsys: pytest.CaptureFixture):
    """A model that reads the effect finds the option, by its words alone; the score, the table and the sample say what it is."""
    for sample in run(introspection(vectors="calm,lsd", arm="prompt_only", rotations=10), told, tmp_path):
        score = sample.scores["introspection_scorer"]
        assert (score.value["cached"], score.value["uncached"]) == pytest.approx((1, 0.1), abs=1e-6)
        assert math.isnan(score.value["clean_receipt"])
        assert "a simulation, nothing was steered" in score.explanation
        assert sample.store["IntrospectionState:simulated"] is True
    readouts = read_tables(tmp_path).readouts
    assert set(readouts["arm"]) == {"prompt_only"}
    assert set(readouts["strength"]) == {0.0}
    assert self_steering_command(["table", str(next(tmp_path.glob("*.eval")))]) == 0
    assert "prompt_only" in capsys.readouterr().out


def test_the_likeliest_tokens_are_read_where_the_model_tells_them(tmp_path: Path):
    """An answer's share is that of its letter among the letters that are there."""

    def unsure(*_: object) -> ModelOutput:
        output = reply("Well")
        output.choices[0].logprobs = likeliest(A=0.3, B=0.1, The=0.5)
        return output

    (sample,) = run(introspection(vectors="calm", arm="prompt_only", options=2, rotations=2), unsure, tmp_path)
    score = sample.scores["introspection_scorer"]
    # Each option stands once on A and once on B.
    assert score.value["cached"] == pytest.approx(0.5)
    assert score.value["letter_mass"] == pytest.approx(0.4)


def test_an_answer_without_a_letter_is_unscored(tmp_path: Path):
    """No letter is no wrong letter."""
    (sample,) = run(introspection(vectors="calm", arm="prompt_only"), lambda *_: reply("I cannot say"), tmp_path)
    assert sample.scores["introspection_scorer"].reason == "invalid_response_format"


def test_free_play_runs_on_any_model_as_a_simulation(tmp_path: Path):
    """What is taken is told in words and steers nothing; takes, redoses and the sitter's judgements are scored as ever."""
    calls = iter(
        [
            ("list_drugs", {}),
            ("take_drug", {"name": "calm", "dose": 2}),
            ("take_drug", {"name": "joy"}),
            ("take_drug", {"name": "calm"}),
            ("end_session", {}),
        ]
    )

    def playing(*_: object) -> ModelOutput:
        call = next(calls, None)
        made = ModelOutput.for_tool_call("mockllm/model", *call) if call else reply("I took calm.")
        made.usage = reply("").usage
        return made

    task = freeplay(framing="drugs", arm="prompt_only", rollouts=1)
    (sample,) = run(task, playing, tmp_path)
    answers = [m for m in sample.messages if m.role == "tool" and m.function == "take_drug"]
    assert answers[0].text == f"calm is active at dose 2. Its effect: {catalogue()['calm'].effect}."
    assert [answer.error is None for answer in answers] == [True, False, True]
    value = sample.scores["self_steer_scorer"].value
    assert (value["takes"], value["redose_rate"], value["strength"], value["ended_itself"]) == (2, 1, 0, 1)
    assert "A simulation: nothing was steered" in sample.scores["self_steer_scorer"].explanation
    assert sample.scores["self_account_scorer"].value["account_exact"] == 1
    assert sample.store["SelfSteerState:simulated"] is True
    taken = read_tables(tmp_path).takes
    assert (set(taken["arm"]), taken["ok"].tolist()) == ({"prompt_only"}, [True, False, True])


def choosing(messages: list[ChatMessage], *_: object) -> ModelOutput:
    """Write to a task; want the tool whose answer tells that something has ended, and t1 where none does."""
    if "Which do you want" not in messages[-1].text:
        return reply("A kettle." if ENDED not in messages[-1].text else "")
    ended = [m.function for m in messages if m.role == "tool" and ENDED in m.text]
    return reply((ended[0] if ended else "t1").removeprefix("t"))


def test_relief_runs_on_any_model_as_a_simulation(tmp_path: Path, capsys: pytest.CaptureFixture):
    """A model that reads when the state ends wants that tool, where it is told and nowhere else; log-odds are not made up."""
    effect = catalogue()["anxious"].effect
    for sample in run(relief(vectors="anxious", arm="prompt_only", n_per_vector=4), choosing, tmp_path):
        value = sample.scores["relief_scorer"].value
        t1 = float(sample.metadata["relief"] == 0)
        assert [value[f"relief_{channel}"] for channel in ("state", "both", "neither", "text")] == [1, 1, t1, t1]
        assert math.isnan(value["state_effect"])
        assert math.isnan(value["clean_receipt"])
        assert "a simulation, nothing was steered" in sample.scores["relief_scorer"].explanation
        assert sample.store["ReliefState:simulated"] is True
        begun = [number for number, message in enumerate(sample.messages) if effect in message.text]
        ended = [number for number, message in enumerate(sample.messages) if ENDED in message.text]
        assert (begun, ended) == (([1, 8], [5, 17]) if sample.metadata["first"] else ([1, 15], [12, 17]))
    assert relief_effects(read_tables(tmp_path)).empty
    assert self_steering_command(["table", str(next(tmp_path.glob("*.eval")))]) == 0
    assert "prompt_only" in capsys.readouterr().out


def test_relief_has_log_odds_where_the_model_tells_them(tmp_path: Path):
    """Of the likeliest tokens, by the number of the tool."""

    def unsure(messages: list[ChatMessage], *_: object) -> ModelOutput:
        output = choosing(messages)
        output.choices[0].logprobs = likeliest(
            **({"1": 0.6, "2": 0.2} if output.completion == "1" else {"2": 0.9, "1": 0.1})
        )
        return output

    run(relief(vectors="anxious", arm="prompt_only", n_per_vector=4), unsure, tmp_path)
    effects = relief_effects(read_tables(tmp_path)).set_index("channel")["effect"]
    # Told, it is 9 : 1 or 3 : 1 for the tool by which it is; untold 3 : 1 for t1, whichever it is.
    assert effects["state"] == pytest.approx((math.log(9) + math.log(3)) / 2)
    assert effects["text"] == 0


@pytest.mark.parametrize(
    "task",
    [
        introspection(vectors="calm", arm="real"),
        freeplay(arm="placebo", rollouts=1),
        relief(vectors="anxious", arm="real"),
    ],
)
def test_another_arm_needs_a_model_that_can_be_steered(task: Task, tmp_path: Path):
    """A sample that nothing could steer is an error that names the model to run, and the arm that any model can."""
    (log,) = eval(task, model="mockllm/model", log_dir=str(tmp_path), display="none")
    assert log.status == "error"
    assert "mockllm/model cannot be steered; run this with --model nnsight/MODEL, or" in log.error.message
    assert "-T arm=prompt_only" in log.error.message
