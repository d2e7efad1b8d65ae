"""The planned U-Net with attention gates on its skip connections (Oktay et al., MIDL 2018, arXiv:1804.03999).

A gate weighs each voxel of a skip by what the coarser level below knows of it: additive attention with
a sigmoid, computed at the coarser resolution. The skip at full resolution passes as it is, as in the paper.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from medseg.core.errors import PlanError
from medseg.core.plan import NetworkSpec
from medseg.nets import unet
from medseg.nets._blocks import he_init, normalization
from medseg.nets._ndim import CONV, LINEAR

divisor, smallest, margin = unet.divisor, unet.smallest, unet.margin


def build(spec: NetworkSpec) -> nn.Module:
    """The network of `spec`, He-initialised. Raises PlanError for what a planned U-Net cannot have."""
    unet.check_stages(spec)
    if len(spec.features) < 3:
        raise PlanError(f"network.features: {spec.name!r} gates all but the first skip, so it needs three stages")
    network = AttentionUNet(spec)
    he_init(network, unet.SLOPE)
    return network


class AttentionUNet(unet.UNet):
    """[B, C, *spatial] -> logits [B, L, *spatial], with a gate on every skip but that at full resolution."""

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__(spec)
        self.gates = nn.ModuleList(_Gate(spec, level) for level in range(1, len(spec.features) - 1))

    def passed(self, level: int, skip: Tensor, below: Tensor) -> Tensor:
        """The skip, gated by the level below it."""
        gated: Tensor = self.gates[level - 1](skip, below) if level else skip
        return gated


class _Gate(nn.Module):
    """skip [B, F, *spatial], below [B, G, *(spatial / stride)] -> the skip, weighed voxel by voxel."""

    def __init__(self, spec: NetworkSpec, level: int) -> None:
        super().__init__()
        convolution, skip, below = CONV[spec.ndim], spec.features[level], spec.features[level + 1]
        stride = spec.strides[level + 1]
        inner = max(1, skip // 2)
        self.mode = LINEAR[spec.ndim]
        self.of_skip = convolution(skip, inner, stride, stride, bias=False)
        self.of_below = convolution(below, inner, 1)
        self.weight = convolution(inner, 1, 1)
        self.out = nn.Sequential(convolution(skip, skip, 1, bias=spec.norm == "none"), normalization(spec, skip))

    def forward(self, skip: Tensor, below: Tensor) -> Tensor:
        attention = torch.sigmoid(self.weight(torch.relu(self.of_skip(skip) + self.of_below(below))))
        attention = interpolate(attention, size=skip.shape[2:], mode=self.mode, align_corners=False)
        gated: Tensor = self.out(attention * skip)
        return gated
