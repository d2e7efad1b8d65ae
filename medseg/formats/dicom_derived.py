"""What every DICOM object that medseg makes of a series shares: the label map on the series' own slices,
the headers it refers to, and the words that say how it was made.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import highdicom
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code as DicomCode
from pydicom.uid import UID
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
from medseg.formats.dicom_deidentify import deidentified
from medseg.formats.dicom_frames import Frame, read_dataset, text
from medseg.formats.quiet import quiet

# What a structure is where the task does not say: SNOMED CT's "Anatomical structure".
_ANATOMICAL_STRUCTURE = Code("91723000", "SCT", "Anatomical structure")
_NEEDED_UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")
# Attributes that an object copies from its source and that may be empty, but not missing (type 2).
_COPIED = (
    "PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID", "StudyDate",
    "StudyTime", "ReferringPhysicianName",
)  # fmt: skip
_SEXES = ("M", "F", "O", "")
_DATES: dict[str, Any] = {"PatientBirthDate": DA, "StudyDate": DA, "StudyTime": TM}
MANUFACTURER = "medseg"
SHORT, LONG = 16, 64  # characters of the value representations CS/SH and LO


@dataclass(frozen=True, slots=True, eq=False)
class Derived:
    """A label map on the slices of the DICOM series that it was made of.

    frames: the slices, in slice order; images: the headers of the series' files, in slice order, without
    pixels and without what names the patient where that is wanted; numbers: [K, rows, columns], 0 for
    background and n for the n-th of `labels`; provenance: what made it (model, task, …).
    """

    source: Source
    frames: tuple[Frame, ...]
    images: tuple[Dataset, ...]
    numbers: NDArray[Any]
    labels: tuple[Label, ...]
    provenance: Mapping[str, str]

    @property
    def first(self) -> Dataset:
        """The header of the first slice's file."""
        return self.images[0]

    def image(self, k: int) -> Dataset:
        """The header of the file that slice k is in."""
        return self.images[k] if len(self.images) == len(self.frames) else self.images[0]


def derive(
    labelmap: LabelMap,
    source: Source,
    provenance: Mapping[str, str],
    policy: Reading | None = None,
    *,
    deidentify: bool = False,
) -> Derived:
    """Bring `labelmap` (on the grid of the DICOM `source`) to the source's slices.

    policy: what the source was read with; where that put its slices onto another grid, the labels are
    brought back. deidentify: objects made of it name neither the patient nor the source's UIDs.

    Raises FormatError: missing-uids where the source lacks a UID that an object must refer to,
    grid-mismatch where the label map is not on its grid, undeclared-label where nothing has a name.
    """
    if source.format != "dicom":
        raise FormatError(source.path, "DICOM objects can be made of DICOM sources only", "missing-uids")
    with quiet():
        ordered, geometry = arranged(source, policy or Reading())
        if not labelmap.geometry.same_grid(geometry):
            raise FormatError(source.path, "the label map is not on its grid", "grid-mismatch")
        labels = labelmap.labels or _unnamed(labelmap)
        if not labels:
            raise FormatError(source.path, "a segmentation needs at least one named label", "undeclared-label")
        images = _source_images(source, ordered.frames)
        numbers = _numbers(labelmap, labels, source.path, picture=ordered.frames[0].position is None)
        if ordered.reslicing is not None:
            numbers = ordered.reslicing.labels_to_slices(numbers)
        if deidentify:
            images = deidentified(images)
    return Derived(source, tuple(ordered.frames), tuple(images), numbers, tuple(labels), provenance)


def require_space(derived: Derived) -> None:
    """Raise FormatError (missing-uids) where the source names no frame of reference, in which an object has a place."""
    if not text(derived.first, "FrameOfReferenceUID"):
        reason = "has no FrameOfReferenceUID, to which an object with a place in the body must refer"
        raise FormatError(derived.source.path, reason, "missing-uids")


def save(dataset: Dataset, path: Path, derived: Derived) -> None:
    """Write an object atomically. Raises FormatError where a value of its source cannot be encoded."""
    if "PixelData" in dataset:
        dataset.PixelData = BytesIO(dataset.PixelData)  # copied straight into the file, not via two others
    with quiet(), atomic(path) as temporary:
        try:
            dataset.save_as(temporary, enforce_file_format=True)
        except (AttributeError, KeyError, TypeError, UnicodeError, ValueError) as error:
            raise FormatError(derived.source.path, f"no object can be made of it ({in_short(error)})") from error


def new_object(derived: Derived, sop_class: UID, series_number: int, syntax: UID, **series: Any) -> Dataset:
    """A data set with the patient and study of the source, and this program as the equipment.

    series: further arguments of `highdicom.SOPClass` (modality, series_description). Raises FormatError
    (missing-uids) where the source's header is too odd.
    """
    image = derived.first
    try:
        made = _with_patient(image, sop_class, series_number, syntax, series)
    except (AttributeError, KeyError, TypeError, ValueError) as error:  # what highdicom raises for odd sources
        reason = f"no object can refer to it ({in_short(error)})"
        raise FormatError(derived.source.path, reason, "missing-uids") from error
    return made


