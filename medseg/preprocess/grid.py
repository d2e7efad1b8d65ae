"""Onto the network's grid, and the exact way back onto the scan's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medseg.core.errors import PlanError, UsageError
from medseg.core.geometry import Axes, Flips, Geometry, Shape
from medseg.core.plan import Plan
from medseg.core.volume import LabelMap, Volume
from medseg.preprocess.normalize import normalize
from medseg.preprocess.resample import Resampling, Slab, nearest_index, resample_labels, winners

if TYPE_CHECKING:
    from torch import Tensor

# More voxels than this per channel (16 GB in float32) mean a wrong spacing, not a large scan.
_MAX_VOXELS = 2**32


@dataclass(frozen=True, slots=True, eq=False)
class Trace:
    """What was done to a scan's grid, for the way back.

    source: the scan's own grid; axes, flips: how its axes were reordered (Geometry.to_canonical);
    canonical: the reordered grid; prepared: the same field of view at the plan's spacing.
    """

    source: Geometry
    axes: Axes
    flips: Flips
    canonical: Geometry
    prepared: Geometry

    def to_plain(self) -> dict[str, Any]:
        """As plain lists and numbers, ready for JSON; `from_plain` gives the same trace to the bit."""
        return {
            "affine": self.source.affine.tolist(),
            "shape": list(self.source.shape),
            "axes": list(self.axes),
            "flips": list(self.flips),
            "prepared": list(self.prepared.shape),
        }

    @classmethod
    def from_plain(cls, raw: Mapping[str, Any]) -> Trace:
        """Raises UsageError where `raw` is not what `to_plain` wrote."""
        try:
            source = Geometry(np.array(raw["affine"], dtype=np.float64), _triple(raw["shape"]))
            flips = (bool(raw["flips"][0]), bool(raw["flips"][1]), bool(raw["flips"][2]))
            return _trace(source, _triple(raw["axes"]), flips, _triple(raw["prepared"]))
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise UsageError(f"a stored trace is damaged ({error!r}); prepare the case again") from error


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """A scan as the network sees it: float32 `array` [C, I, J, K] on `trace.prepared`."""

    array: NDArray[np.float32]
    trace: Trace


def trace_of(geometry: Geometry, plan: Plan) -> Trace:
    """Where a scan on `geometry` comes to lie under `plan`.

    Axes run nearest to R, A, S; the shape keeps the field of view at (nearly) the plan's spacing.
    2D plans leave K as it is. Raises UsageError where the grid would become absurdly large.
    """
    axes, flips = geometry.to_canonical()
    if plan.ndim == 2 and geometry.shape[2] == 1 and axes[2] != 2:
        # A single upright slice is a picture: its own plane is the one to look at, however it stands.
        axes, flips = (0, 1, 2), (False, False, False)
    canonical = geometry.reordered(axes, flips)
    spacing = (*plan.spacing[:2], canonical.spacing[2]) if plan.ndim == 2 else plan.spacing
    shape = canonical.shape_at(spacing)
    if prod(shape) > _MAX_VOXELS:
        raise UsageError(
            f"a scan of {_times(geometry.shape)} voxels of {_times(geometry.spacing)} mm would become"
            f" {_times(shape)} voxels at the plan's spacing; check the scan's spacing"
        )
    return _trace(geometry, axes, flips, shape)


def prepare(volume: Volume, plan: Plan) -> Prepared:
    """Reorder axes to RAS+, resample to the plan's spacing, normalise every channel.

    Extra memory: the float32 result and some tens of megabytes. Raises PlanError where the plan
    has not one normalisation per channel, UsageError as `trace_of` does.
    """
    if len(plan.normalization) != volume.channels:
        raise PlanError(f"the plan normalises {len(plan.normalization)} channels, but the scan has {volume.channels}")
    trace = trace_of(volume.geometry, plan)
    out = np.empty((volume.channels, *trace.prepared.shape), dtype=np.float32)
    # Slabs are cut across the axis that runs slowest in memory: the last one in a NIfTI's array.
    order = _triple(np.argsort([-abs(step) for step in volume.array.strides[1:]], kind="stable"))
    target = _source_order(trace.prepared.shape, trace)
    resampling = Resampling.between(_permuted(trace.source.shape, order), _permuted(target, order))
    for channel, pixels in zip(out, volume.array, strict=True):
        view, ordered = _unordered(channel, trace).transpose(order), pixels.transpose(order)
        for slab in resampling.slabs():
            view[slab.rows] = slab.compute(ordered[slab.first : slab.last])
    normalize(out, plan.normalization)
    return Prepared(out, trace)


def prepare_labels(labelmap: LabelMap, plan: Plan) -> NDArray[np.uint8]:
    """A label map [I, J, K] on the grid that `prepare` gives an image of its geometry; IGNORE survives.

    Raises UsageError where a value does not fit into 0..255.
    """
    array = labelmap.array
    if array.dtype != np.uint8:
        if array.size and (int(array.min()) < 0 or int(array.max()) > 255):
            raise UsageError(f"label values must lie within 0..255, not {int(array.min())}..{int(array.max())}")
        array = array.astype(np.uint8)
    trace = trace_of(labelmap.geometry, plan)
    resampled = resample_labels(array, _source_order(trace.prepared.shape, trace))
    return np.ascontiguousarray(_reordered(resampled, trace))


def prepare_instances(labelmap: LabelMap, plan: Plan) -> NDArray[np.int32]:
    """Instance ids [I, J, K] on the grid that `prepare` gives an image of its geometry: those of the nearest voxels."""
    trace = trace_of(labelmap.geometry, plan)
    target = _source_order(trace.prepared.shape, trace)
    near = [nearest_index(a, b) for a, b in zip(labelmap.geometry.shape, target, strict=True)]
    return np.ascontiguousarray(_reordered(labelmap.array[np.ix_(*near)], trace), dtype=np.int32)


def restore(scores: NDArray[Any] | Tensor, trace: Trace) -> NDArray[np.uint8]:
    """Class scores [L, I, J, K] on the prepared grid -> values 0..L-1 [I, J, K] on the source grid.

    Scores (probabilities or logits) are interpolated linearly, then the largest wins; one label of
    one slab at a time, so that extra memory stays near the result and some tens of megabytes.
    Raises UsageError where the scores do not lie on the prepared grid.
    """
    if scores.ndim != 4 or tuple(scores.shape[1:]) != trace.prepared.shape or not 1 <= scores.shape[0] <= 255:
        raise UsageError(f"scores of shape {tuple(scores.shape)} do not fit labels on a grid of {trace.prepared.shape}")
    axis = trace.axes.index(0)  # along the source's first axis the result is written as it lies in memory
    restoration = Restoration.along(trace, axis)
    for piece in restoration.pieces:
        i, j, k = (slice(piece.first, piece.last) if a == axis else slice(None) for a in range(3))
        restoration.write(piece, list(range(scores.shape[0])), scores[:, i, j, k].__getitem__)
    return restoration.labels


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """A slab of the source grid, which needs the prepared planes first..last along the swept axis."""

    first: int
    last: int
    slab: Slab


@dataclass(frozen=True, slots=True, eq=False)
class Restoration:
    """`restore` piece by piece, for scores of which only some planes exist at a time.

    axis: the prepared axis along which the pieces follow each other, ascending; labels: the result
    [I, J, K] on the source grid, complete once every piece was written.
    """

    trace: Trace
    axis: int
    labels: NDArray[np.uint8]
    pieces: tuple[Piece, ...]

    @classmethod
    def along(cls, trace: Trace, axis: int) -> Restoration:
        order = _sweep_order(trace, axis)
        prepared = _source_order(trace.prepared.shape, trace)
        resampling = Resampling.between(_permuted(prepared, order), _permuted(trace.source.shape, order))
        n, flipped = trace.prepared.shape[axis], trace.flips[axis]
        pieces = [
            Piece(n - slab.last, n - slab.first, slab) if flipped else Piece(slab.first, slab.last, slab)
            for slab in resampling.slabs()
        ]
        labels = np.empty(trace.source.shape, dtype=np.uint8)
        return cls(trace, axis, labels, tuple(reversed(pieces) if flipped else pieces))

    def write(
        self, piece: Piece, values: list[int], planes: Callable[[int], NDArray[Any] | Tensor]
    ) -> None:  # fmt: skip
        """Write the value among `values` that wins in every voxel of a piece; ties go to the earlier one.

        planes: value -> its scores on the prepared planes piece.first..piece.last, in prepared axis order.
        """
        order = _sweep_order(self.trace, self.axis)
        out = self.labels.transpose(order)
        if len(values) == 1:
            out[piece.slab.rows] = values[0]
            return

        def scores(value: int) -> NDArray[Any]:
            return _unordered(_as_array(planes(value)), self.trace).transpose(order)

        out[piece.slab.rows] = winners(piece.slab, values, scores)

    def interpolate(self, piece: Piece, planes: NDArray[Any] | Tensor, out: NDArray[np.float32]) -> None:
        """Write one class's own scores, interpolated, into a piece of `out` [I, J, K] on the source grid.

        planes: its scores on the prepared planes piece.first..piece.last, in prepared axis order.
        """
        order = _sweep_order(self.trace, self.axis)
        ordered = _unordered(_as_array(planes), self.trace).transpose(order)
        out.transpose(order)[piece.slab.rows] = piece.slab.compute(ordered)


def _sweep_order(trace: Trace, axis: int) -> Axes:
    """The source's axes, the one along the prepared `axis` first."""
    first = trace.axes[axis]
    return _triple((first, *(a for a in range(3) if a != first)))


