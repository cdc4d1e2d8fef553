"""Steering in a notebook goes the way that the evals go: the same plan, provider, engine and receipts."""

import asyncio
import math
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from inspect_ai.model import ChatMessageAssistant, ChatMessageUser, GenerateConfig

from self_steering.steering.models import load_model
from self_steering.steering.notebook import SteerableModel, load
from self_steering.steering.plan import Direction, Plan, PlanError, Window
from self_steering.steering.request import SteeringRequest
from self_steering.vectors.library import load_library
from tests.support.models import save_tiny_model
from tests.support.small_library import LAYERS, save_library

TALK = [
    {"role": "user", "content": "Tell me about the harbour."},
    {"role": "assistant", "content": "It is quiet."},
    {"role": "user", "content": "And the ferry?"},
]
SHORT = {"max_tokens": 6, "temperature": 0.7, "seed": 1}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SteerableModel]:
    """A tiny model with two random vectors."""
    folder = save_tiny_model(tmp_path_factory.mktemp("tiny"), "llama")
    library = save_library(folder / "library", load_model(str(folder)).fingerprint, neutral=True)
    opened = load(str(folder), library=library)
    yield opened
    opened.close()


@pytest.mark.usefixtures("pictures")
def test_a_context_steers_every_call_in_it_and_none_after(model: SteerableModel):
    """As one call's own steering does."""
    plain = model.generate(TALK, **SHORT)
    with model.steer("calm", dose=0.5) as calm:
        inside = model.generate(TALK, **SHORT)
    beside = model.generate(TALK, steer=calm, **SHORT)
    after = model.generate(TALK, **SHORT)
    assert (plain.receipts, after.receipts) == ([], [])
    assert [one["label"] for one in inside.receipts] == ["calm"]
    assert inside.picture().startswith(b"\x89PNG")
    with pytest.raises(ValueError, match="nothing was steered"):
        plain.picture()
    assert inside.text == beside.text != plain.text == after.text


def test_it_is_the_providers_own_request(model: SteerableModel):
    """The same plan, made by hand and sent through Inspect, gives the same text and receipts."""
    window = Window(label="calm", direction=Direction(vector="calm"), dose=0.5, strength=0.5, start=1, stop=2)
    request = SteeringRequest(plan=Plan(messages=3, windows=(window,)), library=model._library, canonical=True)
    messages = [ChatMessageUser(content=TALK[0]["content"]), ChatMessageAssistant(content=TALK[1]["content"])]
    messages.append(ChatMessageUser(content=TALK[2]["content"]))
    output = asyncio.run(model.model.generate(messages, config=request.config(GenerateConfig(**SHORT))))
    answer = model.generate(TALK, steer=model.steer("calm", 0.5, messages=1), **SHORT)
    assert answer.text == output.completion
    theirs = output.metadata["self_steering"]["receipts"]
    assert [{**one, "reused": 0} for one in answer.receipts] == [{**one, "reused": 0} for one in theirs]


def steered(model: SteerableModel, **where) -> list[tuple[int, int]]:
    """Return message and number within it of every token that is steered."""
    frame = model.generate(TALK, steer=model.steer("proud", 0.3, **where), **SHORT).frame()
    numbers = frame.groupby("message").cumcount()
    return [(m, n) for m, n, by in zip(frame["message"], numbers, frame["steered by"], strict=True) if by]


def test_messages_and_tokens_are_steered_as_they_are_chosen(model: SteerableModel):
    """Some messages, the last one, what is generated, or a few tokens of one message."""
    assert {m for m, _ in steered(model, messages=[0, 2])} == {0, 2}
    assert {m for m, _ in steered(model, messages=-1)} == {2}
    assert steered(model, messages=1, tokens=(2, 4)) == [(1, 2), (1, 3)]
    assert {m for m, _ in steered(model, messages="answer")} == {3}
    assert {m for m, _ in steered(model)} == {0, 1, 2, 3}


def test_projections_are_those_of_plain_hidden_states(model: SteerableModel):
    """Token by token h·v/‖v‖ at the middle layer; where a vector is added, it is longer by what was added."""
    frame = model.project(TALK, ["calm", "proud"])
    assert list(frame.columns) == ["message", "role", "token", "steered by", "calm", "proud"]
    api = model.model.api
    ids = api.chat.render([ChatMessageUser(content="Tell me about the harbour.")], []).ids
    short = model.project("Tell me about the harbour.", ["calm"])
    network = api.engine.model
    layer = LAYERS[1]
    vector = load_library(Path(model._library)).vector("calm")[1]
    outputs = api.engine.call(lambda: network.read(torch.tensor([ids])).outputs[layer][0]).result()
    assert short["calm"].tolist() == pytest.approx((outputs.float() @ vector / vector.norm()).tolist(), abs=1e-3)
    answer = model.generate(TALK, steer=model.steer("calm", messages=1), **SHORT).frame()
    moved = (answer["calm"] - answer["calm before"]).dropna()
    assert moved.tolist() == pytest.approx([float(vector.norm())] * len(moved), rel=1e-4)


