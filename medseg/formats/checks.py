"""What every reader asks of the values it read, and how it words what a library told it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.core.case import Finding, Severity
from medseg.core.errors import FormatError
from medseg.core.geometry import Geometry
from medseg.core.volume import LabelMap

_SHORTENED = 160
_INT32 = np.iinfo(np.int32)


def in_short(error: BaseException) -> str:
    """The first words of a library's error on one line, for use inside a sentence of ours."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= _SHORTENED else text[: _SHORTENED - 1] + "…"


def require_content(path: Path) -> None:
    """Raise FormatError where the file is missing, no file, or empty."""
    if not path.exists():
        raise FormatError(path, "there is no such file")
    if not path.is_file():
        raise FormatError(path, "is no file")
    if path.stat().st_size == 0:
        raise FormatError(path, "is empty (0 bytes)", "unreadable")


def require_finite(path: Path, array: NDArray[Any]) -> None:
    """Raise FormatError (not-finite) where an array holds NaN or infinity."""
    if not (np.isfinite(array.min()) and np.isfinite(array.max())):
        raise FormatError(path, "holds NaN or infinite values; replace them by real intensities", "not-finite")


def is_whole(array: NDArray[Any]) -> bool:
    """Whether all values are whole numbers; slice by slice along the last axis, so that little memory is used."""
    if np.issubdtype(array.dtype, np.integer) or array.dtype == np.bool_:
        return True
    return all(np.array_equal(part, np.rint(part)) for part in np.moveaxis(array, -1, 0))


def as_labels(path: Path, array: NDArray[Any]) -> NDArray[np.int32]:
    """Label values as int32. Raises FormatError where they are no whole numbers or too large."""
    if array.dtype == np.bool_:
        return array.astype(np.int32)
    if not (np.issubdtype(array.dtype, np.integer) or np.issubdtype(array.dtype, np.floating)):
        raise FormatError(path, f"holds {array.dtype} values, which are no label values", "not-a-label-map")
    require_finite(path, array)
    if not is_whole(array):
        raise FormatError(path, "holds fractions, so it is an image and no label map", "not-a-label-map")
    if array.min() < _INT32.min or array.max() > _INT32.max:
        raise FormatError(path, "holds label values beyond 32 bits", "not-a-label-map")
    return array.astype(np.int32, copy=False)


def storable_labels(labelmap: LabelMap, path: Path) -> NDArray[Any]:
    """The label array [I, J, K] as uint8, or uint16 where it is one or a value needs it.

    Raises FormatError beyond that.
    """
    low, high = int(labelmap.array.min()), int(labelmap.array.max())
    if low < 0 or high > np.iinfo(np.uint16).max:
        raise FormatError(path, f"label values {low}..{high} cannot be written; 0..65535 can", "not-a-label-map")
    deep = high > np.iinfo(np.uint8).max or labelmap.array.dtype == np.uint16
    return labelmap.array.astype(np.uint16 if deep else np.uint8, copy=False)


def skewed_axes(geometry: Geometry) -> tuple[Finding, ...]:
    """The finding that a grid's axes do not stand square on each other, where they do not."""
    if geometry.is_orthogonal:
        return ()
    cosines = np.abs(geometry.direction.T @ geometry.direction - np.eye(3)).max()
    degrees = float(np.degrees(np.arcsin(min(1.0, cosines))))
    message = f"the voxel axes are skewed by up to {degrees:.2f} degrees"
    return (Finding("non-orthogonal-axes", Severity.WARNING, message, {"degrees": degrees}),)
