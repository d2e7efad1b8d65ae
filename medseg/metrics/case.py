"""Everything that is measured of one case, counted once: voxels, surface distances, centre lines, lesions."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.core.labels import IGNORE
from medseg.metrics import METRICS, Source, metric
from medseg.metrics.confusion import Counts, confusion
from medseg.metrics.lesions import LesionCounts, lesions
from medseg.metrics.skeleton import SkeletonCounts, skeletons
from medseg.metrics.surface import SurfaceDistances, surface_distances
from medseg.metrics.volume import Volumes

_ML = 1000.0  # cubic millimetres


@dataclass(frozen=True, slots=True, eq=False)
class LabelMeasurements:
    """One label of one case, under the names of `Source`; None where no metric asked for it."""

    counts: Counts
    volumes: Volumes
    surfaces: SurfaceDistances | None = None
    skeletons: SkeletonCounts | None = None
    lesions: LesionCounts | None = None

    def figure(self, name: str) -> float | None:
        """The metric of that name; None where it is undefined or its source was not measured."""
        measured = getattr(self, METRICS[name].source)
        return None if measured is None else metric(name)(measured)


@dataclass(frozen=True, slots=True, eq=False)
class CaseMeasurements:
    """All labels of one case by value, and the voxels [predicted class, reference class] (see `Confusion`)."""

    labels: Mapping[int, LabelMeasurements]
    matrix: NDArray[np.int64]
    ignored: int = 0


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is measured. metrics: names; ignore: the reference's value that leaves both masks, None for none.

    tolerance: of NSD in mm, None for one voxel of the case (`surface.one_voxel`).
    """

    metrics: Collection[str]
    ignore: int | None = IGNORE
    tolerance: float | None = None

    def needs(self, source: Source) -> bool:
        """Whether a metric is made of this source."""
        return any(METRICS[name].source is source for name in self.metrics)


def measure_case(
    prediction: NDArray[Any], reference: NDArray[Any], spacing: Sequence[float], values: Sequence[int], wanted: Wanted
) -> CaseMeasurements:
    """Measure the labels of two label arrays on one grid; spacing: mm between voxels along each axis.

    Raises MedsegError where the shapes differ and UsageError where a value is asked for twice or the
    spacing does not fit.
    """
    found, true = _narrowed(prediction), _narrowed(reference)
    counted = confusion(found, true, values, wanted.ignore)
    if counted.ignored:
        ignored = true == wanted.ignore
        found, true = np.where(ignored, 0, found), np.where(ignored, 0, true)
    surfaces: Mapping[int, SurfaceDistances] = {}
    if wanted.needs(Source.SURFACES):
        surfaces = surface_distances(found, true, spacing, values, wanted.tolerance)
    voxel = float(np.prod(spacing)) / _ML
    labels = {}
    for value, counts in counted.counts.items():
        thin = thick = None
        if wanted.needs(Source.SKELETONS):
            thin = skeletons(found == value, true == value)
        if wanted.needs(Source.LESIONS):
            thick = lesions(found == value, true == value, spacing)
        volumes = Volumes(counts.predicted * voxel, counts.reference * voxel)
        labels[value] = LabelMeasurements(counts, volumes, surfaces.get(value), thin, thick)
    return CaseMeasurements(labels, counted.matrix, counted.ignored)


def _narrowed(array: NDArray[Any]) -> NDArray[Any]:
    """The same values in one byte each where they fit, which is counted five times as fast."""
    if array.dtype == np.uint8:
        return array
    small = array.dtype == np.bool_ or (array.size and array.min() >= 0 and array.max() < 256)
    return array.astype(np.uint8) if small else array
