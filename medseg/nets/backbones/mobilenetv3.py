"""MobileNetV3-Large (Howard et al., ICCV 2019, arXiv:1905.02244), in 2D and 3D, dilated where asked.

Inverted residuals: expanded by 1x1, filtered channel by channel, squeezed and excited, projected.
The five maps are those that torchvision's segmentation networks use: after the first block of each
level, and after the last layer of all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from medseg.core.plan import NetworkSpec
from medseg.nets._blocks import GlobalMean, normalization, quiet
from medseg.nets._ndim import CONV
from medseg.nets.backbones import Level, Size, channels, scaled

_EPS = 1e-3  # of the normalisations, as in the published weights
_SQUEEZE = 4


@dataclass(frozen=True, slots=True)
class _Block:
    """A line of the paper's table 1: level, kernel, channels before, within and after; excited; hard swish."""

    level: int
    kernel: int
    before: int
    inner: int
    after: int
    excited: bool
    swish: bool


_TABLE = (
    _Block(0, 3, 16, 16, 16, False, False),
    _Block(1, 3, 16, 64, 24, False, False),
    _Block(1, 3, 24, 72, 24, False, False),
    _Block(2, 5, 24, 72, 40, True, False),
    _Block(2, 5, 40, 120, 40, True, False),
    _Block(2, 5, 40, 120, 40, True, False),
    _Block(3, 3, 40, 240, 80, False, True),
    _Block(3, 3, 80, 200, 80, False, True),
    _Block(3, 3, 80, 184, 80, False, True),
    _Block(3, 3, 80, 184, 80, False, True),
    _Block(3, 3, 80, 480, 112, True, True),
    _Block(3, 3, 112, 672, 112, True, True),
    _Block(4, 5, 112, 672, 160, True, True),
    _Block(4, 5, 160, 960, 160, True, True),
    _Block(4, 5, 160, 960, 160, True, True),
)
CHANNELS = {"mobilenetv3": (16, 24, 40, 80, 960)}


def build(name: str, spec: NetworkSpec, levels: Sequence[Level]) -> nn.Module:
    """MobileNetV3-Large up to its last 1x1 convolution."""
    return MobileNetV3(channels(name, spec), spec, levels)


class MobileNetV3(nn.Sequential):
    """[B, C, *spatial] -> five maps."""

    def __init__(self, widths: Sequence[int], spec: NetworkSpec, levels: Sequence[Level]) -> None:
        unit = (1,) * spec.ndim
        layers: list[nn.Module] = [_unit(spec, (spec.in_channels, widths[0]), 3, levels[0].stride, act=nn.Hardswish)]
        ends = [0]
        for block in _TABLE:
            level, first = levels[block.level], block.level == len(ends)
            if first:
                ends.append(len(layers))
            # A dilated level is dilated from its first block on, unlike a ResNet's.
            layers.append(_Inverted(spec, block, level.stride if first else unit, level.after))
        layers.append(_unit(spec, (scaled(_TABLE[-1].after, spec.width), widths[-1]), 1, act=nn.Hardswish))
        super().__init__(*layers)
        self.ends = (*ends[:-1], len(layers) - 1)

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = []
        for number, layer in enumerate(self):
            x = layer(x)
            if number in self.ends:
                maps.append(x)
        return maps


class _Inverted(nn.Module):
    """One block, beside a shortcut where the published one has it, whatever the width."""

    def __init__(self, spec: NetworkSpec, block: _Block, stride: Size, dilation: Size) -> None:
        super().__init__()
        before, inner, after = (scaled(count, spec.width) for count in (block.before, block.inner, block.after))
        act = nn.Hardswish if block.swish else nn.ReLU
        layers: list[nn.Module] = []
        if block.inner != block.before:
            layers.append(_unit(spec, (before, inner), 1, act=act))
        layers.append(_unit(spec, (inner, inner), block.kernel, stride, dilation, act))
        if block.excited:
            layers.append(_Excitation(spec, inner, scaled(_eights(block.inner / _SQUEEZE), spec.width)))
        self.kept = block.before == block.after
        last = _unit(spec, (inner, after), 1)
        self.block = nn.Sequential(*layers, last)
        if self.kept:
            quiet(last[-1])

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.block(x)
        return out + x if self.kept else out


class _Excitation(nn.Module):
    """Channels weighted by what all of the map holds (Hu et al., arXiv:1709.01507), with a hard sigmoid."""

    def __init__(self, spec: NetworkSpec, width: int, squeezed: int) -> None:
        super().__init__()
        self.avgpool = GlobalMean()
        self.fc1 = CONV[spec.ndim](width, squeezed, 1)
        self.relu = nn.ReLU(inplace=True)
        self.fc2 = CONV[spec.ndim](squeezed, width, 1)
        self.scale_activation = nn.Hardsigmoid()

    def forward(self, x: Tensor) -> Tensor:
        scale: Tensor = self.scale_activation(self.fc2(self.relu(self.fc1(self.avgpool(x)))))
        return x * scale


def _unit(
    spec: NetworkSpec,
    width: tuple[int, int],
    kernel: int,
    stride: Size | int = 1,
    dilation: Size | None = None,
    act: type[nn.Module] | None = None,
) -> nn.Sequential:
    """Convolution, normalisation and activation; channel by channel where a kernel spans voxels within a block."""
    rates = dilation or (1,) * spec.ndim
    padding = tuple(rate * (kernel // 2) for rate in rates)
    before, after = width
    groups = before if dilation is not None else 1
    layers = [
        CONV[spec.ndim](before, after, kernel, stride, padding, rates, groups, bias=spec.norm == "none"),
        normalization(spec, after, _EPS),
    ]
    return nn.Sequential(*layers, *([act()] if act is nn.Hardswish else [act(inplace=True)] if act else []))


def _eights(count: float) -> int:
    """The nearest multiple of eight that is no more than a tenth below `count`, as the paper's authors round."""
    nearest = max(8, int(count + 4) // 8 * 8)
    return nearest if nearest >= 0.9 * count else nearest + 8
