"""DeepLab v2 (Chen et al., PAMI 2018, arXiv:1606.00915) on ResNet-101, in 2D and 3D.

Four classifiers of 3 voxels, 6, 12, 18 and 24 apart, straight on the last map, and their sum. With
`scales` (the paper: 1, 0.75, 0.5) the input is seen at several resolutions, and each class takes
the largest answer.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from medseg.core.plan import NetworkSpec
from medseg.nets import backbones
from medseg.nets._blocks import score_init
from medseg.nets._family import Family
from medseg.nets._ndim import CONV
from medseg.nets._segmenter import Segmenter, check, upsampled

FAMILY = Family(backbone="resnet101", rates=(6, 12, 18, 24), volume_rates=(1, 2, 4, 6))
_SCORES = 0.01  # standard deviation of the classifiers' first weights

divisor, smallest, margin, stages = FAMILY.divisor, FAMILY.smallest, FAMILY.margin, FAMILY.stages
check_patch, planned = FAMILY.check_plan, FAMILY.planned


def build(spec: NetworkSpec) -> nn.Module:
    """The network of `spec`; `norm: batch` is the paper's. Raises PlanError for what it cannot have."""
    FAMILY.check(spec)
    classifier = _Parallel(spec, backbones.channels(FAMILY.backbone, spec)[-1])
    network = (_MultiScale if spec.scales else Segmenter)(spec, FAMILY, classifier)
    score_init(classifier, _SCORES)
    return network


class _Parallel(nn.ModuleList):
    """The sum of atrous classifiers."""

    def __init__(self, spec: NetworkSpec, channels: int) -> None:
        make, classes = CONV[spec.ndim], spec.out_channels
        super().__init__(make(channels, classes, 3, padding=rate, dilation=rate) for rate in FAMILY.branches(spec))

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        return torch.stack([classifier(maps[-1]) for classifier in self]).sum(dim=0)


class _MultiScale(Segmenter):
    """Sees the input at every scale; in training the auxiliary head, if any, answers at the first one only."""

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        check(x, self.spec, self.family)
        size = x.shape[2:]
        answers: list[Tensor] = []
        auxiliary: list[Tensor] = []
        for scale in self.spec.scales:
            seen = x if scale == 1 else upsampled(x, [round(n * scale) for n in size])
            maps = self.backbone(seen)
            answers.append(upsampled(self.classifier(maps), size))
            if self.training and self.aux_classifier is not None and not auxiliary:
                auxiliary.append(upsampled(self.aux_classifier(maps), size))
        logits = torch.stack(answers).amax(dim=0)
        return [logits, *auxiliary] if auxiliary else logits
