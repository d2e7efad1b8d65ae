"""Voxel counts behind every overlap metric, and what counts as empty."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.core.errors import MedsegError, UsageError
from medseg.core.labels import IGNORE

# Voxels counted at a time: few enough that their 64-bit codes are no memory worth mentioning.
_CHUNK = 1 << 20
# Widest range of values that is looked up in a table instead of searched for.
_TABLE = 1 << 16


class Presence(StrEnum):
    """Which of the two masks hold the label; the text is the reason given beside a figure."""

    BOTH = ""
    NEITHER = "absent in both"
    ONLY_PREDICTED = "predicted, but not in the reference"
    MISSED = "in the reference, but missed"


@dataclass(frozen=True, slots=True)
class Counts:
    """Voxels of one label: in both masks (tp), only predicted (fp), only in the reference (fn), in neither (tn)."""

    tp: int
    fp: int
    fn: int
    tn: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.tp + other.tp, self.fp + other.fp, self.fn + other.fn, self.tn + other.tn)

    @property
    def voxels(self) -> int:
        """All voxels that count, which are the same for every label of a case."""
        return self.tp + self.fp + self.fn + self.tn

    @property
    def predicted(self) -> int:
        """Voxels of the label in the prediction."""
        return self.tp + self.fp

    @property
    def reference(self) -> int:
        """Voxels of the label in the reference."""
        return self.tp + self.fn

    @property
    def presence(self) -> Presence:
        """Which of the two masks hold the label at all."""
        if self.reference and self.predicted:
            return Presence.BOTH
        if self.reference:
            return Presence.MISSED
        return Presence.ONLY_PREDICTED if self.predicted else Presence.NEITHER


@dataclass(frozen=True, slots=True, eq=False)
class Confusion:
    """Counts per label value, the table behind them, and how many voxels the reference told us to leave out.

    matrix: voxels [predicted class, reference class]; class 0 is background (every value that was not
    asked for), then come the values in the order in which they were asked for.
    """

    counts: Mapping[int, Counts]
    matrix: NDArray[np.int64]
    ignored: int = 0


def confusion(
    prediction: NDArray[Any], reference: NDArray[Any], values: Sequence[int], ignore: int | None = IGNORE
) -> Confusion:
    """Count the voxels of every value in two label arrays of one shape (one axis or more).

    Voxels where the reference is `ignore` leave both masks; None leaves nothing out. Other values
    that are not asked for count as background.
    Raises MedsegError where the shapes differ and UsageError where a value is asked for twice.
    """
    if prediction.shape != reference.shape:
        raise MedsegError(f"a prediction of shape {prediction.shape} has no reference of shape {reference.shape}")
    if len(set(values)) != len(values):
        raise UsageError(f"each label value can be counted once only, not {list(values)}")
    matrix, ignored = _matrix(prediction, reference, values, ignore)
    hits, predicted, true_totals = np.diag(matrix), matrix.sum(axis=1), matrix.sum(axis=0)
    voxels = int(matrix.sum())
    counts = {
        int(value): _counts(int(hits[c]), int(predicted[c]), int(true_totals[c]), voxels)
        for c, value in enumerate(values, start=1)
    }
    return Confusion(counts, matrix, ignored)


def _counts(hits: int, predicted: int, reference: int, voxels: int) -> Counts:
    return Counts(hits, predicted - hits, reference - hits, voxels - predicted - reference + hits)


def _matrix(
    prediction: NDArray[Any], reference: NDArray[Any], values: Sequence[int], ignore: int | None
) -> tuple[NDArray[np.int64], int]:
    """Voxels [predicted class, reference class], and how many are ignored."""
    size = len(values) + 1
    matrix, ignored = np.zeros((size, size), dtype=np.int64), 0
    if prediction.dtype == reference.dtype == np.uint8:  # counted by value first, without looking at each voxel twice
        return _of_bytes(prediction, reference, values, ignore)
    for found, true in _chunks(prediction, reference):
        codes = _classes(found, values) * size + _classes(true, values)
        if ignore is not None:
            keep = true != ignore
            ignored += int(keep.size - np.count_nonzero(keep))
            codes = codes[keep]
        matrix += np.bincount(codes, minlength=size * size).reshape(size, size)
    return matrix, ignored


def _of_bytes(
    prediction: NDArray[Any], reference: NDArray[Any], values: Sequence[int], ignore: int | None
) -> tuple[NDArray[np.int64], int]:
    by_value = np.zeros(1 << 16, dtype=np.int64)  # 256 x predicted value + reference value
    for found, true in _chunks(prediction, reference):
        by_value += np.bincount((found.astype(np.int64) << 8) | true, minlength=1 << 16)
    codes = np.flatnonzero(by_value)
    left_out = np.zeros(codes.size, dtype=np.bool_) if ignore is None else codes & 255 == ignore
    matrix = np.zeros((len(values) + 1,) * 2, dtype=np.int64)
    kept = codes[~left_out]
    np.add.at(matrix, (_classes(kept >> 8, values), _classes(kept & 255, values)), by_value[kept])
    return matrix, int(by_value[codes[left_out]].sum())


def _chunks(prediction: NDArray[Any], reference: NDArray[Any]) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    """Both arrays as flat pieces of the same voxels, walked in the order in which they lie in memory."""
    order = sorted(range(prediction.ndim), key=lambda axis: -abs(prediction.strides[axis]))
    found, true = prediction.transpose(order), reference.transpose(order)
    rows = found.shape[0]
    step = max(1, _CHUNK * rows // max(1, found.size))
    for start in range(0, rows, step):
        part = slice(start, start + step)
        yield found[part].reshape(-1), true[part].reshape(-1)


def _classes(array: NDArray[Any], values: Sequence[int]) -> NDArray[np.int64]:
    """1 + place in `values` for every voxel, 0 for those of another value."""
    if not values:
        return np.zeros(array.shape, dtype=np.int64)
    asked = np.asarray(values, dtype=np.int64)
    wide = array.astype(np.int64)
    low, high = int(asked.min()), int(asked.max())
    if high - low < _TABLE:
        table = np.zeros(high - low + 3, dtype=np.int64)  # one more cell at either end for values beyond
        table[asked - low + 1] = np.arange(1, len(asked) + 1)
        return table[np.clip(wide, low - 1, high + 1) - (low - 1)]
    order = np.argsort(asked)
    place = np.minimum(np.searchsorted(asked[order], wide), len(asked) - 1)
    return np.where(asked[order][place] == wide, order[place] + 1, 0)
