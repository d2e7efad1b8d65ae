"""Surfaces of labels and the distances between them, behind every boundary metric.

The surface of a label is made of its voxels that have a neighbour across a face (4 in 2D, 6 in 3D) that
is not of the label, the image's edge included: the boundary of MONAI and MetricsReloaded. Distances
run between the centres of such voxels, in mm, each to the nearest of the other surface. They are exact:
those of an anisotropic Euclidean distance transform. But only surface voxels are looked at, which are
few: first beside each other, then through a k-d tree (Maneewongvatana & Mount 1999).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.core.errors import UsageError

Float = NDArray[np.float64]
Integers = NDArray[np.int64]
_REACH = 2  # voxels along each axis within which a neighbour is looked for directly
_MOST_NEIGHBOURS = 33  # of them, beyond which a tree is faster


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
    steps = steps[axes]
    diagonal = float(np.linalg.norm(steps * np.array(prediction.shape)[axes]))
    box = _box(prediction[flat], reference[flat])
    found, true = (_surface(array[flat][box], values) for array in (prediction, reference))
    one_way, other_way = _nearest(found, true, steps), _nearest(true, found, steps)
    both = set(one_way) & set(other_way)
    measured = {value: SurfaceDistances(one_way[value], other_way[value], None, near) for value in both}
    for value in set(values) - both:
        alone = value in one_way or value in other_way
        measured[value] = SurfaceDistances(np.zeros(0), np.zeros(0), diagonal if alone else None, near)
    return {value: measured[value] for value in values}


def one_voxel(shape: Sequence[int], spacing: Sequence[float]) -> float:
    """The middle of the spacings of all axes longer than one voxel, in mm; of two the larger."""
    steps = sorted(step for size, step in zip(shape, spacing, strict=True) if size > 1) or [max(spacing)]
    return float(steps[len(steps) // 2])


@dataclass(frozen=True, slots=True, eq=False)
class _Surface:
    """Where surfaces run: `owner` holds the label of every surface voxel, 0 elsewhere, with a margin of `_REACH`.

    places: flat indices of the surface voxels into it [N], those of one label together; cuts: label -> its places.
    """

    owner: NDArray[Any]
    places: Integers
    cuts: dict[int, slice]


def _surface(part: NDArray[Any], values: Sequence[int]) -> _Surface:
    padded = np.pad(part, _REACH)
    edge = np.zeros(padded.shape, dtype=np.bool_)
    for axis in range(padded.ndim):  # a voxel whose neighbour is another's is on the surface, and so is the neighbour
        along, side = np.moveaxis(padded, axis, 0), np.moveaxis(edge, axis, 0)
        differs = along[1:] != along[:-1]
        side[1:] |= differs
        side[:-1] |= differs
    owner = np.where(edge, padded, 0)
    places = np.flatnonzero(owner)
    names = owner.ravel()[places]
    order = np.argsort(names, kind="stable")
    starts, ends = (np.searchsorted(names[order], values, side) for side in ("left", "right"))
    cuts = {v: slice(int(i), int(j)) for v, i, j in zip(values, starts, ends, strict=True) if j > i}
    return _Surface(owner, places[order], cuts)


def _box(*arrays: NDArray[Any]) -> tuple[slice, ...]:
    """The bounding box of everything that is not 0 in any of them; one voxel where there is nothing."""
    box = []
    for axis in range(arrays[0].ndim):
        others = tuple(other for other in range(arrays[0].ndim) if other != axis)
        hit = np.flatnonzero(np.logical_or.reduce([array.any(axis=others) for array in arrays]))
        box.append(slice(int(hit[0]), int(hit[-1]) + 1) if hit.size else slice(0, 1))
    return tuple(box)


def _nearest(surface: _Surface, other: _Surface, steps: Float) -> dict[int, Float]:
    """Per label of `surface` the distances of its voxels to the other surface, in mm; empty where that lacks it.

    Most voxels have their nearest next to them, where it is looked for in all labels at once; the rest is
    left to trees.
    """
    owners = surface.owner.ravel()[surface.places]
    distances = np.full(len(owners), np.nan)
    left = np.flatnonzero(np.isin(owners, list(other.cuts)))
    beside = other.owner.ravel()
    for offset, distance in _neighbours(other.owner.shape, steps):
        hit = beside[surface.places[left] + offset] == owners[left]
        distances[left[hit]] = distance
        left = left[~hit]
    found = {}
    for value, cut in surface.cuts.items():
        if value in other.cuts:
            far = left[slice(*np.searchsorted(left, (cut.start, cut.stop)))]
            distances[far] = _by_tree(surface, far, other, other.cuts[value], steps)
            found[value] = distances[cut]
        else:
            found[value] = np.zeros(0)
    return found


def _neighbours(shape: Sequence[int], steps: Float) -> list[tuple[int, float]]:
    """Flat offsets within a grid of this shape, and their lengths in mm: the nearest first, none left out between."""
    around = np.stack(np.meshgrid(*[np.arange(-_REACH, _REACH + 1)] * len(steps), indexing="ij"), axis=-1)
    offsets = around.reshape(-1, len(steps))
    lengths = np.linalg.norm(offsets * steps, axis=1)
    order = np.argsort(lengths, kind="stable")
    order = order[lengths[order] < (_REACH + 1) * steps.min()][:_MOST_NEIGHBOURS]
    flat = offsets @ np.cumprod([1, *shape[:0:-1]])[::-1]
    return [(int(flat[place]), float(lengths[place])) for place in order]


def _by_tree(surface: _Surface, far: Integers, other: _Surface, cut: slice, steps: Float) -> Float:
    """The distances of the voxels `far` of a surface to those in `cut` of the other, in mm."""
    from scipy.spatial import cKDTree

    if not far.size:
        return np.zeros(0)
    points, others = (
        np.stack(np.unravel_index(places, surface.owner.shape), axis=1)
        for places in (surface.places[far], other.places[cut])
    )
    # Neither a balanced tree nor tight boxes repay the time that they take to make.
    tree = cKDTree(others * steps, balanced_tree=False, compact_nodes=False)
    _, nearest = tree.query(points * steps)
    # Measured again in whole voxels: 5 * .7 - 4 * .7 is not quite .7, which NSD would take for a deviation.
    return np.asarray(np.linalg.norm((points - others[nearest]) * steps, axis=1))
