"""DeepLab v3+ (Chen et al., ECCV 2018, arXiv:1802.02611) on ResNet-50, ResNet-101 or MobileNetV3, in 2D and 3D.

DeepLab v3's pyramid with separable convolutions, and a decoder: its answer meets 48 channels of the
backbone's map at stride 4. As in segmentation-models-pytorch there is one separable convolution
after the pyramid and one after the two are joined.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from medseg.core.plan import NetworkSpec
from medseg.nets import backbones
from medseg.nets._aspp import ASPP, atrous
from medseg.nets._blocks import normalization
from medseg.nets._family import Family
from medseg.nets._ndim import CONV
from medseg.nets._segmenter import Segmenter, upsampled
from medseg.nets.backbones import scaled

FAMILY = Family(rates=(12, 24, 36), volume_rates=(2, 4, 6), stride=16)
_WIDTH, _FINE = 256, 48
_LEVEL = 1  # of the finer map: stride 4 where every axis is halved

divisor, smallest, margin, stages = FAMILY.divisor, FAMILY.smallest, FAMILY.margin, FAMILY.stages
check_patch, planned = FAMILY.check_plan, FAMILY.planned


def build(spec: NetworkSpec) -> nn.Module:
    """The network of `spec`; `norm: batch` is the paper's. Raises PlanError for what it cannot have."""
    FAMILY.check(spec)
    return Segmenter(spec, FAMILY, Decoder(spec))


class Decoder(nn.Module):
    """The backbone's maps to logits on the grid of its second map."""

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__()
        channels = backbones.channels(FAMILY.backbone_of(spec), spec)
        width, fine = scaled(_WIDTH, spec.width), scaled(_FINE, spec.width)
        make, unit = CONV[spec.ndim], (1,) * spec.ndim
        self.aspp = nn.Sequential(
            ASPP(spec, (channels[-1], width), FAMILY.branches(spec), separable=True),
            *atrous(spec, (width, width), unit, separable=True),
        )
        self.fine = nn.Sequential(
            make(channels[_LEVEL], fine, 1, bias=spec.norm == "none"), normalization(spec, fine), nn.ReLU(inplace=True)
        )
        self.joined = atrous(spec, (fine + width, width), unit, separable=True)
        self.scores = make(width, spec.out_channels, 1)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        fine = self.fine(maps[_LEVEL])
        coarse = upsampled(self.aspp(maps[-1]), fine.shape[2:])
        logits: Tensor = self.scores(self.joined(torch.cat((coarse, fine), dim=1)))
        return logits
