"""Structures drawn in DICOM (SEG, RTSTRUCT) as masks on the slices of the image that they were drawn on.

Both kinds of object give the same value here. A mask lies on the image's *own* slices, each at its
own place in the body; `to_labelmap` then brings the slices onto the grid of the image's volume, in
the way the image's pixels went there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from medseg.core.case import Finding, Severity, Source
from medseg.core.errors import FormatError
from medseg.core.labels import Code, Color, Label
from medseg.core.reading import Reading
from medseg.core.volume import LabelMap
from medseg.formats.dicom import arranged
from medseg.formats.dicom_frames import read_dataset, sound_header, text
from medseg.formats.dicom_references import belongs, identity_of, reference_of
from medseg.formats.dicom_stack import Stack
from medseg.formats.planes import Planes, planes_of

# Modality -> the module that reads it: `names(dataset)` and `draw(dataset, path, planes, wanted)`.
DRAWN: dict[str, str] = {"SEG": "medseg.formats.dicom_segments", "RTSTRUCT": "medseg.formats.rtstruct"}

Wanted = Callable[[str], bool]


@dataclass(frozen=True, slots=True, eq=False)
class Patch:
    """A piece of a mask: `mask` [rows, columns] lies on slice k with its first pixel at (row, column)."""

    k: int
    row: int
    column: int
    mask: NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Structure:
    """One drawn structure: the union of its patches. An empty one was drawn as empty, or on other slices.

    color: as the object recommends it; category, type, modifier: what it is, where that is coded;
    off_slices: how many of its contours (or frames with a mask) lie on no slice of the image.
    """

    name: str
    patches: tuple[Patch, ...]
    color: Color | None = None
    category: Code | None = None
    type: Code | None = None
    modifier: Code | None = None
    off_slices: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Drawing:
    """What was drawn on one image: the structures asked for, the image's slices, and what is odd about them."""

    structures: tuple[Structure, ...]
    stack: Stack
    findings: tuple[Finding, ...]


def structure_names(source: Source) -> tuple[str, ...]:
    """The names of all structures in a SEG or RTSTRUCT, in their order. Raises FormatError where it is broken."""
    found: list[str] = []
    for path in source.files:
        dataset = read_dataset(path, every_tag=True)
        with sound_header(path):
            found += _module(dataset, path).names(dataset)
    return tuple(dict.fromkeys(found))


def read_drawing(label: Source, image: Source, policy: Reading, wanted: Wanted | None = None) -> Drawing:
    """The structures that `label` (one SEG or RTSTRUCT, or several together) draws on the DICOM series `image`.

    wanted: which names to read (all where None); the masks of others are never made.
    Raises FormatError: unpaired where it was drawn in another frame of reference, missing-geometry where
    the image or the drawing has no place in the body, grid-mismatch where a SEG's pixels are not the
    image's, unsupported-syntax where nothing decodes it, unreadable, partial-file.
    """
    if image.format != "dicom":
        raise FormatError(label.path, f"can only be read beside the DICOM series it was drawn on, not {image.path}")
    stack, _ = arranged(image, policy)
    planes = planes_of(stack.frames, image.path)
    header = read_dataset(stack.frames[0].path, every_tag=True)
    structures: list[Structure] = []
    findings: list[Finding] = []
    for path in label.files:
        dataset = read_dataset(path, pixels=True)
        with sound_header(path):
            _require_same_space(dataset, path, header, image)
            drawn, odd = _module(dataset, path).draw(dataset, path, planes, wanted or _everything)
        structures += drawn
        findings += odd
    return Drawing(tuple(structures), stack, tuple(findings))


def blank(drawing: Drawing) -> NDArray[np.uint8]:
    """Label values [K, rows, columns] on the image's own slices, all background."""
    return np.zeros((len(drawing.stack.frames), *drawing.stack.frames[0].size), dtype=np.uint8)


def to_labelmap(slices: NDArray[np.uint8], drawing: Drawing, labels: Sequence[Label]) -> LabelMap:
    """Label values on the image's own slices [K, rows, columns] -> a label map on the grid of its volume."""
    stack = drawing.stack
    if stack.geometry is None:
        raise FormatError(stack.frames[0].path, "its slices make no grid", "missing-geometry")
    on_grid: NDArray[Any] = slices if stack.reslicing is None else stack.reslicing.labels_to_grid(slices)
    return LabelMap(on_grid.transpose(2, 1, 0), stack.geometry, tuple(labels))


def patch(k: int, corner: tuple[int, int], mask: NDArray[np.bool_], planes: Planes) -> Patch | None:
    """The smallest box of `mask` (its first pixel at `corner`) that lies on the slice; None where nothing does."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return None
    first = np.maximum((rows[0], columns[0]), np.negative(corner))
    last = np.minimum((rows[-1], columns[-1]), np.subtract(planes.size, corner) - 1)
    box = mask[first[0] : last[0] + 1, first[1] : last[1] + 1]
    if (last < first).any() or not box.any():
        return None
    return Patch(k, int(corner[0] + first[0]), int(corner[1] + first[1]), box.copy())


def off_slices(name: str, what: str, count: int, of: int) -> tuple[Finding, ...]:
    """The finding that `count` of the `of` contours or frames of a structure lie on no slice, where any do."""
    if not count:
        return ()
    text = f"{count} of the {of} {what} of {name!r} lie on no slice of the image and were left out"
    return (Finding("off-slice", Severity.WARNING, text, {"structure": name, "count": count, "of": of}),)


def _everything(_: str) -> bool:
    return True


def _module(dataset: Dataset, path: Path) -> Any:
    modality = text(dataset, "Modality")
    if modality not in DRAWN:
        raise FormatError(path, f"holds no drawn structures ({modality or 'no modality'})", "not-a-label-map")
    return import_module(DRAWN[modality])


def _require_same_space(dataset: Dataset, path: Path, header: Dataset, image: Source) -> None:
    """Positions mean nothing in another frame of reference, unless the object names the image's own series."""
    reference, target = reference_of(dataset, path), identity_of(header)
    known = bool(reference.frames_of_reference and target.frame_of_reference)
    if known and not belongs(reference, target):
        reason = f"was drawn on another series and in another frame of reference than {image.path}"
        raise FormatError(path, reason, "unpaired")
