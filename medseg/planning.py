"""From what the cases are like to how they are going to be segmented: pure and readable.

The rules follow nnU-Net's (Isensee et al., Nature Methods 18:203, 2021): median spacing, a finer one
on a strongly anisotropic axis, intensities of the foreground, a patch in the shape of the median
case, strides per axis while the axis is coarse enough to keep. What differs is the budget: it comes
in as a `Machine`, so that two CPU cores get a network that learns in minutes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from math import prod
from typing import Any, Literal

import numpy as np

from medseg.core.errors import PlanError
from medseg.core.geometry import Shape, Triple
from medseg.core.machine import Machine
from medseg.core.plan import (
    AugmentSpec,
    ChannelStats,
    Fingerprint,
    InstanceSpec,
    NetworkSpec,
    Normalization,
    Plan,
    Schedule,
    WindowSpec,
    override,
)
from medseg.core.task import COLOURS, Task
from medseg.nets import NETWORKS, full_name

_MIN_EDGE = 4  # feature maps are not pooled below this many voxels
# Networks whose widths, stages and norm are a paper's; they see mirrored borders (overlap-tile).
_PUBLISHED: dict[str, tuple[tuple[int, ...], Literal["none", "batch"]]] = {
    "unet2015": ((64, 128, 256, 512, 1024), "none"),
    "unet3d_2016": ((64, 128, 256, 512), "batch"),
}
_SHAPED = ("unet", "attention_unet")  # whose encoder and heads follow the preset
_SIDE = re.compile(r"(?:^|[^a-z])(?:left|right|l|r)(?:[^a-z]|$)", re.IGNORECASE)  # a word in a label's name
# From here on stronger variation pays: hippocampus, 13 cases, 1,500 steps, Dice .868 with it and .863 without.
_LONG_SECONDS, _LONG_STEPS = 480.0, 1500.0
_ANISOTROPY = 3.0  # nnU-Net's threshold for treating an axis apart


def plan(fingerprint: Fingerprint, task: Task, budget: Machine, changes: Mapping[str, Any] | None = None) -> Plan:
    """The plan for this data, this task and this machine; `changes` override keys of the result.

    Keys of `changes` are dotted ('schedule.learning_rate'); the task's own `plan` comes before them.
    Raises PlanError where an override does not fit or the pieces contradict each other.
    """
    ndim = task.dimensions
    demands = [full_names(task.plan), full_names(changes or {})]
    wishes = {**demands[0], **demands[1]}
    reasons: dict[str, str] = {}
    spacing = _spacing(fingerprint, ndim, budget, reasons)
    shape = _median_shape(fingerprint, spacing, ndim)
    if ndim == 2 and budget.name == "cpu":
        budget = replace(budget, patch_voxels=_pixels(budget.patch_voxels, shape, _long(wishes)))
    normalization = tuple(_normalization(task, stats, reasons) for stats in fingerprint.channels)
    network, patch = _network(wishes, fingerprint, task, (shape, spacing), budget)
    reasons["patch"] = f"the median case is {shape} voxels at this spacing; {budget.name} budget {budget.patch_voxels}"
    reasons["network"] = _why(network)
    reasons["preset"] = f"{budget.preset}: what a training of this length on this {budget.name} has time for"
    batch = _batch(patch, budget, fingerprint.n_cases)
    augment = _augment(task, spacing, _long(wishes), reasons)
    planned = Plan(
        task=task.name,
        ndim=ndim,
        spacing=spacing,
        normalization=normalization,
        patch=patch,
        batch=batch,
        network=network,
        augment=augment,
        schedule=_schedule(task, reasons),
        window=WindowSpec(
            batch=1 if ndim == 3 else 4,
            skip_below=_skip_below(normalization, reasons),
            mirror=network.name in _PUBLISHED,
            flips=_mirrored(augment, (shape, patch), budget, reasons),
        ),
        instances=InstanceSpec() if task.instances else None,
        reasons=reasons,
    )
    for wish in filter(None, demands):
        planned = override(planned, wish)
    return validated(planned, task)


def validated(planned: Plan, task: Task) -> Plan:
    """The plan itself, or PlanError in one sentence where its parts contradict each other."""
    network = planned.network
    if network.name not in NETWORKS:
        raise PlanError(f"network.name: there is no network {network.name!r}; there are {', '.join(NETWORKS)}")
    staged = bool(network.features or network.kernels)
    if staged and not (len(network.features) == len(network.strides) == len(network.kernels)):
        raise PlanError("network.features, network.strides and network.kernels need one entry per stage each")
    if network.features and network.width != 1:
        raise PlanError(f"network.width: {network.name!r} has the widths of network.features; change those instead")
    if network.ndim != planned.ndim:
        raise PlanError(f"network.ndim is {network.ndim} but the plan's ndim is {planned.ndim}")
    if network.out_channels != task.classes:
        raise PlanError(f"network.out_channels must be {task.classes} for this task, with background")
    if (planned.instances is not None) != task.instances:
        raise PlanError(f"instances: the plan and the task must agree, and the task says {task.instances}")
    if planned.batch < 1 or min(planned.patch) < 1 or min(planned.spacing) <= 0:
        raise PlanError("batch, patch and spacing must be positive")
    if planned.ndim == 2 and planned.patch[2] != 1:
        raise PlanError(f"patch: a 2D network takes patches one voxel thick, not {planned.patch}")
    if not 0 <= planned.window.overlap < 1:
        raise PlanError(f"window.overlap must be at least 0 and below 1, not {planned.window.overlap}")
    _check_schedule(planned)
    _check_divisible(planned)
    return planned


def _check_schedule(planned: Plan) -> None:
    schedule, last = planned.schedule, planned.network.out_channels - 1
    if schedule.accumulate < 1 or schedule.epoch_steps < 1:
        raise PlanError("schedule.accumulate and schedule.epoch_steps must be at least 1")
    for name in ("foreground", "boundary", "balance"):
        if not 0 <= getattr(schedule, name) <= 1:
            raise PlanError(f"schedule.{name} must lie within 0..1, not {getattr(schedule, name):g}")
    if any(not region or not set(region) <= set(range(1, last + 1)) for region in schedule.regions):
        raise PlanError(f"schedule.regions: each is a list of label values, which are 1..{last}")


def _check_divisible(planned: Plan) -> None:
    if planned.network.name != "unet":
        from medseg.nets import check_patch  # brings torch, which planning alone does not need

        check_patch(planned.network, planned.patch[: planned.ndim])
        return
    for axis in range(planned.ndim):
        factor = prod(stride[axis] for stride in planned.network.strides)
        if planned.patch[axis] % factor:
            raise PlanError(
                f"patch: {planned.patch[axis]} on axis {axis} is no multiple of {factor}, the strides' product"
            )


# ---- spacing --------------------------------------------------------------------------------


def _spacing(fingerprint: Fingerprint, ndim: int, budget: Machine, reasons: dict[str, str]) -> Triple:
    spacings = np.array(fingerprint.spacings)
    target = np.median(spacings, axis=0)
    coarse = int(target.argmax())
    others = np.delete(target, coarse).max()
    reasons["spacing"] = "the median of the training cases"
    if ndim == 3 and target[coarse] > _ANISOTROPY * others:
        target[coarse] = max(np.percentile(spacings[:, coarse], 10), others)
        reasons["spacing"] += "; the 10th percentile on the coarse axis"
    axes = slice(0, ndim)
    extent = np.median(np.array(fingerprint.shapes) * spacings, axis=0)
    excess = prod(extent[axes] / target[axes]) / budget.volume_voxels
    if excess > 1:
        target[axes] = _coarsened(target[axes], excess)
        reasons["spacing"] += f"; coarsened to {budget.volume_voxels} voxels a median case for this {budget.name}"
    return _triple(np.round(target, 4))


def _coarsened(spacing: Any, excess: float) -> Any:
    """Multiply the volume of a voxel by `excess`, the finest axes first, so that voxels grow cubic."""
    spacing = np.array(spacing, dtype=np.float64)
    target = spacing.prod() * excess
    order = np.argsort(spacing)
    for count in range(1, len(spacing) + 1):
        finest = order[:count]
        edge = (target / np.delete(spacing, finest).prod()) ** (1 / count)
        if count == len(spacing) or edge <= spacing[order[count]]:
            spacing[finest] = edge
            break
    return spacing


def _median_shape(fingerprint: Fingerprint, spacing: Triple, ndim: int) -> Shape:
    shapes = np.array(fingerprint.shapes) * np.array(fingerprint.spacings) / np.array(spacing)
    i, j, k = (max(1, round(float(n))) for n in np.median(shapes, axis=0))
    return (i, j, k) if ndim == 3 else (i, j, 1)


# ---- intensities ----------------------------------------------------------------------------


def _normalization(task: Task, stats: ChannelStats, reasons: dict[str, str]) -> Normalization:
    if task.modality == "CT":
        reasons["normalization"] = "CT: clipped to the 0.5..99.5 percentiles of the foreground, then z-scored"
        return Normalization("ct", stats.p005, stats.p995, stats.mean, max(stats.std, 1e-3))
    if task.modality == "microscopy" and (task.channels == list(COLOURS) or len(task.channels) == 1):
        reasons["normalization"] = "microscopy: brightness differs from picture to picture, so each is scaled by itself"
        return Normalization("picture")
    reasons["normalization"] = f"{task.modality}: units differ from scan to scan, so each image is z-scored by itself"
    return Normalization("zscore")


def _skip_below(normalization: tuple[Normalization, ...], reasons: dict[str, str]) -> float | None:
    first = normalization[0]
    if first.scheme != "ct":
        return None
    reasons["window"] = "windows with nothing above the clipping floor hold air only and are not computed"
    return (first.lower - first.mean) / first.std + 1e-3


# ---- network --------------------------------------------------------------------------------


def _network(
    wishes: Mapping[str, Any], fingerprint: Fingerprint, task: Task, case: tuple[Shape, Triple], budget: Machine
) -> tuple[NetworkSpec, Shape]:
    """The network and the patch it is trained on; `case` is the median case's shape and the spacing.

    wishes: the plan's keys that are asked for. What the network's shape follows from (its name, the patch, the batch)
    is looked up here, before all else; the wishes themselves become part of the plan later.
    """
    name, ndim = str(wishes.get("network.name", "unet")), task.dimensions
    patch, strides, kernels = _topology(*case, ndim, budget)
    spec = NetworkSpec(
        name="unet",
        ndim=ndim,
        in_channels=len(fingerprint.channels),
        out_channels=task.classes,
        features=tuple(min(budget.features[0] * 2**stage, budget.features[1]) for stage in range(len(strides))),
        strides=strides,
        kernels=kernels,
        residual=budget.residual and name in _SHAPED,
        deep_supervision=budget.deep_supervision and name in _SHAPED,
    )
    if name == "unet":
        return spec, patch
    from medseg.nets import fit_patch, planned  # brings torch, which planning alone does not need

    if name not in _PUBLISHED:
        patch = _wished_patch(wishes) or patch
        batch = _wished_number(wishes, "batch") or _batch(patch, budget, fingerprint.n_cases)
        stride = _wished_number(wishes, "network.output_stride")
        # What a GPU trains at its paper's width is out of a processor's reach in minutes.
        width = 1.0 if budget.name == "gpu" else budget.features[0] / 64
        spec = planned(replace(spec, name=name, width=width), patch[:ndim], case[1][:ndim], batch, stride)
        i, j, k = patch if _wished_patch(wishes) else [*fit_patch(spec, patch[:ndim]), 1][:3]
        return spec, (i, j, k)
    features, norm = _PUBLISHED[name]
    stages = len(features)
    spec = replace(
        spec,
        name=name,
        features=features,
        strides=((1,) * ndim, *((2,) * ndim,) * (stages - 1)),
        kernels=((3,) * ndim,) * stages,
        norm=norm,
    )
    i, j, k = [*fit_patch(spec, patch[:ndim]), 1][:3]
    return spec, (i, j, k)


def _wished_number(wishes: Mapping[str, Any], key: str) -> int | None:
    """A whole number above zero that is asked for; what is none is refused where wishes become part of the plan."""
    text = str(wishes.get(key, ""))
    return int(text) or None if text.isdecimal() else None


def _wished_patch(wishes: Mapping[str, Any]) -> Shape | None:
    numbers = [int(number) for number in re.findall(r"\d+", str(wishes.get("patch", "")))]
    return (numbers[0], numbers[1], numbers[2]) if len(numbers) == 3 and min(numbers) > 0 else None


def _why(network: NetworkSpec) -> str:
    if network.name == "unet":
        return f"pooled per axis while at least {_MIN_EDGE} voxels and a like spacing remain"
    if network.features:
        return "as published"
    return (
        f"as published; output stride {network.output_stride} and atrous rates fit the patch, and the batch is "
        f"{'large' if network.norm == 'batch' else 'too small'} enough for batch normalisation"
    )


def _topology(
    shape: Shape, spacing: Triple, ndim: int, budget: Machine
) -> tuple[Shape, tuple[tuple[int, ...], ...], tuple[tuple[int, ...], ...]]:
    """Patch, strides and kernels: the patch shrinks along its longest side (mm) until it fits."""
    patch = np.array([min(n, 2 * budget.patch_voxels) for n in shape[:ndim]], dtype=np.float64)
    extent = patch * spacing[:ndim]
    while prod(patch) > budget.patch_voxels:
        longest = int(extent.argmax())
        patch[longest] *= 0.95
        extent[longest] *= 0.95
    strides, kernels = _strides([int(n) for n in patch.round()], spacing[:ndim])
    factors = [prod(stride[axis] for stride in strides) for axis in range(ndim)]
    # Up to the next multiple where the case itself is that small, else to the nearest one.
    rounded = [
        int(np.ceil(n / f) * f) if n >= shape[axis] - 0.5 else max(f, round(n / f) * f)
        for axis, (n, f) in enumerate(zip(patch, factors, strict=True))
    ]
    i, j, k = [*rounded, 1][:3]
    return (i, j, k), strides, kernels


def _strides(
    patch: list[int], spacing: tuple[float, ...]
) -> tuple[tuple[tuple[int, ...], ...], tuple[tuple[int, ...], ...]]:
    """nnU-Net's rule: halve every axis that keeps >= 4 voxels and is not twice as coarse as the finest."""
    ndim = len(patch)
    size, now = [float(n) for n in patch], list(spacing)
    strides: list[tuple[int, ...]] = [(1,) * ndim]
    kernels: list[tuple[int, ...]] = [_kernel(now)]
    while len(strides) < 6:
        finest = min((s for s, n in zip(now, size, strict=True) if n >= 2 * _MIN_EDGE), default=0.0)
        pooled = tuple(2 if n >= 2 * _MIN_EDGE and s < 2 * finest else 1 for s, n in zip(now, size, strict=True))
        if max(pooled) == 1:
            break
        strides.append(pooled)
        size = [n / p for n, p in zip(size, pooled, strict=True)]
        now = [s * p for s, p in zip(now, pooled, strict=True)]
        kernels.append(_kernel(now))
    return tuple(strides), tuple(kernels)


