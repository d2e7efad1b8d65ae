"""A backbone, a head on its maps, and an answer on the input's grid."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn.functional import interpolate

from medseg.core.plan import NetworkSpec
from medseg.nets import backbones
from medseg.nets._blocks import check_input, he_init, normalization
from medseg.nets._family import Family
from medseg.nets._ndim import CONV, LINEAR

_AUXILIARY = {"mobilenetv3": 2}  # the level whose map the auxiliary head sees; the last but one else


class Segmenter(nn.Module):
    """[B, C, *spatial] -> logits [B, L, *spatial], interpolated from the head's; He-initialised.

    classifier: the maps to logits on any grid. With `spec.auxiliary`, training gives a list: the
    logits, and those of a second head, both on the input's grid.
    """

    def __init__(self, spec: NetworkSpec, family: Family, classifier: nn.Module) -> None:
        super().__init__()
        self.spec, self.family = spec, family
        name = family.backbone_of(spec)
        self.backbone = backbones.build(name, spec, family.output_stride(spec))
        self.classifier = classifier
        self.aux_classifier: nn.Module | None = None
        if spec.auxiliary:
            level = _AUXILIARY.get(name, -2)
            self.aux_classifier = FCNHead(spec, backbones.channels(name, spec)[level], level)
        he_init(self)

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        check(x, self.spec, self.family)
        maps = self.backbone(x)
        logits = upsampled(self.classifier(maps), x.shape[2:])
        if self.training and self.aux_classifier is not None:
            return [logits, upsampled(self.aux_classifier(maps), x.shape[2:])]
        return logits


class LowestHead(nn.Sequential):
    """Layers on one of the backbone's maps, the lowest one unless said otherwise."""

    level = -1

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        x = maps[self.level]
        for layer in self:
            x = layer(x)
        return x


class FCNHead(LowestHead):
    """torchvision's: 3 voxels wide to a quarter of the channels, normalisation, ReLU, 1x1 to the classes."""

    def __init__(self, spec: NetworkSpec, channels: int, level: int = -1) -> None:
        inner = channels // 4
        super().__init__(
            CONV[spec.ndim](channels, inner, 3, padding=1, bias=spec.norm == "none"),
            normalization(spec, inner),
            nn.ReLU(inplace=True),
            nn.Dropout(spec.dropout),
            CONV[spec.ndim](inner, spec.out_channels, 1),
        )
        self.level = level


def check(x: Tensor, spec: NetworkSpec, family: Family) -> None:
    """Raise PlanError in a sentence where the network cannot take `x`."""
    unit = (1,) * spec.ndim
    check_input(x, spec, unit, unit)
    family.check_patch(spec, x.shape[2:])


def upsampled(x: Tensor, size: Sequence[int]) -> Tensor:
    """[B, C, *spatial] interpolated linearly to `size`."""
    return interpolate(x, size=tuple(size), mode=LINEAR[x.ndim - 2], align_corners=False)
