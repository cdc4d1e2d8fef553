"""What a vLLM worker does to a layer's output, on tensors alone: no vLLM is needed."""

import numpy as np
import pytest
import torch

from self_steering.steering.engine.spans import Signatures, Span
from self_steering.steering.on_vllm.slots import UNKNOWN, RequestRecord, Slots, check_slots, measured
from self_steering.steering.on_vllm.step import Edits, Step, Tables, UnknownOutput, stream_of

HIDDEN = 8
VALUES = torch.arange(1.0, 2 * HIDDEN + 1).reshape(2, HIDDEN)


@pytest.fixture
def signatures() -> Signatures:
    return Signatures()


@pytest.fixture
def tables(signatures: Signatures) -> Tables:
    """Two directions: `a` at layers 0 and 1, `b` at layer 1 alone."""
    made = Tables(signatures, torch.float32, torch.device("cpu"))
    made.install("a", (0, 1), 1, VALUES)
    made.install("b", (1,), 1, -VALUES[:1])
    return made


def step_over(signatures: Signatures, tables: Tables, spans: list[Span], tokens: int) -> Step:
    """Return a step of one request from position 0."""
    steering = signatures.along(spans, 0, tokens)
    steered = np.flatnonzero(steering)
    numbers, which = np.unique(steering[steered], return_inverse=True)
    edits = Edits(steered, which, tables.of(tuple(numbers.tolist())), torch.device("cpu"))
    return Step(edits, ["r"], np.zeros(tokens, np.int64), np.arange(tokens), steering)


def test_additions_go_to_the_planned_tokens_and_are_measured_on_the_whole_stream(
    signatures: Signatures, tables: Tables
):
    """Stacked, inverted and of strength zero: the sum of what covers a token; projections are of layer and residual together."""
    spans = [Span("a", 2.0, 1, 3), Span("b", -1.0, 2, 5), Span("a", 0.0, 4, 5)]
    step = step_over(signatures, tables, spans, 6)
    layers = [torch.randn(6, HIDDEN) for _ in range(2)]
    rest = torch.randn(6, HIDDEN)
    before = [layer.clone() for layer in layers]
    for index, layer in enumerate(layers):
        step.steer(index, (layer, rest))
    a, b = VALUES, -VALUES[0]
    zero = torch.zeros(HIDDEN)
    expected = [
        torch.stack([zero, 2 * a[0], 2 * a[0], zero, zero, zero]),
        torch.stack([zero, 2 * a[1], 2 * a[1] - b, -b, -b, zero]),
    ]
    for layer, old, added in zip(layers, before, expected, strict=True):
        assert torch.allclose(layer - old, added, atol=1e-5)
    assert step.missed() == []
    wrong, values = step.results()
    assert not wrong.any()
    unit = a[1] / a[1].norm()
    found = torch.stack([before[1][1] + rest[1], layers[1][1] + rest[1]]) @ unit
    assert torch.allclose(torch.from_numpy(values[0, :, 0]), found, rtol=1e-4)
    assert np.isnan(values[0, :, 1]).all()  # token 1 has one direction


def test_a_layer_that_was_not_steered_and_an_addition_that_got_lost_are_noticed(signatures: Signatures, tables: Tables):
    """A silent layer is missed; what does not change, or is no number, is wrong at its own tokens."""
    step = step_over(signatures, tables, [Span("a", 1.0, 1, 4)], 6)
    step.steer(0, torch.zeros(6, HIDDEN))
    assert step.missed() == [0, 1]
    huge = torch.zeros(6, HIDDEN)
    huge[2] = 1e30  # the addition is lost in rounding
    huge[3] = torch.inf
    step.steer(1, huge)
    assert step.missed() == []
    assert step.results()[0].tolist() == [False, True, True]


def test_positions_that_the_model_is_given_must_be_those_of_the_plan(signatures: Signatures, tables: Tables):
    """One that is off by one is wrong."""
    step = step_over(signatures, tables, [Span("a", 1.0, 1, 3)], 4)
    step.check_positions(torch.tensor([0, 1, 3, 3]), np.array([1, 2]))
    for layer in range(2):
        step.steer(layer, torch.ones(4, HIDDEN))
    assert step.results()[0].tolist() == [False, True]


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
    steered = np.flatnonzero(planned[:8])
    notes.note(np.arange(8), planned[:8], steered, np.ones((3, 2, 1), np.float32))
    record = RequestRecord([span], planned, 8, {}, computed=8)
    check_slots(record, np.arange(8), notes)
    assert record.faults == []
    assert measured(span, record, np.arange(8), notes, signatures) == (3, 1.0, 1.0)
    notes.steering[3] = UNKNOWN
    assert measured(span, record, np.arange(8), notes, signatures)[0] == 2
    clean = RequestRecord([], np.zeros(10, np.int64), 8, {}, computed=8)
    check_slots(clean, np.arange(8), notes)
    assert clean.faults == ["3 of 8 tokens in the cache were computed under other steering, the first at position 2"]
