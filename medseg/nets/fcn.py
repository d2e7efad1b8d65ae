"""Fully convolutional networks on VGG-16 (Long, Shelhamer & Darrell, CVPR 2015; PAMI 2017, arXiv:1605.06211).

VGG's fully connected layers as convolutions, 1x1 scores, and finer scores of pool4 (16s) and pool3
(8s) added on the way up, through transposed convolutions that start as linear interpolation; the
last step up is linear interpolation itself, as the paper fixes it. Scores start at zero.

Where the paper pads its images by 100 pixels, so that the 7-pixel layer loses none, that layer is
padded here, which computes less and differs at borders only. In 3D, where it would have 719
million weights, it is 3 voxels wide with 1024 channels (DeepLab's LargeFOV).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from medseg.core.plan import NetworkSpec
from medseg.nets import backbones
from medseg.nets._blocks import he_init, normalization, score_init
from medseg.nets._family import Family
from medseg.nets._ndim import CONV, UP_CONV
from medseg.nets._segmenter import check, upsampled
from medseg.nets.backbones import Size, scaled

FAMILY = Family(backbone="vgg16", stride=32, least=3, dilated=False, spared="last", auxiliary=False)
_SKIPS = {"fcn32s": (), "fcn16s": (3,), "fcn8s": (3, 2)}  # levels whose maps are scored too: pool4, pool3
_FULLY = {2: (7, 4096), 3: (3, 1024)}  # kernel and channels of fc6

divisor, smallest, margin, stages = FAMILY.divisor, FAMILY.smallest, FAMILY.margin, FAMILY.stages
check_patch, planned = FAMILY.check_plan, FAMILY.planned


def build(spec: NetworkSpec) -> nn.Module:
    """fcn32s, fcn16s or fcn8s; `norm: none` is the paper's. Raises PlanError for what it cannot have."""
    FAMILY.check(spec)
    return FCN(spec)


class FCN(nn.Module):
    """[B, C, *spatial] -> logits [B, L, *spatial]."""

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__()
        self.spec = spec
        make, classes = CONV[spec.ndim], spec.out_channels
        widths = backbones.channels("vgg16", spec)
        kernel, full = _FULLY[spec.ndim]
        full = scaled(full, spec.width)
        self.backbone = backbones.build("vgg16", spec, FAMILY.output_stride(spec))
        self.fc6 = _full(spec, (widths[-1], full), kernel)
        self.fc7 = _full(spec, (full, full), 1)
        self.score = make(full, classes, 1)
        steps = FAMILY.steps(spec)
        self.skips = _SKIPS[spec.name]
        self.scores = nn.ModuleList(make(widths[level], classes, 1) for level in self.skips)
        self.up = nn.ModuleList(_up(spec, steps[level + 1], steps[level]) for level in self.skips)
        he_init(self)
        score_init(self.score, 0)
        score_init(self.scores, 0)
        _interpolating(self.up)

    def forward(self, x: Tensor) -> Tensor:
        check(x, self.spec, FAMILY)
        maps = self.backbone(x)
        score = self.score(self.fc7(self.fc6(maps[-1])))
        for level, up, skip in zip(self.skips, self.up, self.scores, strict=True):
            finer = skip(maps[level])
            # Maps are rounded up where they are halved, so a voxel too many may come back.
            score = finer + _cropped(up(score), finer.shape[2:])
        return upsampled(score, x.shape[2:])


def _full(spec: NetworkSpec, channels: tuple[int, int], kernel: int) -> nn.Sequential:
    """A fully connected layer as a convolution."""
    return nn.Sequential(
        CONV[spec.ndim](*channels, kernel, padding=kernel // 2),
        normalization(spec, channels[1]),
        nn.ReLU(inplace=True),
        nn.Dropout(spec.dropout),
    )


def _up(spec: NetworkSpec, coarse: Size, fine: Size) -> nn.Module:
    """A transposed convolution of scores, from one voxel per `coarse` to one per `fine` voxels of the input."""
    factor = tuple(c // f for c, f in zip(coarse, fine, strict=True))
    kernel = tuple(2 * f - f % 2 for f in factor)
    return UP_CONV[spec.ndim](
        spec.out_channels, spec.out_channels, kernel, factor, tuple(f // 2 for f in factor), bias=False
    )


def _interpolating(ups: nn.Module) -> None:
    """Fill the weights [L, L, *kernel] of transposed convolutions so that every class is interpolated linearly."""
    for module in ups.modules():
        if isinstance(module, nn.modules.conv._ConvTransposeNd):
            kernel = torch.ones(())
            for size in module.kernel_size:
                tent = 1 - (torch.arange(size) - (size - 1) / 2).abs() / ((size + 1) // 2)
                kernel = kernel[..., None] * tent
            classes = torch.eye(len(module.weight)).reshape(*module.weight.shape[:2], *[1] * kernel.ndim)
            with torch.no_grad():
                module.weight.copy_(classes * kernel)


def _cropped(x: Tensor, size: torch.Size) -> Tensor:
    for axis, n in enumerate(size, start=2):
        x = x.narrow(axis, 0, n)
    return x
