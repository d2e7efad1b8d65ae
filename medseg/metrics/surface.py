"""Surfaces of labels and the distances between them, behind every boundary metric.

The surface of a label is made of its voxels that have a neighbour across a face (4 in 2D, 6 in 3D) that
is not of the label, the image's edge included: the boundary of MONAI and MetricsReloaded. Distances
run between the centres of such voxels, in mm, each to the nearest of the other surface. They are exact:
those of an anisotropic Euclidean distance transform. But only surface voxels are looked at, which are
few: nearest neighbours in a k-d tree (Maneewongvatana & Mount 1999).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.core.errors import UsageError

Float = NDArray[np.float64]
Points = NDArray[np.int32]


@dataclass(frozen=True, slots=True, eq=False)
class SurfaceDistances:
    """Distances in mm between the surfaces of one label in prediction and reference.

    from_predicted: of every voxel of the predicted surface to the reference's [P]; from_reference: the
    other way [R]; both empty where the label lacks in one mask, which `missing` then stands for: the
    image's diagonal in mm, None where the label is in both masks or in neither. tolerance: what NSD
    takes for no deviation at all, in mm.
    """

    from_predicted: Float
    from_reference: Float
    missing: float | None
    tolerance: float

    @property
    def defined(self) -> bool:
        """Whether the label is in any of the masks."""
        return self.missing is not None or self.from_predicted.size > 0


def surface_distances(
    prediction: NDArray[Any],
    reference: NDArray[Any],
    spacing: Sequence[float],
    values: Sequence[int],
    tolerance: float | None = None,
) -> dict[int, SurfaceDistances]:
    """Distances for every value of two label arrays of one shape (2D or 3D; axes of one voxel do not count).

    spacing: mm between voxels along each axis; tolerance: in mm, by default one voxel (`one_voxel`).
    Raises UsageError where spacing and axes differ in number or a spacing is no positive number.
    """
    if len(spacing) != prediction.ndim or not all(step > 0 and np.isfinite(step) for step in spacing):
        raise UsageError(f"{prediction.ndim} axes need as many spacings above 0, not {tuple(spacing)}")
    steps = np.asarray(spacing, dtype=np.float64)
    near = one_voxel(prediction.shape, spacing) if tolerance is None else tolerance
    axes = [axis for axis, size in enumerate(prediction.shape) if size > 1] or [0]
    flat = tuple(slice(None) if axis in axes else 0 for axis in range(prediction.ndim))
    found, true = _surfaces(prediction[flat], values), _surfaces(reference[flat], values)
    steps = steps[axes]
    diagonal = float(np.linalg.norm(steps * np.array(prediction.shape)[axes]))
    return {value: _between(found.get(value), true.get(value), steps, (diagonal, near)) for value in values}


def one_voxel(shape: Sequence[int], spacing: Sequence[float]) -> float:
    """The middle of the spacings of all axes longer than one voxel, in mm; of two the larger."""
    steps = sorted(step for size, step in zip(shape, spacing, strict=True) if size > 1) or [max(spacing)]
    return float(steps[len(steps) // 2])


def _between(
    found: Points | None, true: Points | None, steps: Float, otherwise: tuple[float, float]
) -> SurfaceDistances:
    diagonal, tolerance = otherwise
    if found is None or true is None:
        nothing = np.zeros(0)
        return SurfaceDistances(nothing, nothing, None if found is true else diagonal, tolerance)
    return SurfaceDistances(_nearest(found, true, steps), _nearest(true, found, steps), None, tolerance)


def _surfaces(array: NDArray[Any], values: Sequence[int]) -> dict[int, Points]:
    """The surface voxels [N, axes] of every value that is there, in the order in which they lie in the array."""
    box = _box(array)
    part = np.ascontiguousarray(array[box])
    edge = np.zeros(part.shape, dtype=np.bool_)
    for axis in range(part.ndim):  # a voxel whose neighbour is another's is on the surface, and so is the neighbour
        along, side = np.moveaxis(part, axis, 0), np.moveaxis(edge, axis, 0)
        differs = along[1:] != along[:-1]
        side[1:] |= differs
        side[:-1] |= differs
        side[0] = side[-1] = True
    edge &= part != 0
    places = np.flatnonzero(edge)
    owners = part.ravel()[places]
    order = np.argsort(owners, kind="stable")
    owners, places = owners[order], places[order]
    starts, ends = np.searchsorted(owners, values, "left"), np.searchsorted(owners, values, "right")
    corner = np.array([cut.start for cut in box], dtype=np.int32)
    return {
        value: np.stack(np.unravel_index(places[start:end], part.shape), axis=1).astype(np.int32) + corner
        for value, start, end in zip(values, starts, ends, strict=True)
        if end > start
    }


def _box(array: NDArray[Any]) -> tuple[slice, ...]:
    """The bounding box of everything that is not 0; one voxel where there is nothing."""
    box = []
    for axis in range(array.ndim):
        hit = np.flatnonzero(array.any(axis=tuple(other for other in range(array.ndim) if other != axis)))
        box.append(slice(int(hit[0]), int(hit[-1]) + 1) if hit.size else slice(0, 1))
    return tuple(box)


def _nearest(points: Points, others: Points, steps: Float) -> Float:
    """The distance of each point [N, axes] to the nearest of the others [M, axes], in mm [N]."""
    from scipy.spatial import cKDTree

    # Neither a balanced tree nor tight boxes repay the time that they take to make.
    tree = cKDTree(others * steps, balanced_tree=False, compact_nodes=False)
    _, nearest = tree.query(points * steps)
    # Measured again in whole voxels: 5 * .7 - 4 * .7 is not quite .7, which NSD would take for a deviation.
    return np.asarray(np.linalg.norm((points - others[nearest]) * steps, axis=1))
