"""The planned U-Net: depth, strides and kernels per axis as the plan says, in 2D and 3D.

Structure after nnU-Net (Isensee et al., Nature Methods 18:203, 2021): two convolutions a stage, each
followed by normalisation and LeakyReLU(0.01); strided convolutions on the way down, transposed
convolutions (kernel = stride) on the way up, skip connections by concatenation. With `residual` the
encoder's stages are residual blocks (He et al., 2016), as in nnU-Net's ResEnc presets.
"""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor, nn

from medseg.core.errors import PlanError
from medseg.core.plan import NetworkSpec
from medseg.nets._blocks import check_input, he_init, normalization
from medseg.nets._ndim import AVERAGE_POOL, CONV, DROPOUT, UP_CONV

SLOPE = 0.01  # of LeakyReLU below zero
Size = tuple[int, ...]


def build(spec: NetworkSpec) -> nn.Module:
    """The network of `spec`, He-initialised. Raises PlanError for strides or kernels it cannot have."""
    check_stages(spec)
    network = UNet(spec)
    he_init(network, SLOPE)
    return network


def check_stages(spec: NetworkSpec) -> None:
    """Raise PlanError for strides or kernels that a planned U-Net cannot have."""
    if max(spec.strides[0]) != 1:
        raise PlanError(f"network.strides: the first stage keeps full resolution, so it cannot be {spec.strides[0]}")
    for kernel, stride in zip(spec.kernels, spec.strides, strict=True):
        if any(k % 2 == 0 for k in kernel):
            raise PlanError(f"network.kernels: {list(kernel)} holds an even size, which cannot be centred")
        if any(s > k + 1 for k, s in zip(kernel, stride, strict=True)):
            raise PlanError(f"network.strides: {list(stride)} steps over voxels that kernel {list(kernel)} never sees")


def divisor(spec: NetworkSpec) -> Size:
    """The product of the strides along each axis."""
    return tuple(prod(stride[axis] for stride in spec.strides) for axis in range(spec.ndim))


def smallest(spec: NetworkSpec) -> Size:
    """One voxel at the lowest resolution."""
    return divisor(spec)


def margin(spec: NetworkSpec) -> Size:
    """None: convolutions are padded."""
    return (0,) * spec.ndim


class UNet(nn.Module):
    """[B, C, *spatial] -> logits [B, L, *spatial]; see `medseg.nets.build`.

    With deep supervision it has a head at every resolution but the two lowest, and gives their
    logits as a list (full resolution first) while training.
    """

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__()
        self.spec = spec
        self.steps = divisor(spec)
        stages = len(spec.features)
        stage = _residual_stage if spec.residual else _plain_stage
        channels = (spec.in_channels, *spec.features)
        self.encoder = nn.ModuleList(
            stage(spec, (channels[n], channels[n + 1]), spec.kernels[n], spec.strides[n]) for n in range(stages)
        )
        # From here on lists run from the lowest resolution to the highest, as the data does.
        rising = range(stages - 2, -1, -1)
        self.up = nn.ModuleList(
            UP_CONV[spec.ndim](spec.features[n + 1], spec.features[n], spec.strides[n + 1], spec.strides[n + 1])
            for n in rising
        )
        unit = (1,) * spec.ndim
        self.decoder = nn.ModuleList(
            _plain_stage(spec, (2 * spec.features[n], spec.features[n]), spec.kernels[n], unit) for n in rising
        )
        heads = max(1, stages - 2) if spec.deep_supervision else 1
        self.heads = nn.ModuleList(CONV[spec.ndim](spec.features[n], spec.out_channels, 1) for n in range(heads))

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        self._check(x)
        skips: list[Tensor] = []
        for stage in self.encoder:
            x = stage(x)
            skips.append(x)
        skips.pop()
        logits: list[Tensor] = []
        for up, stage in zip(self.up, self.decoder, strict=True):
            level = len(skips) - 1
            x = stage(torch.cat((self.passed(level, skips.pop(), x), up(x)), dim=1))
            if level == 0 or (self.training and level < len(self.heads)):
                logits.insert(0, self.heads[level](x))
        return logits if self.training and self.spec.deep_supervision else logits[0]

    def passed(self, level: int, skip: Tensor, below: Tensor) -> Tensor:
        """What of the `skip` of a level reaches the way up, where `below` comes from the level underneath."""
        return skip

    def _check(self, x: Tensor) -> None:
        check_input(x, self.spec, self.steps, self.steps)
        lowest = prod(n // step for n, step in zip(x.shape[2:], self.steps, strict=True))
        norm = self.spec.norm
        if lowest == 1 and (norm in ("instance", "group") or (self.training and norm == "batch")):
            raise PlanError(
                f"patch: {list(x.shape[2:])} leaves one voxel at the lowest resolution, over which "
                f"{norm} normalisation is undefined; take a larger patch or fewer stages"
            )


def _plain_stage(spec: NetworkSpec, channels: tuple[int, int], kernel: Size, stride: Size) -> nn.Module:
    """Two convolutions, each with normalisation and LeakyReLU; the first one has the stride."""
    first, width = channels
    unit = (1,) * spec.ndim
    return nn.Sequential(
        *_convolution(spec, (first, width), kernel, stride),
        nn.LeakyReLU(SLOPE, inplace=True),
        *_convolution(spec, (width, width), kernel, unit),
        nn.LeakyReLU(SLOPE, inplace=True),
    )


def _residual_stage(spec: NetworkSpec, channels: tuple[int, int], kernel: Size, stride: Size) -> nn.Module:
    return _Residual(spec, channels, kernel, stride)


class _Residual(nn.Module):
    """Two convolutions beside a shortcut that is pooled and projected where the shape changes (ResNet-D)."""

    def __init__(self, spec: NetworkSpec, channels: tuple[int, int], kernel: Size, stride: Size) -> None:
        super().__init__()
        first, width = channels
        unit = (1,) * spec.ndim
        self.body = nn.Sequential(
            *_convolution(spec, (first, width), kernel, stride),
            nn.LeakyReLU(SLOPE, inplace=True),
            *_convolution(spec, (width, width), kernel, unit),
        )
        shortcut: list[nn.Module] = []
        if max(stride) > 1:
            shortcut.append(AVERAGE_POOL[spec.ndim](stride, stride))
        if first != width:
            shortcut += _convolution(spec, (first, width), unit, unit)
        self.shortcut = nn.Sequential(*shortcut)
        self.activation = nn.LeakyReLU(SLOPE, inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.activation(self.body(x) + self.shortcut(x))
        return out


def _convolution(spec: NetworkSpec, channels: tuple[int, int], kernel: Size, stride: Size) -> list[nn.Module]:
    """A padded convolution, dropout where the plan has it, normalisation."""
    padding = tuple((k - 1) // 2 for k in kernel)
    # A bias right before a normalisation with its own shift would do nothing.
    convolution = CONV[spec.ndim](*channels, kernel, stride, padding, bias=spec.norm == "none")
    dropout: list[nn.Module] = [DROPOUT[spec.ndim](spec.dropout)] if spec.dropout else []
    return [convolution, *dropout, normalization(spec, channels[1])]
