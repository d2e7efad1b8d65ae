"""What the training cases are like: shapes, spacings, intensities, label sizes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256

import numpy as np
from numpy.typing import NDArray

from medseg.core.case import Case
from medseg.core.errors import UsageError
from medseg.core.events import Listener, Progress, silent
from medseg.core.geometry import Geometry, Shape, Triple
from medseg.core.labels import IGNORE
from medseg.core.plan import ChannelStats, Fingerprint
from medseg.core.task import Task
from medseg.data.labels import read_case

_SAMPLES = 100_000  # foreground voxels a case


@dataclass(slots=True)
class _Measured:
    """One case's figures; `samples` [C, N] of foreground voxels, or of all where there are none."""

    shape: Shape
    spacing: Triple
    modality: str | None
    samples: NDArray[np.float32]
    has_foreground: bool
    minimum: list[float]
    maximum: list[float]
    integral: bool
    counts: dict[str, int]
    volumes: dict[str, float] = field(default_factory=dict)
    valid: int = 0


def fingerprint(cases: Sequence[Case], task: Task, listener: Listener = silent) -> Fingerprint:
    """Measure the cases, one in memory at a time.

    Shapes and spacings are in canonical (RAS) axis order; intensities are those of up to 100,000
    seeded foreground voxels a case. label_voxels and label_volumes_ml count the cases that have the
    label at all. Raises FormatError where a file is unusable, UsageError where there are no cases.
    """
    if not cases:
        raise UsageError("there are no training cases to measure")
    measured = []
    for done, case in enumerate(sorted(cases, key=lambda case: case.id), start=1):
        measured.append(_measure(case, task))
        listener(Progress("measuring the cases", done, len(cases)))
    with_labels = [one for one in measured if one.has_foreground] or measured
    samples = np.concatenate([one.samples for one in with_labels], axis=1)
    foreground = sum(sum(one.counts.values()) for one in measured)
    return Fingerprint(
        n_cases=len(measured),
        shapes=tuple(one.shape for one in measured),
        spacings=tuple(one.spacing for one in measured),
        channels=tuple(_channel(samples[c], c, measured) for c in range(len(samples))),
        label_voxels={name: _median([one.counts[name] for one in measured]) for name in task.label_names},
        label_volumes_ml={name: _range([one.volumes[name] for one in measured]) for name in task.label_names},
        foreground_fraction=foreground / max(1, sum(one.valid for one in measured)),
        modalities=tuple(sorted({one.modality for one in measured if one.modality})),
    )


def seeded(case_id: str, purpose: str) -> np.random.Generator:
    """A generator that depends on the case's name and nothing else."""
    return np.random.default_rng(int.from_bytes(sha256(f"{purpose}:{case_id}".encode()).digest()[:8], "big"))


def _measure(case: Case, task: Task) -> _Measured:
    scan, labelmap = read_case(case, task)
    array, label, geometry = scan.volume.array, labelmap.array, scan.volume.geometry
    canonical = _canonical(geometry, task)
    inside = np.flatnonzero((label != 0) & (label != IGNORE))
    has_foreground = len(inside) > 0
    if not has_foreground:
        inside = np.arange(label.size)
    if len(inside) > _SAMPLES:
        inside = seeded(case.id, "intensity").choice(inside, _SAMPLES, replace=False, shuffle=False)
    counts = np.bincount(label.ravel(), minlength=256)
    return _Measured(
        shape=canonical.shape,
        spacing=canonical.spacing,
        modality=scan.modality,
        samples=array.reshape(len(array), -1)[:, inside].astype(np.float32),
        has_foreground=has_foreground,
        minimum=[float(channel.min()) for channel in array],
        maximum=[float(channel.max()) for channel in array],
        integral=scan.integral,
        counts={item.name: int(counts[item.value]) for item in labelmap.labels},
        volumes=labelmap.volumes_ml(),
        valid=int(label.size - counts[IGNORE]),
    )


def _canonical(geometry: Geometry, task: Task) -> Geometry:
    axes, flips = geometry.to_canonical()
    if task.dimensions == 2 and geometry.shape[2] == 1 and axes[2] != 2:
        return geometry  # a single upright slice is a picture, as preprocess.trace_of has it
    return geometry.reordered(axes, flips)


def _channel(samples: NDArray[np.float32], channel: int, measured: Sequence[_Measured]) -> ChannelStats:
    low, middle, high = np.percentile(samples, [0.5, 50.0, 99.5])
    return ChannelStats(
        p005=float(low),
        p500=float(middle),
        p995=float(high),
        mean=float(samples.mean(dtype=np.float64)),
        std=float(samples.std(dtype=np.float64)),
        minimum=min(one.minimum[channel] for one in measured),
        maximum=max(one.maximum[channel] for one in measured),
        integral=all(one.integral for one in measured),
    )


def _median(counts: Sequence[int]) -> float:
    present = [count for count in counts if count]
    return float(np.median(present)) if present else 0.0


def _range(volumes: Sequence[float]) -> tuple[float, float, float]:
    present = [volume for volume in volumes if volume > 0]
    return (min(present), float(np.median(present)), max(present)) if present else (0.0, 0.0, 0.0)
