"""Measuring what was found: volume, longest axes and the image's values inside every label.

The surface of a label runs half-way between a voxel's centre inside and its neighbour's outside, where
marching cubes puts the vertices of its mesh; the longest axis is the largest distance between two such
points, which IBSI calls the maximum 3D diameter (L0JK).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.core.case import Scan
from medseg.core.geometry import Geometry
from medseg.core.labels import Label
from medseg.core.measurement import HOUNSFIELD, NO_UNIT, SUV, Measurement, Spread, Unit
from medseg.core.volume import LabelMap
from medseg.data.sides import side_of

Float = NDArray[np.float64]
Box = tuple[slice, slice, slice]

_SIDES = {"L": "left", "R": "right", "": ""}
_DIRECTIONS = 16  # in which a plane's width is measured, to know which planes may hold the longest axis
_CHUNK = 2**20  # voxels that are widened to 64 bits at a time


def measure(scan: Scan, labelmap: LabelMap) -> tuple[Measurement, ...]:
    """One measurement for every declared label of `labelmap`, which lies on the scan's grid; absent ones too.

    Values are those of the scan as read: HU in CT, SUV in PET. Millimetres and millilitres are left
    out where the file does not say how large a voxel is.
    """
    boxes = _boxes(labelmap)
    unit = unit_of(scan)
    known = not any(finding.code == "unknown-spacing" for finding in scan.findings) and not _is_picture(scan)
    return tuple(_measured(scan, labelmap, label, (boxes.get(label.value), unit, known)) for label in labelmap.labels)


def unit_of(scan: Scan) -> Unit:
    """The unit of a scan's values; none where the format or a finding says that it is unknown."""
    if any(finding.code == "unknown-units" for finding in scan.findings):
        return NO_UNIT
    return {"CT": HOUNSFIELD, "PT": SUV}.get(scan.modality or "", NO_UNIT)


def _is_picture(scan: Scan) -> bool:
    return scan.source.format == "image" and scan.volume.geometry.spacing == (1.0, 1.0, 1.0)


def _boxes(labelmap: LabelMap) -> dict[int, Box]:
    """The bounding box of every label that is there."""
    from scipy.ndimage import find_objects

    highest = max((label.value for label in labelmap.labels), default=0)
    array = labelmap.array.view(np.uint8) if labelmap.array.dtype == np.bool_ else labelmap.array
    found = find_objects(array, max_label=highest)
    return {value: box for value, box in enumerate(found, start=1) if box is not None}


def _measured(scan: Scan, labelmap: LabelMap, label: Label, known: tuple[Box | None, Unit, bool]) -> Measurement:
    box, unit, spaced = known
    geometry = labelmap.geometry
    side = _SIDES[side_of(label)]
    if box is None:
        return Measurement(label.name, label.value, side, 0, 0.0 if spaced else None, None, None, (), unit)
    mask = labelmap.array[box] == label.value
    voxels = int(np.count_nonzero(mask))
    spreads = tuple(_spread(channel[box][mask]) for channel in scan.volume.array)
    volume = voxels * geometry.voxel_volume_ml if spaced else None
    longest, axial = longest_axes(mask, geometry) if spaced else (None, None)
    return Measurement(label.name, label.value, side, voxels, volume, longest, axial, spreads, unit)


def _spread(values: NDArray[Any]) -> Spread:
    """How values [N] spread; percentiles between two values are interpolated. `values` is reordered."""
    mean = float(values.mean(dtype=np.float64))
    parts = np.array_split(values, -(-len(values) // _CHUNK))
    squares = sum(float(np.square(part.astype(np.float64) - mean).sum()) for part in parts)
    low, middle, high = np.percentile(values, (5, 50, 95), overwrite_input=True)
    return Spread(mean, float(np.sqrt(squares / len(values))), float(low), float(middle), float(high))


def longest_axes(mask: NDArray[np.bool_], geometry: Geometry) -> tuple[float, float]:
    """The longest axis of a mask [I, J, K] in mm, and the longest within a slice nearest to axial.

    The mask may be any cut of the grid: only the geometry's steps matter. It holds at least one voxel.
    """
    steps = geometry.affine[:3, :3]
    head = geometry.to_canonical()[0][2]
    across = steps[:, [axis for axis in range(3) if axis != head]]
    planes = np.moveaxis(mask, head, 0)
    longest = _diameter(_surface(mask, (0, 1, 2)) @ steps.T)
    return longest, _longest_in_plane(_surface(planes, (1, 2)), across)


def _longest_in_plane(points: Float, steps: Float) -> float:
    """The largest distance in mm between two points [N, 3] (plane, i, j; in voxels) that lie in one plane."""
    points = points[np.argsort(points[:, 0], kind="stable")]
    flat = points[:, 1:] @ steps.T
    first = np.flatnonzero(np.diff(points[:, 0], prepend=np.nan))
    # A diameter lies within half a step of some direction, so no plane's exceeds its largest width over the cosine.
    shadows = flat @ _directions(steps)
    widths = np.maximum.reduceat(shadows, first) - np.minimum.reduceat(shadows, first)
    bounds = widths.max(axis=1) / np.cos(np.pi / (2 * _DIRECTIONS))
    parts = np.split(flat, first[1:])
    longest = 0.0
    for place in np.argsort(-bounds, kind="stable"):
        if bounds[place] <= longest:
            break
        longest = max(longest, _diameter(parts[place]))
    return longest


def _directions(steps: Float) -> Float:
    """Unit vectors [3, _DIRECTIONS] all around the plane that two steps (columns, in mm) span."""
    plane, _ = np.linalg.qr(steps)
    angles = np.arange(_DIRECTIONS) * np.pi / _DIRECTIONS
    around: Float = plane @ np.stack([np.cos(angles), np.sin(angles)])
    return around


def _surface(mask: NDArray[np.bool_], axes: Sequence[int]) -> Float:
    """The outermost surface points [N, dimensions] of a mask, in voxels: the ends of every line along each axis.

    A point of the surface between two others on one line is no corner of the hull.
    """
    return np.concatenate([points for axis in axes for points in _ends(mask, axis)])


def _ends(mask: NDArray[np.bool_], axis: int) -> Iterator[Float]:
    hit = np.argwhere(mask.any(axis=axis))
    lines = np.moveaxis(mask, axis, -1)[tuple(hit.T)]
    first = lines.argmax(axis=1)
    last = lines.shape[1] - 1 - lines[:, ::-1].argmax(axis=1)
    for place in (first - 0.5, last + 0.5):
        yield np.insert(hit.astype(np.float64), axis, place, axis=1)


def _diameter(points: Float) -> float:
    """The largest distance between two of the points [N, 3], which may lie in one plane."""
    from scipy.spatial import ConvexHull
    from scipy.spatial.distance import pdist

    # Rotated into their own plane, where they have one, as a hull needs as many dimensions as its points.
    centred = points - points.mean(axis=0)
    _, sizes, axes = np.linalg.svd(centred, full_matrices=False)
    flat = centred @ axes[sizes > 1e-9 * sizes[0]].T
    if flat.shape[1] == 1 or len(flat) <= flat.shape[1] + 1:
        return float(pdist(flat).max())
    return float(pdist(flat[ConvexHull(flat).vertices]).max())
