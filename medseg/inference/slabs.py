"""From a prepared image to a label map without ever holding the probabilities of a whole volume.

The windows go along one axis, layer by layer. As soon as no further window touches a slice, its
probabilities are complete: they are put on the scan's own grid where that is all they are needed for,
the winning labels are kept, and the probabilities are forgotten. What windows still add to lies in
`Cells`, of which a fixed number of bytes is in memory, so memory does not grow with the labels.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise, product
from math import prod

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medseg.inference.cells import Cells, Cuts
from medseg.inference.quality import Certainty, QualityStatistics
from medseg.inference.window import Answer, Axis, Engine, Place, axes_of, cover, home, window_weights
from medseg.preprocess import Restoration, Trace

# What of the open probabilities stays in memory, and how large one block of them is at most.
HELD_BYTES = 48 * 2**20
_CELL_BYTES = 4 * 2**20
# The winner of L labels has at least 1/L. A label that stays below that everywhere in reach cannot win,
# so it is not interpolated; the rest is for rounding.
_CANNOT_WIN = 0.999


@dataclass(frozen=True, slots=True, eq=False)
class Segmented:
    """Values [I, J, K] uint8 on the scan's own grid, and how sure the network was of them on the prepared one.

    interiors, foreground: probability of an object's interior, and of any object, [I, J, K] float32 on
    the scan's own grid, for plans with instances.
    """

    labels: NDArray[np.uint8]
    certainty: Certainty
    interiors: NDArray[np.float32] | None = None
    foreground: NDArray[np.float32] | None = None


def segment(engine: Engine, image: Tensor, trace: Trace) -> Segmented:
    """The labels of a prepared image [C, I, J, K] on the source grid of its `trace`.

    As `restore(sliding_window(...))` gives, but for rounding where two labels are level. Raises
    UsageError where a GPU's memory does not hold a window, or the disk is too full for its labels.
    """
    axes = axes_of(engine.plan, trace.prepared.shape)
    labels = engine.plan.network.out_channels
    sweep = swept_axis(axes, trace)
    needed = open_bytes(axes, sweep, labels)
    where = home(engine.device, needed)
    budget = HELD_BYTES if where.type == "cpu" else None
    cells = Cells(_cuts(axes, sweep, labels, spill=budget is not None and needed > budget), labels, where, budget)
    try:
        with torch.inference_mode():
            apart = engine.plan.instances is not None
            slabs = _Slabs(axes, sweep, cells, Restoration.along(trace, sweep), apart)
            cover(engine, image, axes, slabs, sweep)
            return slabs.finish()
    finally:
        cells.clear()


def swept_axis(axes: tuple[Axis, ...], trace: Trace) -> int:
    """The axis along which the fewest voxels are open at a time; where two are level, the source's first."""
    return min(range(3), key=lambda a: (open_bytes(axes, a, 1), trace.axes[a]))


def open_bytes(axes: tuple[Axis, ...], sweep: int, labels: int) -> int:
    """Bytes of probabilities that are open at a time, when windows go along the axis `sweep`."""
    along = axes[sweep]
    # A layer of windows, and the layer before it, which resampling still reads.
    planes = min(along.size, along.window + _thickest(_layers(along)))
    return 4 * labels * planes * prod(axis.size for a, axis in enumerate(axes) if a != sweep)


def _layers(axis: Axis) -> tuple[int, ...]:
    """Where layers of windows begin, from 0 to the axis's end; what lies before one is complete when it begins."""
    return tuple(sorted({0, axis.size, *(start for start in axis.starts if start > 0)}))


def _thickest(layers: tuple[int, ...]) -> int:
    return max(b - a for a, b in pairwise(layers))


def _cuts(axes: tuple[Axis, ...], sweep: int, labels: int, spill: bool) -> Cuts:
    """Blocks between layers along `sweep`; across it whole planes, or tiles where blocks go to the file."""
    layers, voxels = _layers(axes[sweep]), _CELL_BYTES // (4 * labels)
    edge = max(axis.size for axis in axes)
    if spill:
        thick = min(_thickest(layers), max(1, round(voxels ** (1 / 3))))
        layers = (*(n for a, b in pairwise(layers) for n in range(a, b, thick)), layers[-1])
        edge = max(1, int((voxels / thick) ** 0.5))
    across = [(*range(0, axis.size, edge), axis.size) for axis in axes]
    i, j, k = (layers if a == sweep else cuts for a, cuts in enumerate(across))
    return i, j, k


