"""How a task is going to be solved, as plain data that a person can read and edit."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, ClassVar, Literal

from medseg.core.errors import PlanError
from medseg.core.quality import Calibration

Scheme = Literal["ct", "zscore", "unit8", "picture"]


@dataclass(frozen=True, slots=True)
class ChannelStats:
    """Intensities of one channel over the training cases.

    Percentiles, mean and std of foreground voxels (in stored units, e.g. HU); `minimum` and
    `maximum` over all voxels; `integral` tells whether every case holds whole numbers only.
    """

    p005: float
    p500: float
    p995: float
    mean: float
    std: float
    minimum: float
    maximum: float
    integral: bool = False


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What the training cases are like; all that the planner knows of them.

    shapes and spacings: one triple per case in canonical (RAS) axis order; label_voxels: median
    number of voxels per label name; label_volumes_ml: [min, median, max] per label name.
    """

    n_cases: int
    shapes: tuple[tuple[int, int, int], ...]
    spacings: tuple[tuple[float, float, float], ...]
    channels: tuple[ChannelStats, ...]
    label_voxels: Mapping[str, float]
    label_volumes_ml: Mapping[str, tuple[float, float, float]]
    foreground_fraction: float
    modalities: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Normalization:
    """How one channel's intensities become the network's input.

    ct: clip to [lower, upper], then (x - mean) / std with these figures; zscore: each image by its
    own mean and std (over voxels inside its own 0.5..99.5 percentiles); unit8: x / 255, centred;
    picture: each picture from its own percentiles to [-1, 1], all colours on one scale.
    """

    scheme: Scheme
    lower: float = 0.0
    upper: float = 0.0
    mean: float = 0.0
    std: float = 1.0


@dataclass(frozen=True, slots=True)
class NetworkSpec:
    """An architecture by name (a key of `medseg.nets.NETWORKS`) and its shape.

    U-Nets: features: channels per stage; strides: stride on entering each stage, (1, 1, 1) first;
    kernels: kernel size per stage; both have `ndim` entries a stage.

    FCN and DeepLab have their paper's stages, with nothing in features and kernels. strides: of
    the backbone's five halvings, 2 or 1 per axis (() for 2 everywhere); width: factor on all
    channels; output_stride: beyond it, strides become dilations; rates: of the atrous branches,
    `ndim` entries a branch (() for the paper's); auxiliary: a second head for training;
    scales: input resolutions whose answers are fused (DeepLab v2; () for one).

    members: so many networks of this shape answer together (`medseg.nets.ensemble`).
    """

    name: str
    ndim: Literal[2, 3]
    in_channels: int
    out_channels: int
    features: tuple[int, ...] = ()
    strides: tuple[tuple[int, ...], ...] = ()
    kernels: tuple[tuple[int, ...], ...] = ()
    norm: Literal["instance", "batch", "group", "none"] = "instance"
    residual: bool = False
    deep_supervision: bool = False
    dropout: float = 0.0
    width: float = 1.0
    output_stride: int = 8
    rates: tuple[tuple[int, ...], ...] = ()
    auxiliary: bool = False
    scales: tuple[float, ...] = ()
    members: int = 1


@dataclass(frozen=True, slots=True)
class AugmentSpec:
    """How strongly training samples are varied; `probability` fields are per sample.

    rotation in degrees (about every axis in 3D, in the plane in 2D); scale: factors drawn from
    [1 - scale, 1 + scale]; elastic_sigma: standard deviation in mm of the displacements on a grid
    of `elastic_points` nodes an axis (Ronneberger 2015); flips: canonical axes (0, 1, 2) that may
    be reversed; lateral: the axis whose reversal exchanges left and right (0 in a body, 1, a row's
    direction, in a picture); invert: bright becomes dark, as between fluorescence and bright field;
    cutmix, mixup and copy_paste: samples of a batch are mixed (`mixup_probability` is per batch).
    """

    rotation: float = 15.0
    rotation_probability: float = 0.3
    scale: float = 0.2
    scale_probability: float = 0.3
    elastic_sigma: float = 4.0
    elastic_points: int = 4
    elastic_probability: float = 0.2
    elastic_engine: Literal["torch", "elasticdeform"] = "torch"
    interpolation: Literal["linear", "cubic"] = "linear"
    flips: tuple[int, ...] = ()
    lateral: Literal[0, 1, 2] = 0
    brightness: float = 0.15
    contrast: float = 0.15
    gamma: float = 0.3
    noise: float = 0.1
    blur: float = 0.7
    low_resolution: float = 0.5
    intensity_probability: float = 0.15
    invert_probability: float = 0.0
    cutmix_probability: float = 0.0
    mixup_probability: float = 0.0
    copy_paste_probability: float = 0.0