def _trace(source: Geometry, axes: Axes, flips: Flips, shape: Shape) -> Trace:
    canonical = source.reordered(axes, flips)
    return Trace(source, axes, flips, canonical, canonical.resampled(shape))


def _reordered(array: NDArray[Any], trace: Trace) -> NDArray[Any]:
    """A view of `array` [I, J, K] with the trace's axes and flips."""
    steps = tuple(slice(None, None, -1 if flip else 1) for flip in trace.flips)
    return array.transpose(trace.axes)[steps]


def _unordered(array: NDArray[Any], trace: Trace) -> NDArray[Any]:
    """The inverse of `_reordered`: a view of a canonical `array` in the source's axis order."""
    steps = tuple(slice(None, None, -1 if flip else 1) for flip in trace.flips)
    return array[steps].transpose(np.argsort(trace.axes))


def _source_order(shape: Shape, trace: Trace) -> Shape:
    """A canonical shape with the source's axis order.

    All resampling happens in the source's order (it is separable and symmetric, so it commutes with
    reordering): there the large array is read or written as it lies in memory, and only the
    prepared one, mostly smaller, is transposed.
    """
    return _triple(shape[trace.axes.index(a)] for a in range(3))


def _permuted(shape: Shape, order: Axes) -> Shape:
    return _triple(shape[a] for a in order)


def _as_array(scores: NDArray[Any] | Tensor) -> NDArray[Any]:
    if isinstance(scores, np.ndarray):
        return scores
    # bfloat16 has no NumPy twin, so a tensor always comes over as float32.
    array: NDArray[Any] = scores.detach().float().cpu().numpy()
    return array


def _triple(values: Any) -> tuple[int, int, int]:
    i, j, k = (int(v) for v in values)
    return i, j, k


def _times(values: tuple[float, ...]) -> str:
    return "×".join(f"{v:g}" for v in values)
