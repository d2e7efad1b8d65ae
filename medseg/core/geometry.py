"""Where voxels lie in the world: the one place that knows about affines, axes and conventions.

Voxel (i, j, k) maps to world millimetres in RAS+ (x to the right, y to the front, z to the head,
NIfTI's convention). DICOM and ITK speak LPS+; they are converted here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medseg.core.errors import MedsegError

Float = NDArray[np.float64]
Triple = tuple[float, float, float]
Shape = tuple[int, int, int]
Axes = tuple[int, int, int]
Flips = tuple[bool, bool, bool]

_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_CODES = (("L", "R"), ("P", "A"), ("I", "S"))


class GeometryError(MedsegError):
    """An affine or shape cannot describe a voxel grid."""


@dataclass(frozen=True, slots=True, eq=False)
class Geometry:
    """A voxel grid in space.

    affine: 4x4 float64, voxel index (i, j, k, 1) -> world mm, RAS+; voxel centres at integers.
    shape: number of voxels along i, j, k.

    Raises GeometryError where the affine is not finite or not invertible, or the shape not positive.
    """

    affine: Float
    shape: Shape

    def __post_init__(self) -> None:
        affine = np.array(self.affine, dtype=np.float64)
        shape = tuple(int(n) for n in self.shape)
        if affine.shape != (4, 4) or not np.isfinite(affine).all():
            raise GeometryError("the affine must be a finite 4x4 matrix")
        if len(shape) != 3 or min(shape) < 1:
            raise GeometryError(f"the grid's shape must be three positive numbers, not {shape}")
        lengths = np.linalg.norm(affine[:3, :3], axis=0)
        if lengths.min() == 0 or abs(np.linalg.det(affine[:3, :3] / np.where(lengths > 0, lengths, 1))) < 1e-6:
            raise GeometryError("the affine is singular: two axes coincide or a spacing is zero")
        affine.setflags(write=False)
        object.__setattr__(self, "affine", affine)
        object.__setattr__(self, "shape", shape)

    # ---- making one -------------------------------------------------------------------------

    @classmethod
    def from_spacing(
        cls, spacing: Sequence[float], shape: Sequence[int], origin: Sequence[float] = (0.0, 0.0, 0.0)
    ) -> Geometry:
        """An axis-aligned RAS+ grid of `spacing` mm whose first voxel's centre lies at `origin` mm."""
        affine = np.diag([*(float(s) for s in spacing), 1.0])
        affine[:3, 3] = origin
        return cls(affine, _shape(shape))

    @classmethod
    def from_lps(cls, affine: ArrayLike, shape: Sequence[int]) -> Geometry:
        """From an affine (4x4) that maps voxels to LPS+ mm, as DICOM and ITK have it."""
        return cls(_LPS_TO_RAS @ np.asarray(affine, dtype=np.float64), _shape(shape))

    def to_lps(self) -> Float:
        """The 4x4 affine in LPS+ mm, for DICOM and ITK."""
        return np.asarray(_LPS_TO_RAS @ self.affine, dtype=np.float64)

    # ---- what it says -----------------------------------------------------------------------

    @property
    def spacing(self) -> Triple:
        """Distance between voxel centres along i, j, k in mm."""
        x, y, z = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(x), float(y), float(z)

    @property
    def direction(self) -> Float:
        """3x3; columns are the unit vectors (RAS+) of the axes i, j, k."""
        unit: Float = self.affine[:3, :3] / np.asarray(self.spacing)
        return unit

    @property
    def origin(self) -> Triple:
        """World position (RAS+ mm) of voxel (0, 0, 0)."""
        x, y, z = self.affine[:3, 3]
        return float(x), float(y), float(z)

    @property
    def voxel_volume_ml(self) -> float:
        """Volume of one voxel in millilitres (also right for sheared grids)."""
        return float(abs(np.linalg.det(self.affine[:3, :3]))) / 1000.0

    @property
    def is_orthogonal(self) -> bool:
        """Whether the three axes stand square on each other (to 1e-3 in the cosine)."""
        return bool(np.abs(self.direction.T @ self.direction - np.eye(3)).max() < 1e-3)

    @property
    def orientation(self) -> str:
        """The anatomical direction nearest to each axis, such as 'RAS' or 'LPS' (NIfTI's reading)."""
        worlds, direction = self._nearest_world_axes(), self.direction
        return "".join(_CODES[w][int(direction[w, axis] > 0)] for axis, w in enumerate(worlds))

    @property
    def extent(self) -> Triple:
        """Edge-to-edge size in mm along i, j, k."""
        x, y, z = (s * n for s, n in zip(self.spacing, self.shape, strict=True))
        return x, y, z

    def corners(self) -> Float:
        """World positions [8, 3] of the centres of the corner voxels."""
        ends = np.array(np.meshgrid(*[(0, n - 1) for n in self.shape], indexing="ij"), dtype=np.float64)
        return self.to_world(ends.reshape(3, -1).T)

    def to_world(self, index: ArrayLike) -> Float:
        """Voxel indices [N, 3] -> world mm [N, 3]."""
        world: Float = np.asarray(index, dtype=np.float64) @ self.affine[:3, :3].T + self.affine[:3, 3]
        return world

    def to_index(self, world: ArrayLike) -> Float:
        """World mm [N, 3] -> fractional voxel indices [N, 3]."""
        inverse = np.linalg.inv(self.affine)
        index: Float = np.asarray(world, dtype=np.float64) @ inverse[:3, :3].T + inverse[:3, 3]
        return index

    def same_grid(self, other: Geometry, tolerance_mm: float = 1e-2) -> bool:
        """Whether both have one shape and no corner lies further than `tolerance_mm` from its twin."""
        return self.shape == other.shape and self.corner_distance(other) <= tolerance_mm

    def corner_distance(self, other: Geometry) -> float:
        """Largest distance in mm between corresponding corners."""
        return float(np.linalg.norm(self.corners() - other.corners(), axis=1).max())

    # ---- grids derived from it --------------------------------------------------------------

    def to_canonical(self) -> tuple[Axes, Flips]:
        """How to reorder axes so that they run nearest to R, A, S.

        Returns (axes, flips): `array.transpose(axes)`, then reverse every new axis whose flip is
        set; `reordered(axes, flips)` is the geometry of the result.
        """
        worlds = self._nearest_world_axes()
        direction = self.direction
        a, b, c = (worlds.index(w) for w in range(3))
        return (a, b, c), (bool(direction[0, a] < 0), bool(direction[1, b] < 0), bool(direction[2, c] < 0))

    def reordered(self, axes: Axes, flips: Flips) -> Geometry:
        """The geometry of `array.transpose(axes)` with the flagged new axes reversed."""
        affine = self.affine[:, [*axes, 3]].copy()
        shape = tuple(self.shape[a] for a in axes)
        for axis, flip in enumerate(flips):
            if flip:
                affine[:3, 3] += affine[:3, axis] * (shape[axis] - 1)
                affine[:3, axis] *= -1
        return Geometry(affine, _shape(shape))

    def cropped(self, start: Sequence[int], stop: Sequence[int]) -> Geometry:
        """The grid of `array[start:stop]`; negative starts and stops beyond the end pad."""
        shape = [b - a for a, b in zip(start, stop, strict=True)]
        affine = self.affine.copy()
        affine[:3, 3] = self.to_world([list(start)])[0]
        return Geometry(affine, _shape(shape))

    def resampled(self, shape: Sequence[int]) -> Geometry:
        """The grid of `shape` voxels over the same edge-to-edge field of view."""
        new = _shape(shape)
        ratio = np.asarray(self.shape, dtype=np.float64) / np.asarray(new)
        affine = self.affine.copy()
        affine[:3, :3] *= ratio
        # Edges stay where they are, so the first centre moves by half the difference of the steps.
        affine[:3, 3] = self.to_world([0.5 * ratio - 0.5])[0]
        return Geometry(affine, new)

    def shape_at(self, spacing: Sequence[float]) -> Shape:
        """The shape that keeps the field of view at (nearly) `spacing` mm: at least one voxel an axis."""
        return _shape([max(1, round(e / s)) for e, s in zip(self.extent, spacing, strict=True)])

    def _nearest_world_axes(self) -> list[int]:
        """For each voxel axis the world axis it is nearest to, each world axis used once.

        Of the six assignments the one with the largest sum of squared cosines is taken, so that
        oblique grids, where two axes share a nearest direction, still get three distinct ones.
        """
        squared = self.direction**2
        return list(max(permutations(range(3)), key=lambda worlds: float(squared[list(worlds), [0, 1, 2]].sum())))


def _shape(values: Sequence[int]) -> Shape:
    i, j, k = (int(v) for v in values)
    return i, j, k
