"""Reading an RT Structure Set (PS3.3 A.19): contours in the body to masks on the image's slices.

A contour belongs to the slice on whose plane its points lie (see `Planes`), whatever the UIDs in it
say, as these often point at images that no longer exist. Which pixels it encloses, and how several
contours make holes, is said in `medseg.formats.contours`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from medseg.core.case import Finding, Severity
from medseg.core.errors import FormatError
from medseg.core.labels import Code, Color
from medseg.formats.contours import fill
from medseg.formats.dicom_frames import text
from medseg.formats.planes import Planes
from medseg.formats.structures import Patch, Structure, off_slices

Float = NDArray[np.float64]

_CLOSED = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")
_CONTOUR_DATA = 0x30060050
_FEWEST_POINTS = 3


@dataclass(slots=True)
class _Sorted:
    """The contours of one structure: by slice, in pixels; and those that make no mask."""

    by_slice: dict[int, list[Float]] = field(default_factory=lambda: defaultdict(list))
    closed: int = 0
    off: int = 0
    repeated: int = 0
    outside: int = 0
    open: dict[str, int] = field(default_factory=dict)


def names(dataset: Dataset) -> list[str]:
    """The names of all structures, in the order of the object."""
    return [name for _, name in _regions(dataset)]


def draw(
    dataset: Dataset, path: Path, planes: Planes, wanted: Callable[[str], bool]
) -> tuple[list[Structure], list[Finding]]:
    """The wanted structures as masks, and the findings off-slice, open-contour, outside-image, duplicate-contour.

    Raises FormatError (unreadable) where a contour's points are no points.
    """
    drawn = {_number(item, "ReferencedROINumber"): item for item in dataset.get("ROIContourSequence") or ()}
    observed = {_number(item, "ReferencedROINumber"): item for item in dataset.get("RTROIObservationsSequence") or ()}
    structures: list[Structure] = []
    findings: list[Finding] = []
    for number, name in _regions(dataset):
        if not wanted(name):
            continue
        item = drawn.get(number, Dataset())
        found = _sorted(item, path, planes)
        patches = tuple(_patches(found, planes))
        structures.append(
            Structure(name, patches, _color(item), type=_code(observed.get(number)), off_slices=found.off)
        )
        findings += _findings(name, found)
    return structures, findings


def _regions(dataset: Dataset) -> list[tuple[str, str]]:
    regions = dataset.get("StructureSetROISequence") or ()
    return [
        (_number(item, "ROINumber"), text(item, "ROIName") or f"ROI {_number(item, 'ROINumber')}") for item in regions
    ]


def _number(item: Dataset, keyword: str) -> str:
    return text(item, keyword)


def _sorted(item: Dataset, path: Path, planes: Planes) -> _Sorted:
    """The contours of a structure with the slices they lie on."""
    found = _Sorted()
    seen: set[tuple[int, bytes]] = set()
    for contour in item.get("ContourSequence") or ():
        kind = text(contour, "ContourGeometricType") or "without a type"
        points = _points(contour, path)
        if kind not in _CLOSED or len(points) < _FEWEST_POINTS:
            kind = kind if kind not in _CLOSED else "of fewer than three points"
            found.open[kind] = found.open.get(kind, 0) + 1
            continue
        found.closed += 1
        k = _slice_of(points, planes)
        if k < 0:
            found.off += 1
        elif (k, points.tobytes()) in seen:  # by exclusive or the copy would undo the contour
            found.repeated += 1
        else:
            seen.add((k, points.tobytes()))
            found.by_slice[k].append(planes.pixels(points, k))
    return found


def _slice_of(points: Float, planes: Planes) -> int:
    """The slice in whose plane all points lie, -1 where there is none."""
    heights = points @ planes.normal
    ends = planes.nearest(np.array([heights.min(), heights.max()]))
    return int(ends[0]) if ends[0] == ends[1] else -1


def _points(contour: Dataset, path: Path) -> Float:
    """A contour's points [N, 3], LPS+ mm. Raises FormatError where they are none."""
    if "ContourData" not in contour:
        return np.empty((0, 3))
    # The bytes as they are: a structure set holds a million numbers, and pydicom makes an object of each.
    value: Any = contour.get_item(_CONTOUR_DATA).value
    if isinstance(value, bytes):
        text_of_each = value.rstrip(b"\0 ")
        value = np.array(text_of_each.split(b"\\"), dtype=np.bytes_) if text_of_each else None
    try:
        points = np.array([] if value is None else value, dtype=np.float64).reshape(-1, 3)
    except ValueError as error:
        raise FormatError(path, "a contour's points are no triples of numbers") from error
    if not np.isfinite(points).all():
        raise FormatError(path, "a contour has points at infinity", "not-finite")
    return points


def _patches(found: _Sorted, planes: Planes) -> Iterator[Patch]:
    for k, contours in sorted(found.by_slice.items()):
        inside = fill(contours, planes.size)
        if inside is not None:
            yield Patch(k, *inside[0], inside[1])
        found.outside += sum(_leaves(contour, planes.size) for contour in contours)


def _leaves(contour: Float, size: tuple[int, int]) -> bool:
    """Whether a contour goes beyond the pixels of its slice, whose outer edges lie half a pixel beyond the centres."""
    return bool(contour.min() < -0.5 or (contour > np.array(size) - 0.5).any())


def _findings(name: str, found: _Sorted) -> Iterator[Finding]:
    for kind, count in found.open.items():
        text = f"{count} contours of {name!r} are {kind}, enclose nothing and were left out"
        yield Finding("open-contour", Severity.WARNING, text, {"structure": name, "type": kind, "count": count})
    yield from off_slices(name, "contours", found.off, found.closed)
    if found.repeated:
        text = f"{found.repeated} contours of {name!r} are there twice; each was taken once"
        yield Finding("duplicate-contour", Severity.INFO, text, {"structure": name, "count": found.repeated})
    if found.outside:
        text = f"{found.outside} contours of {name!r} reach beyond the image and were cut at its edge"
        yield Finding("outside-image", Severity.WARNING, text, {"structure": name, "count": found.outside})


def _color(item: Dataset) -> Color | None:
    value = item.get("ROIDisplayColor")
    if value is None or len(value) != 3:
        return None
    red, green, blue = (min(255, max(0, int(part))) for part in value)
    return red, green, blue


def _code(item: Dataset | None) -> Code | None:
    """What a structure is, where its observation says so in a code."""
    coded = next(iter((item or Dataset()).get("RTROIIdentificationCodeSequence") or ()), None)
    if coded is None or not text(coded, "CodeValue"):
        return None
    return Code(text(coded, "CodeValue"), text(coded, "CodingSchemeDesignator"), text(coded, "CodeMeaning"))
