"""Which image a SEG or RTSTRUCT was drawn on, as their headers say; no identifier of a patient leaves here."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydicom.dataset import Dataset

from medseg.core.case import Source
from medseg.formats.dicom_frames import read_dataset, sound_header, text
from medseg.formats.dicom_patient import patient_of

_SHORT = 8


@dataclass(frozen=True, slots=True)
class Identity:
    """What says where an object belongs. patient: 8 hex digits that stand for `patient_of` the header.

    Where the header names nobody, the study (or the series) stands for the patient.
    """

    patient: str
    study: str
    series: str
    frame_of_reference: str


@dataclass(frozen=True, slots=True)
class Reference:
    """What a SEG or RTSTRUCT says of the images it was drawn on; series and images are UIDs, often dangling.

    uid: its own SOPInstanceUID.
    """

    uid: str
    identity: Identity
    series: frozenset[str]
    images: frozenset[str]
    frames_of_reference: frozenset[str]


def identity(source: Source) -> Identity:
    """The identity of an image series, from its first file. Raises FormatError where that cannot be read."""
    dataset = read_dataset(source.files[0], every_tag=True)
    with sound_header(source.files[0]):
        return identity_of(dataset)


def identity_of(dataset: Dataset) -> Identity:
    """The identity that a header gives."""
    study, series = text(dataset, "StudyInstanceUID"), text(dataset, "SeriesInstanceUID")
    patient = patient_of(dataset) or study or series
    return Identity(short_hash(patient), study, series, text(dataset, "FrameOfReferenceUID"))


def reference(path: Path) -> Reference:
    """What the SEG or RTSTRUCT at `path` refers to. Raises FormatError where it cannot be read."""
    return reference_of(read_dataset(path, every_tag=True), path)


def reference_of(dataset: Dataset, path: Path) -> Reference:
    """What a SEG or RTSTRUCT refers to, by its whole header. Raises FormatError where that is damaged."""
    with sound_header(path):
        series: set[str] = set()
        images: set[str] = set()
        frames: set[str] = {text(dataset, "FrameOfReferenceUID")}
        for item in _items(dataset):
            series.add(text(item, "SeriesInstanceUID"))
            images.add(text(item, "ReferencedSOPInstanceUID"))
            frames |= {text(item, "FrameOfReferenceUID"), text(item, "ReferencedFrameOfReferenceUID")}
        blank = {""}
        own = text(dataset, "SOPInstanceUID")
        known = [frozenset(uids - blank) for uids in (series, images, frames)]
        return Reference(own, identity_of(dataset), *known)


def belongs(reference: Reference, target: Identity) -> str:
    """How a drawing belongs to an image: "series" where it names it, "frame" where both share study and space.

    "" where neither is so.
    """
    if target.series and target.series in reference.series:
        return "series"
    same_study = reference.identity.study == target.study
    return "frame" if same_study and target.frame_of_reference in reference.frames_of_reference else ""


def image_uids(source: Source) -> frozenset[str]:
    """The SOPInstanceUIDs of a series."""
    return frozenset(text(read_dataset(file), "SOPInstanceUID") for file in source.files)


def short_hash(identifier: str) -> str:
    """Eight hex digits that stand for an identifier in names and groups."""
    return hashlib.sha256(identifier.encode()).hexdigest()[:_SHORT]


# Where an object lists the images it refers to (PS3.3 C.8.8.5 and C.12.4.1); what its frames and contours
# repeat of it, thousands of times, is not looked at.
_ROOMS = (
    "ReferencedSeriesSequence", "ReferencedInstanceSequence", "ReferencedFrameOfReferenceSequence",
    "RTReferencedStudySequence", "RTReferencedSeriesSequence", "ContourImageSequence", "StructureSetROISequence",
)  # fmt: skip


def _items(dataset: Dataset) -> Iterator[Dataset]:
    """Every item of the sequences that may refer to images, at any depth."""
    for keyword in _ROOMS:
        for item in dataset.get(keyword) or ():
            yield item
            yield from _items(item)
