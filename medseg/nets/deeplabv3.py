"""DeepLab v3 (Chen et al., 2017, arXiv:1706.05587) on ResNet-50, ResNet-101 or MobileNetV3, in 2D and 3D.

Atrous spatial pyramid pooling on the last map, one 3-voxel layer, 1x1 scores, linear interpolation.
torchvision's rates at output stride 8 are (12, 24, 36); in 3D they are (2, 4, 6), which a volume's
feature map can hold. `auxiliary` adds the second head of torchvision's training.
"""

from __future__ import annotations

from torch import nn

from medseg.core.plan import NetworkSpec
from medseg.nets import backbones
from medseg.nets._aspp import ASPP
from medseg.nets._blocks import normalization
from medseg.nets._family import Family
from medseg.nets._ndim import CONV
from medseg.nets._segmenter import LowestHead, Segmenter
from medseg.nets.backbones import scaled

FAMILY = Family(rates=(12, 24, 36), volume_rates=(2, 4, 6))
_WIDTH = 256

divisor, smallest, margin, stages = FAMILY.divisor, FAMILY.smallest, FAMILY.margin, FAMILY.stages
check_patch, planned = FAMILY.check_plan, FAMILY.planned


def build(spec: NetworkSpec) -> nn.Module:
    """The network of `spec`; `norm: batch` is the paper's. Raises PlanError for what it cannot have."""
    FAMILY.check(spec)
    channels = backbones.channels(FAMILY.backbone_of(spec), spec)[-1]
    width = scaled(_WIDTH, spec.width)
    make = CONV[spec.ndim]
    head = LowestHead(
        ASPP(spec, (channels, width), FAMILY.branches(spec), separable=False),
        make(width, width, 3, padding=1, bias=spec.norm == "none"),
        normalization(spec, width),
        nn.ReLU(inplace=True),
        make(width, spec.out_channels, 1),
    )
    return Segmenter(spec, FAMILY, head)
