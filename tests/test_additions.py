"""What both engines add to the stream, and that whatever else happens to it is a fault, on tensors alone."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from self_steering.steering.engine import additions as additions_module
from self_steering.steering.engine.additions import (
    AdditionMaker,
    LayerAdditions,
    Signatures,
    Span,
    SteeredStep,
    SteeringFault,
)
from self_steering.vectors.directions import DirectionTensor
from tests.support.mutations import MUTATIONS

ROWS, TOKENS, HIDDEN = 3, 8, 64
VALUES = torch.randn(2, HIDDEN, generator=torch.Generator().manual_seed(0))
DIRECTIONS = {
    "a": DirectionTensor("a", (0, 1), VALUES),
    "b": DirectionTensor("b", (1,), -VALUES[:1]),
}
ADDED = [Span("a", 0.2, 2, 6), Span("b", 0.1, 4, 7)]
OPERATED = [Span("a", 1.0, 2, 6, "clamp", (8.0, 8.0)), Span("b", 0.1, 4, 7)]
DTYPES = [torch.float32, torch.bfloat16, torch.float16]


def step_of(*plans: list[Span]) -> SteeredStep:
    """Return a step of some rows, each from position 0."""
    signatures = Signatures()
    steering = np.stack([signatures.along(spans, 0, TOKENS) for spans in plans])
    additions = AdditionMaker(signatures).make(steering, DIRECTIONS)
    assert additions is not None
    return SteeredStep(additions)


def verify(step: SteeredStep) -> None:
    step.verify(np.repeat(np.arange(ROWS), TOKENS))


def stream(dtype: torch.dtype, seed: int = 0) -> torch.Tensor:
    return torch.randn(ROWS, TOKENS, HIDDEN, generator=torch.Generator().manual_seed(seed)).to(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("split", [False, True], ids=["whole stream", "stream in two parts"])
def test_stacked_inverted_and_empty_windows_add_up_and_are_measured(dtype: torch.dtype, split: bool):
    """The sum of what covers a token is added there, and nowhere else; projections are of the whole stream, by direction."""
    step = step_of([Span("a", 2.0, 1, 3), Span("b", -1.0, 2, 5)], [], [Span("a", 0.0, 4, None)])
    a, b = VALUES, -VALUES[0]
    rest = stream(dtype, 1) if split else None
    found = {}
    for layer in range(2):
        old = stream(dtype)
        new = old.clone()
        step.steer(layer, new, rest)
        planned = torch.zeros(ROWS, TOKENS, HIDDEN)
        planned[0, 1:3] += 2 * a[layer]
        if layer == 1:
            planned[0, 2:5] -= b
        assert torch.equal(new, old + planned.to(dtype))
        found[layer] = (old, new)
    verify(step)
    values = step.projections()
    assert values.shape == (ROWS, TOKENS, 2, 2)
    total = [x.float() + (0 if rest is None else rest.float()) for x in found[1]]
    for token, keys in ((1, "a"), (2, "ab"), (4, "b")):
        for place, key in enumerate(keys):
            vector = DIRECTIONS[key].at(1)
            expected = [float(x[0, token] @ (vector / vector.norm())) for x in total]
            assert values[0, token, :, place] == pytest.approx(expected, abs=1e-4)
    assert np.isnan(values[0, [1, 4], :, 1]).all()
    assert np.isnan(values[1]).all()
    assert np.array_equal(values[2, 4:, 0, 0], values[2, 4:, 1, 0])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("split", [False, True], ids=["whole stream", "stream in two parts"])
def test_operations_act_on_the_stream_in_the_order_called(dtype: torch.dtype, split: bool):
    """What a clamp holds is held of both parts together; what comes after it is felt, and rows with additions alone are as ever."""
    clamp, gain = Span("a", 1.0, 0, 4, "clamp", (2.0, 3.0)), Span("a", 0.5, 0, 4, "gain")
    step = step_of([clamp, gain], [gain, Span("b", 2.0, 1, 3), clamp], [Span("a", 2.0, 0, 4)])
    alone = step_of([], [], [Span("a", 2.0, 0, 4)])
    rest = stream(dtype, 1) if split else None
    for layer in range(2):
        old, new, other = stream(dtype), stream(dtype), stream(dtype)
        step.steer(layer, new, rest)
        alone.steer(layer, other, rest)
        assert torch.equal(new[:, 4:], old[:, 4:])
        assert torch.equal(new[2], other[2])
        unit = VALUES[layer] / VALUES[layer].norm()
        level = (new.float() + (0 if rest is None else rest.float())) @ unit
        rough = 40 * torch.finfo(dtype).eps
        assert torch.allclose(level[0, :4], torch.full((4,), 1.5 * (2.0 + layer)), atol=rough)
        assert torch.allclose(level[1, :4], torch.full((4,), 2.0 + layer), atol=rough)
    verify(step)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("split", [False, True], ids=["whole stream", "stream in two parts"])
def test_a_clamp_at_the_projection_that_it_finds_is_no_fault(dtype: torch.dtype, split: bool):
    """What it changes is less than the precision, or lost beside the other part: it was done as planned all the same."""
    old, unit = stream(dtype), VALUES[0] / VALUES[0].norm()
    rest = 300 * stream(dtype, 1) if split else None
    level = float((old[1, 3].float() + (0 if rest is None else rest[1, 3].float())) @ unit)
    step = step_of([], [Span("b", 0.0, 3, 4), Span("a", 1.0, 3, 4, "clamp", (level + 1e-6, level))], [])
    step.steer(0, stream(dtype), rest)
    step.steer(1, stream(dtype), rest)
    verify(step)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_placebo_changes_no_bit(dtype: torch.dtype):
    """Strength zero, and doses that cancel but for a rounding error, take the same way and leave the stream as it was."""
    cancelling = [Span("a", strength, 0, None) for strength in (0.3, -0.1, -0.2)]
    operations = [Span("a", 0.0, 0, None, "clamp", (9.0, 9.0)), Span("b", 0.0, 0, None, "gain"), *cancelling]
    for plans in ([Span("a", 0.0, 0, None)], cancelling, []), (operations, cancelling, []):
        step = step_of(*plans)
        for layer in range(2):
            h = stream(dtype)
            step.steer(layer, h)
            assert torch.equal(h, stream(dtype))
        verify(step)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("split", [False, True], ids=["whole stream", "stream in two parts"])
@pytest.mark.parametrize("spans", [ADDED, OPERATED], ids=["additions", "operations"])
@pytest.mark.parametrize("mutation", MUTATIONS.values(), ids=MUTATIONS.keys())
def test_whatever_else_happens_to_the_stream_is_a_fault(
    monkeypatch: pytest.MonkeyPatch,
    dtype: torch.dtype,
    split: bool,
    spans: list[Span],
    mutation: Callable[[LayerAdditions, torch.Tensor], None],
):
    """Two hundredths too much or too little, another token, another row, a part of it, nothing, twice, no number."""
    step = step_of([], spans, [])
    monkeypatch.setattr(LayerAdditions, "add", mutation)
    for layer in range(2):
        step.steer(layer, stream(dtype), stream(dtype, 1) if split else None)
    with pytest.raises(SteeringFault, match="layer 0: ") as caught:
        verify(step)
    assert 1 in caught.value.rows


def test_the_fault_names_the_rows_that_it_concerns(monkeypatch: pytest.MonkeyPatch):
    """A neighbour that was steered as planned is not among them."""
    step = step_of([Span("a", 1.0, 2, 6)], [Span("a", 1.0, 2, 6)], [])
    for layer in range(2):
        h = stream(torch.float32)
        h[1, 3] = 1e30  # the addition is lost in rounding
        h[1, 4] = torch.inf
        step.steer(layer, h)
    message = "layer 0: 0 positions changed that should not, 2 did not change that should, 1 changed by another amount"
    with pytest.raises(SteeringFault, match=message) as caught:
        verify(step)
    assert caught.value.rows == (1,)


@pytest.mark.parametrize("together", [1, 10**6], ids=["a layer at a time", "layers together"])
@pytest.mark.parametrize("spans", [ADDED, OPERATED], ids=["additions", "operations"])
def test_a_fault_in_one_layer_is_found_among_others_without_one(
    monkeypatch: pytest.MonkeyPatch, together: int, spans: list[Span]
):
    """However many layers are compared at once: its layer, its row, and no fault where all was done as planned."""
    monkeypatch.setattr(additions_module, "_COMPARED_TOGETHER", together)
    add = LayerAdditions.add
    for faulty in (None, 0, 1):
        step = step_of([Span("a", 1.0, 2, 6)], [], spans)
        for layer in range(2):

            def stray(self: LayerAdditions, h: torch.Tensor, at_fault: bool = layer == faulty) -> None:
                add(self, h)
                h[2, 0] += at_fault

            monkeypatch.setattr(LayerAdditions, "add", stray)
            h = stream(torch.float32)
            step.steer(layer, h)
            h.zero_()  # what is read next may be written to
        if faulty is None:
            verify(step)
            continue
        with pytest.raises(SteeringFault, match=f"layer {faulty}: 1 positions changed that should not, 0 ") as caught:
            verify(step)
        assert caught.value.rows == (2,)


def test_an_addition_that_is_lost_beside_a_large_residual_is_a_fault():
    """It arrived in the layer's own part, and not in the stream that the next layer reads."""
    step = step_of([Span("a", 1.0, 2, 3)], [], [])
    for layer in range(2):
        step.steer(layer, stream(torch.bfloat16), torch.full((ROWS, TOKENS, HIDDEN), 1e6, dtype=torch.bfloat16))
    with pytest.raises(SteeringFault, match="1 did not change that should") as caught:
        verify(step)
    assert caught.value.rows == (0,)


def test_a_layer_that_did_not_run_or_ran_twice_is_a_fault_of_all():
    """Whatever the others say."""
    for ran in ((0,), (0, 0, 1)):
        step = step_of([Span("a", 1.0, 2, 6)], [], [])
        for layer in ran:
            step.steer(layer, stream(torch.float32))
        with pytest.raises(SteeringFault, match=r"layers \[0, 1\] were to be steered") as caught:
            verify(step)
        assert caught.value.rows == ()


def test_steps_that_steer_alike_share_what_they_add():
    """While the same rows decode nothing is made anew; a direction that is not there is an error."""
    signatures = Signatures()
    maker = AdditionMaker(signatures)
    steering = signatures.along([Span("a", 1.0, 2, 6)], 0, TOKENS)
    first = maker.make(steering, DIRECTIONS)
    assert maker.make(steering.copy(), {}) is first
    assert maker.make(np.zeros_like(steering), {}) is None
    with pytest.raises(KeyError, match="c"):
        maker.make(signatures.along([Span("c", 1.0, 2, 6)], 0, TOKENS), DIRECTIONS)
    maker.clear()
    assert maker.make(steering, DIRECTIONS) is not first
