"""Writing a label map as a DICOM Segmentation (PS3.3 A.51) that refers to its source's frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import highdicom
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code as DicomCode
from pydicom.uid import ExplicitVRLittleEndian
from pydicom.valuerep import DA, TM

from medseg.core.case import Source
from medseg.core.errors import FormatError
from medseg.core.files import atomic
from medseg.core.labels import Code, Label
from medseg.core.reading import Reading
from medseg.core.version import VERSION
from medseg.core.volume import LabelMap
from medseg.formats.checks import in_short, storable_labels
from medseg.formats.dicom import arranged
from medseg.formats.dicom_frames import Frame, read_dataset, text
from medseg.formats.quiet import quiet

# What a segment means where the task does not say: SNOMED CT's "Anatomical structure".
_ANATOMICAL_STRUCTURE = Code("91723000", "SCT", "Anatomical structure")
_NEEDED_UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID", "FrameOfReferenceUID")
# Attributes that a segmentation copies from its source and that may be empty, but not missing (type 2).
_COPIED = (
    "PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID", "StudyDate",
    "StudyTime", "ReferringPhysicianName",
)  # fmt: skip
_SEXES = ("M", "F", "O", "")
_DATES: dict[str, Any] = {"PatientBirthDate": DA, "StudyDate": DA, "StudyTime": TM}
_SERIES_NUMBER = 300
_SHORT, _LONG = 16, 64  # characters of the value representations CS/SH and LO


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
    if source.format != "dicom":
        raise FormatError(source.path, "only DICOM sources can have a DICOM segmentation", "missing-uids")
    with quiet():
        ordered, geometry = arranged(source, policy or Reading())
        if not labelmap.geometry.same_grid(geometry):
            raise FormatError(path, f"the label map is not on the grid of {source.path}", "grid-mismatch")
        labels = labelmap.labels or _unnamed(labelmap)
        if not labels:
            raise FormatError(path, "a segmentation needs at least one named label", "undeclared-label")
        images = _source_images(source, ordered.frames)
        slices = _segment_numbers(labelmap, labels, path)
        if ordered.reslicing is not None:
            slices = ordered.reslicing.labels_to_slices(slices)
        frames = _in_source_order(slices, ordered.frames, images)
        try:
            segmentation = _segmentation(images, frames, labels, provenance)
        except (AttributeError, KeyError, TypeError, ValueError) as error:  # what highdicom raises for odd sources
            reason = f"no segmentation can refer to it ({in_short(error)})"
            raise FormatError(source.path, reason, "missing-uids") from error
        with atomic(path) as temporary:
            segmentation.save_as(temporary)


def _segmentation(
    images: Sequence[Dataset], frames: NDArray[Any], labels: Sequence[Label], provenance: Mapping[str, str]
) -> Any:
    algorithm = highdicom.AlgorithmIdentificationSequence(
        name="medseg",
        family=codes.cid7162.ArtificialIntelligence,
        version=VERSION,
        source="medseg",
        parameters={str(key): str(value) for key, value in provenance.items()} or None,
    )
    return highdicom.seg.Segmentation(
        source_images=list(images),
        pixel_array=frames,
        segmentation_type=highdicom.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=[_segment(number, label, algorithm) for number, label in enumerate(labels, start=1)],
        series_instance_uid=highdicom.UID(),
        series_number=_SERIES_NUMBER,
        sop_instance_uid=highdicom.UID(),
        instance_number=1,
        manufacturer="medseg",
        manufacturer_model_name="medseg",
        software_versions=VERSION,
        device_serial_number="0",
        content_label="MEDSEG",
        content_description=f"Segmentation by medseg {VERSION}"[:_LONG],
        series_description=f"medseg {provenance.get('task', 'segmentation')}"[:_LONG],
        transfer_syntax_uid=ExplicitVRLittleEndian,
        # UTF-8 can hold whatever the source's own character set, or the lack of one, could.
        specific_character_set="ISO_IR 192",
        # Frames without foreground are left out; of an empty result all are kept, as an object needs one.
        omit_empty_frames=bool(frames.any()),
    )


def _segment(number: int, label: Label, algorithm: Any) -> Any:
    category, kind = (_code(code or _ANATOMICAL_STRUCTURE) for code in (label.category, label.type))
    segment = highdicom.seg.SegmentDescription(
        segment_number=number,
        segment_label=label.name[:_LONG],
        segmented_property_category=category,
        segmented_property_type=kind,
        algorithm_type=highdicom.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=algorithm,
        display_color=highdicom.color.CIELabColor.from_rgb(*label.color) if any(label.color) else None,
    )
    if label.modifier is not None:
        modifier = highdicom.sr.CodedConcept.from_code(_code(label.modifier))
        segment.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence = [modifier]
    return segment


def _code(code: Code) -> DicomCode:
    return DicomCode(code.value[:_SHORT], code.scheme[:_SHORT], code.meaning[:_LONG])


def _unnamed(labelmap: LabelMap) -> tuple[Label, ...]:
    return tuple(Label(f"label {value}", int(value)) for value in np.unique(labelmap.array) if value != 0)


def _segment_numbers(labelmap: LabelMap, labels: Sequence[Label], path: Path) -> NDArray[Any]:
    """[K, rows, columns]: 0 background, n the n-th label, as segments are numbered from 1 without gaps."""
    values = storable_labels(labelmap, path)
    table = np.zeros(int(values.max()) + 1, dtype=np.uint8 if len(labels) < 256 else np.uint16)
    for number, label in enumerate(labels, start=1):
        if label.value < len(table):
            table[label.value] = number
    return np.ascontiguousarray(table[values.transpose(2, 1, 0)])


def _in_source_order(slices: NDArray[Any], frames: Sequence[Frame], images: Sequence[Dataset]) -> NDArray[Any]:
    """Slices in the order of the frames in their file, empty where a frame belongs to another volume."""
    if len(images) == len(frames):  # single-frame files are in slice order already
        return slices
    ordered = np.zeros((int(images[0].NumberOfFrames), *slices.shape[1:]), dtype=slices.dtype)
    ordered[[frame.number for frame in frames]] = slices
    return ordered


def _source_images(source: Source, frames: Sequence[Frame]) -> list[Dataset]:
    """The headers of the source's files in slice order, with what a segmentation copies from them."""
    paths = list(dict.fromkeys(frame.path for frame in frames))
    if 1 < len(paths) < len(frames):
        raise FormatError(
            source.path, "is spread over several multi-frame files, to which one segmentation cannot refer"
        )
    images = [read_dataset(path, every_tag=True) for path in paths]
    for image, path in zip(images, paths, strict=True):
        if not text(image, "SOPClassUID"):
            image.SOPClassUID = text(image.file_meta, "MediaStorageSOPClassUID")
        missing = [keyword for keyword in _NEEDED_UIDS if not text(image, keyword)]
        if missing:
            raise FormatError(path, f"has no {', '.join(missing)}, to which a segmentation must refer", "missing-uids")
        _mend(image)
        if len(paths) == len(frames) and "PerFrameFunctionalGroupsSequence" not in image and "NumberOfFrames" in image:
            del image.NumberOfFrames  # a classic object that counts its one frame
    return images


def _mend(image: Dataset) -> None:
    """Empty what a segmentation would copy and cannot hold: anonymisers leave it out or write words into it."""
    for keyword in _COPIED:
        if keyword not in image:
            setattr(image, keyword, "")
    if text(image, "PatientSex") not in _SEXES:
        image.PatientSex = ""
    for keyword, kind in _DATES.items():
        try:
            kind(text(image, keyword))
        except ValueError:
            setattr(image, keyword, "")