@dataclass(frozen=True, slots=True)
class Schedule:
    """How long and how fast to learn.

    steps: optimiser steps when no time budget is given; time_budget: seconds, or None; accumulate:
    batches whose gradients are averaged for one step (with torchrun spread over the processes);
    validations: how often the validation cases are looked at in between; warmup: fraction of the
    schedule; decay: poly, lr * (1 - progress)^power, or half a cosine; epoch_steps: how many steps an epoch
    has; foreground: share of patches that must hold a labelled voxel; boundary: share of these whose
    voxel lies at the border of its structure; balance: share of patches whose case is drawn because
    it holds a label drawn evenly among all; ema: decay of the weights' moving average, 0 for none;
    loss: a key of `medseg.training.losses.LOSSES`; label_smoothing: share of every target that is
    spread over all classes; dice: the loss over the whole batch, or the mean over its samples; regions:
    label values of unions whose Dice is added to the loss; checkpoint_seconds: least time between two
    checkpoints.
    """

    steps: int = 1000
    time_budget: float | None = None
    optimizer: Literal["adamw", "sgd"] = "adamw"
    learning_rate: float = 1e-3
    weight_decay: float = 1e-2
    decay: Literal["poly", "cosine"] = "poly"
    power: float = 0.9
    warmup: float = 0.02
    validations: int = 5
    epoch_steps: int = 25
    foreground: float = 0.5
    accumulate: int = 1
    boundary: float = 0.0
    balance: float = 0.0
    ema: float = 0.0
    loss: str = "dice_ce"
    label_smoothing: float = 0.0
    class_weights: Literal["none", "inverse", "log"] = "none"
    dice: Literal["batch", "sample"] = "batch"
    regions: tuple[tuple[int, ...], ...] = ()
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    checkpoint_seconds: float = 15.0
    seed: int = 0


@dataclass(frozen=True, slots=True)
class WindowSpec:
    """How a whole scan is covered: `overlap` of neighbouring windows (fraction of the patch).

    skip_below: a window whose every voxel (after normalisation, channel 0) lies at or below this is
    background and is not computed (None: compute all); mirror: reflect-pad borders, for networks
    whose output is smaller than their input.
    """

    overlap: float = 0.5
    batch: int = 1
    sigma: float = 0.125
    skip_below: float | None = None
    flips: bool = False
    mirror: bool = False


@dataclass(frozen=True, slots=True)
class InstanceSpec:
    """How objects are told apart; fitted at the end of training on cases that no report scores.

    seed: an object begins where the probability of an interior, smoothed by `smoothing` (standard
    deviation in mm, or pixels of pictures), exceeds this; certain: where it nowhere reaches this, without
    smoothing, there is no object; smallest: objects below this size (mm², mm³ in volumes, or pixels) are none; sure:
    nor is what is foreground with a lower probability than this, on average over the object.
    """

    seed: float = 0.5
    smoothing: float = 1.0
    certain: float = 0.0
    smallest: float = 10.0
    sure: float = 0.0


