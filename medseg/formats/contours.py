"""Closed contours to pixels: a pixel belongs where its centre lies inside the contours or on one.

Several contours of one structure on one slice are combined by exclusive or, so that a contour inside
another is a hole; a keyhole (outer and inner outline joined by a channel of no width) comes out the
same way. A library's point-in-polygon test asks every pixel of the bounding box about every vertex,
which is minutes for the body outline of a planning CT; here each edge is asked where it crosses the
rows, and one running exclusive or along the rows does the rest.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]
Int = NDArray[np.intp]

# Coordinates this near to a pixel's centre (in pixels) are there: what arithmetic loses, and no more.
_ROUNDING = 1e-6


def fill(contours: Sequence[Float], size: tuple[int, int]) -> tuple[tuple[int, int], NDArray[np.bool_]] | None:
    """What closed contours enclose on a slice of `size` (rows, columns).

    contours: each [N, 2], (row, column) of its vertices in pixels, pixel centres at integers; the last
    vertex joins the first. Returns the (row, column) at which a box begins and its mask [rows, columns];
    None where no pixel centre of the slice lies inside.
    """
    snapped = [np.where(np.abs(c - np.rint(c)) < _ROUNDING, np.rint(c), c) for c in contours]
    every = np.concatenate(snapped)
    first = np.maximum(np.ceil(every.min(axis=0)), 0).astype(np.intp)
    last = np.minimum(np.floor(every.max(axis=0)), np.array(size) - 1).astype(np.intp)
    if (last < first).any():
        return None
    shape = (int(last[0] - first[0]) + 1, int(last[1] - first[1]) + 1)
    start = np.concatenate([contour - first for contour in snapped])  # [E, 2]
    stop = np.concatenate([np.roll(contour, -1, axis=0) - first for contour in snapped])
    mask = _parity(start, stop, shape)
    _mark_outline(mask, start, stop)
    return ((int(first[0]), int(first[1])), mask) if mask.any() else None


def _parity(start: Float, stop: Float, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Whether the edges are crossed an odd number of times on the way from the left to each pixel centre."""
    low, high = np.minimum(start[:, 0], stop[:, 0]), np.maximum(start[:, 0], stop[:, 0])
    # Half-open, so that a row through a vertex is crossed by one of the vertex's two edges.
    edge, row = _ranges(np.ceil(low), np.ceil(high) - 1, shape[0])
    column = np.clip(np.ceil(_crossing(start[edge], stop[edge], row)), 0, shape[1]).astype(np.intp)
    count = np.bincount(row * (shape[1] + 1) + column, minlength=shape[0] * (shape[1] + 1))
    odd = (count.reshape(shape[0], shape[1] + 1)[:, :-1] & 1).astype(np.bool_)
    parity: NDArray[np.bool_] = np.logical_xor.accumulate(odd, axis=1)
    return parity


def _mark_outline(mask: NDArray[np.bool_], start: Float, stop: Float) -> None:
    """Set the pixels whose centres lie on an edge: tools that trace masks through pixel centres mean them, too."""
    level = (start[:, 0] == stop[:, 0]) & (start[:, 0] == np.rint(start[:, 0]))
    level &= (start[:, 0] >= 0) & (start[:, 0] < mask.shape[0])
    low, high = np.minimum(start, stop), np.maximum(start, stop)
    edge, column = _ranges(np.ceil(low[level, 1]), np.floor(high[level, 1]), mask.shape[1])
    mask[start[level, 0].astype(np.intp)[edge], column] = True
    steep = start[:, 0] != stop[:, 0]
    edge, row = _ranges(np.ceil(low[steep, 0]), np.floor(high[steep, 0]), mask.shape[0])
    crossing = _crossing(start[steep][edge], stop[steep][edge], row)
    near = np.rint(crossing).astype(np.intp)
    on = (np.abs(crossing - near) < _ROUNDING) & (near >= 0) & (near < mask.shape[1])
    mask[row[on], near[on]] = True


def _crossing(start: Float, stop: Float, row: Int) -> Float:
    """The column at which each edge crosses its row."""
    share = (row - start[:, 0]) / (stop[:, 0] - start[:, 0])
    column: Float = start[:, 1] + share * (stop[:, 1] - start[:, 1])
    return column


def _ranges(first: Float, last: Float, size: int) -> tuple[Int, Int]:
    """The whole numbers first..last of every edge that lie in 0..size-1: (place of the edge, number) for each."""
    begin = np.clip(first, 0, size).astype(np.intp)
    count = np.maximum(np.clip(last, -1, size - 1).astype(np.intp) - begin + 1, 0)
    edge = np.repeat(np.arange(len(begin)), count)
    within = np.arange(len(edge)) - np.repeat(np.cumsum(count) - count, count)
    return edge, begin[edge] + within
