"""The U-Net of Ronneberger, Fischer & Brox (MICCAI 2015, arXiv:1505.04597), exactly, in 2D or 3D.

Two unpadded 3x3 convolutions + ReLU a stage, 2x2 max-pooling, 2x2 up-convolutions that halve the
channels, concatenation with the cropped map of the way down: 572 pixels in, 388 out. The paper's
widths are 64…1024; `features` may have others.
"""

from __future__ import annotations

from torch import nn

from medseg.core.plan import NetworkSpec
from medseg.nets import _valid
from medseg.nets._valid import ValidUNet, Widths

divisor, smallest, margin = _valid.divisor, _valid.smallest, _valid.margin


def build(spec: NetworkSpec) -> nn.Module:
    """The network of `spec`: `norm: none` is the paper's (31,030,658 parameters for 1 -> 2 channels).

    Convolutions before a normalisation have no bias. Raises PlanError for what the paper has not.
    """
    _valid.check_published(spec)
    down = tuple((width, width) for width in spec.features)
    up = tuple(reversed(spec.features[:-1]))
    return ValidUNet(spec, Widths(down, up), bias=spec.norm == "none")
