"""What a network learns in order to tell touching cells apart: classes and weights made of instance ids.

A nucleus becomes an interior inside a border, so that two that touch have two interiors; the border weighs
most where a second nucleus is near.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.core.labels import IGNORE

BACKGROUND, INTERIOR, BORDER = 0, 1, 2
CLASSES = 3

# A border is two voxels wide, or half of what lies between an instance's surface and its innermost voxel.
_WIDTH, _SHARE = 2.0, 0.5
# Ronneberger et al. 2015, equation 2: w = w_class + w0 exp(-(d1 + d2)^2 / (2 sigma^2)), in voxels.
_W0, _SIGMA = 10.0, 5.0
_REACH = 6.0 * _SIGMA  # beyond it 10 exp(-18) is nothing beside w_class = 1

Ids = NDArray[np.int32]
Box = tuple[slice, ...]


def instance_classes(
    ids: Ids, ndim: int, spacing: Sequence[float], ignored: NDArray[np.bool_] | None = None
) -> NDArray[np.uint8]:
    """BACKGROUND, INTERIOR, BORDER or IGNORE [I, J, K] of instances 1, 2, … [I, J, K].

    spacing: mm, of which the finest one is a voxel's width; ndim 2: slice by slice. Every instance, however
    small, keeps an interior: its innermost voxels are one.
    """
    from scipy import ndimage

    classes = np.zeros(ids.shape, dtype=np.uint8)
    for part, out in _parts(ids, ndim, classes):
        for value, box in _boxes(part, margin=1):
            mask = part[box] == value
            if mask.all():  # it fills the picture, whose edge is no surface: what it cuts goes on behind it
                out[box] = INTERIOR
                continue
            depth = ndimage.distance_transform_edt(mask, sampling=_units(spacing, ndim))[mask]
            out[box][mask] = np.where(depth > min(_WIDTH, _SHARE * float(depth.max())), INTERIOR, BORDER)
    if ignored is not None:
        classes[ignored] = IGNORE
    return classes


def touching_weights(ids: Ids, ndim: int, spacing: Sequence[float]) -> NDArray[np.float32]:
    """How much every voxel [I, J, K] counts: 1 + 10 exp(-(d1 + d2)^2 / 50), in voxels of the finest spacing.

    d1 and d2 are the distances to the nearest and the second-nearest instance, 0 inside it; ndim 2: slice by
    slice. Source: Ronneberger et al. 2015, equation 2, with w_class = 1.
    """
    weights = np.ones(ids.shape, dtype=np.float32)
    units = _units(spacing, ndim)
    reach = int(np.ceil(_REACH / min(units)))
    for part, out in _parts(ids, ndim, weights):
        nearest, second = np.full((2, *part.shape), np.inf, dtype=np.float32)
        for value, box in _boxes(part, reach):
            distance = _distance(part[box] == value, units)
            first, other = nearest[box], second[box]
            np.minimum(other, np.maximum(first, distance), out=other)
            np.minimum(first, distance, out=first)
        out += _W0 * np.exp(-((nearest + second) ** 2) / (2 * _SIGMA**2))
    return weights


def _distance(mask: NDArray[np.bool_], units: Sequence[float]) -> NDArray[np.float32]:
    """Distance of every voxel to a mask."""
    from scipy import ndimage

    found: NDArray[np.float32] = ndimage.distance_transform_edt(~mask, sampling=units).astype(np.float32)
    return found


def _parts(ids: Ids, ndim: int, out: NDArray[Any]) -> Iterator[tuple[Ids, NDArray[Any]]]:
    """What is looked at by itself, and where its result goes: slices [I, J], or the volume."""
    if ndim == 3:
        yield ids, out
        return
    for place in range(ids.shape[2]):
        yield ids[..., place], out[..., place]


def _boxes(ids: Ids, margin: int) -> Iterator[tuple[int, Box]]:
    """Every instance and its bounding box, `margin` voxels wider on every side."""
    from scipy import ndimage

    for value, box in enumerate(ndimage.find_objects(ids), start=1):
        if box is not None:
            yield value, tuple(slice(max(0, side.start - margin), side.stop + margin) for side in box)


def _units(spacing: Sequence[float], ndim: int) -> tuple[float, ...]:
    """Spacing in units of the finest axis."""
    used = spacing[:ndim]
    return tuple(step / min(used) for step in used)
