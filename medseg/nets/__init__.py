"""Networks by name. Each is one file here with `build`, `divisor`, `smallest` and `margin`.

Every network maps [B, C, *spatial] to logits [B, L, *spatial'], where spatial' is spatial less twice
the margin (which is zero for networks that pad). To add one: a file with these four functions, a
line in `NETWORKS`, a class in tests/contracts/test_networks.py. A network whose stages are its
paper's and not `features` of the spec also has `stages`, `check_patch` and `planned`, which
`_family.Family` answers for FCN and DeepLab.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from medseg.core.errors import PlanError
from medseg.core.plan import NetworkSpec

if TYPE_CHECKING:
    from torch import nn

NETWORKS: dict[str, str] = {
    "unet": "medseg.nets.unet",
    "unet2015": "medseg.nets.unet2015",
    "unet3d_2016": "medseg.nets.unet3d_2016",
    "attention_unet": "medseg.nets.attention_unet",
    "vnet": "medseg.nets.vnet",
    "monai_segresnet": "medseg.nets.monai_adapter",
    "monai_unetr": "medseg.nets.monai_adapter",
    "monai_swinunetr": "medseg.nets.monai_adapter",
    "monai_unetplusplus": "medseg.nets.monai_adapter",
    "fcn32s": "medseg.nets.fcn",
    "fcn16s": "medseg.nets.fcn",
    "fcn8s": "medseg.nets.fcn",
    "fcn_resnet50": "medseg.nets.fcn_resnet",
    "fcn_resnet101": "medseg.nets.fcn_resnet",
    "deeplabv1": "medseg.nets.deeplabv1",
    "deeplabv2": "medseg.nets.deeplabv2",
    "deeplabv3_resnet50": "medseg.nets.deeplabv3",
    "deeplabv3_resnet101": "medseg.nets.deeplabv3",
    "deeplabv3_mobilenetv3": "medseg.nets.deeplabv3",
    "deeplabv3plus_resnet50": "medseg.nets.deeplabv3plus",
    "deeplabv3plus_resnet101": "medseg.nets.deeplabv3plus",
    "deeplabv3plus_mobilenetv3": "medseg.nets.deeplabv3plus",
    "lraspp_mobilenetv3": "medseg.nets.lraspp",
}

# What people say, and which of the table they mean: the papers' usual backbone.
SHORT_NAMES: dict[str, str] = {
    "deeplabv3": "deeplabv3_resnet50",
    "deeplabv3plus": "deeplabv3plus_resnet50",
    "fcn": "fcn8s",
    "lraspp": "lraspp_mobilenetv3",
}


def full_name(name: str) -> str:
    """The name in `NETWORKS` that a short one stands for, any other name itself."""
    return SHORT_NAMES.get(name, name)


def build(spec: NetworkSpec) -> nn.Module:
    """The network of `spec`, freshly initialised from torch's global generator.

    Its forward takes [B, C, *spatial] and gives logits [B, L, *spatial']; in training mode, with
    deep supervision, a list of logits, full resolution first.
    Raises PlanError for a spec that no network can have.
    """
    from medseg.nets._blocks import channels_last

    if spec.members > 1:
        from medseg.nets.ensemble import Ensemble

        return Ensemble(build(replace(spec, members=1)) for _ in range(spec.members))
    module = _module(spec)
    _check(spec)
    if not hasattr(module, "stages"):
        _check_stages(spec)
    return channels_last(module.build(spec), spec.ndim)


def divisor(spec: NetworkSpec) -> tuple[int, ...]:
    """Steps in voxels, per axis, by which a patch may grow; padded networks take any multiple of it."""
    return _numbers(_module(spec).divisor(spec))


def smallest(spec: NetworkSpec) -> tuple[int, ...]:
    """The smallest patch per axis; every patch that fits is this plus a multiple of `divisor`."""
    return _numbers(_module(spec).smallest(spec))


def margin(spec: NetworkSpec) -> tuple[int, ...]:
    """Voxels lost on each side of every axis: 0 where convolutions are padded."""
    return _numbers(_module(spec).margin(spec))


def stages(spec: NetworkSpec) -> tuple[tuple[int, tuple[int, ...]], ...]:
    """Channels of the feature maps that are computed, and voxels of the input per voxel of each, per axis."""
    module = _module(spec)
    if hasattr(module, "stages"):
        found: tuple[tuple[int, tuple[int, ...]], ...] = module.stages(spec)
        return found
    totals = accumulate(spec.strides, lambda total, stride: tuple(t * s for t, s in zip(total, stride, strict=True)))
    return tuple(zip(spec.features, totals, strict=True))


def check_patch(spec: NetworkSpec, patch: Sequence[int]) -> None:
    """Raise PlanError where the network cannot take a patch (`ndim` voxels) for what the spec says of it."""
    module = _module(spec)
    if hasattr(module, "check_patch"):
        module.check_patch(spec, patch)


def planned(
    spec: NetworkSpec, patch: Sequence[int], spacing: Sequence[float], batch: int, output_stride: int | None = None
) -> NetworkSpec:
    """The spec, with what the network itself derives from a patch (voxels), its spacing (mm) and the batch.

    output_stride: what was asked for; None leaves it to the network.
    """
    module = _module(spec)
    if not hasattr(module, "planned"):
        return spec
    own: NetworkSpec = module.planned(spec, patch, spacing, batch, output_stride)
    return own


def fit_patch(spec: NetworkSpec, shape: Sequence[int]) -> tuple[int, ...]:
    """The smallest patch the network takes that is nowhere smaller than `shape`."""
    return tuple(
        least + step * max(0, -(-(n - least) // step))
        for n, least, step in zip(shape, smallest(spec), divisor(spec), strict=True)
    )


def _module(spec: NetworkSpec) -> Any:
    home = NETWORKS.get(spec.name)
    if home is None:
        raise PlanError(f"network.name: there is no network {spec.name!r}; there are {', '.join(NETWORKS)}")
    return import_module(home)


def _numbers(values: Sequence[int]) -> tuple[int, ...]:
    return tuple(int(value) for value in values)


def _check(spec: NetworkSpec) -> None:
    """What holds for every network; each adds its own."""
    if spec.in_channels < 1 or spec.out_channels < 1:
        raise PlanError("network: in_channels and out_channels must be positive")
    if not 0 <= spec.dropout < 1:
        raise PlanError(f"network.dropout: must be at least 0 and below 1, not {spec.dropout}")


def _check_stages(spec: NetworkSpec) -> None:
    """What holds for every network whose stages the spec describes."""
    stages = len(spec.features)
    if stages < 2:
        raise PlanError(f"network.features: needs at least two stages, not {list(spec.features)}")
    if len(spec.strides) != stages or len(spec.kernels) != stages:
        raise PlanError(f"network: features, strides and kernels need one entry per stage each ({stages})")
    if min(spec.features) < 1:
        raise PlanError("network: features must be positive")
    for key, entries in (("strides", spec.strides), ("kernels", spec.kernels)):
        for entry in entries:
            if len(entry) != spec.ndim or min(entry) < 1:
                raise PlanError(f"network.{key}: {list(entry)} needs {spec.ndim} positive numbers, one per axis")
