"""Linear layers whose weights lie in memory in the order in which oneDNN reads them: on CPUs most of a step is spent there.

Each token's step reads every weight once. torch's own product of a few rows with a large matrix leaves much of the memory's
bandwidth unused on many CPUs, and lays the matrix out anew in each call. What is computed is the same sum in another
order: it differs by float32 rounding.
"""

import logging

import torch
from torch import nn

# Rows that the layout is chosen for: it serves one row and a whole prefill chunk nearly as well (`make bench`).
_ROWS = 8
# Weights of fewer numbers stay in a core's own cache, and oneDNN prepares a product anew for each number of rows, which takes a
# small layer longer than many products. By size and not by a timing at load: the two layouts round differently, and the same
# command must give the same log however busy the machine was when the model was loaded.
_LEAST = 1 << 16
# Of the largest output: sums of a few thousand float32 products in two orders are much closer than this.
_TOLERANCE = 1e-4
logger = logging.getLogger(__name__)


class PackedLinear(nn.Module):
    """A linear layer with a packed weight, for inference on the CPU in float32.

    Args:
        linear: The layer that it stands for; its weight is copied.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.bias = None if linear.bias is None else linear.bias.detach()
        self._packed = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach(), _ROWS)  # noqa: SLF001  it has no public name

    @property
    def weight(self) -> torch.Tensor:
        """A plain copy of the weight [out_features, in_features]."""
        return torch.as_tensor(self._packed.to_dense())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return x·Wᵀ + b for `x` [..., in_features]."""
        found: torch.Tensor = torch.ops.mkldnn._linear_pointwise(x, self._packed, self.bias, "none", [], "")  # noqa: SLF001
        return found


def pack_linears(model: nn.Module) -> int:
    """Replace a model's float32 linear layers on the CPU by packed ones, and return how many were.

    Layers that are small, not exactly `nn.Linear` (quantised ones, adapters), of other types or on other devices are left as they
    are; all are where this build of torch cannot pack, or computes something else.
    """
    found = [
        (parent, name, child)
        for parent in model.modules()
        for name, child in parent.named_children()
        if type(child) is nn.Linear
        and child.weight.numel() >= _LEAST
        and child.weight.dtype == torch.float32
        and child.weight.device.type == "cpu"
    ]
    has_onednn = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]  # untyped in torch
    if not found or not has_onednn or not _agrees(found[0][2]):
        return 0
    for parent, name, child in found:
        setattr(parent, name, PackedLinear(child))
    return len(found)


def _agrees(linear: nn.Linear) -> bool:
    """Return whether a packed layer computes what the plain one does, for one row and for several."""
    try:
        packed = PackedLinear(linear)
        for rows in (1, _ROWS):
            x = torch.linspace(-1, 1, rows * linear.in_features).reshape(1, rows, linear.in_features)
            expected = linear(x)
            if (packed(x) - expected).abs().max() > _TOLERANCE * expected.abs().max():
                logger.warning("packed linear layers compute something else here; plain ones are used, and are slower")
                return False
    except (AttributeError, RuntimeError, NotImplementedError) as error:
        logger.warning("linear layers cannot be packed here (%s); plain ones are used, and are slower", error)
        return False
    return True
