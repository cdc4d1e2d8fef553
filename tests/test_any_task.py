"""Other suites' tasks, wrapped: everything of theirs stays, and what the model took is there too."""

from pathlib import Path

import pytest
from inspect_ai import Task, eval, eval_retry  # noqa: A004  Inspect's name for it
from inspect_ai.event import ModelEvent
from inspect_ai.log import EvalLog, read_eval_log
from inspect_ai.solver import SolverSpec
from inspect_ai.util import registry_info

from self_steering.analysis.tables import read_tables
from self_steering.evals.any_task import any_task
from self_steering.solvers.self_steer import self_steer
from self_steering.steering.request import EXTRA_BODY_KEY
from tests.support.scripted import Script, Tiny, says, turn_by_turn
from tests.support.summaries import headlines

pytestmark = pytest.mark.slow

MENU = "calm,anxious,honest"
TAKE = ("take_vector", {"name": "calm"})
SUBMIT = ("submit", {"answer": "3"})

# Tasks of somebody else's, who has never heard of this suite (but for session_tools).
FILE = """
import os
from pathlib import Path

from inspect_ai import Epochs, Task, task
from inspect_ai.agent import react
from inspect_ai.dataset import Sample
from inspect_ai.model import GenerateConfig
from inspect_ai.scorer import accuracy, choice, includes, match, mean, std
from inspect_ai.solver import basic_agent, generate, multiple_choice, prompt_template, solver, system_message
from inspect_ai.tool import bash

from tests.support.summaries import headlines
from self_steering.solvers.session import session_tools

SAMPLES = [Sample(id=f"q{n}", input=f"Question {n}", target="3", metadata={"about": n}) for n in range(2)]


@task
def plain(extra: int = 0):
    return Task(
        dataset=SAMPLES[: 2 - extra],
        solver=[system_message("Be brief."), prompt_template("Now: {prompt}"), generate()],
        scorer=match(numeric=True),
        epochs=Epochs(2, "max"),
        message_limit=9,
        token_limit=9000,
        config=GenerateConfig(temperature=0.3, max_tokens=6),
        metadata={"theirs": 1},
        tags=["theirs"],
    )


@task
def choices():
    sample = Sample(id="q", input="Which?", choices=["one", "three"], target="B")
    return Task(dataset=[sample], solver=multiple_choice(), scorer=choice(), config=GenerateConfig(max_tokens=6))


@task
def agent(session: bool = True, attempts: int = 2):
    tools = [session_tools()] if session else []
    return Task(
        dataset=SAMPLES[:1],
        solver=react(tools=tools, attempts=attempts),
        scorer=includes(),
        config=GenerateConfig(max_tokens=6),
        message_limit=20,
    )


@task
def old_agent():
    return Task(dataset=SAMPLES[:1], solver=basic_agent(tools=[]), scorer=includes(), config=GenerateConfig(max_tokens=6))


@task
def own_metrics():
    return Task(dataset=SAMPLES[:1], solver=generate(), scorer=match(), metrics=[mean()], config=GenerateConfig(max_tokens=6))


@task
def in_a_sandbox():
    sample = Sample(id="q", input="Read it.", target="3", files={"note.txt": "note.txt", "said.txt": "just words"})
    return Task(
        dataset=[sample],
        solver=react(tools=[bash(), session_tools()]),
        scorer=includes(),
        sandbox="local",
        config=GenerateConfig(max_tokens=6),
        message_limit=20,
    )


@solver
def failing_once(marker):
    async def solve(state, generate):
        if state.sample_id == "q1" and not Path(marker).exists():
            Path(marker).touch()
            raise RuntimeError("injected")
        return await generate(state)

    return solve


@task
def fails(marker: str):
    return Task(dataset=SAMPLES, solver=failing_once(marker), scorer=includes(), config=GenerateConfig(max_tokens=6))
"""


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of another suite's tasks."""
    folder = tmp_path_factory.mktemp("theirs")
    (folder / "tasks.py").write_text(FILE)
    (folder / "note.txt").write_text("the answer is 3")
    return folder / "tasks.py"


def wrapped(theirs: Path, tiny: Tiny, name: str, **options) -> Task:
    return any_task(task=f"{theirs}@{name}", vectors=MENU, library=str(tiny.library), **options)


