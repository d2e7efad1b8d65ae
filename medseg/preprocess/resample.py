"""Separable resampling over one field of view: a banded weight matrix per axis, slab by slab.

The target grid covers the source's field of view edge to edge (`Geometry.resampled`), so an axis is
described by its two lengths alone. The kernel is linear; where an axis shrinks it is widened by the
shrink factor, which makes it the anti-aliasing filter too. Positions beyond the border take the
border's value.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medseg.core.geometry import Shape
from medseg.core.labels import IGNORE

Float32 = NDArray[np.float32]
Box = tuple[slice, slice, slice]

_SLAB_BYTES = 16 * 2**20


def axis_weights(n_in: int, n_out: int) -> Float32:
    """The matrix [n_out, n_in] that resamples one axis; rows sum to one, exactly I when lengths agree."""
    if n_in == n_out:
        return np.eye(n_in, dtype=np.float32)
    ratio = n_in / n_out
    width = max(1.0, ratio)
    centers = (np.arange(n_out) + 0.5) * ratio - 0.5  # in source indices
    first = np.floor(centers - width).astype(np.int64) + 1
    taps = first[:, None] + np.arange(int(np.ceil(2 * width)))  # [n_out, taps]
    values = np.maximum(0.0, 1.0 - np.abs(taps - centers[:, None]) / width)
    weights = np.zeros((n_out, n_in))
    rows = np.broadcast_to(np.arange(n_out)[:, None], taps.shape)
    np.add.at(weights, (rows, np.clip(taps, 0, n_in - 1)), values)
    weights /= weights.sum(axis=1, keepdims=True)
    return weights.astype(np.float32)


def nearest_index(n_in: int, n_out: int) -> NDArray[np.int64]:
    """For every target voxel of an axis [n_out] the source voxel whose centre is nearest."""
    centers = (np.arange(n_out) + 0.5) * (n_in / n_out) - 0.5
    nearest: NDArray[np.int64] = np.clip(np.rint(centers), 0, n_in - 1).astype(np.int64)
    return nearest


@dataclass(frozen=True, slots=True, eq=False)
class Resampling:
    """How a grid of shape `source` becomes one of shape `target` over the same field of view.

    weights: per axis a matrix [n_out, n_in], or None where the axis stays as it is.
    """

    source: Shape
    target: Shape
    weights: tuple[Float32 | None, ...]

    @classmethod
    def between(cls, source: Shape, target: Shape) -> Resampling:
        pairs = zip(source, target, strict=True)
        return cls(source, target, tuple(None if a == b else axis_weights(a, b) for a, b in pairs))

    @property
    def is_identity(self) -> bool:
        return self.source == self.target

    def slabs(self) -> Iterator[Slab]:
        """The target, cut along its first axis so that the work on one slab takes tens of megabytes."""
        plane = max(self.source[1], self.target[1]) * max(self.source[2], self.target[2]) * 4
        ratio = max(1.0, self.source[0] / self.target[0])  # source planes behind one target plane
        rows = max(1, int(_SLAB_BYTES / plane / ratio))
        for start in range(0, self.target[0], rows):
            stop = min(start + rows, self.target[0])
            yield Slab(self, start, stop, *self._needed(start, stop))

    def _needed(self, start: int, stop: int) -> tuple[int, int]:
        weights = self.weights[0]
        if weights is None:
            return start, stop
        used = _span(weights[start:stop].any(axis=0))
        return used.start, used.stop


@dataclass(frozen=True, slots=True, eq=False)
class Slab:
    """Target planes start..stop along the first axis, made from source planes first..last."""

    resampling: Resampling
    start: int
    stop: int
    first: int
    last: int

    @property
    def rows(self) -> slice:
        return slice(self.start, self.stop)

    def compute(self, block: NDArray[np.generic], part: Part | None = None) -> Float32:
        """Source planes [last - first, J, K] -> target planes [stop - start, J', K'], or a part of them, float32."""
        plan = self.resampling
        out = np.ascontiguousarray(block if part is None else block[part.source], dtype=np.float32)
        # Axes that shrink most go first: every later product is then smaller.
        for axis in sorted(range(3), key=lambda a: plan.target[a] / plan.source[a]):
            weights = self._weights(axis)
            if weights is not None:
                out = _apply(out, weights if part is None else weights[part.target[axis], part.source[axis]], axis)
        return out

    def behind(self, mask: NDArray[np.bool_]) -> Part | None:
        """The smallest part that holds every target voxel into which a source voxel of `mask` goes; None if none is."""
        if not mask.any():
            return None
        lines = (mask.any(axis=(1, 2)), mask.any(axis=(0, 2)), mask.any(axis=(0, 1)))
        i, j, k = (self._reach(axis, _span(line)) for axis, line in enumerate(lines))
        return Part((i[0], j[0], k[0]), (i[1], j[1], k[1]))

    def _reach(self, axis: int, span: slice) -> tuple[slice, slice]:
        """Of an axis: the target planes that source planes of `span` go into, after all source planes behind those."""
        weights = self._weights(axis)
        if weights is None:
            return span, span
        target = _span(weights[:, span].any(axis=1))
        return _span(weights[target].any(axis=0)), target

    def _weights(self, axis: int) -> Float32 | None:
        weights = self.resampling.weights[axis]
        return weights if weights is None or axis else weights[self.start : self.stop, self.first : self.last]


@dataclass(frozen=True, slots=True)
class Part:
    """A box of a slab's target planes, and the box of its source planes that they are made from."""

    source: Box
    target: Box

    @classmethod
    def around(cls, parts: Collection[Part]) -> Part:
        """The smallest part that holds all of `parts`, of which there is one at least."""
        return cls(_around([part.source for part in parts]), _around([part.target for part in parts]))

    def within(self, outer: Part) -> Box:
        """Its target planes, counted from where those of `outer` begin."""
        i, j, k = (slice(a.start - b.start, a.stop - b.start) for a, b in zip(self.target, outer.target, strict=True))
        return i, j, k


