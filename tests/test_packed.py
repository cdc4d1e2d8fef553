"""Packed linear layers compute what plain ones do."""

import pytest
import torch
from torch import nn

from self_steering.steering.engine.packed import PackedLinear, pack_linears
from tests.support.models import ARCHITECTURES, tiny_model


@pytest.mark.parametrize("rows", [1, 3, 8, 200])
@pytest.mark.parametrize("bias", [False, True])
def test_the_product_is_that_of_the_plain_layer(rows: int, bias: bool):
    """One row, a batch and a prefill chunk, with and without a bias: the same up to float32 rounding."""
    torch.manual_seed(rows)
    plain = nn.Linear(96, 40, bias=bias)
    x = torch.randn(2, rows, 96)
    with torch.no_grad():
        expected = nn.functional.linear(x.double(), plain.weight.double(), plain.bias.double() if bias else None)
        assert (PackedLinear(plain)(x) - expected).abs().max() < 1e-5


def test_the_weight_can_be_read():
    """Whoever asks a packed layer for its weight gets the numbers that it was made of."""
    plain = nn.Linear(33, 17)
    assert PackedLinear(plain).weight.equal(plain.weight)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_models_logits_stay(architecture: str):
    """Every linear layer is packed, the unembedding too where it is tied, and the logits differ by rounding only."""
    wide = {"hidden_size": 256, "intermediate_size": 256, "head_dim": 128, "initializer_range": 0.02}
    model = tiny_model(architecture, 300, **wide)
    ids = torch.randint(0, 300, (2, 12), generator=torch.Generator().manual_seed(0))
    linears = sum(isinstance(module, nn.Linear) for module in model.modules())
    with torch.no_grad():
        before = model(ids).logits
        assert pack_linears(model) == linears
        assert (model(ids).logits - before).abs().max() < 1e-4
    assert not any(isinstance(module, nn.Linear) for module in model.modules())
    assert pack_linears(model) == 0  # once is enough


def test_other_types_and_small_layers_stay_as_they_are():
    """Only float32 is packed, as reduced precision rounds where its own kernels do; a small layer is no faster for it."""
    model = nn.Sequential(nn.Linear(256, 256).to(torch.bfloat16), nn.Linear(256, 256).double(), nn.Linear(255, 256))
    assert pack_linears(model) == 0
    assert all(type(module) is nn.Linear for module in model)


def test_a_build_that_packs_wrongly_is_not_used(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture):
    """What a packed layer computes is checked against the plain one before any is replaced."""
    right = PackedLinear.forward
    monkeypatch.setattr(PackedLinear, "forward", lambda self, x: right(self, x) * 1.01)
    model = nn.Sequential(nn.Linear(256, 256))
    assert pack_linears(model) == 0
    assert type(model[0]) is nn.Linear
    assert "plain ones are used" in caplog.text


def test_a_build_that_cannot_pack_is_not_used(monkeypatch: pytest.MonkeyPatch):
    """Without oneDNN the model runs as it is."""
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert pack_linears(nn.Sequential(nn.Linear(256, 256))) == 0
