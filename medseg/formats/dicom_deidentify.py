"""De-identifying what medseg writes: the Basic Application Level Confidentiality Profile (PS3.15 E.2).

An object takes what it says of the patient from the headers of its source, so these are cut down before
any object is made: only what is named below is kept, whatever else a header holds, private elements
included. UIDs are replaced by others that follow from them, so that all objects of a study still refer
to one another, also those of another run. What medseg itself writes into an object (names of
structures, measurements, its own descriptions) says nothing of the patient; that is the profile's
Clean Descriptors and Clean Structured Content options. Dates of creation would tell when the patient
was examined and are replaced too.

The libraries there are do less: dicom-anonymizer 2.1 (BSD) applies the profile's table to the top level
of an object only and empties the content of structured reports; dicognito 0.19 (MIT) invents names and
shifts dates and does not claim the profile.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Sequence

import highdicom
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code
from pydicom.uid import UID

_NAMESPACE = uuid.UUID("4b0a6a5e-3c0f-5f57-9f0e-6d6564736567")
_REGISTERED = "1.2.840.10008."  # DICOM's own UIDs, which name classes and not objects

# What is kept of a source's header. Everything else goes.
_KEPT = (
    "SOPClassUID", "Modality", "Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "PhotometricInterpretation",
    "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "ImageType", "ImagePositionPatient",
    "ImageOrientationPatient", "PixelSpacing", "SliceThickness", "SpacingBetweenSlices", "PatientPosition",
    "PositionReferenceIndicator", "LossyImageCompression", "LossyImageCompressionRatio",
    "LossyImageCompressionMethod", "BurnedInAnnotation", "InstanceNumber", "BodyPartExamined", "Laterality",
)  # fmt: skip
_UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID")
_EMPTY = (
    "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID", "StudyDate", "StudyTime", "ReferringPhysicianName",
)  # fmt: skip
# Functional groups of enhanced images that say where a frame lies; others may hold dates, names and UIDs.
_GROUPS = (
    "PlanePositionSequence", "PlaneOrientationSequence", "PixelMeasuresSequence", "PlanePositionVolumeSequence",
    "PlaneOrientationVolumeSequence",
)  # fmt: skip
_METHOD = "medseg: PS3.15 Basic Profile, source headers by allow list"
_METHODS = (
    Code("113100", "DCM", "Basic Application Confidentiality Profile"),
    Code("113105", "DCM", "Clean Descriptors Option"),
    Code("113104", "DCM", "Clean Structured Content Option"),
)
# Dummies (PS3.15 E.3, action D) for dates and times that an object must have.
_DUMMIES = {"DA": "19000101", "TM": "000000", "DT": "19000101000000"}


def deidentified(images: Sequence[Dataset]) -> list[Dataset]:
    """The headers cut down to what says nothing of the patient, with UIDs of their own.

    PatientID and PatientName become a word that follows from the study's new UID: archives refuse, or
    throw together, what has none.
    """
    return [_cut_down(image) for image in images]


def replacement(uid: str) -> str:
    """The UID that stands for another one, always the same; DICOM's registered UIDs stay as they are."""
    if uid.startswith(_REGISTERED):
        return uid
    return f"2.25.{uuid.uuid5(_NAMESPACE, str(uid)).int}"


def without_dates(dataset: Dataset) -> Dataset:
    """Put a dummy in place of every date and time in an object that medseg made, at any depth."""
    for tag in list(dataset.keys()):
        element = dataset.get_item(tag)  # as it stands: outlines stay the bytes that they are
        if element.VR == "SQ":
            for item in dataset[tag].value:
                without_dates(item)
        elif element.VR in _DUMMIES and element.value:
            dataset[tag] = DataElement(tag, element.VR, _DUMMIES[element.VR])
    return dataset


def _cut_down(image: Dataset) -> Dataset:
    kept = Dataset()
    kept.file_meta = image.file_meta
    for keyword in _KEPT:
        if keyword in image:
            kept[keyword] = image[keyword]
    for keyword in _UIDS:
        if image.get(keyword):
            setattr(kept, keyword, UID(replacement(image[keyword].value)))
    for keyword in _EMPTY:
        setattr(kept, keyword, "")
    alias = hashlib.sha256(kept.StudyInstanceUID.encode()).hexdigest()[:8]
    kept.PatientID = kept.PatientName = f"ANON-{alias}"
    kept.PatientIdentityRemoved = "YES"
    kept.DeidentificationMethod = _METHOD
    kept.DeidentificationMethodCodeSequence = [highdicom.sr.CodedConcept.from_code(code) for code in _METHODS]
    for keyword in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
        if keyword in image:
            setattr(kept, keyword, [_groups(item) for item in image[keyword].value])
    return kept


def _groups(item: Dataset) -> Dataset:
    kept = Dataset()
    for keyword in _GROUPS:
        if keyword in item:
            kept[keyword] = item[keyword]
    return kept