def _around(boxes: Sequence[Box]) -> Box:
    i, j, k = (slice(min(s.start for s in axis), max(s.stop for s in axis)) for axis in zip(*boxes, strict=True))
    return i, j, k


def _span(flags: ArrayLike) -> slice:
    """From the first to the last of the flags [N] that are set, of which there is one at least."""
    found = np.flatnonzero(flags)
    return slice(int(found[0]), int(found[-1]) + 1)


def _apply(block: Float32, weights: Float32, axis: int) -> Float32:
    i, j, k = block.shape
    n = weights.shape[0]
    out: Float32
    if axis == 0:
        out = (weights @ block.reshape(i, j * k)).reshape(n, j, k)
    elif axis == 1:
        out = np.matmul(weights, block)
    else:
        out = (block.reshape(i * j, k) @ weights.T).reshape(i, j, n)
    return out


def resample(array: NDArray[np.generic], target: Shape) -> Float32:
    """An array [I, J, K] on a grid of `target` voxels over the same field of view, float32.

    Returns the very array, uncopied, where it is float32 and the shapes agree.
    """
    i, j, k = array.shape
    plan = Resampling.between((i, j, k), target)
    if plan.is_identity:
        return array.astype(np.float32, copy=False)
    out = np.empty(target, dtype=np.float32)
    for slab in plan.slabs():
        out[slab.rows] = slab.compute(array[slab.first : slab.last])
    return out


def resample_labels(array: NDArray[np.uint8], target: Shape) -> NDArray[np.uint8]:
    """A label map [I, J, K] on a grid of `target` voxels: the value with the largest linear weight wins.

    Only one value's weights exist at a time. IGNORE does not vote: a target voxel is IGNORE exactly
    where its nearest source voxel is. Ties go to the smaller value.
    """
    i, j, k = array.shape
    plan = Resampling.between((i, j, k), target)
    if plan.is_identity:
        return np.ascontiguousarray(array)
    values = sorted({int(v) for plane in array for v in np.flatnonzero(np.bincount(plane.reshape(-1)))})
    voting = [v for v in values if v != IGNORE]
    out = np.empty(target, dtype=np.uint8)
    for slab in plan.slabs():
        out[slab.rows] = winners(slab, voting, array[slab.first : slab.last].__eq__)
    if IGNORE in values:
        i_near, j_near, k_near = (nearest_index(a, b) for a, b in zip(plan.source, target, strict=True))
        for row, near in enumerate(i_near):
            out[row][(array[near] == IGNORE)[np.ix_(j_near, k_near)]] = IGNORE
    return out


def winners(slab: Slab, values: list[int], scores: Callable[[int], NDArray[np.generic]]) -> NDArray[np.uint8]:
    """The value whose resampled score is largest, per voxel of the slab; ties go to the earlier value.

    scores: value -> its source planes [last - first, J, K], asked for twice. Without any value the slab is IGNORE. A
    value is resampled only where it can beat the first one (weights are never negative, so that takes a source voxel in
    which it does), and the first one only where any other can.
    """
    shape = slab.resampling.target
    out = np.full((slab.stop - slab.start, *shape[1:]), values[0] if values else IGNORE, dtype=np.uint8)
    if len(values) < 2:
        return out
    first = scores(values[0])
    behind = ((value, slab.behind(np.greater(scores(value), first))) for value in values[1:])
    parts = {value: part for value, part in behind if part is not None}
    if not parts:
        return out
    box = Part.around(parts.values())
    best = slab.compute(first, box)
    if slab.resampling.is_identity:
        best = best.copy()  # it may be the caller's own memory
    for value, part in parts.items():
        score, there = slab.compute(scores(value), part), best[part.within(box)]
        higher = score > there
        np.copyto(there, score, where=higher)
        np.copyto(out[part.target], np.uint8(value), where=higher)
    return out