@dataclass(frozen=True, slots=True)
class CrfSpec:
    """The dense CRF after the network; off where `iterations` is 0. Fitted at the end of training where it is on.

    smoothness: how much near voxels want to agree, within a standard deviation of smoothness_mm;
    appearance: how much near voxels that look alike do, within appearance_mm and a difference of
    `contrast` in prepared intensities. mm are pixels where pictures have no spacing.
    """

    iterations: int = 0
    smoothness: float = 3.0
    smoothness_mm: float = 1.0
    appearance: float = 4.0
    appearance_mm: float = 20.0
    contrast: float = 0.1


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything between a task and a model; `reasons` says why, in a sentence per decision.

    spacing: mm along R, A, S; patch: voxels along R, A, S (K = 1 for 2D networks); instances: None where
    labels are all that is asked for.
    """

    task: str
    ndim: Literal[2, 3]
    spacing: tuple[float, float, float]
    normalization: tuple[Normalization, ...]
    patch: tuple[int, int, int]
    batch: int
    network: NetworkSpec
    augment: AugmentSpec = AugmentSpec()
    schedule: Schedule = Schedule()
    window: WindowSpec = WindowSpec()
    instances: InstanceSpec | None = None
    crf: CrfSpec = CrfSpec()
    reasons: Mapping[str, str] = field(default_factory=dict)

    VERSION: ClassVar[int] = 1


def to_plain(value: Any) -> Any:
    """A plan, fingerprint or any part of one as plain dicts, lists and numbers, ready for JSON."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [to_plain(item) for item in value]
    return value


def plan_from_plain(raw: Any, origin: str = "plan") -> Plan:
    """A checked Plan from plain data. Raises PlanError naming `origin` and the key."""
    plan: Plan = _checked(Plan, raw, origin)
    return plan


def fingerprint_from_plain(raw: Any, origin: str = "fingerprint") -> Fingerprint:
    """A checked Fingerprint from plain data. Raises PlanError naming `origin` and the key."""
    fingerprint: Fingerprint = _checked(Fingerprint, raw, origin)
    return fingerprint


def calibration_from_plain(raw: Any, origin: str = "calibration") -> Calibration:
    """A checked Calibration from plain data. Raises PlanError naming `origin` and the key."""
    calibration: Calibration = _checked(Calibration, raw, origin)
    return calibration


def override(plan: Plan, changes: Mapping[str, Any]) -> Plan:
    """The plan with `changes` (dotted keys such as 'schedule.learning_rate'; values may be text).

    Raises PlanError for a key that does not exist (listing those that do) or a value that is wrong.
    """
    import yaml

    raw = to_plain(plan)
    for key, given in changes.items():
        *rooms, last = key.split(".")
        place = raw
        for room in rooms:
            place = place.get(room) if isinstance(place, dict) else None
        if not isinstance(place, dict) or last not in place or key.startswith("reasons"):
            raise PlanError(f"--set {key}: there is no such key in a plan; there are {', '.join(plan_keys(raw))}")
        if isinstance(place[last], dict):
            raise PlanError(f"--set {key}: is a group; set one of {', '.join(f'{key}.{k}' for k in place[last])}")
        place[last] = yaml.safe_load(given) if isinstance(given, str) else given
        raw["reasons"][key] = "set by the user"
    return plan_from_plain(raw, "--set")


def plan_keys(raw: Mapping[str, Any], prefix: str = "") -> list[str]:
    """The dotted keys of a plain plan that `override` accepts."""
    keys: list[str] = []
    for key, value in raw.items():
        if key == "reasons" and not prefix:
            continue
        keys += plan_keys(value, f"{prefix}{key}.") if isinstance(value, dict) else [f"{prefix}{key}"]
    return keys


@cache
def _adapter(kind: type) -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(kind)


def _checked(kind: type, raw: Any, origin: str) -> Any:
    from pydantic import ValidationError

    unknown = _unknown_keys(kind, raw)
    if unknown:
        raise PlanError(f"{origin}: unknown key {unknown!r}")
    try:
        return _adapter(kind).validate_python(raw)
    except ValidationError as error:
        problem = error.errors()[0]
        place = ".".join(str(part) for part in problem["loc"])
        raise PlanError(f"{origin}: {place}: {problem['msg']}") from error


def _unknown_keys(kind: type, raw: Any, prefix: str = "") -> str | None:
    import typing

    if not isinstance(raw, Mapping):
        return None
    hints = typing.get_type_hints(kind)
    fields = {f.name for f in dataclasses.fields(kind)}
    for key, value in raw.items():
        if key not in fields:
            return f"{prefix}{key}"
        if dataclasses.is_dataclass(hints[key]):
            inner = _unknown_keys(typing.cast(type, hints[key]), value, f"{prefix}{key}.")
            if inner:
                return inner
    return None
