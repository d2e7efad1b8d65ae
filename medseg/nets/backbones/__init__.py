"""Backbones by name: classification networks without their last layers, as five feature maps.

Each is one file here with `CHANNELS` and `build`. A backbone maps [B, C, *spatial] to the list of its maps
after each of five levels, which halve the grid (n voxels to n / 2, rounded up) once each where
nothing else is asked for: `strides` may spare an axis a halving, and beyond `output_stride`
strides become dilations (torchvision's `replace_stride_with_dilation`). Names and shapes of the
parameters are those of torchvision's state dicts (`torchvision_names`). To add one: a file and a
line in `BACKBONES`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from medseg.core.errors import PlanError
from medseg.core.plan import NetworkSpec

if TYPE_CHECKING:
    from torch import nn

BACKBONES: dict[str, str] = {
    "vgg16": "medseg.nets.backbones.vgg",
    "resnet18": "medseg.nets.backbones.resnet",
    "resnet34": "medseg.nets.backbones.resnet",
    "resnet50": "medseg.nets.backbones.resnet",
    "resnet101": "medseg.nets.backbones.resnet",
    "mobilenetv3": "medseg.nets.backbones.mobilenetv3",
}
LEVELS = 5

Size = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Level:
    """One of five levels, per axis. stride: on entering; before and after: dilation that the level meets and leaves."""

    stride: Size
    before: Size
    after: Size


def build(name: str, spec: NetworkSpec, output_stride: int) -> nn.Module:
    """The backbone, not yet initialised: [B, C, *spatial] to its five maps, the finest first.

    Raises PlanError for strides that are neither 1 nor 2.
    """
    module: nn.Module = _module(name).build(name, spec, levels(spec, output_stride))
    return module


def channels(name: str, spec: NetworkSpec) -> tuple[int, ...]:
    """How many channels each of the five maps has."""
    return tuple(scaled(count, spec.width) for count in _module(name).CHANNELS[name])


def levels(spec: NetworkSpec, output_stride: int) -> tuple[Level, ...]:
    """What every level does to the grid: `spec.strides`, but dilated where `output_stride` is reached."""
    unit = (1,) * spec.ndim
    total, dilation, found = unit, unit, []
    for wanted in _strides(spec):
        stride = tuple(1 if t * w > output_stride else w for t, w in zip(total, wanted, strict=True))
        after = tuple(d * w // s for d, w, s in zip(dilation, wanted, stride, strict=True))
        total = tuple(t * s for t, s in zip(total, stride, strict=True))
        found.append(Level(stride, dilation, after))
        dilation = after
    return tuple(found)


def steps(spec: NetworkSpec, output_stride: int) -> tuple[Size, ...]:
    """Voxels of the input per voxel of each of the five maps, along each axis."""
    total, found = (1,) * spec.ndim, []
    for level in levels(spec, output_stride):
        total = tuple(t * s for t, s in zip(total, level.stride, strict=True))
        found.append(total)
    return tuple(found)


def scaled(count: int, width: float) -> int:
    """`count` channels times `width`, in eights and at least eight, so that groups and vector units fit."""
    return count if width == 1 else max(8, round(count * width / 8) * 8)


def torchvision_names(names: Iterable[str]) -> dict[str, str]:
    """Where the tensors of a torchvision file go: its names, and those of the parameters here.

    Files of segmentation networks (`fcn_resnet50`, `deeplabv3_resnet50`, …) have our names; those of
    classification networks (`resnet50`, `vgg16`, `mobilenet_v3_large`) are backbones, whose
    classifiers (`fc.*`, `classifier.*`) have no place here and are left out.
    """
    names = list(names)
    if any(name.startswith("backbone.") for name in names):
        return {name: name for name in names}
    kept = (name for name in names if not name.startswith(("fc.", "classifier.")))
    return {name: f"backbone.{name.removeprefix('features.')}" for name in kept}


def _strides(spec: NetworkSpec) -> Sequence[Size]:
    strides = spec.strides or ((2,) * spec.ndim,) * LEVELS
    if len(strides) != LEVELS or any(len(stride) != spec.ndim or not set(stride) <= {1, 2} for stride in strides):
        raise PlanError(
            f"network.strides: {spec.name!r} needs {LEVELS} entries of {spec.ndim} numbers, each 1 or 2, "
            f"not {[list(stride) for stride in strides]}"
        )
    return strides


def _module(name: str) -> Any:
    return import_module(BACKBONES[name])
