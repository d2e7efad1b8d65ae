"""Lite R-ASPP on MobileNetV3-Large (Howard et al., ICCV 2019, arXiv:1905.02244), as torchvision has it; 2D and 3D.

The last map, weighed by its own mean, and scores of the map at stride 8 added to its own.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from medseg.core.plan import NetworkSpec
from medseg.nets import backbones
from medseg.nets._blocks import GlobalMean, normalization
from medseg.nets._family import Family
from medseg.nets._ndim import CONV
from medseg.nets._segmenter import Segmenter, upsampled
from medseg.nets.backbones import scaled

FAMILY = Family(stride=16, auxiliary=False)
_WIDTH = 128
_LEVEL = 2  # of the finer map: stride 8 where every axis is halved

divisor, smallest, margin, stages = FAMILY.divisor, FAMILY.smallest, FAMILY.margin, FAMILY.stages
check_patch, planned = FAMILY.check_plan, FAMILY.planned


def build(spec: NetworkSpec) -> nn.Module:
    """The network of `spec`; `norm: batch` is the paper's. Raises PlanError for what it cannot have."""
    FAMILY.check(spec)
    return Segmenter(spec, FAMILY, Head(spec))


class Head(nn.Module):
    """The backbone's maps to logits on the grid of its third map."""

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__()
        channels = backbones.channels(FAMILY.backbone_of(spec), spec)
        make, width = CONV[spec.ndim], scaled(_WIDTH, spec.width)
        self.cbr = nn.Sequential(
            make(channels[-1], width, 1, bias=spec.norm == "none"), normalization(spec, width), nn.ReLU(inplace=True)
        )
        self.scale = nn.Sequential(GlobalMean(), make(channels[-1], width, 1, bias=False), nn.Sigmoid())
        self.low_classifier = make(channels[_LEVEL], spec.out_channels, 1)
        self.high_classifier = make(width, spec.out_channels, 1)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        high, low = maps[-1], maps[_LEVEL]
        weighed = upsampled(self.cbr(high) * self.scale(high), low.shape[2:])
        logits: Tensor = self.low_classifier(low) + self.high_classifier(weighed)
        return logits
