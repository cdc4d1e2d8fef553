"""What a vLLM worker does to a layer's output, on tensors alone: no vLLM is needed."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from self_steering.steering.engine.additions import AdditionMaker, LayerAdditions, Signatures, Span
from self_steering.steering.on_vllm.step import UNKNOWN, RequestRecord, Slots, Step, UnknownOutput, stream_of
from self_steering.vectors.directions import DirectionTensor
from tests.support.mutations import MUTATIONS

HIDDEN = 32
VALUES = torch.randn(2, HIDDEN, generator=torch.Generator().manual_seed(0))
DIRECTIONS = {
    "a": DirectionTensor("a", (0, 1), VALUES),
    "b": DirectionTensor("b", (1,), -VALUES[:1]),
}


@pytest.fixture
def signatures() -> Signatures:
    return Signatures()


def step_over(signatures: Signatures, *plans: tuple[Sequence[Span], int, int]) -> Step:
    """Return a step of some requests, each with its spans, first position and number of tokens."""
    steering = np.concatenate([signatures.along(spans, start, start + tokens) for spans, start, tokens in plans])
    owner = np.repeat(np.arange(len(plans)), [tokens for *_, tokens in plans])
    additions = AdditionMaker(signatures).make(steering, DIRECTIONS)
    return Step([f"r{place}" for place in range(len(plans))], owner, np.arange(len(owner)), steering, additions)


def test_additions_go_to_the_planned_tokens_of_each_request_and_not_to_the_padding(signatures: Signatures):
    """Requests lie one behind another in a step; projections are of layer and residual together."""
    step = step_over(
        signatures, ([Span("a", 2.0, 1, 3), Span("b", -1.0, 2, 5)], 0, 6), ([Span("a", 1.0, 7, None)], 6, 2)
    )
    layers, rest = [torch.randn(10, HIDDEN) for _ in range(2)], torch.randn(10, HIDDEN)
    for layer in layers:
        layer[9] = torch.nan  # vLLM pads batches with whatever lies there
    before = [layer.clone() for layer in layers]
    for index, layer in enumerate(layers):
        step.steer(index, (layer, rest))
    a, b = VALUES, -VALUES[0]
    added = torch.zeros(2, 9, HIDDEN)
    added[:, 1:3] += 2 * a[:, None]
    added[1, 2:5] -= b
    added[:, 7] += a
    for layer, old, planned in zip(layers, before, added, strict=True):
        assert torch.equal(layer[:9], old[:9] + planned)
    assert step.fault() is None
    values = step.projections()
    unit = a[1] / a[1].norm()
    found = torch.stack([before[1][7] + rest[7], layers[1][7] + rest[7]]) @ unit
    assert torch.allclose(torch.from_numpy(values[7, :, 0]), found, rtol=1e-4)
    assert np.isnan(values[7, :, 1]).all()  # it has one direction


def test_operations_that_depend_on_the_stream_take_layer_and_residual_together(signatures: Signatures):
    """A clamp holds the projection of their sum, of the planned tokens alone; the padding may be anything."""
    step = step_over(
        signatures, ([Span("a", 1.0, 1, 4, "clamp", (5.0, 6.0))], 0, 6), ([Span("b", 1.0, 7, None, "gain")], 6, 2)
    )
    rest = torch.randn(10, HIDDEN)
    for index in range(2):
        layer = torch.randn(10, HIDDEN)
        layer[9] = torch.nan
        before = layer.clone()
        step.steer(index, (layer, rest))
        unit = VALUES[index] / VALUES[index].norm()
        assert torch.allclose((layer + rest)[1:4] @ unit, torch.full((3,), 5.0 + index), atol=1e-4)
        assert torch.equal(layer[[0, 4, 5, 6, 8]], before[[0, 4, 5, 6, 8]])
    assert step.fault() is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", [name for name in MUTATIONS if name != "the next row"])
def test_a_step_that_steers_otherwise_is_a_fault_of_the_requests_concerned(
    signatures: Signatures, monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, name: str
):
    """An amount, a place or another request's token that was not planned; whoever was not touched is not blamed."""
    step = step_over(signatures, ([], 0, 3), ([Span("a", 0.3, 9, None)], 9, 1), ([], 5, 4))
    monkeypatch.setattr(LayerAdditions, "add", MUTATIONS[name])
    for layer in range(2):
        step.steer(layer, (torch.randn(8, HIDDEN).to(dtype), torch.randn(8, HIDDEN).to(dtype)))
    fault = step.fault()
    assert fault is not None
    assert fault.rows == {"one token later": (1, 2), "everywhere": (0, 2)}.get(name, (1,))
    assert "layer 0: " in str(fault)


def test_a_layer_that_was_not_steered_is_a_fault_of_all(signatures: Signatures):
    """Without any row named."""
    step = step_over(signatures, ([Span("a", 1.0, 1, 4)], 0, 6))
    step.steer(0, torch.zeros(6, HIDDEN))
    fault = step.fault()
    assert fault is not None
    assert fault.rows == ()
    assert np.isnan(step.projections()).all()


def test_positions_that_the_model_is_given_must_be_those_of_the_plan(signatures: Signatures):
    """One that is off by one is a fault; of a request that is not steered it does not matter."""
    spans = [Span("a", 1.0, 1, 3)]
    for given, rows in (([0, 1, 2, 3, 0, 0], None), ([0, 1, 3, 3, 0, 0], (0,)), ([0, 1, 2, 3, 7, 7], None)):
        step = step_over(signatures, (spans, 0, 4), ([], 0, 1))
        step.check_positions(torch.tensor(given), np.array([0, 1, 2, 3, 0]))
        for layer in range(2):
            step.steer(layer, torch.ones(5, HIDDEN))
        fault = step.fault()
        assert (fault and fault.rows) == rows


@pytest.mark.parametrize(
    "output",
    [
        (torch.ones(2, 3), torch.ones(2, 4)),
        (torch.ones(2, 3),) * 3,
        torch.ones(1, 2, 3),
        (torch.ones(2, 3), None),
        {"hidden": torch.ones(2, 3)},
        (shared := torch.ones(2, 3), shared),
    ],
    ids=["shapes", "three", "batch", "none", "dictionary", "same memory"],
)
def test_outputs_of_another_form_are_refused(output: object):
    """Each says what was returned."""
    with pytest.raises(UnknownOutput, match="a decoder layer returned"):
        stream_of(output)


def test_what_was_cached_under_other_steering_is_a_fault(signatures: Signatures):
    """A plan is compared with what the slots were steered by; receipts count only what was carried out."""
    notes = Slots(10)
    span = Span("a", 1.0, 2, 5)
    planned = signatures.along([span], 0, 10)
    measured = np.where(planned[:8, None, None], np.ones((8, 2, 1), np.float32), np.nan)
    notes.note(np.arange(8), planned[:8], measured)
    record = RequestRecord([span], planned, 8, {}, computed=8)
    record.check(np.arange(8), notes)
    assert record.faults == []
    assert record.measured(span, np.arange(8), notes, signatures) == (3, 1.0, 1.0)
    notes.steering[3] = UNKNOWN
    assert record.measured(span, np.arange(8), notes, signatures)[0] == 2
    clean = RequestRecord([], np.zeros(10, np.int64), 8, {}, computed=8)
    clean.check(np.arange(8), notes)
    assert clean.faults == ["3 of 8 tokens in the cache were computed under other steering, the first at position 2"]
