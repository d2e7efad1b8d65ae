"""Reading a DICOM Segmentation (PS3.3 A.51): its frames to masks on the image's slices.

A frame belongs to the slice on whose plane it lies (see `Planes`), whatever the UIDs in it say; its
pixels must be the image's own, but may run in other directions or cover a part or more of it.
FRACTIONAL values count where they are at least half of the largest (an occupancy or a probability of
0.5). Segments of LABELMAP objects are the values but the background, which is 0 or the padding value.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from medseg.core.case import Finding, Severity
from medseg.core.errors import FormatError
from medseg.core.labels import Code, Color
from medseg.formats.checks import in_short
from medseg.formats.dicom_frames import Frame, frames_of, text
from medseg.formats.planes import Planes
from medseg.formats.structures import Patch, Structure, off_slices, patch

Float = NDArray[np.float64]

# A frame's pixels may lie this far from the image's (in pixels): headers round positions and spacings.
_OFF_GRID = 0.2
_PARALLEL = 1e-3
_HALF = 0.5
_LARGEST_FRACTION = 255  # where MaximumFractionalValue is missing
_KINDS = ("BINARY", "FRACTIONAL", "LABELMAP")


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a frame's pixels are in the image: on slice k (-1: on none), first pixel at `corner`, axes turned so."""

    k: int
    corner: tuple[int, int] = (0, 0)
    transposed: bool = False
    flips: tuple[bool, bool] = (False, False)

    def turn(self, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """A frame's mask with its rows and columns along the image's."""
        upright = mask.T if self.transposed else mask
        return upright[:: -1 if self.flips[0] else 1, :: -1 if self.flips[1] else 1]


@dataclass(slots=True)
class _Found:
    """What was found of one segment."""

    patches: list[Patch] = field(default_factory=list)
    frames: int = 0
    off: int = 0
    outside: int = 0


def names(dataset: Dataset) -> list[str]:
    """The names of all segments but the background, in the order of the object."""
    return [_name(item) for item in _segments(dataset).values()]


def draw(
    dataset: Dataset, path: Path, planes: Planes, wanted: Callable[[str], bool]
) -> tuple[list[Structure], list[Finding]]:
    """The wanted segments as masks, and the findings off-slice and outside-image.

    Raises FormatError: missing-geometry, grid-mismatch, unsupported-syntax, partial-file, unreadable.
    """
    kind = text(dataset, "SegmentationType").upper()
    if kind not in _KINDS:
        raise FormatError(path, f"is a segmentation of the type {kind or 'none'!r}, not {', '.join(_KINDS)}")
    segments = {number: item for number, item in _segments(dataset).items() if wanted(_name(item))}
    found: dict[int, _Found] = defaultdict(_Found)
    places = _places(dataset, path, planes)
    numbers = [None] * len(places) if kind == "LABELMAP" else _segment_numbers(dataset, len(places), path)
    needed = [n for n, number in enumerate(numbers) if number is None or number in segments]
    for n, stored in zip(needed, _decoded(dataset, path, needed), strict=True):
        for number, mask in _masks(stored, numbers[n], dataset, kind):
            if number in segments and mask.any():
                _add(found[number], places[n], mask, planes)
    structures = [_structure(item, found[number]) for number, item in segments.items()]
    return structures, [f for number, item in segments.items() for f in _findings(_name(item), found[number])]


# ---- segments ---------------------------------------------------------------------------------


def _segments(dataset: Dataset) -> dict[int, Dataset]:
    """The segments by their number, without the background of a LABELMAP."""
    background = {0}
    if text(dataset, "SegmentationType") == "LABELMAP" and text(dataset, "PixelPaddingValue"):
        background.add(int(dataset.PixelPaddingValue))
    items = {int(item.SegmentNumber): item for item in dataset.get("SegmentSequence") or ()}
    return {number: item for number, item in items.items() if number not in background}


def _name(item: Dataset) -> str:
    coded = _code(item, "SegmentedPropertyTypeCodeSequence")
    return text(item, "SegmentLabel") or (coded.meaning if coded else "") or f"segment {item.SegmentNumber}"


def _structure(item: Dataset, found: _Found) -> Structure:
    kind = next(iter(item.get("SegmentedPropertyTypeCodeSequence") or ()), Dataset())
    return Structure(
        name=_name(item),
        patches=tuple(found.patches),
        color=_color(item),
        category=_code(item, "SegmentedPropertyCategoryCodeSequence"),
        type=_code(item, "SegmentedPropertyTypeCodeSequence"),
        modifier=_code(kind, "SegmentedPropertyTypeModifierCodeSequence"),
        off_slices=found.off,
    )


def _code(item: Dataset, keyword: str) -> Code | None:
    coded = next(iter(item.get(keyword) or ()), None)
    if coded is None or not text(coded, "CodeValue"):
        return None
    return Code(text(coded, "CodeValue"), text(coded, "CodingSchemeDesignator"), text(coded, "CodeMeaning"))


def _color(item: Dataset) -> Color | None:
    value = item.get("RecommendedDisplayCIELabValue")
    if value is None or len(value) != 3:
        return None
    from highdicom.color import CIELabColor

    red, green, blue = CIELabColor.from_dicom_value(list(value)).to_rgb()
    return int(red), int(green), int(blue)


def _findings(name: str, found: _Found) -> Iterator[Finding]:
    yield from off_slices(name, "frames", found.off, found.frames)
    if found.outside:
        text = f"{found.outside} frames of {name!r} reach beyond the image and were cut at its edge"
        yield Finding("outside-image", Severity.WARNING, text, {"structure": name, "count": found.outside})


# ---- pixels -----------------------------------------------------------------------------------


def _segment_numbers(dataset: Dataset, count: int, path: Path) -> list[int | None]:
    """The segment that each frame belongs to."""
    shared: Sequence[Any] = dataset.get("SharedFunctionalGroupsSequence") or ()
    per_frame: Sequence[Any] = dataset.get("PerFrameFunctionalGroupsSequence") or ()
    numbers: list[int | None] = []
    for item in per_frame:
        group = next((g.SegmentIdentificationSequence[0] for g in (item, *shared) if _identifies(g)), None)
        if group is None:
            raise FormatError(path, "its frames do not say which segment they belong to")
        numbers.append(int(group.ReferencedSegmentNumber))
    if len(numbers) != count:
        raise FormatError(path, "its frames are not described one by one", "missing-geometry")
    return numbers


def _identifies(item: Dataset) -> bool:
    return bool(item.get("SegmentIdentificationSequence"))


def _decoded(dataset: Dataset, path: Path, needed: Sequence[int]) -> Iterator[NDArray[Any]]:
    """The stored numbers [rows, columns] of the frames `needed`; masks of one bit are decoded by pydicom alone."""
    from pydicom.pixels import get_decoder

    if "PixelData" not in dataset:
        raise FormatError(path, "has no pixel data (cut off while copying?)", "partial-file")
    syntax = dataset.file_meta.TransferSyntaxUID
    try:
        decoder = get_decoder(syntax)
        if not syntax.is_encapsulated:
            _require_all_bits(dataset, path)
        if not syntax.is_encapsulated and int(dataset.BitsAllocated) == 1:
            yield from (_bits(dataset, number) for number in needed)
            return
        # Of nothing wanted nothing is decoded, while pydicom takes an empty list for all frames.
        for array, _ in decoder.iter_array(dataset, indices=needed, raw=True) if needed else ():
            yield array
    except FormatError:
        raise
    except Exception as error:  # every decoder raises its own
        reason = f"no installed decoder reads its pixels ({syntax.name}: {in_short(error)})"
        raise FormatError(path, reason, "unsupported-syntax") from error


def _bits(dataset: Dataset, number: int) -> NDArray[np.uint8]:
    """One frame of packed bits (PS3.5 8.1.1), which may begin and end inside a byte: pydicom 3.0 then loses its end."""
    rows, columns = int(dataset.Rows), int(dataset.Columns)
    first = number * rows * columns
    last = first + rows * columns
    packed = np.frombuffer(dataset.PixelData, np.uint8, (last + 7) // 8 - first // 8, first // 8)
    bits = np.unpackbits(packed, bitorder="little")[first % 8 :][: rows * columns]
    return bits.reshape(rows, columns)


def _require_all_bits(dataset: Dataset, path: Path) -> None:
    pixels = int(dataset.Rows) * int(dataset.Columns) * int(dataset.get("NumberOfFrames") or 1)
    if len(dataset.PixelData) * 8 < pixels * int(dataset.BitsAllocated):
        raise FormatError(path, "its pixel data end too early (cut off while copying?)", "partial-file")


def _masks(
    stored: NDArray[Any], number: int | None, dataset: Dataset, kind: str
) -> Iterator[tuple[int, NDArray[np.bool_]]]:
    """(segment number, mask) of everything in a frame."""
    if number is None:
        yield from ((int(value), stored == value) for value in np.unique(stored))
    elif kind == "FRACTIONAL":
        largest = int(dataset.get("MaximumFractionalValue") or _LARGEST_FRACTION)
        yield number, stored >= _HALF * largest
    else:
        yield number, stored != 0


def _add(found: _Found, place: _Place, mask: NDArray[np.bool_], planes: Planes) -> None:
    found.frames += 1
    if place.k < 0:
        found.off += 1
        return
    turned = place.turn(mask)
    kept = patch(place.k, place.corner, turned, planes)
    found.outside += int(kept is None or kept.mask.sum() < turned.sum())
    if kept is not None:
        found.patches.append(kept)


# ---- places -----------------------------------------------------------------------------------


def _places(dataset: Dataset, path: Path, planes: Planes) -> list[_Place]:
    frames = frames_of(dataset, path)
    if len(frames) != int(dataset.get("NumberOfFrames") or 1) or any(f.position is None for f in frames):
        reason = "its frames have no position in the body (tiles of a slide, or drawn on a plain radiograph)"
        raise FormatError(path, reason, "missing-geometry")
    return [_place(frame, path, planes) for frame in frames]


def _place(frame: Frame, path: Path, planes: Planes) -> _Place:
    """Where a frame lies. Raises FormatError (grid-mismatch) where its pixels are not the image's."""
    origin, down, along = _steps(frame, path)
    if abs(np.dot(np.cross(down, along), planes.normal)) < (1 - _PARALLEL) * np.linalg.norm(np.cross(down, along)):
        raise FormatError(path, "was drawn in other planes than the image's slices", "grid-mismatch")
    rows, columns = frame.size
    reach = np.array([[0, 0], [rows - 1, 0], [0, columns - 1], [rows - 1, columns - 1]])
    corners = origin + reach @ np.stack([down, along])
    ends = planes.nearest(corners @ planes.normal)
    if len(set(ends.tolist())) != 1 or ends[0] < 0:
        return _Place(-1)
    k = int(ends[0])
    steps = planes.pixels(np.stack([origin, origin + down, origin + along]), k)
    axes = np.rint(steps[1:] - steps[0])  # [(down, along), (row, column)]
    given = planes.pixels(corners, k)
    expected = np.rint(given[0]) + reach @ axes
    turned = np.array_equal(np.abs(axes), np.eye(2)) or np.array_equal(np.abs(axes), np.eye(2)[::-1])
    if not turned or np.abs(expected - given).max() > _OFF_GRID:
        own, images = (f"{rows:g}x{columns:g}" for rows, columns in (frame.spacing or (0, 0), planes.spacings[k]))
        reason = f"its pixels ({own} mm) do not lie on those of the image ({images} mm)"
        raise FormatError(path, reason, "grid-mismatch")
    row, column = expected.min(axis=0).astype(int)
    downwards, rightwards = axes.sum(axis=0) > 0
    return _Place(k, (int(row), int(column)), bool(axes[0, 0] == 0), (not downwards, not rightwards))


def _steps(frame: Frame, path: Path) -> tuple[Float, Float, Float]:
    """The first pixel's centre, and the way to the next pixel down a column and along a row (LPS+ mm)."""
    if frame.orientation is None or frame.spacing is None or frame.position is None or min(frame.spacing) <= 0:
        raise FormatError(path, "its frames lack an orientation or a pixel spacing", "missing-geometry")
    row, column = np.array(frame.orientation, dtype=np.float64).reshape(2, 3)
    return np.array(frame.position, dtype=np.float64), column * frame.spacing[0], row * frame.spacing[1]
