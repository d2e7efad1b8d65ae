"""ResNet-18, 34, 50 and 101 (He et al., CVPR 2016, arXiv:1512.03385), in 2D and 3D, dilated where asked.

As in torchvision the bottleneck's stride is in its 3-voxel convolution ("v1.5"). Residual branches
start at zero (Goyal et al., arXiv:1706.02677), without which fifty layers amplify rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from torch import Tensor, nn

from medseg.core.plan import NetworkSpec
from medseg.nets._blocks import normalization, quiet
from medseg.nets._ndim import CONV, MAX_POOL
from medseg.nets.backbones import Level, Size, channels, scaled

# Blocks of each of the last four levels.
_BLOCKS = {"resnet18": (2, 2, 2, 2), "resnet34": (3, 4, 6, 3), "resnet50": (3, 4, 6, 3), "resnet101": (3, 4, 23, 3)}
_INNER = (64, 128, 256, 512)
_BASIC, _DEEP = (64, 64, 128, 256, 512), (64, 256, 512, 1024, 2048)
CHANNELS = {"resnet18": _BASIC, "resnet34": _BASIC, "resnet50": _DEEP, "resnet101": _DEEP}


def build(name: str, spec: NetworkSpec, levels: Sequence[Level]) -> nn.Module:
    """The ResNet of that name."""
    return ResNet(name, spec, levels)


class ResNet(nn.Module):
    """[B, C, *spatial] -> five maps; the stem's convolution and its pooling are the first two halvings."""

    layer1: nn.Sequential
    layer2: nn.Sequential
    layer3: nn.Sequential
    layer4: nn.Sequential

    def __init__(self, name: str, spec: NetworkSpec, levels: Sequence[Level]) -> None:
        super().__init__()
        stem, pool = levels[0], levels[1]
        widths = channels(name, spec)
        # Without its stride the stem stays as it is: dilated, its first filters would see every other voxel only.
        self.conv1 = _convolution(spec, (spec.in_channels, widths[0]), 7, stem.stride)
        self.bn1 = normalization(spec, widths[0])
        self.relu = nn.ReLU(inplace=True)
        # Along an axis that is not to be halved here, the pooling does not look either.
        halved = [s > 1 or b != a for s, b, a in zip(pool.stride, pool.before, pool.after, strict=True)]
        kernel = tuple(3 if half else 1 for half in halved)
        self.maxpool = MAX_POOL[spec.ndim](kernel, pool.stride, tuple(k // 2 for k in kernel))
        # The pooling has taken the first layer's stride, and the layer lies behind it.
        entries = (replace(pool, stride=(1,) * spec.ndim, before=pool.after), *levels[2:])
        block = _Basic if CHANNELS[name] == _BASIC else _Bottleneck
        for number, (blocks, level) in enumerate(zip(_BLOCKS[name], entries, strict=True)):
            inner = scaled(_INNER[number], spec.width)
            wide = (widths[number], inner, widths[number + 1])
            self.add_module(f"layer{number + 1}", _layer(spec, block, blocks, wide, level))

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = [self.relu(self.bn1(self.conv1(x)))]
        maps.append(self.layer1(self.maxpool(maps[-1])))
        for layer in (self.layer2, self.layer3, self.layer4):
            maps.append(layer(maps[-1]))
        return maps


class _Basic(nn.Module):
    """Two 3-voxel convolutions beside a shortcut. width: channels before, within and after."""

    def __init__(self, spec: NetworkSpec, width: Sequence[int], stride: Size, dilation: Size) -> None:
        super().__init__()
        before, inner, after = width
        self.conv1 = _convolution(spec, (before, inner), 3, stride, dilation)
        self.bn1 = normalization(spec, inner)
        self.conv2 = _convolution(spec, (inner, after), 3, dilation=dilation)
        self.bn2 = quiet(normalization(spec, after))
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _shortcut(spec, (before, after), stride)

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        result: Tensor = self.relu(out + (x if self.downsample is None else self.downsample(x)))
        return result


class _Bottleneck(nn.Module):
    """1, 3 and 1 voxels wide, beside a shortcut. width: channels before, within and after."""

    def __init__(self, spec: NetworkSpec, width: Sequence[int], stride: Size, dilation: Size) -> None:
        super().__init__()
        before, inner, after = width
        self.conv1 = _convolution(spec, (before, inner), 1)
        self.bn1 = normalization(spec, inner)
        self.conv2 = _convolution(spec, (inner, inner), 3, stride, dilation)
        self.bn2 = normalization(spec, inner)
        self.conv3 = _convolution(spec, (inner, after), 1)
        self.bn3 = quiet(normalization(spec, after))
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _shortcut(spec, (before, after), stride)

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        result: Tensor = self.relu(out + (x if self.downsample is None else self.downsample(x)))
        return result


def _layer(
    spec: NetworkSpec, block: Callable[..., nn.Module], blocks: int, width: Sequence[int], level: Level
) -> nn.Sequential:
    """A level's blocks; the first has its stride, and the dilation that was before it, as in torchvision."""
    _, inner, after = width
    unit = (1,) * spec.ndim
    first = block(spec, width, level.stride, level.before)
    return nn.Sequential(first, *(block(spec, (after, inner, after), unit, level.after) for _ in range(blocks - 1)))


def _shortcut(spec: NetworkSpec, width: tuple[int, int], stride: Size) -> nn.Module | None:
    """A projection where the shape changes."""
    before, after = width
    if before == after and max(stride) == 1:
        return None
    return nn.Sequential(_convolution(spec, width, 1, stride), normalization(spec, after))


def _convolution(
    spec: NetworkSpec, width: tuple[int, int], kernel: int, stride: Size | int = 1, dilation: Size | int = 1
) -> nn.Module:
    """A padded convolution; its bias, which a normalisation would take out again, is there only without one."""
    rates = (dilation,) * spec.ndim if isinstance(dilation, int) else dilation
    padding = tuple(rate * (kernel // 2) for rate in rates)
    return CONV[spec.ndim](*width, kernel, stride, padding, dilation, bias=spec.norm == "none")