def _kernel(spacing: list[float]) -> tuple[int, ...]:
    """Three voxels, but one on an axis more than twice as coarse as the finest: there is no context there yet."""
    return tuple(1 if s > 2 * min(spacing) else 3 for s in spacing)


def _pixels(most: int, shape: Shape, long: bool) -> int:
    """Pixels of a patch on a processor: small ones mean many steps, and a quarter of a picture shows enough of it.

    A large picture has to be seen wide once there is time for it: benchmarks/README.md.
    """
    least = most // 4
    return max(least, min(most, prod(shape) // 4)) if long else least


def _mirrored(augment: AugmentSpec, case: tuple[Shape, Shape], budget: Machine, reasons: dict[str, str]) -> bool:
    """Whether prediction averages over mirrored copies; `case` is the median case's shape and the patch."""
    if not augment.flips:
        return False
    if prod(case[0]) <= 2 * prod(case[1]):
        reasons["window.flips"] = "the median case is a window or two: its mirrored copies cost little and help a bit"
        return True
    return budget.flips


def _batch(patch: Shape, budget: Machine, n_cases: int) -> int:
    """As many samples as full patches of the budget's batch would hold; no more than there are cases."""
    room = budget.batch * budget.patch_voxels // prod(patch)
    return int(max(2, min(room, 4 * budget.batch, max(2, n_cases))))


def _schedule(task: Task, reasons: dict[str, str]) -> Schedule:
    regions = task.region_values()
    if regions:
        reasons["schedule.regions"] = f"the loss has the Dice of {', '.join(regions)} too, as the task asks for"
    schedule = Schedule(ema=0.99, regions=tuple(regions.values()))
    if task.dimensions == 3:
        return schedule
    reasons["schedule.dice"] = "patches of pictures hold much or little foreground; each counts alike in the Dice loss"
    return replace(schedule, dice="sample")


# ---- augmentation ---------------------------------------------------------------------------


def full_names(wishes: Mapping[str, Any]) -> dict[str, Any]:
    """Overrides of a plan with the network's whole name where they give its short one."""
    key = "network.name"
    return {**wishes, key: full_name(str(wishes[key]))} if key in wishes else dict(wishes)


def _long(wishes: Mapping[str, Any]) -> bool:
    """Whether the training has time for strong variation and large patches; with neither time nor steps it has not."""
    for key, enough in (("schedule.time_budget", _LONG_SECONDS), ("schedule.steps", _LONG_STEPS)):
        try:
            if wishes.get(key) is not None:
                return float(wishes[key]) >= enough
        except (TypeError, ValueError):
            return False  # refused by its key when it becomes part of the plan
    return False


def _augment(task: Task, spacing: Triple, long: bool, reasons: dict[str, str]) -> AugmentSpec:
    """Which variation is real depends on what is seen: a body has a top and a bottom, cells do not."""
    finest = min(spacing[: task.dimensions])
    sided = any(label.mirror for label in task.labels.values())
    picture = task.dimensions == 2 and task.modality not in ("CT", "MR", "PT")
    if picture and not sided:
        reasons["augment"] = "pictures have no up or down and seldom a known magnification: all rotations, wide scales"
        return AugmentSpec(
            rotation=180.0,
            rotation_probability=0.5,
            scale=0.4,
            scale_probability=0.5,
            flips=(0, 1),
            lateral=1,
            elastic_sigma=round(4.0 * finest, 3),
            invert_probability=_invert(task, reasons),
        )
    lateral: Literal[0, 1] = 1 if picture else 0
    one_sided = not sided and any(_SIDE.search(name) for name in task.labels)
    flips = () if one_sided else (lateral,)
    reasons["augment"] = "a body in space: moderate rotations; " + (
        "left and right exchange their labels when flipped"
        if sided
        else "no flips, as a label names its side and no other that it mirrors into"
        if one_sided
        else "flipped left to right, as no label tells sides apart"
    )
    spec = AugmentSpec(elastic_sigma=round(2.0 * finest, 3), flips=flips, lateral=lateral)
    if not long:
        return spec
    reasons["augment"] += "; half of the samples are turned, scaled or deformed, as there is time to learn from them"
    return replace(spec, rotation_probability=0.5, scale_probability=0.5, elastic_probability=0.5)


def _invert(task: Task, reasons: dict[str, str]) -> float:
    """Microscopes show the same cells bright on dark or dark on bright, and seldom are both labelled."""
    if task.modality != "microscopy":
        return 0.0
    reasons["augment"] += "; one in ten inverted, as stains are bright or dark"
    return 0.1


def _triple(values: Any) -> Triple:
    x, y, z = (float(v) for v in values)
    return x, y, z