def _with_patient(
    image: Dataset, sop_class: UID, series_number: int, syntax: UID, series: Mapping[str, Any]
) -> Dataset:
    made: Dataset = highdicom.base.SOPClass(
        study_instance_uid=image.StudyInstanceUID,
        sop_class_uid=sop_class,
        transfer_syntax_uid=syntax,
        **own_series(series_number),
        **{_snake: image.get(keyword) for _snake, keyword in _PATIENT_AND_STUDY.items()},
        **series,
    )
    made.copy_patient_and_study_information(image)
    return made


def own_series(number: int) -> dict[str, Any]:
    """What every object of ours says of itself, as highdicom's arguments: a series of its own, made by medseg."""
    return {
        "series_instance_uid": highdicom.UID(),
        "series_number": number,
        "sop_instance_uid": highdicom.UID(),
        "instance_number": 1,
        "manufacturer": MANUFACTURER,
        "manufacturer_model_name": MANUFACTURER,
        "software_versions": VERSION,
        "device_serial_number": "0",
        # UTF-8 can hold whatever the source's own character set, or the lack of one, could.
        "specific_character_set": "ISO_IR 192",
    }


_PATIENT_AND_STUDY = {
    "patient_id": "PatientID",
    "patient_name": "PatientName",
    "patient_birth_date": "PatientBirthDate",
    "patient_sex": "PatientSex",
    "accession_number": "AccessionNumber",
    "study_id": "StudyID",
    "study_date": "StudyDate",
    "study_time": "StudyTime",
    "referring_physician_name": "ReferringPhysicianName",
}


def algorithm(derived: Derived) -> Any:
    """The algorithm identification (PS3.3 10.16): medseg, its version, and the provenance as parameters."""
    return highdicom.AlgorithmIdentificationSequence(
        name=MANUFACTURER,
        family=codes.cid7162.ArtificialIntelligence,
        version=VERSION,
        source=MANUFACTURER,
        parameters={str(key): str(value) for key, value in derived.provenance.items()} or None,
    )


def parameters(derived: Derived) -> str:
    """The provenance in one line, as in the algorithm identification."""
    return ",".join(f"{key}={value}" for key, value in derived.provenance.items())


def task_name(derived: Derived) -> str:
    """What the objects' series are called after."""
    return str(derived.provenance.get("task", "segmentation"))


def meaning(label: Label) -> tuple[DicomCode, DicomCode, DicomCode | None]:
    """Category, type and modifier of a label as coded concepts, cut to the lengths that DICOM allows."""
    modifier = None if label.modifier is None else _code(label.modifier)
    return _code(label.category or _ANATOMICAL_STRUCTURE), _code(label.type or _ANATOMICAL_STRUCTURE), modifier


def _code(code: Code) -> DicomCode:
    return DicomCode(code.value[:SHORT], code.scheme[:SHORT], code.meaning[:LONG])


def _unnamed(labelmap: LabelMap) -> tuple[Label, ...]:
    return tuple(Label(f"label {value}", int(value)) for value in np.unique(labelmap.array) if value != 0)


def _numbers(labelmap: LabelMap, labels: Sequence[Label], path: Path, *, picture: bool) -> NDArray[Any]:
    """[K, rows, columns]: 0 background, n the n-th label, as segments are numbered from 1 without gaps.

    The i axis of a picture runs down its rows, that of a volume along them.
    """
    values = storable_labels(labelmap, path)
    table = np.zeros(int(values.max()) + 1, dtype=np.uint8 if len(labels) < 256 else np.uint16)
    for number, label in enumerate(labels, start=1):
        if label.value < len(table):
            table[label.value] = number
    slices = values.transpose((2, 0, 1) if picture else (2, 1, 0))
    if slices.dtype == table.dtype and np.array_equal(table, np.arange(len(table))):
        return np.ascontiguousarray(slices)  # mostly a view: values are numbers already, and slices run slowest
    return np.ascontiguousarray(table[slices])


def _source_images(source: Source, frames: Sequence[Frame]) -> list[Dataset]:
    """The headers of the source's files in slice order, with what an object copies from them."""
    paths = list(dict.fromkeys(frame.path for frame in frames))
    if 1 < len(paths) < len(frames):
        raise FormatError(source.path, "is spread over several multi-frame files, to which no one object can refer")
    images = [read_dataset(path, every_tag=True) for path in paths]
    for image, path in zip(images, paths, strict=True):
        if not text(image, "SOPClassUID"):
            image.SOPClassUID = text(image.file_meta, "MediaStorageSOPClassUID")
        missing = [keyword for keyword in _NEEDED_UIDS if not text(image, keyword)]
        if missing:
            raise FormatError(path, f"has no {', '.join(missing)}, to which an object must refer", "missing-uids")
        _mend(image)
        if len(paths) == len(frames) and "PerFrameFunctionalGroupsSequence" not in image and "NumberOfFrames" in image:
            del image.NumberOfFrames  # a classic object that counts its one frame
    return images


def _mend(image: Dataset) -> None:
    """Empty what an object would copy and cannot hold: anonymisers leave it out or write words into it."""
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