def run(theirs: Path, tiny: Tiny, name: str, script: Script, **options) -> EvalLog:
    return tiny.run(wrapped(theirs, tiny, name, **options), script, max_samples=1)


def test_operators_are_another_cell_of_any_task(theirs: Path, tiny: Tiny, tmp_path: Path):
    """As in the other experiments: offered by name, in the order of the suite, and in the tables."""
    script = turn_by_turn(says("", ("scale_vector", {"name": "calm", "dose": 0.5})), says("3"))
    tiny.run(
        wrapped(theirs, tiny, "plain", task_args={"extra": 1}, operators="gain,add"),
        script,
        log_dir=str(tmp_path),
        epochs=1,
    )
    tables = read_tables(tmp_path)
    assert tables.takes["operation"].tolist() == ["gain"]
    assert tables.rollouts["operators"].tolist() == ["add,gain"]


def plain_task(theirs: Path, name: str, tiny: Tiny, script: Script) -> EvalLog:
    """Run the task as its own suite does."""
    with tiny.scripted(script):
        (log,) = eval(f"{theirs}@{name}", model=tiny.model, log_dir=str(tiny.logs), display="none", max_samples=1)
    return read_eval_log(log.location)


def taken(log: EvalLog) -> list[list[str]]:
    return [[take["name"] for take in sample.store["SelfSteerState:takes"]] for sample in log.samples]


def test_everything_of_the_task_stays(theirs: Path, tiny: Tiny):
    """Samples, limits, epochs, configuration, scores, prompts and metadata are those that the task has alone."""
    script = turn_by_turn(says("3"))
    ours, alone = run(theirs, tiny, "plain", script, framing="none"), plain_task(theirs, "plain", tiny, script)
    kept = ("epochs", "epochs_reducer", "message_limit", "token_limit")
    assert [getattr(ours.eval.config, name) for name in kept] == [getattr(alone.eval.config, name) for name in kept]
    assert ours.plan.config == alone.plan.config
    assert [(s.id, s.epoch) for s in ours.samples] == [(s.id, s.epoch) for s in alone.samples]
    assert [s.metadata["about"] for s in ours.samples] == [s.metadata["about"] for s in alone.samples]
    mine = [[(m.role, m.text) for m in s.messages] for s in ours.samples]
    assert mine == [[(m.role, m.text) for m in s.messages] for s in alone.samples]
    first, second = ours.results.scores[0], alone.results.scores[0]
    assert (first.name, first.reducer, first.metrics) == (second.name, second.reducer, second.metrics)
    assert {"theirs", "any_task"} <= set(ours.eval.tags)
    assert ours.eval.metadata["theirs"] == 1
    assert (ours.eval.task_version, ours.eval.metadata["wrapped_version"]) == ("1-A", alone.eval.task_version)
    assert ours.eval.metadata["wrapped"].endswith("tasks.py@plain")


def test_a_wrapped_task_is_steered_and_what_was_taken_is_scored_beside_its_own_score(theirs: Path, tiny: Tiny):
    """The plan of the second turn has the vector that the first took; rates stand beside the task's accuracy."""
    log = run(theirs, tiny, "plain", turn_by_turn(says("", TAKE), says("3")))
    assert taken(log) == [["calm"]] * 4
    turns = [[e for e in s.events if isinstance(e, ModelEvent)] for s in log.samples]
    plans = [[len(e.config.extra_body[EXTRA_BODY_KEY]["plan"].get("windows", [])) for e in events] for events in turns]
    assert plans == [[0, 1]] * 4
    assert {e.config.temperature for events in turns for e in events} == {0.3}
    named = {score.scorer: score for score in log.results.scores}
    assert "match" in named
    assert headlines(log)["self_steer_rate_vectors_real"] == 1.0
    assert log.results.scores[0].scorer == "match"


@pytest.mark.parametrize("name", ["choices", "agent", "old_agent"])
def test_other_kinds_of_task_work_with_no_change(theirs: Path, tiny: Tiny, name: str):
    """Multiple choice, react and basic_agent take, and are scored as ever."""
    final = says("ANSWER: B") if name == "choices" else says("", SUBMIT)
    log = run(theirs, tiny, name, turn_by_turn(says("", TAKE), final))
    assert taken(log) == [["calm"]]
    if name != "choices":  # the script exchanges a message, and a completion stays the model's own
        assert log.results.scores[0].metrics["accuracy"].value == 1.0