class _Slabs:
    """A canvas that gives slices away as soon as they are complete."""

    def __init__(
        self, axes: tuple[Axis, ...], sweep: int, cells: Cells, restoration: Restoration, apart: bool = False
    ) -> None:
        self.axes, self.sweep, self.cells, self.restoration = axes, sweep, cells, restoration
        self.weights = window_weights(axes, cells.device)
        self._layers = cells.cuts[sweep]
        self._complete = 0  # layers of blocks that are closed
        self._kept = 0  # layers of blocks that were dropped
        self._written = 0  # pieces of the source grid that are done
        self._peaks: dict[int, Tensor] = {}  # layer -> highest probability of each label [L]
        self._statistics = QualityStatistics()
        shape = restoration.labels.shape
        self._named = cells.labels - 1 if apart else cells.labels  # interiors are no label
        # class -> its probabilities on the source grid
        self._kept_whole = {n: np.empty(shape, dtype=np.float32) for n in ((1, self._named) if apart else ())}

    def add(self, place: Place, answer: Answer, share: float) -> None:
        """Add the answer of the window at `place`, block by block."""
        for block, there, here in self._blocks(place):
            probabilities = answer.probabilities(here).to(self.cells.device)
            self.cells.open(block)[:, *there].addcmul_(probabilities, self.weights[here], value=share)

    def add_background(self, place: Place) -> None:
        """Add a window that is background."""
        for block, there, here in self._blocks(place):
            self.cells.open(block)[0][there].add_(self.weights[here])

    def settle(self, place: Place) -> None:
        """Close and use what lies before the windows that follow."""
        self._settle(max(0, place[self.sweep]))

    def finish(self) -> Segmented:
        """Close and use the rest."""
        self._settle(self.axes[self.sweep].size)
        interiors, foreground = self._kept_whole.get(self._named), self._kept_whole.get(1)
        return Segmented(self.restoration.labels, self._statistics.finish(), interiors, foreground)

    def _blocks(self, place: Place) -> list[tuple[Place, tuple[slice, ...], tuple[slice, ...]]]:
        """Blocks that a window touches, the part of each, and where that part lies in the window."""
        touched = []
        for axis, cuts, start in zip(self.axes, self.cells.cuts, place, strict=True):
            low, high = max(start, 0), min(start + axis.window, axis.size)
            first, last = np.searchsorted(cuts, low, side="right") - 1, np.searchsorted(cuts, high, side="left")
            ends = [(n, max(low, cuts[n]), min(high, cuts[n + 1])) for n in range(int(first), int(last))]
            touched.append([(n, slice(a - cuts[n], b - cuts[n]), slice(a - start, b - start)) for n, a, b in ends])
        return [
            ((i[0], j[0], k[0]), (i[1], j[1], k[1]), (i[2], j[2], k[2])) for i, j, k in product(*touched)
        ]  # fmt: skip

    def _settle(self, end: int) -> None:
        while self._complete < len(self._layers) - 1 and self._layers[self._complete + 1] <= end:
            self._close(self._complete)
            self._complete += 1
        pieces = self.restoration.pieces
        while self._written < len(pieces) and pieces[self._written].last <= self._layers[self._complete]:
            self._write(self._written)
            self._written += 1
        needed = min((piece.first for piece in pieces[self._written :]), default=self.axes[self.sweep].size)
        while self._kept < self._complete and self._layers[self._kept + 1] <= needed:
            for block in self._layer(self._kept):
                self.cells.drop(block)
            del self._peaks[self._kept]
            self._kept += 1

    def _layer(self, number: int) -> list[Place]:
        """The blocks between two cuts of the swept axis."""
        numbers = [range(len(cuts) - 1) for cuts in self.cells.cuts]
        numbers[self.sweep] = range(number, number + 1)
        return [(i, j, k) for i, j, k in product(*numbers)]

    def _close(self, layer: int) -> None:
        """Make probabilities of what added up in a layer, and see how sure they are."""
        peaks = torch.zeros(self.cells.labels, device=self.cells.device)
        for block in self._layer(layer):
            i, j, k = (
                axis.total[cuts[n] : cuts[n + 1]].to(self.cells.device)
                for axis, cuts, n in zip(self.axes, self.cells.cuts, block, strict=True)
            )
            found = self.cells.open(block).div_(i[:, None, None] * j[:, None] * k)
            self._statistics.add(found[: self._named])
            peaks = torch.maximum(peaks, found.amax(dim=(1, 2, 3)))
        self._peaks[layer] = peaks

    def _write(self, number: int) -> None:
        """Labels of one piece of the source grid, out of the closed layers behind it."""
        piece = self.restoration.pieces[number]
        first = int(np.searchsorted(self._layers, piece.first, side="right")) - 1
        last = int(np.searchsorted(self._layers, piece.last, side="left"))
        peaks = torch.stack([self._peaks[layer] for layer in range(first, last)]).amax(dim=0)
        # What is not a number compares with nothing and stays in.
        values = torch.nonzero(~(peaks[: self._named] < _CANNOT_WIN / self._named)).flatten().tolist()
        blocks = [block for layer in range(first, last) for block in self._layer(layer)]

        def planes(value: int) -> NDArray[np.float32]:
            shape = [axis.size for axis in self.axes]
            shape[self.sweep] = piece.last - piece.first
            out = np.empty(shape, dtype=np.float32)
            for block in blocks:
                self._copy(block, value, piece.first, out)
            return out

        self.restoration.write(piece, values, planes)
        for value, whole in self._kept_whole.items():
            self.restoration.interpolate(piece, planes(value), whole)

    def _copy(self, block: Place, value: int, begin: int, out: NDArray[np.float32]) -> None:
        """Copy a block's probabilities of one label to where they lie in planes from `begin` on."""
        ends = [(cuts[n], cuts[n + 1]) for cuts, n in zip(self.cells.cuts, block, strict=True)]
        low, high = ends[self.sweep]
        stop = begin + out.shape[self.sweep]
        there, here = [slice(a, b) for a, b in ends], [slice(None)] * 3
        there[self.sweep] = slice(max(low, begin) - begin, min(high, stop) - begin)
        here[self.sweep] = slice(max(low, begin) - low, min(high, stop) - low)
        out[tuple(there)] = self.cells.read(block, value)[tuple(here)]
