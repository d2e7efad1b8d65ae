"""Writing a label map as a DICOM Segmentation (PS3.3 A.51) that refers to its source's frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import highdicom
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian

from medseg.core.case import Source
from medseg.core.errors import FormatError
from medseg.core.labels import Label
from medseg.core.reading import Reading
from medseg.core.version import VERSION
from medseg.core.volume import LabelMap
from medseg.formats.checks import in_short
from medseg.formats.dicom_derived import (
    LONG,
    Derived,
    algorithm,
    derive,
    meaning,
    own_series,
    require_space,
    save,
    task_name,
)
from medseg.formats.quiet import quiet

_SERIES_NUMBER = 300
_PART = 2**20  # bytes whose bits are counted together: those of all frames would be a volume more

Kind = Literal["BINARY", "LABELMAP"]


def write_segmentation(
    labelmap: LabelMap, source: Source, path: Path, provenance: Mapping[str, str], policy: Reading | None = None
) -> None:
    """Write `labelmap` (on the grid of the DICOM `source`) as a BINARY segmentation, one segment a label.

    provenance: what made it (model, task, …); it goes into the algorithm's parameters. policy: what
    the source was read with; where that put its slices onto another grid, the labels are brought back
    to the slices. A label map without foreground becomes an explicit negative: every segment is
    described, every frame empty.

    Raises FormatError: missing-uids where the source lacks a UID that the object must refer to,
    grid-mismatch where the label map is not on its grid.
    """
    derived = derive(labelmap, source, provenance, policy)
    save(segmentation(derived), path, derived)


def segmentation(derived: Derived, kind: Kind = "BINARY") -> Dataset:
    """The segmentation object. kind: LABELMAP needs a reader that knows DICOM of 2024 or later.

    Raises FormatError: missing-uids where the source's headers are too odd to refer to, no-seg where the
    object does not hold all voxels.
    """
    with quiet():
        require_space(derived)
        frames = _in_source_order(derived)
        segments = [_segment(number, label, derived) for number, label in enumerate(derived.labels, start=1)]
        try:
            made = _object(derived, frames, segments, kind)
        except (AttributeError, KeyError, TypeError, ValueError) as error:  # what highdicom raises for odd sources
            reason = f"no segmentation can refer to it ({in_short(error)})"
            raise FormatError(derived.source.path, reason, "missing-uids") from error
    _require_all_voxels(made, derived, kind)
    return made


def _require_all_voxels(made: Dataset, derived: Derived, kind: Kind) -> None:
    """Raise FormatError (no-seg) where the object holds another number of voxels than the label map it was made of."""
    bits = int(made.NumberOfFrames) * int(made.Rows) * int(made.Columns) * int(made.BitsAllocated)
    length = -(-bits // 8)
    if len(made.PixelData) > length:  # highdicom 0.28 fills up to an even length with the character 0, which is no zero
        made.PixelData = made.PixelData[:length] + b"\0"
    stored = np.frombuffer(made.PixelData, np.uint16 if made.BitsAllocated == 16 else np.uint8)
    parts = np.array_split(stored, -(-len(stored) // _PART))
    held = sum(int(np.bitwise_count(p).sum(dtype=np.int64) if kind == "BINARY" else np.count_nonzero(p)) for p in parts)
    wanted = int(np.count_nonzero(derived.numbers))
    if held != wanted:
        raise FormatError(derived.source.path, f"its segmentation came out with {held} of {wanted} voxels", "no-seg")


def _object(derived: Derived, frames: NDArray[Any], segments: Sequence[Any], kind: Kind) -> Dataset:
    made: Dataset = highdicom.seg.Segmentation(
        source_images=list(derived.images),
        pixel_array=frames,
        segmentation_type=highdicom.seg.SegmentationTypeValues[kind],
        segment_descriptions=segments,
        content_label="MEDSEG",
        content_description=f"Segmentation by medseg {VERSION}"[:LONG],
        series_description=f"medseg {task_name(derived)}"[:LONG],
        transfer_syntax_uid=ExplicitVRLittleEndian,
        # Frames without foreground are left out; of an empty result all are kept, as an object needs one.
        omit_empty_frames=bool(frames.any()),
        **own_series(_SERIES_NUMBER),
    )
    return made


def _segment(number: int, label: Label, derived: Derived) -> Any:
    category, kind, modifier = meaning(label)
    segment = highdicom.seg.SegmentDescription(
        segment_number=number,
        segment_label=label.name[:LONG],
        segmented_property_category=category,
        segmented_property_type=kind,
        algorithm_type=highdicom.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=algorithm(derived),
        display_color=highdicom.color.CIELabColor.from_rgb(*label.color) if any(label.color) else None,
    )
    if modifier is not None:
        coded = highdicom.sr.CodedConcept.from_code(modifier)
        segment.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence = [coded]
    return segment


def _in_source_order(derived: Derived) -> NDArray[Any]:
    """Slices in the order of the frames in their file, empty where a frame belongs to another volume."""
    slices = derived.numbers
    if len(derived.images) == len(derived.frames):  # single-frame files are in slice order already
        return slices
    ordered = np.zeros((int(derived.first.NumberOfFrames), *slices.shape[1:]), dtype=slices.dtype)
    ordered[[frame.number for frame in derived.frames]] = slices
    return ordered
