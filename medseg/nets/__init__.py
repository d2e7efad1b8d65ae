"""Networks by name. Each is one file here with `build`, `divisor`, `smallest` and `margin`.

Every network maps [B, C, *spatial] to logits [B, L, *spatial'], where spatial' is spatial less twice
the margin (which is zero for networks that pad). To add one: a file with these four functions, a
line in `NETWORKS`, a class in tests/contracts/test_networks.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

from medseg.core.errors import PlanError
from medseg.core.plan import NetworkSpec

if TYPE_CHECKING:
    from torch import nn

NETWORKS: dict[str, str] = {
    "unet": "medseg.nets.unet",
    "unet2015": "medseg.nets.unet2015",
    "unet3d_2016": "medseg.nets.unet3d_2016",
}


def build(spec: NetworkSpec) -> nn.Module:
    """The network of `spec`, freshly initialised from torch's global generator.

    Its forward takes [B, C, *spatial] and gives logits [B, L, *spatial']; in training mode, with
    deep supervision, a list of logits, full resolution first.
    Raises PlanError for a spec that no network can have.
    """
    from medseg.nets._blocks import channels_last

    module = _module(spec)
    _check(spec)
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
    stages = len(spec.features)
    if stages < 2:
        raise PlanError(f"network.features: needs at least two stages, not {list(spec.features)}")
    if len(spec.strides) != stages or len(spec.kernels) != stages:
        raise PlanError(f"network: features, strides and kernels need one entry per stage each ({stages})")
    if min(spec.features) < 1 or spec.in_channels < 1 or spec.out_channels < 1:
        raise PlanError("network: features, in_channels and out_channels must be positive")
    for key, entries in (("strides", spec.strides), ("kernels", spec.kernels)):
        for entry in entries:
            if len(entry) != spec.ndim or min(entry) < 1:
                raise PlanError(f"network.{key}: {list(entry)} needs {spec.ndim} positive numbers, one per axis")
    if not 0 <= spec.dropout < 1:
        raise PlanError(f"network.dropout: must be at least 0 and below 1, not {spec.dropout}")
