"""Pixels with their place in the world."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.core.geometry import Geometry, GeometryError
from medseg.core.labels import Label


@dataclass(frozen=True, slots=True, eq=False)
class Volume:
    """An image: `array` [C, I, J, K] on `geometry`.

    A 2D picture is a volume one slice thick: i runs down its rows, j along its columns, K = 1.
    Raises GeometryError where array and geometry disagree.
    """

    array: NDArray[Any]
    geometry: Geometry

    def __post_init__(self) -> None:
        if self.array.ndim != 4 or self.array.shape[1:] != self.geometry.shape:
            raise GeometryError(
                f"an image array of shape {self.array.shape} does not fit a grid of {self.geometry.shape}"
            )

    @property
    def channels(self) -> int:
        return int(self.array.shape[0])


@dataclass(frozen=True, slots=True, eq=False)
class LabelMap:
    """A segmentation: integer `array` [I, J, K] on `geometry`; 0 is background.

    `labels` says what the other values mean (it may be empty for maps read without a task).
    """

    array: NDArray[Any]
    geometry: Geometry
    labels: tuple[Label, ...] = ()

    def __post_init__(self) -> None:
        if self.array.ndim != 3 or self.array.shape != self.geometry.shape:
            raise GeometryError(
                f"a label array of shape {self.array.shape} does not fit a grid of {self.geometry.shape}"
            )
        if not (np.issubdtype(self.array.dtype, np.integer) or self.array.dtype == np.bool_):
            raise GeometryError(f"a label array holds whole numbers, not {self.array.dtype}")

    def volumes_ml(self) -> dict[str, float]:
        """Volume of every declared label in millilitres."""
        # Slice by slice: bincount widens what it is given to 64 bits.
        highest = max((label.value for label in self.labels), default=0)
        counts = np.zeros(highest + 1, dtype=np.int64)
        for part in np.moveaxis(self.array, int(np.argmax(self.array.strides)), 0):
            counts += np.bincount(part.ravel(), minlength=highest + 1)[: highest + 1]
        voxel = self.geometry.voxel_volume_ml
        return {label.name: float(counts[label.value]) * voxel for label in self.labels}
