"""Coordinates, smooth random fields and soft shapes: what every part of a phantom is drawn with.

Arrays are [I, J, K] float32 on one fine grid that runs nearest to R, A, S; positions are mm.
Shapes have soft edges about one voxel wide, so that tiny differences of arithmetic between machines
stay tiny in the picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medseg.core.geometry import Geometry, Shape, Triple

# float32 throughout; the type says less, because numpy's stubs take float32 * float for float64.
Array = NDArray[np.floating[Any]]
Point = tuple[float, float, float]
Box = tuple[slice, slice, slice]


@dataclass(frozen=True, slots=True, eq=False)
class Space:
    """The fine grid with its anatomical coordinates.

    x, y, z: [I, J, K] mm to the right, front and head, after the smooth deformation that makes
    every patient another; warp_mm: no voxel is moved further than this.
    """

    geometry: Geometry
    x: Array
    y: Array
    z: Array
    warp_mm: float

    def unbent(self) -> Space:
        """The same grid in plain scanner coordinates, whose boxes are tighter."""
        return Space(self.geometry, *world(self.geometry), warp_mm=0.0)

    def place(self, point: Point) -> Point:
        """Where in scanner coordinates the anatomical position `point` lies (fixed-point iteration)."""
        plain = np.asarray(point, dtype=np.float64)
        for _ in range(4):
            index = np.rint(self.geometry.to_index(plain[None])[0]).astype(int)
            i, j, k = (int(v) for v in np.clip(index, 0, np.asarray(self.geometry.shape) - 1))
            here = self.geometry.to_world([[i, j, k]])[0]
            bend = np.array([self.x[i, j, k], self.y[i, j, k], self.z[i, j, k]]) - here
            plain = np.asarray(point) - bend
        return float(plain[0]), float(plain[1]), float(plain[2])

    @property
    def edge(self) -> float:
        """Width in mm of a soft edge: about one fine voxel."""
        return float(np.mean(self.geometry.spacing))

    def box(self, points: Sequence[Point], margin: float) -> Box | None:
        """Index ranges that hold every voxel within `margin` mm of the points; None where outside."""
        index = self.geometry.to_index(np.asarray(points, dtype=np.float64))
        reach = (margin + self.warp_mm) / np.asarray(self.geometry.spacing)
        low = np.floor(index.min(axis=0) - reach).astype(int).clip(0)
        high = np.minimum(np.ceil(index.max(axis=0) + reach).astype(int) + 1, self.geometry.shape)
        if (high <= low).any():
            return None
        i, j, k = (slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
        return i, j, k


def world(geometry: Geometry) -> tuple[Array, Array, Array]:
    """World position in mm of every voxel: x, y, z, each [I, J, K]."""
    i, j, k = np.ogrid[tuple(slice(0, n) for n in geometry.shape)]
    x, y, z = ((r[0] * i + r[1] * j + r[2] * k + r[3]).astype(np.float32) for r in geometry.affine[:3])
    return x, y, z


def smooth_noise(rng: np.random.Generator, geometry: Geometry, wavelength: float | Triple) -> Array:
    """A smooth random field [I, J, K]: about mean 0, standard deviation 1, features of `wavelength` mm.

    White noise on a coarse grid, raised to the fine one with cubic B-splines (Unser, IEEE SPM 1999).
    """
    waves = (wavelength,) * 3 if isinstance(wavelength, int | float) else wavelength
    counts = [int(extent / (wave / 2.0)) + 4 for extent, wave in zip(geometry.extent, waves, strict=True)]
    field: Array = rng.standard_normal(counts, dtype=np.float32)
    for axis in range(3):
        basis = _spline_basis(geometry.shape[axis], counts[axis])
        field = np.moveaxis(np.tensordot(basis, field, axes=(1, axis)), 0, axis)
    # Cubic B-splines weigh 1/6, 2/3, 1/6 at the nodes; on average a third of the variance is left per axis.
    return np.ascontiguousarray(field * np.float32(1.0 / 0.33))


def _spline_basis(fine: int, coarse: int) -> Array:
    place = (np.arange(fine) + 0.5) / fine * (coarse - 3) + 1.0
    distance = np.abs(place[:, None] - np.arange(coarse)[None, :])
    near = 2 / 3 - distance**2 + distance**3 / 2
    far = np.clip(2 - distance, 0, None) ** 3 / 6
    return np.where(distance < 1, near, far).astype(np.float32)


def profile(z: Array, knots: Sequence[float], values: ArrayLike) -> Array:
    """A smooth curve over z: piecewise linear through (knots, values), rounded over 16 mm; looked up per voxel."""
    step, low = 1.0, float(z.min()) - 30.0
    heights = np.arange(low, float(z.max()) + 30.0, step)
    curve = np.interp(heights, knots, np.asarray(values, dtype=np.float64))
    window = np.hanning(35)[1:-1]
    rounded = np.convolve(np.pad(curve, 16, mode="edge"), window / window.sum(), mode="valid")
    index = np.clip(((z - np.float32(low)) / np.float32(step)).astype(np.int32), 0, len(heights) - 1)
    return np.asarray(rounded.astype(np.float32)[index])


def soft(signed: Array, edge: float) -> Array:
    """Occupancy 0..1 of a shape from its signed distance in mm (positive inside)."""
    return np.asarray(np.clip(signed * np.float32(1.0 / edge) + np.float32(0.5), 0.0, 1.0))


def over(picture: Array, occupancy: Array, value: Array | float) -> None:
    """Lay `value` over `picture` where `occupancy` says so, in place."""
    picture += occupancy * (np.float32(value) - picture if isinstance(value, float | int) else value - picture)


def ellipsoid(space: Space, centre: Point, radii: Triple, box: Box) -> Array:
    """Signed distance in mm (approximate, positive inside) to an ellipsoid, within `box`."""
    square = np.zeros((), dtype=np.float32)
    for axis, middle, radius in zip((space.x, space.y, space.z), centre, radii, strict=True):
        square = square + ((axis[box] - np.float32(middle)) * np.float32(1.0 / radius)) ** 2
    return np.asarray((1.0 - np.sqrt(square)) * np.float32(min(radii)))


def capsule(space: Space, ends: tuple[Point, Point], radii: tuple[float, float], box: Box) -> Array:
    """Signed distance in mm (positive inside) to a tube with round ends and changing radius, within `box`."""
    start = np.asarray(ends[0], dtype=np.float32)
    along = np.asarray(ends[1], dtype=np.float32) - start
    length2 = max(float(along @ along), 1e-6)
    x, y, z = space.x[box] - start[0], space.y[box] - start[1], space.z[box] - start[2]
    share = np.clip((x * along[0] + y * along[1] + z * along[2]) * np.float32(1.0 / length2), 0.0, 1.0)
    square = (x - share * along[0]) ** 2 + (y - share * along[1]) ** 2 + (z - share * along[2]) ** 2
    return np.asarray(np.float32(radii[0]) + share * np.float32(radii[1] - radii[0]) - np.sqrt(square))


def block_mean(array: Array, factors: Shape) -> Array:
    """Mean over blocks of `factors` voxels: [I, J, K] -> [I/f, J/f, K/f]."""
    i, j, k = (n // f for n, f in zip(array.shape, factors, strict=True))
    blocks = array.reshape(i, factors[0], j, factors[1], k, factors[2])
    return np.asarray(blocks.mean(axis=(1, 3, 5), dtype=np.float32))