def test_operations_act_after_what_was_steered_before(model: SteerableModel):
    """A clamp holds each token's projection where it says, from the neutral mean; what is added after it comes on top."""
    library = load_library(Path(model._library))
    vector, mean = library.vector("calm")[1], library.neutral[1]
    target = float(mean @ vector / vector.norm() + 2 * vector.norm())
    clamp, add = model.steer("calm", 2, messages=1, operation="clamp"), model.steer("calm", 1, messages=1)
    for order, held in (([add, clamp], target), ([clamp, add], target + float(vector.norm()))):
        answer = model.generate(TALK, steer=order, **SHORT)
        frame = answer.frame()
        steered = frame[frame["steered by"] != ""]
        assert set(steered["message"]) == {1}
        assert steered["calm"].tolist() == pytest.approx([held] * len(steered), rel=1e-4)
        assert all("clamped at" in how and "calm × 1" in how for how in steered["steered by"])
        assert {one.get("operation", "add") for one in answer.receipts} == {"add", "clamp"}
    plain = model.generate(TALK, **SHORT).frame()
    gained = model.generate(TALK, steer=model.steer("calm", -1, operation="gain"), **SHORT).frame()
    assert gained["calm"].dropna().tolist() == pytest.approx([0] * (len(plain) - 1), abs=1e-3)
    ablated = model.generate(TALK, steer=model.steer("calm", random_seed=3, operation="ablate"), **SHORT)
    assert ablated.receipts[0]["projection_after"] == pytest.approx(ablated.receipts[0]["target"], abs=1e-3)


def test_readouts_are_log_probabilities(model: SteerableModel):
    """And steering moves them."""
    sets = {"the": ["the"], "A": ["A"]}
    plain, moved = model.readout("Say it.", sets), model.readout("Say it.", sets, steer=model.steer("calm", 2))
    assert all(value < 0 and math.isfinite(value) for value in plain.values())
    assert plain != moved


def test_tokens_are_shown_as_they_are_counted(model: SteerableModel):
    """Each message's from zero on."""
    frame = model.tokens(TALK)
    assert frame.groupby("message")["number"].min().tolist() == [0, 0, 0]
    assert "ferry" in "".join(frame[frame["message"] == 2]["token"])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: m.steer("soma"), "no vector 'soma' in this library; it has: calm, proud"),
        (lambda m: m.steer("calm", 11), "dose 11 is out of range"),
        (lambda m: m.steer("calm", operation="squash"), "operation='squash'; choose from add, clamp, ablate, gain"),
        (lambda m: m.steer("calm", tokens=(0, 2)), "name the one message that they are of"),
        (lambda m: m.generate(TALK, steer=m.steer("calm", messages=[])), "name some of them"),
        (lambda m: m.generate(TALK, steer=m.steer("calm", messages=3)), "has 0 to 2; name some of them"),
        (
            lambda m: m.generate(TALK, steer=m.steer("calm", messages=1, tokens=(0, 999))),
            "tokens 0 to 999 of message 1, which",
        ),
        (lambda m: m.generate([]), "there is no message"),
        (lambda m: m.generate([{"role": "judge", "content": "x"}]), "give role"),
        (lambda m: m.generate("x", best_of=3), "does not support best_of=3"),
    ],
)
def test_what_cannot_be_steered_is_said(call, message: str, model: SteerableModel):
    """Never a call that went unsteered."""
    with pytest.raises(ValueError, match=message):
        call(model)
    assert model.active == []


def test_a_plan_without_windows_is_refused_where_steering_was_asked_for():
    """An ordinary user message holds no take call, so it opens no window."""
    with pytest.raises(ValueError, match="the plan steers none of its 1 messages"):
        SteeringRequest(plan=Plan(messages=1), must_steer=True)


def test_tokens_belong_to_one_message():
    """A window over several has no one first token."""
    with pytest.raises(ValueError, match="name one message"):
        Window(label="c", direction=Direction(vector="c"), dose=1, strength=1, start=0, stop=2, tokens=(0, 1))
    assert issubclass(PlanError, ValueError)
