"""Writing a label map as an RT Structure Set (PS3.3 A.19): outlines on the source's own slices.

An outline runs half-way between the centres of a pixel inside and its neighbour outside, as marching
squares has it, so that it encloses exactly the pixels' centres, however a reader rounds; its area falls
short of the pixels' by half a pixel. Several outlines of one structure on one slice are to be combined
by exclusive or: one inside another is a hole. A structure without voxels is an ROI without contours, an
explicit negative.

The object is written in implicit VR: an outline may take more than the 64 KB that explicit VR allows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

import highdicom
import numpy as np
from numpy.typing import NDArray
from pydicom.charset import default_encoding
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag
from pydicom.uid import ImplicitVRLittleEndian, RTStructureSetStorage

from medseg.core.errors import FormatError
from medseg.core.labels import Label
from medseg.core.version import VERSION
from medseg.formats.contours import fill
from medseg.formats.dicom_derived import (
    LONG,
    SHORT,
    Derived,
    algorithm,
    meaning,
    new_object,
    parameters,
    require_space,
    task_name,
)
from medseg.formats.planes import Planes, planes_of
from medseg.formats.quiet import quiet

Float = NDArray[np.float64]

_SERIES_NUMBER = 301
_STUDY_MANAGEMENT = "1.2.840.10008.3.1.2.3.1"  # Detached Study Management, which the module asks for
_CONTOUR_DATA = Tag(0x3006, 0x0050)
_EDGE = 0.499  # pixels beyond the outermost centres, so that no outline leaves the image by rounding
_STEPS = 1000  # coordinates are rounded to a thousandth of a pixel or less
_MOST_DECIMALS = 8
_DESCRIPTION = 1024


def structure_set(derived: Derived) -> Dataset:
    """The structure set object: one ROI a label, whether it was found or not.

    Every outline is filled again as it is stored and compared with the label map. Raises FormatError:
    missing-geometry where the slices have no place in the body, missing-uids where the source names no
    frame of reference, no-rtstruct where an outline does not give its pixels back.
    """
    with quiet():
        require_space(derived)
        planes = planes_of(derived.frames, derived.source.path)
        made = new_object(
            derived,
            RTStructureSetStorage,
            _SERIES_NUMBER,
            ImplicitVRLittleEndian,
            modality="RTSTRUCT",
            series_description=f"medseg {task_name(derived)}"[:LONG],
        )
        _describe(made, derived)
        made.ReferencedFrameOfReferenceSequence = [_referenced_frame(derived)]
        numbered = list(enumerate(derived.labels, start=1))
        made.StructureSetROISequence = [_region(number, label, derived) for number, label in numbered]
        extents = _extents(derived)
        made.ROIContourSequence = [_contours(n, label, extents[n - 1], derived, planes) for n, label in numbered]
        made.RTROIObservationsSequence = [_observation(number, label) for number, label in numbered]
        return made


def outlines(mask: NDArray[np.bool_]) -> list[Float]:
    """The closed outlines [N, 2] (row, column) of a mask [rows, columns], in pixels, centres at integers.

    Filled by exclusive or they give the mask back. The last vertex joins the first, which is not
    repeated; vertices on a straight line are left out.
    """
    from skimage.measure import find_contours

    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return []
    box = np.pad(mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1], 1).astype(np.float64)
    first = np.array((rows[0], columns[0])) - 1
    edge = np.array(mask.shape) - 1 + _EDGE
    return [np.clip(_corners(line[:-1]) + first, -_EDGE, edge) for line in find_contours(box, 0.5)]


def _corners(points: Float) -> Float:
    """The points at which a closed polygon turns."""
    before, after = points - np.roll(points, 1, axis=0), np.roll(points, -1, axis=0) - points
    turns = before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0] != 0
    corners: Float = points[turns]
    return corners


def _describe(made: Dataset, derived: Derived) -> None:
    now = datetime.now()
    made.OperatorsName = ""
    made.StructureSetLabel = "MEDSEG"
    made.StructureSetName = f"medseg {task_name(derived)}"[:LONG]
    made.StructureSetDescription = f"By medseg {VERSION}; {parameters(derived)}"[:_DESCRIPTION]
    made.StructureSetDate, made.StructureSetTime = now.strftime("%Y%m%d"), now.strftime("%H%M%S")
    made.ApprovalStatus = "UNAPPROVED"
    made.FrameOfReferenceUID = derived.first.FrameOfReferenceUID
    made.PositionReferenceIndicator = derived.first.get("PositionReferenceIndicator", "")


def _referenced_frame(derived: Derived) -> Dataset:
    frame, study, series = Dataset(), Dataset(), Dataset()
    frame.FrameOfReferenceUID = derived.first.FrameOfReferenceUID
    study.ReferencedSOPClassUID = _STUDY_MANAGEMENT
    study.ReferencedSOPInstanceUID = derived.first.StudyInstanceUID
    series.SeriesInstanceUID = derived.first.SeriesInstanceUID
    series.ContourImageSequence = [_image(derived, k) for k in range(len(derived.frames))]
    study.RTReferencedSeriesSequence = [series]
    frame.RTReferencedStudySequence = [study]
    return frame


def _image(derived: Derived, k: int) -> Dataset:
    """What refers to slice k."""
    item, image = Dataset(), derived.image(k)
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = image.SOPClassUID, image.SOPInstanceUID
    if "NumberOfFrames" in image:
        item.ReferencedFrameNumber = derived.frames[k].number + 1
    return item


def _region(number: int, label: Label, derived: Derived) -> Dataset:
    item = Dataset()
    item.ROINumber = number
    item.ReferencedFrameOfReferenceUID = derived.first.FrameOfReferenceUID
    item.ROIName = label.name[:LONG]
    item.ROIGenerationAlgorithm = "AUTOMATIC"
    item.ROIGenerationDescription = f"medseg {VERSION}"[:LONG]
    item.ROIDerivationAlgorithmIdentificationSequence = algorithm(derived)
    return item


def _contours(number: int, label: Label, slices: range, derived: Derived, planes: Planes) -> Dataset:
    item = Dataset()
    item.ReferencedROINumber = number
    item.ROIDisplayColor = list(label.color)
    found = list(_drawn(number, slices, derived, planes))
    if found:
        item.ContourSequence = found
    return item


def _extents(derived: Derived) -> list[range]:
    """Of every label the slices from the first to the last that hold it."""
    from scipy.ndimage import find_objects

    boxes = find_objects(derived.numbers, max_label=len(derived.labels))
    return [range(0) if box is None else range(box[0].start, box[0].stop) for box in boxes]


def _drawn(number: int, slices: range, derived: Derived, planes: Planes) -> Iterator[Dataset]:
    count = 0
    for k in slices:
        mask = derived.numbers[k] == number
        coded = [_encoded(planes.points(outline, k), planes.spacings[k]) for outline in outlines(mask)]
        _require_mask(coded, mask, (derived, planes, k))
        for element in coded:
            count += 1
            contour = Dataset()
            contour.ContourImageSequence = [_image(derived, k)]
            contour.ContourGeometricType = "CLOSED_PLANAR"
            contour.NumberOfContourPoints = (element.value.count(b"\\") + 1) // 3
            contour.ContourNumber = count
            contour[_CONTOUR_DATA] = element
            # Else pydicom would take the coordinates apart to encode them anew.
            contour.set_original_encoding(
                is_implicit_vr=True, is_little_endian=True, character_encoding=default_encoding
            )
            yield contour


def _require_mask(coded: Sequence[RawDataElement], mask: NDArray[np.bool_], place: tuple[Derived, Planes, int]) -> None:
    """Raise FormatError (no-rtstruct) where the outlines, read again as they are stored, do not give the mask back."""
    derived, planes, k = place
    again = np.zeros_like(mask)
    if coded:
        points = [np.array(element.value.split(b"\\"), dtype=np.float64).reshape(-1, 3) for element in coded]
        inside = fill([planes.pixels(each, k) for each in points], planes.size)
        if inside is not None:
            (row, column), box = inside
            again[row : row + box.shape[0], column : column + box.shape[1]] = box
    if not np.array_equal(again, mask):
        reason = f"outlines of slice {k + 1} enclose {int((again != mask).sum())} other pixels than the label map"
        raise FormatError(derived.source.path, reason, "no-rtstruct")


def _encoded(points: Float, spacing: Float) -> RawDataElement:
    """Coordinates as a decimal string, ready to be written: pydicom would make an object of each of a million."""
    decimals = int(np.clip(np.ceil(np.log10(_STEPS / spacing.min())), 1, _MOST_DECIMALS))
    value = "\\".join([f"{number:.{decimals}f}" for number in points.ravel().tolist()]).encode()
    value += b" " * (len(value) % 2)
    return RawDataElement(_CONTOUR_DATA, "DS", len(value), value, 0, True, True)


def _observation(number: int, label: Label) -> Dataset:
    item = Dataset()
    item.ObservationNumber = item.ReferencedROINumber = number
    item.ROIObservationLabel = label.name[:SHORT]
    _, kind, modifier = meaning(label)
    coded: Any = highdicom.sr.CodedConcept.from_code(kind)
    if modifier is not None:
        coded.SegmentedPropertyTypeModifierCodeSequence = [highdicom.sr.CodedConcept.from_code(modifier)]
    item.RTROIIdentificationCodeSequence = [coded]
    item.RTROIInterpretedType = ""  # organ, target or else: for the planner to say
    item.ROIInterpreter = ""
    return item
