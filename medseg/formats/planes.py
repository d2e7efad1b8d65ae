"""An image's slices as planes in space: which slice a drawn plane lies on, and at which pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medseg.core.errors import FormatError
from medseg.formats.dicom_frames import Frame

Float = NDArray[np.float64]

# How far from a slice something drawn on it may lie. Structures are drawn on slices, so all that
# separates the two is rounding of the header's decimals and of what tools in between made of them
# (0.04 mm in the PET series of the TCIA sarcoma collection). A fifth of the *smallest* distance
# between slices is far below the third or quarter of it at which planning systems interpolate, and
# where slices are missing, what was drawn on those stays far from their neighbours, whereas half of
# the (then larger) distance would move it onto them.
_SHARE = 0.2
_LARGEST_MM = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class Planes:
    """The slices of one image, in slice order; positions in LPS+ mm.

    origins [K, 3]: centre of each slice's first pixel; rows, columns [K, 3]: unit vectors along its
    rows and along its columns; spacings [K, 2]: mm between (rows, columns); normal [3];
    heights [K]: place along the normal, ascending; size: (rows, columns); tolerance: mm along the
    normal by which something drawn may miss its slice.
    """

    origins: Float
    rows: Float
    columns: Float
    spacings: Float
    normal: Float
    heights: Float
    size: tuple[int, int]
    tolerance: float

    def nearest(self, heights: Float) -> NDArray[np.intp]:
        """For each height along the normal [N] the slice it lies on, -1 where it lies on none."""
        found = np.abs(self.heights[None] - heights[:, None]).argmin(axis=1)
        return np.where(np.abs(self.heights[found] - heights) <= self.tolerance, found, -1)

    def pixels(self, points: Float, k: int) -> Float:
        """Where points [N, 3] fall on slice k, seen along its normal: (row, column) [N, 2], centres at integers."""
        offset = points - self.origins[k]
        pixels: Float = np.stack([offset @ self.columns[k], offset @ self.rows[k]], axis=1) / self.spacings[k]
        return pixels

    def points(self, pixels: Float, k: int) -> Float:
        """Where (row, column) [N, 2] of slice k lie in the body: LPS+ mm [N, 3], the way back of `pixels`."""
        moved = pixels * self.spacings[k]
        points: Float = self.origins[k] + moved[:, :1] * self.columns[k] + moved[:, 1:] * self.rows[k]
        return points


def planes_of(frames: Sequence[Frame], path: Path) -> Planes:
    """The planes of an image's frames, which are in slice order. Raises FormatError where they have no place."""
    if any(f.position is None or f.orientation is None or f.spacing is None for f in frames):
        raise FormatError(path, "has no position in the body, so that nothing can be drawn on it", "missing-geometry")
    origins = np.array([frame.position for frame in frames], dtype=np.float64)
    cosines = np.array([frame.orientation for frame in frames], dtype=np.float64).reshape(-1, 2, 3)
    cosines /= np.linalg.norm(cosines, axis=2, keepdims=True)
    normal = np.cross(cosines[0, 0], cosines[0, 1])
    heights = origins @ normal
    spacings = np.array([frame.spacing for frame in frames], dtype=np.float64)
    tolerance = min(_LARGEST_MM, _SHARE * _distance(heights, frames[0]))
    return Planes(origins, cosines[:, 0], cosines[:, 1], spacings, normal, heights, frames[0].size, tolerance)


def _distance(heights: Float, first: Frame) -> float:
    """The smallest distance between slices in mm; of a single slice its thickness, or 1 mm where that is unknown."""
    if len(heights) > 1:
        return float(np.diff(heights).min())
    return first.thickness or 1.0
