"""The 3D U-Net of Çiçek et al. (MICCAI 2016, arXiv:1606.06650), exactly, in 3D or 2D.

Like the U-Net of 2015 with one pooling fewer, but channels double before each pooling, so that no
stage is a bottleneck, up-convolutions keep their channels, and batch normalisation stands before
each ReLU: 132 voxels in, 44 out. The paper's widths (second convolution of a stage) are 64, 128,
256, 512; it counts 19,069,955 parameters, leaving out 4,672 of the batch normalisation and 896
biases of the up-convolutions.
"""

from __future__ import annotations

from torch import nn

from medseg.core.errors import PlanError
from medseg.core.plan import NetworkSpec
from medseg.nets import _valid
from medseg.nets._valid import ValidUNet, Widths

divisor, smallest, margin = _valid.divisor, _valid.smallest, _valid.margin


def build(spec: NetworkSpec) -> nn.Module:
    """The network of `spec` (`norm: batch` is the paper's). Raises PlanError for what the paper has not."""
    _valid.check_published(spec)
    if any(width % 2 for width in spec.features):
        raise PlanError(f"network.features: {spec.name!r} halves them, so {list(spec.features)} must be even")
    # The first stage opens with half its width, and every other one with the width of the stage above.
    opening = (spec.features[0] // 2, *spec.features[:-1])
    down = tuple(zip(opening, spec.features, strict=True))
    up = tuple(reversed(spec.features[1:]))
    return ValidUNet(spec, Widths(down, up), bias=True)