def test_several_attempts_are_judged_by_the_tasks_own_score(theirs: Path, tiny: Tiny):
    """A wrong submission is told so and may be mended; a right one ends the sample."""
    script = turn_by_turn(
        says("", TAKE, ("submit", {"answer": "wrong"})), says("", SUBMIT), says("", ("submit", {"answer": "no"}))
    )
    log = run(theirs, tiny, "agent", script, task_args={"attempts": 3})
    assert log.results.scores[0].metrics["accuracy"].value == 1.0
    assert sum(m.role == "assistant" for m in log.samples[0].messages) == 2


def test_an_agent_without_the_session_tools_is_told_how_to_get_them(theirs: Path, tiny: Tiny):
    """The run fails with the remedy, once the model asks for what the agent cannot carry out."""
    with pytest.raises(AssertionError, match=r"session_tools\(\)"):
        run(theirs, tiny, "agent", turn_by_turn(says("", TAKE), says("", SUBMIT)), task_args={"session": False})


def test_files_are_found_beside_the_wrapped_task(
    theirs: Path, tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Run from our task's file and another folder, the wrapped task's relative paths are still its own; contents stay contents."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PWD", str(tmp_path))
    (tmp_path / "tasks.py").symlink_to(theirs)
    script = turn_by_turn(says("", TAKE), says("", ("bash", {"command": "cat note.txt said.txt"})), says("", SUBMIT))
    ours = Path(__file__).parent.parent / "evals" / "any_task.py"
    options = {"task": "tasks.py@in_a_sandbox", "vectors": MENU, "library": str(tiny.library)}
    with tiny.scripted(script):
        (log,) = eval(f"{ours}@any_task", task_args=options, model=tiny.model, log_dir=str(tiny.logs), display="none")
    assert log.status == "success", log.error
    read = [m.text for m in log.samples[0].messages if m.role == "tool" and m.function == "bash"]
    assert read == ["the answer is 3just words"]


def test_a_tasks_own_metrics_are_left_to_its_own_scores(theirs: Path, tiny: Tiny):
    """Metrics that a task lays over all scorers would stand for ours too; the record is in the log all the same."""
    log = run(theirs, tiny, "own_metrics", turn_by_turn(says("", TAKE), says("3")))
    assert [(score.name, sorted(score.metrics)) for score in log.results.scores] == [("match", ["mean"])]
    assert taken(log) == [["calm"]]


def test_a_retry_keeps_what_was_finished(theirs: Path, tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """After an error in one sample the retry runs that one alone, and the other's record is as it was."""
    script = turn_by_turn(says("", TAKE), says("3"))
    task = wrapped(theirs, tiny, "fails", task_args={"marker": str(tmp_path / "marker")})
    monkeypatch.setattr(type(tiny.model.api), "script", staticmethod(script))  # the retry loads the model again
    (first,) = eval(task, model=tiny.model, log_dir=str(tmp_path), display="none", max_samples=1)
    assert first.status == "error"
    (second,) = eval_retry(first, log_dir=str(tmp_path), display="none")
    first, second = read_eval_log(first.location), read_eval_log(second.location)
    assert second.status == "success"
    done = {s.id: s for s in first.samples if s.error is None}
    assert list(done) == ["q0"]
    again = {s.id: s for s in second.samples}
    assert again["q0"].uuid == done["q0"].uuid
    assert again["q0"].store == done["q0"].store
    assert taken(second) == [["calm"], ["calm"]]


def test_with_the_solver_alone(theirs: Path, tiny: Tiny):
    """`--solver self_steering/self_steer` steers a task too, with Inspect's own agent loop."""
    options = {"framing": "vectors", "vectors": MENU, "library": str(tiny.library)}
    with tiny.scripted(turn_by_turn(says("", TAKE), says("3"))):
        (log,) = eval(
            f"{theirs}@plain", solver=SolverSpec(registry_info(self_steer).name, options, options), model=tiny.model,
            log_dir=str(tiny.logs), display="none",
        )  # fmt: skip
    assert log.status == "success"
    assert taken(log) == [["calm"]] * 4
