"""Tilted or unevenly spaced slices on a rectilinear grid, and masks back from there.

Each slice stays a plane of the grid's orientation, as the grid's k axis is the slices' own normal. A
tilted gantry only shifts the slices within their planes, which one in-plane interpolation undoes;
uneven distances are interpolated along the normal between neighbouring slices.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.core.geometry import Geometry

Float = NDArray[np.float64]

# A grid plane this near to a slice (in steps of the grid) is that slice: headers round positions.
_SAME_PLANE = 1e-3


@dataclass(frozen=True, slots=True, eq=False)
class Reslicing:
    """How a series' slices lie in a rectilinear grid.

    heights: [K] mm of each slice above the first along the normal, ascending; shifts: [K, 2] where in
    the grid (in voxels along i, j) each slice's first pixel lies; size: (rows, columns) of a slice;
    grid: the rectilinear grid, whose k axis is the slices' normal and whose plane 0 is the first slice's.
    """

    heights: Float
    shifts: Float
    size: tuple[int, int]
    grid: Geometry

    def values_to_grid(self, slices: NDArray[np.float32]) -> NDArray[np.float32]:
        """Values [K, rows, columns] interpolated linearly -> [planes, rows, columns] of the grid.

        Where no slice reaches, the grid holds the smallest value there is (air, nothing).
        """
        columns, rows, count = self.grid.shape
        fill = float(slices.min())
        out = np.empty((count, rows, columns), dtype=slices.dtype)
        below, above = self._neighbours()
        ready: dict[int, NDArray[np.float32]] = {}
        for plane, height in enumerate(self._plane_heights()):
            low, high = int(below[plane]), int(above[plane])
            # Planes come in ascending order, so two slices at a time are enough.
            ready = {
                k: ready[k] if k in ready else _interpolated(slices[k], -self.shifts[k], (rows, columns), fill)
                for k in dict.fromkeys((low, high))
            }
            if low == high:
                out[plane] = ready[low]
                continue
            share = np.float32((height - self.heights[low]) / (self.heights[high] - self.heights[low]))
            np.subtract(ready[high], ready[low], out=out[plane])
            out[plane] *= share
            out[plane] += ready[low]
        return out

    def labels_to_grid(self, slices: NDArray[Any]) -> NDArray[Any]:
        """Label values [K, rows, columns] of the nearest slice and pixel -> [planes, rows, columns] of the grid."""
        columns, rows, _ = self.grid.shape
        nearest = np.abs(self.heights[None] - self._plane_heights()[:, None]).argmin(axis=1)
        return np.stack([_nearest(slices[k], -self.shifts[k], (rows, columns)) for k in nearest])

    def labels_to_slices(self, planes: NDArray[Any]) -> NDArray[Any]:
        """Label values [planes, rows, columns] of the grid -> [K, rows, columns] of the slices, nearest neighbours."""
        nearest = np.clip(np.rint(self.heights / self.grid.spacing[2]), 0, len(planes) - 1).astype(int)
        return np.stack([_nearest(planes[n], self.shifts[k], self.size) for k, n in enumerate(nearest)])

    def _plane_heights(self) -> Float:
        return np.linspace(0.0, self.grid.spacing[2] * (self.grid.shape[2] - 1), self.grid.shape[2])

    def _neighbours(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """The slices below and above every plane; twice the same one where the plane is a slice."""
        planes, last = self._plane_heights(), len(self.heights) - 1
        near = _SAME_PLANE * self.grid.spacing[2]
        below = np.clip(np.searchsorted(self.heights, planes + near, side="right") - 1, 0, last)
        above = np.clip(np.searchsorted(self.heights, planes - near, side="left"), 0, last)
        return below, np.maximum(above, below)


def reslicing(
    positions: Float, axes: tuple[Float, Float, Float], spacing: Sequence[float], size: tuple[int, int]
) -> Reslicing:
    """The rectilinear grid for slices at `positions`, and how they lie in it.

    positions: [K, 3] LPS+ mm of the slices' first pixels, ascending along the normal; axes: unit vectors
    along a row, along a column and their normal; spacing: mm between (rows, columns); size: (rows,
    columns). In the plane the grid reaches as far as any slice does. Its planes lie the median
    distance of the slices apart (rounded so that the last slice is a plane, too), so that evenly
    spaced ones are kept as they are.
    """
    row, column, normal = axes
    moved = positions - positions[0]
    heights = moved @ normal
    shifts = np.stack([moved @ row / spacing[1], moved @ column / spacing[0]], axis=1)
    first = np.floor(shifts.min(axis=0) + 1e-6)
    reach = np.ceil((shifts - first).max(axis=0) - 1e-6).astype(int)
    length = float(heights[-1])
    planes = max(2, round(length / float(np.median(np.diff(heights)))) + 1)
    affine = np.eye(4)
    affine[:3, :3] = np.stack([row * spacing[1], column * spacing[0], normal * (length / (planes - 1))], axis=1)
    affine[:3, 3] = positions[0] + affine[:3, 0] * first[0] + affine[:3, 1] * first[1]
    rows, columns = size
    grid = Geometry.from_lps(affine, (columns + int(reach[0]), rows + int(reach[1]), planes))
    return Reslicing(heights, shifts - first, size, grid)


def _interpolated(image: NDArray[np.float32], start: Float, size: tuple[int, int], fill: float) -> NDArray[np.float32]:
    """`image` [rows, columns] in a window of `size` that starts at `start` (i, j) of it, bilinear."""
    from scipy.ndimage import affine_transform

    offset = (float(start[1]), float(start[0]))
    if np.allclose(offset, 0, atol=1e-6) and image.shape == size:
        return image
    moved: NDArray[np.float32] = affine_transform(
        image, np.ones(2), offset=offset, output_shape=size, order=1, mode="constant", cval=fill
    )
    return moved


def _nearest(image: NDArray[Any], start: Float, size: tuple[int, int]) -> NDArray[Any]:
    """`image` [rows, columns] in a window of `size` that starts at the pixel nearest to `start` (i, j) of it."""
    window = np.zeros(size, dtype=image.dtype)
    row, column = int(np.rint(start[1])), int(np.rint(start[0]))
    top, left = max(row, 0), max(column, 0)
    bottom, right = min(row + size[0], image.shape[0]), min(column + size[1], image.shape[1])
    if top < bottom and left < right:
        window[top - row : bottom - row, left - column : right - column] = image[top:bottom, left:right]
    return window
