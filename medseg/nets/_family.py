"""What FCN and DeepLab have in common: a backbone, what it does to the grid, and how it is fitted to a patch.

A `Family` answers for its networks all that the room asks of a network but `build`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil, log2
from typing import Literal

from medseg.core.errors import PlanError
from medseg.core.plan import NetworkSpec
from medseg.nets import backbones
from medseg.nets.backbones import LEVELS, Size

Rates = tuple[Size, ...]

_STRIDE_OF_RATES = 8  # at which a family's rates are given
_BATCH = 8  # samples from which on batch statistics are worth something
_REACH = 0.75  # of the feature map: the largest planned rate, at which half of a branch's taps lie in the map


@dataclass(frozen=True, slots=True)
class Family:
    """Networks of one paper on one backbone each.

    backbone: where the network's name does not end in one; rates, volume_rates: of the atrous
    branches at output stride 8, in 2D and 3D; stride: planned output stride in 2D (8 at most in 3D);
    least: voxels along an axis of the lowest map that planning keeps; dilated: whether strides
    beyond the output stride become dilations; spared: which halvings a short axis does without;
    auxiliary: whether there may be a second head for training.
    """

    backbone: str = ""
    rates: tuple[int, ...] = ()
    volume_rates: tuple[int, ...] = ()
    stride: int = 8
    least: int = 6
    dilated: bool = True
    spared: Literal["first", "last"] = "first"
    auxiliary: bool = True

    def backbone_of(self, spec: NetworkSpec) -> str:
        """The backbone's name, a key of `BACKBONES`."""
        return self.backbone or spec.name.rpartition("_")[2]

    def output_stride(self, spec: NetworkSpec) -> int:
        """What no axis is divided by more than."""
        return spec.output_stride if self.dilated else 2**LEVELS

    def steps(self, spec: NetworkSpec) -> tuple[Size, ...]:
        """Voxels of the input per voxel of each of the backbone's maps."""
        return backbones.steps(spec, self.output_stride(spec))

    def branches(self, spec: NetworkSpec) -> Rates:
        """The rates of the atrous branches, per axis: the plan's, else the paper's at this output stride."""
        if spec.rates:
            return spec.rates
        return tuple((max(1, rate),) * spec.ndim for rate in self._paper_rates(spec.ndim, spec.output_stride))

    def divisor(self, spec: NetworkSpec) -> Size:
        """Any size will do: maps are rounded up, and the answer is interpolated to the input's grid."""
        return (1,) * spec.ndim

    def smallest(self, spec: NetworkSpec) -> Size:
        """What leaves a lowest map in which the largest rate still sees another voxel, two voxels at least."""
        reach = [max((1, *(rate[axis] for rate in self.branches(spec)))) for axis in range(spec.ndim)]
        return tuple(
            ceil((rate * step + 1) / min((1.0, *spec.scales)))
            for rate, step in zip(reach, self.steps(spec)[-1], strict=True)
        )

    def margin(self, spec: NetworkSpec) -> Size:
        """None: convolutions are padded."""
        return (0,) * spec.ndim

    def stages(self, spec: NetworkSpec) -> tuple[tuple[int, Size], ...]:
        """Channels of the maps that are computed, and voxels of the input per voxel of each; the answer is the last."""
        channels = backbones.channels(self.backbone_of(spec), spec)
        return (*zip(channels, self.steps(spec), strict=True), (spec.out_channels, (1,) * spec.ndim))

    def check(self, spec: NetworkSpec) -> None:
        """Raise PlanError for a spec that no network of the family can have."""
        if spec.features or spec.kernels or spec.residual or spec.deep_supervision:
            raise PlanError(
                f"network: {spec.name!r} has its paper's stages; leave features, kernels, residual and "
                "deep_supervision as they are, and scale its channels with network.width"
            )
        if not 0 < spec.width <= 4:
            raise PlanError(f"network.width: must be above 0 and at most 4, not {spec.width}")
        if spec.output_stride not in (2, 4, 8, 16, 32):
            raise PlanError(f"network.output_stride: must be 2, 4, 8, 16 or 32, not {spec.output_stride}")
        if spec.auxiliary and not self.auxiliary:
            raise PlanError(f"network.auxiliary: {spec.name!r} has no auxiliary head")
        if any(not 0 < scale <= 1 for scale in spec.scales):
            raise PlanError(f"network.scales: must be above 0 and at most 1, not {list(spec.scales)}")
        self._check_rates(spec)

    def check_plan(self, spec: NetworkSpec, patch: Sequence[int]) -> None:
        """Raise PlanError where no such network takes a patch."""
        self.check(spec)
        self.check_patch(spec, patch)

    def check_patch(self, spec: NetworkSpec, patch: Sequence[int]) -> None:
        """Raise PlanError where a patch is too small for the network, or its feature map for a rate."""
        shrunk = min((1.0, *spec.scales))
        for axis, (n, step) in enumerate(zip(patch, self.steps(spec)[-1], strict=True)):
            size = ceil(round(n * shrunk) / step)
            if size < 2:
                raise PlanError(
                    f"patch: {n} voxels on axis {axis} leave {spec.name!r} one at output stride {step}; take more, "
                    "or fewer network.strides along that axis"
                )
            largest = max((0, *(rate[axis] for rate in self.branches(spec))))
            if largest >= size:
                raise PlanError(
                    f"network.rates: rate {largest} on axis {axis} reaches out of a feature map of {size} voxels "
                    f"(patch {n}, output stride {step}); the largest that fits is {size - 1}"
                )

    def planned(
        self,
        spec: NetworkSpec,
        patch: Sequence[int],
        spacing: Sequence[float],
        batch: int,
        output_stride: int | None = None,
    ) -> NetworkSpec:
        """The spec with strides and rates that suit a patch (voxels) of this spacing (mm), and the batch's norm.

        Axes wait with their first halving until the finer ones have become as coarse, and are spared
        those that would leave fewer than `least` voxels. Rates reach as far in mm along every axis, and
        never so far that they would mostly see padding. output_stride: asked for, instead of the paper's.
        """
        most = int(log2(output_stride or (self.stride if spec.ndim == 2 or not self.dilated else min(self.stride, 8))))
        waits = [round(log2(mm / min(spacing[: spec.ndim]))) for mm in spacing[: spec.ndim]]
        counts = [self._halvings(n, most - wait) for n, wait in zip(patch, waits, strict=False)]
        deepest = max(counts)
        axes = [
            self._strides(wait, count, most, dilated=self.dilated and count == deepest)
            for wait, count in zip(waits, counts, strict=True)
        ]
        spec = replace(
            spec,
            features=(),
            kernels=(),
            strides=tuple(zip(*axes, strict=True)),
            output_stride=2 ** max(1, deepest),
            norm="batch" if batch >= _BATCH else "instance",
        )
        return replace(spec, rates=self._planned_rates(spec, patch, spacing))

    def _paper_rates(self, ndim: int, output_stride: int) -> tuple[int, ...]:
        rates = self.rates if ndim == 2 else self.volume_rates
        return tuple(rate * _STRIDE_OF_RATES // output_stride for rate in rates)

    def _halvings(self, size: int, most: int) -> int:
        """How often an axis of `size` voxels is halved: `most` times at most."""
        count = 0
        while count < most and ceil(size / 2 ** (count + 1)) >= self.least:
            count += 1
        return count

    def _strides(self, wait: int, count: int, most: int, dilated: bool) -> tuple[int, ...]:
        """One axis' stride on each level; the last ones are left to become dilations where it is `dilated`."""
        first = most - count if self.spared == "first" else min(wait, most - count)
        return tuple(
            2 if first <= level < first + count or (dilated and level >= first) else 1 for level in range(LEVELS)
        )

    def _planned_rates(self, spec: NetworkSpec, patch: Sequence[int], spacing: Sequence[float]) -> Rates:
        rates = self._paper_rates(spec.ndim, spec.output_stride)
        if not rates:
            return ()
        steps = self.steps(spec)[-1]
        coarse = [mm * step for mm, step in zip(spacing, steps, strict=False)]
        wanted = [[rate * min(coarse) / mm for rate in rates] for mm in coarse]
        rooms = [_REACH * ceil(n / step) for n, step in zip(patch, steps, strict=False)]
        shrunk = min((1.0, *spec.scales))
        fitted = [
            [max(1, int(rate * min(1.0, room * shrunk / max(axis)) + 1e-6)) for rate in axis]
            for axis, room in zip(wanted, rooms, strict=True)
        ]
        return tuple(zip(*fitted, strict=True))

    def _check_rates(self, spec: NetworkSpec) -> None:
        count = len(self.rates)
        if not spec.rates:
            return
        if len(spec.rates) != count or any(len(rate) != spec.ndim or min(rate) < 1 for rate in spec.rates):
            raise PlanError(
                f"network.rates: {spec.name!r} has {count} atrous branches, each with {spec.ndim} positive numbers, "
                f"not {[list(rate) for rate in spec.rates]}"
            )
