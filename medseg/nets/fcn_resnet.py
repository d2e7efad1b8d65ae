"""FCN on ResNet-50 or 101 with output stride 8, as torchvision has it; in 2D and 3D.

The paper's idea (Long et al., CVPR 2015) on a dilated ResNet: one 3-voxel layer, 1x1 scores, linear
interpolation. `auxiliary` adds the second head of torchvision's training.
"""

from __future__ import annotations

from torch import nn

from medseg.core.plan import NetworkSpec
from medseg.nets import backbones
from medseg.nets._family import Family
from medseg.nets._segmenter import FCNHead, Segmenter

FAMILY = Family()

divisor, smallest, margin, stages = FAMILY.divisor, FAMILY.smallest, FAMILY.margin, FAMILY.stages
check_patch, planned = FAMILY.check_plan, FAMILY.planned


def build(spec: NetworkSpec) -> nn.Module:
    """The network of `spec`; `norm: batch` is torchvision's. Raises PlanError for what it cannot have."""
    FAMILY.check(spec)
    channels = backbones.channels(FAMILY.backbone_of(spec), spec)
    return Segmenter(spec, FAMILY, FCNHead(spec, channels[-1]))
