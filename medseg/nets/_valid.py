"""U-Nets of unpadded convolutions: max-pooling down, 2-voxel up-convolutions, cropped concatenation.

The two published networks differ in how wide each stage is, which is all their files say.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from medseg.core.errors import PlanError
from medseg.core.plan import NetworkSpec
from medseg.nets._blocks import center_crop, check_input, he_init, normalization
from medseg.nets._ndim import CONV, DROPOUT, MAX_POOL, UP_CONV

_LOST = 4  # voxels that two 3-voxel convolutions without padding take from an axis
Size = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Widths:
    """Channels of a network.

    down: of the two convolutions of each stage, from the top; up: of the up-convolutions, from the
    bottom; both convolutions of a rising stage are as wide as the stage's second one going down.
    """

    down: tuple[tuple[int, int], ...]
    up: tuple[int, ...]


def check_published(spec: NetworkSpec) -> None:
    """Raise PlanError where `spec` asks for what this published network does not have."""
    name, ndim = spec.name, spec.ndim
    kernels = ((3,) * ndim,) * len(spec.features)
    strides = ((1,) * ndim, *((2,) * ndim,) * (len(spec.features) - 1))
    if tuple(map(tuple, spec.kernels)) != kernels:
        raise PlanError(f"network.kernels: {name!r} has {[3] * ndim} in every stage; the network 'unet' takes others")
    if tuple(map(tuple, spec.strides)) != strides:
        raise PlanError(f"network.strides: {name!r} halves every axis after its first stage; 'unet' takes others")
    if spec.residual or spec.deep_supervision:
        raise PlanError(f"network: {name!r} is neither residual nor deeply supervised; the network 'unet' may be")


def divisor(spec: NetworkSpec) -> Size:
    return (2 ** (len(spec.features) - 1),) * spec.ndim


def smallest(spec: NetworkSpec) -> Size:
    """What leaves four voxels at the bottom, hence four in the output: 188 for four poolings.

    Fewer would vanish on the way up, where a stage doubles what the one below gives and takes 4.
    """
    size = 2 * _LOST
    for _ in range(len(spec.features) - 1):
        size = 2 * size + _LOST
    return (size,) * spec.ndim


def margin(spec: NetworkSpec) -> Size:
    """Half of what the convolutions take: 92 for four poolings (572 -> 388), 44 for three (132 -> 44)."""
    lost = _LOST
    for _ in range(len(spec.features) - 1):
        lost = _LOST + 2 * lost + _LOST
    return (lost // 2,) * spec.ndim


class ValidUNet(nn.Module):
    """[B, C, *spatial] -> logits [B, L, *(spatial - 2 margin)].

    dropout, where the plan has it, stands at the end of the contracting path.
    """

    def __init__(self, spec: NetworkSpec, widths: Widths, bias: bool) -> None:
        super().__init__()
        self.spec = spec
        self.size = smallest(spec), divisor(spec)
        first = [spec.in_channels, *(second for _, second in widths.down[:-1])]
        self.encoder = nn.ModuleList(
            _double(spec, (start, *pair), bias) for start, pair in zip(first, widths.down, strict=True)
        )
        self.pool = MAX_POOL[spec.ndim](2)
        self.dropout = DROPOUT[spec.ndim](spec.dropout)
        self.up = nn.ModuleList()
        self.decoder = nn.ModuleList()
        below = widths.down[-1][1]
        for (_, skip), up in zip(reversed(widths.down[:-1]), widths.up, strict=True):
            self.up.append(UP_CONV[spec.ndim](below, up, 2, 2))
            self.decoder.append(_double(spec, (skip + up, skip, skip), bias))
            below = skip
        self.head = CONV[spec.ndim](below, spec.out_channels, 1)
        he_init(self)

    def forward(self, x: Tensor) -> Tensor:
        check_input(x, self.spec, *self.size)
        skips: list[Tensor] = []
        for stage in self.encoder[:-1]:
            skips.append(stage(x))
            x = self.pool(skips[-1])
        x = self.dropout(self.encoder[-1](x))
        for up, stage in zip(self.up, self.decoder, strict=True):
            x = up(x)
            x = stage(torch.cat((center_crop(skips.pop(), x.shape[2:]), x), dim=1))
        logits: Tensor = self.head(x)
        return logits


def _double(spec: NetworkSpec, channels: Sequence[int], bias: bool) -> nn.Sequential:
    """Two unpadded 3-voxel convolutions, each followed by the normalisation (if any) and ReLU."""
    layers: list[nn.Module] = []
    for before, after in pairwise(channels):
        layers += [CONV[spec.ndim](before, after, 3, bias=bias), normalization(spec, after), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)
