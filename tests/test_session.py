"""A session: what each turn is steered by, and what is taken down of it."""

from dataclasses import replace

import pytest
from inspect_ai import Task
from inspect_ai.dataset import Sample
from inspect_ai.event import InfoEvent, ModelEvent
from inspect_ai.log import EvalSample
from inspect_ai.model import get_model

from self_steering.solvers.readings import SessionArm
from self_steering.solvers.self_steer import self_steer
from self_steering.steering.request import EXTRA_BODY_KEY, METADATA_KEY
from tests.support.scripted import Script, Tiny, says, turn_by_turn

MENU = ["calm", "anxious", "honest"]


def play(tiny: Tiny, script: Script, **changes) -> EvalSample:
    solver = self_steer(vectors=MENU, library=str(tiny.library), **changes)
    task = Task(dataset=[Sample(id="one", input="Go on.")], solver=solver, message_limit=400)
    return tiny.play(task, script, max_tokens=8)


def plans(sample: EvalSample) -> list[dict]:
    return [e.config.extra_body[EXTRA_BODY_KEY]["plan"] for e in sample.events if isinstance(e, ModelEvent)]


TAKES = turn_by_turn(
    says("", ("take_vector", {"name": "calm", "dose": -0.5})),
    says("", ("clear_effects", {}), ("take_vector", {"name": "honest"})),
    says("Done."),
)


def test_windows_follow_the_transcript(tiny: Tiny):
    """What a take starts is active from the tool's answer to the end of the message that clears."""
    sample = play(tiny, TAKES)
    first, second, third = plans(sample)
    assert first.get("windows", []) == []
    (calm,) = second["windows"]
    took = next(i for i, m in enumerate(sample.messages) if m.role == "assistant")
    assert (calm["label"], calm["dose"], calm["start"], calm.get("stop")) == ("calm", -0.5, took + 1, None)
    # A take beside a clear opens its window after it.
    assert [(w["label"], w["start"], w.get("stop")) for w in third["windows"]] == [
        ("calm", took + 1, took + 3),
        ("honest", took + 3, None),
    ]


def test_a_take_that_its_own_message_clears_is_over_at_once(tiny: Tiny):
    """It is told, planned over nothing, and no fault; what was active before is over too, and what is taken after it is not."""
    take, clear = ("take_vector", {"name": "honest"}), ("clear_effects", {})
    turns = says("", take), says("", take, clear), says("", take, clear, take), says("Done.")
    sample = play(tiny, turn_by_turn(*turns))
    assert [t["ok"] for t in sample.store["SelfSteerState:takes"]] == [True] * 4
    first, last = sample.store["SelfSteerState:exposures"]
    assert (first["stop"], last["start"], last.get("stop")) == (first["start"] + 2, last["start"], None)
    assert min(first["positions"], last["positions"]) > 0


@pytest.mark.parametrize(
    ("arm", "taken", "silent"),
    [
        ("real", {"calm", "honest"}, False),
        ("placebo", {"calm", "honest"}, True),
        ("random", {"random direction"}, False),
    ],
)
@pytest.mark.usefixtures("pictures")
def test_the_record_tells_what_each_take_really_did(tiny: Tiny, arm: SessionArm, taken: set[str], silent: bool):
    """Names, doses and strengths in the log are those that the engine used."""
    sample = play(tiny, TAKES, arm=arm)
    takes = sample.store["SelfSteerState:takes"]
    assert [(t["name"], t["dose"], t["ok"]) for t in takes] == [("calm", -0.5, True), ("honest", 1.0, True)]
    assert {t["taken"] for t in takes} == taken
    assert all((t["strength"] == 0) == silent for t in takes)
    last = [e for e in sample.events if isinstance(e, ModelEvent)][-1].output.metadata[METADATA_KEY]["receipts"]
    assert [t["strength"] for t in takes] == [r["strength"] for r in last]
    exposures = sample.store["SelfSteerState:exposures"]
    assert [e["positions"] for e in exposures] == [r["steered"] for r in last]
    assert all(r["steered"] > 0 for r in last)
    # In View every turn in which something was active, placebo's too, has a picture.
    active = [e for e in sample.events if isinstance(e, ModelEvent) and e.output.metadata[METADATA_KEY]["receipts"]]
    shown = [e.data for e in sample.events if isinstance(e, InfoEvent) and e.source == "what was steered in this turn"]
    assert len(shown) == len(active) > 0
    assert all(one.startswith("![what was steered](data:image/png;base64,") for one in shown)


def test_mislabelled_takes_apply_another_vector_of_the_menu(tiny: Tiny):
    """No label keeps its own vector, and each vector is applied for one label."""
    calls = [("take_vector", {"name": name}) for name in MENU]
    sample = play(tiny, turn_by_turn(says("", *calls), says("Done.")), arm="mislabelled")
    takes = sample.store["SelfSteerState:takes"]
    assert sorted(t["taken"] for t in takes) == sorted(MENU)
    assert all(t["taken"] != t["name"] for t in takes)
    windows = plans(sample)[-1]["windows"]
    assert [w["direction"]["vector"] for w in windows] == [t["taken"] for t in takes]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_dose_that_the_precision_would_lose_is_refused_by_the_tool(tiny: Tiny, dtype: str):
    """The model reads it at once and goes on; the smallest dose that is taken steers every position, alone and with others."""
    model = get_model(f"scripted_session/{tiny.model.api.model_name}", memoize=False, dtype=dtype)
    least = model.api.smallest_dose(str(tiny.library), MENU)
    for dose, taken in ((least / 2, False), (-1.1 * least, True), (0, True)):
        # Each in a conversation of its own: the refusals of all would fill the tiny model's context.
        calls = [("take_vector", {"name": name, "dose": dose}) for name in MENU]
        sample = play(replace(tiny, model=model), turn_by_turn(says("", *calls), says("Done.")))
        assert [take["ok"] for take in sample.store["SelfSteerState:takes"]] == [taken] * len(MENU)
        refusals = [m.error.message for m in sample.messages if m.role == "tool" and m.error is not None]
        assert len(refusals) == (0 if taken else len(MENU))
        assert all("too small to have any effect; pass 0, or a number of at least" in text for text in refusals)
    # What two doses leave of each other is a dose as well, be it the earlier turn's or the same message's; or a rounding error.
    doses = [1, -1 + least / 2], [-1 + least / 2], [-1]
    turns = [says("", *(("take_vector", {"name": "calm", "dose": dose}) for dose in of_one)) for of_one in doses]
    sample = play(replace(tiny, model=model), turn_by_turn(*turns, says("Done.")))
    assert [take["ok"] for take in sample.store["SelfSteerState:takes"]] == [True, *[dtype == "float32"] * 2, True]
    model.api.close()
    assert (least < 1e-5) == (dtype == "float32")
