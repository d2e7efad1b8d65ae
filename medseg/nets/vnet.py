"""V-Net (Milletari, Navab & Ahmadi, 3DV 2016, arXiv:1606.04797), in 3D or 2D.

Residual stages of one, two, three, three … convolutions of 5 voxels with PReLU; strided convolutions
(kernel = stride) on the way down, transposed ones on the way up, skip connections by concatenation.
The paper's widths are 16, 32, 64, 128, 256, without normalisation, which `norm` may add.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod

import torch
from torch import Tensor, nn

from medseg.core.errors import PlanError
from medseg.core.plan import NetworkSpec
from medseg.nets._blocks import check_input, he_init, normalization
from medseg.nets._ndim import CONV, DROPOUT, UP_CONV, Make

_MOST = 3  # convolutions of a stage
_SLOPE = 0.25  # PReLU's slope below zero before it learns another
Size = tuple[int, ...]


def build(spec: NetworkSpec) -> nn.Module:
    """The network of `spec`, He-initialised. Raises PlanError for what a V-Net cannot have."""
    if max(spec.strides[0]) != 1:
        raise PlanError(f"network.strides: the first stage keeps full resolution, so it cannot be {spec.strides[0]}")
    if any(size % 2 == 0 for kernel in spec.kernels for size in kernel):
        raise PlanError(f"network.kernels: {[list(kernel) for kernel in spec.kernels]} holds an even size")
    if spec.residual or spec.deep_supervision:
        raise PlanError(f"network: {spec.name!r} is residual by itself and never deeply supervised; leave both false")
    network = VNet(spec)
    he_init(network, _SLOPE)
    return network


def divisor(spec: NetworkSpec) -> Size:
    """The product of the strides along each axis."""
    return tuple(prod(stride[axis] for stride in spec.strides) for axis in range(spec.ndim))


def smallest(spec: NetworkSpec) -> Size:
    """One voxel at the lowest resolution, two where a normalisation needs more than one."""
    return tuple(n if spec.norm == "none" else 2 * n for n in divisor(spec))


def margin(spec: NetworkSpec) -> Size:
    """None: convolutions are padded."""
    return (0,) * spec.ndim


def planned(
    spec: NetworkSpec, patch: Sequence[int], spacing: Sequence[float], batch: int, output_stride: int | None = None
) -> NetworkSpec:
    """The planned U-Net's stages with the paper's kernels of 5 voxels, on axes that have context and as many voxels."""
    size = tuple(patch)
    kernels = []
    for kernel, stride in zip(spec.kernels, spec.strides, strict=True):
        size = tuple(n // step for n, step in zip(size, stride, strict=True))
        kernels.append(tuple(min(5 if wide > 1 else 1, (n - 1) | 1) for wide, n in zip(kernel, size, strict=True)))
    return replace(spec, kernels=tuple(kernels), residual=False, deep_supervision=False)


class VNet(nn.Module):
    """[B, C, *spatial] -> logits [B, L, *spatial]; dropout, where the plan has it, after each way down."""

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__()
        self.spec = spec
        self.size = smallest(spec), divisor(spec)
        features, strides = spec.features, spec.strides
        self.encoder = nn.ModuleList()
        self.down = nn.ModuleList()
        for level, width in enumerate(features):
            before = features[level - 1] if level else spec.in_channels
            first = width if level else before
            self.down.append(_scaled(spec, CONV, (before, width), strides[level]) if level else nn.Identity())
            self.encoder.append(_Stage(spec, (first, width), level))
        self.up = nn.ModuleList()
        self.decoder = nn.ModuleList()
        below = features[-1]
        for level in range(len(features) - 2, -1, -1):
            self.up.append(_scaled(spec, UP_CONV, (below, features[level]), strides[level + 1]))
            below = 2 * features[level]
            self.decoder.append(_Stage(spec, (below, below), level))
        self.dropout = DROPOUT[spec.ndim](spec.dropout)
        self.head = CONV[spec.ndim](below, spec.out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        check_input(x, self.spec, *self.size)
        skips: list[Tensor] = []
        for down, stage in zip(self.down, self.encoder, strict=True):
            x = stage(down(x))
            skips.append(x)
            x = self.dropout(x)
        skips.pop()
        for up, stage in zip(self.up, self.decoder, strict=True):
            x = stage(torch.cat((up(x), skips.pop()), dim=1))
        logits: Tensor = self.head(x)
        return logits


class _Stage(nn.Module):
    """Convolutions that learn what is to be added to their input; a narrower input is repeated over the channels."""

    def __init__(self, spec: NetworkSpec, channels: tuple[int, int], level: int) -> None:
        super().__init__()
        kernel = spec.kernels[level]
        before, width = channels
        layers: list[nn.Module] = []
        for number in range(min(level + 1, _MOST)):
            padding = tuple(size // 2 for size in kernel)
            layers += [nn.PReLU(width, _SLOPE)] if number else []
            # A bias right before a normalisation with its own shift would do nothing.
            bias = spec.norm == "none"
            layers.append(CONV[spec.ndim](width if number else before, width, kernel, 1, padding, bias=bias))
            layers.append(normalization(spec, width))
        self.body = nn.Sequential(*layers)
        self.repeats = [channel % before for channel in range(width)] if before != width else None
        self.activation = nn.PReLU(width, _SLOPE)

    def forward(self, x: Tensor) -> Tensor:
        same = x if self.repeats is None else x[:, self.repeats]
        out: Tensor = self.activation(self.body(x) + same)
        return out


def _scaled(spec: NetworkSpec, kind: Make, channels: tuple[int, int], stride: Size) -> nn.Module:
    """A strided convolution, or a transposed one, that sees every voxel once."""
    convolution = kind[spec.ndim](*channels, stride, stride, bias=spec.norm == "none")
    return nn.Sequential(convolution, normalization(spec, channels[1]), nn.PReLU(channels[1], _SLOPE))
