"""DeepLab v1 "LargeFOV" (Chen et al., ICLR 2015, arXiv:1412.7062) on VGG-16, in 2D and 3D.

VGG's last two poolings keep the grid (output stride 8), its fifth block is dilated, and its first
fully connected layer is 3 voxels wide, 12 apart, with 1024 channels. The paper's fully connected CRF
is a post-processing of its own.
"""

from __future__ import annotations

from torch import nn

from medseg.core.plan import NetworkSpec
from medseg.nets import backbones
from medseg.nets._blocks import normalization, score_init
from medseg.nets._family import Family
from medseg.nets._ndim import CONV
from medseg.nets._segmenter import LowestHead, Segmenter
from medseg.nets.backbones import Size, scaled

FAMILY = Family(backbone="vgg16", rates=(12,), volume_rates=(4,), spared="last", auxiliary=False)
_FULLY = 1024
_SCORES = 0.01  # standard deviation of the score layer's first weights

divisor, smallest, margin, stages = FAMILY.divisor, FAMILY.smallest, FAMILY.margin, FAMILY.stages
check_patch, planned = FAMILY.check_plan, FAMILY.planned


def build(spec: NetworkSpec) -> nn.Module:
    """The network of `spec`; `norm: none` is the paper's. Raises PlanError for what it cannot have."""
    FAMILY.check(spec)
    channels = backbones.channels("vgg16", spec)[-1]
    full = scaled(_FULLY, spec.width)
    scores = CONV[spec.ndim](full, spec.out_channels, 1)
    head = LowestHead(
        *_full(spec, (channels, full), 3, FAMILY.branches(spec)[0]),
        *_full(spec, (full, full), 1, (1,) * spec.ndim),
        scores,
    )
    network = Segmenter(spec, FAMILY, head)
    score_init(scores, _SCORES)
    return network


def _full(spec: NetworkSpec, channels: tuple[int, int], kernel: int, rate: Size) -> list[nn.Module]:
    """A fully connected layer as a convolution."""
    padding = tuple(step * (kernel // 2) for step in rate)
    return [
        CONV[spec.ndim](*channels, kernel, padding=padding, dilation=rate),
        normalization(spec, channels[1]),
        nn.ReLU(inplace=True),
        nn.Dropout(spec.dropout),
    ]
