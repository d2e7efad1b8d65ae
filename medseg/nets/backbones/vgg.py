"""VGG-16 (Simonyan & Zisserman, ICLR 2015, arXiv:1409.1556), in 2D and 3D; with a norm, VGG-16-BN.

Thirteen 3-voxel convolutions in five blocks, each followed by max-pooling. Where strides become
dilations, poolings are 3 voxels wide, as in DeepLab v1 (arXiv:1412.7062).
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from medseg.core.plan import NetworkSpec
from medseg.nets._blocks import normalization
from medseg.nets._ndim import CONV, MAX_POOL
from medseg.nets.backbones import Level, channels

_BLOCKS = (2, 2, 3, 3, 3)
CHANNELS = {"vgg16": (64, 128, 256, 512, 512)}


def build(name: str, spec: NetworkSpec, levels: Sequence[Level]) -> nn.Module:
    """VGG-16 up to its last pooling."""
    return VGG(spec, channels(name, spec), levels)


class VGG(nn.Sequential):
    """[B, C, *spatial] -> five maps, each after its block's pooling."""

    def __init__(self, spec: NetworkSpec, widths: Sequence[int], levels: Sequence[Level]) -> None:
        layers: list[nn.Module] = []
        before = spec.in_channels
        dilated = levels[-1].after != (1,) * spec.ndim
        for count, width, level in zip(_BLOCKS, widths, levels, strict=True):
            for _ in range(count):
                layers.append(CONV[spec.ndim](before, width, 3, padding=level.before, dilation=level.before))
                if spec.norm != "none":  # torchvision's VGG-16 counts its layers without
                    layers.append(normalization(spec, width))
                layers.append(nn.ReLU(inplace=True))
                before = width
            layers.append(_pooling(spec, level, dilated))
        super().__init__(*layers)
        self.ends = [number for number, layer in enumerate(layers) if isinstance(layer, type(layers[-1]))]

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = []
        for number, layer in enumerate(self):
            x = layer(x)
            if number in self.ends:
                maps.append(x)
        return maps


def _pooling(spec: NetworkSpec, level: Level, dilated: bool) -> nn.Module:
    """Two voxels wide, the last one alone at an odd border; three wide around each voxel where levels are dilated."""
    if not dilated:
        return MAX_POOL[spec.ndim](level.stride, level.stride, ceil_mode=True)
    met = zip(level.stride, level.before, level.after, strict=True)
    kernel = tuple(3 if stride > 1 or before != after else 1 for stride, before, after in met)
    return MAX_POOL[spec.ndim](kernel, level.stride, tuple(k // 2 for k in kernel))
