"""One DICOM image frame: where it lies and how its stored numbers become values.

A classic object is one frame; an enhanced one describes each of its frames in functional groups
(PS3.3 C.7.6.16), which are read here into the same terms.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pydicom
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.multival import MultiValue
from pydicom.tag import BaseTag, Tag

from medseg.core.errors import FormatError
from medseg.formats.checks import in_short, require_content
from medseg.formats.dicom_scan import scan_header
from medseg.formats.quiet import quiet

# What a header says of the patient; no output repeats it.
IDENTIFYING_TAGS = (
    "PatientName", "PatientID", "OtherPatientIDs", "OtherPatientNames", "PatientBirthName", "PatientBirthDate",
    "PatientMotherBirthName",
)  # fmt: skip

# What of a header is needed to group, order and judge objects; the rest is skipped while parsing.
HEADER_TAGS = [
    "SpecificCharacterSet", "ImageType", "SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID",
    "FrameOfReferenceUID", "Modality", "SeriesNumber", "SeriesDescription", "InstanceNumber", "AcquisitionNumber",
    "AcquisitionTime", "ContentTime", "EchoTime", "EchoNumbers", "TemporalPositionIdentifier", "TriggerTime",
    "DiffusionBValue", "DiffusionGradientOrientation", "NominalPercentageOfCardiacPhase", "SliceThickness",
    "SpacingBetweenSlices", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "ImagerPixelSpacing",
    "Rows", "Columns", "NumberOfFrames",
    "SamplesPerPixel", "PhotometricInterpretation", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation",
    "PixelPaddingValue", "PixelPaddingRangeLimit", "RescaleSlope", "RescaleIntercept", "RescaleType", "Units",
    "ModalityLUTSequence", "LossyImageCompression", "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence", "BurnedInAnnotation", *IDENTIFYING_TAGS,
]  # fmt: skip

# What may tell images at one position from one another: keyword -> the word for it.
_STAMPS = {
    "EchoTime": "echo time",
    "EffectiveEchoTime": "echo time",
    "DiffusionBValue": "b-value",
    "DiffusionGradientOrientation": "diffusion direction",
    "TemporalPositionIdentifier": "temporal position",
    "TemporalPositionIndex": "temporal position",
    "NominalPercentageOfCardiacPhase": "cardiac phase",
    "TriggerTime": "trigger time",
    "AcquisitionNumber": "acquisition",
    "ImageType": "image type",
    "FrameType": "image type",
    "AcquisitionTime": "acquisition time",
    "ContentTime": "content time",
}


_LONGEST = 128
_US_BYTES = 2
# No frame is stored in less: the header of its item (PS3.5 A.4).
_FRAME_BYTES = 8
# Value representations that are characters (PS3.5 6.2).
_TEXTS = frozenset({"AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UI", "UT"})


@dataclass(frozen=True, slots=True)
class Frame:
    """One image plane of a file.

    number: its place in the file, from 0; size: (rows, columns); position: LPS+ mm of the first
    pixel's centre; orientation: cosines of a row's and of a column's direction; spacing: mm between
    (rows, columns); thickness: mm; slope, intercept: stored number -> value; samples: values a pixel
    (3 in colour); stamps: what tells it from other frames at the same position, as (word, value).
    """

    path: Path
    number: int
    uid: str
    size: tuple[int, int]
    position: tuple[float, ...] | None
    orientation: tuple[float, ...] | None
    spacing: tuple[float, ...] | None
    thickness: float | None
    slope: float
    intercept: float
    samples: int
    stamps: tuple[tuple[str, str], ...]


def read_dataset(path: Path, *, pixels: bool = False, every_tag: bool = False) -> Dataset:
    """A file's data set: HEADER_TAGS alone, with `every_tag` all but the pixels, with `pixels` everything.

    Raises FormatError: unreadable where it is no DICOM file, partial-file where it ends in its header.
    """
    require_content(path)
    try:
        with quiet(), path.open("rb") as file:
            preamble = file.read(132)[128:] == b"DICM"
            file.seek(0)
            if preamble and not pixels and not every_tag:
                scanned = scan_header(file, _wanted())
                if scanned is not None:
                    return scanned
                file.seek(0)
            tags = None if pixels or every_tag else list(HEADER_TAGS)
            dataset = pydicom.dcmread(file, force=not preamble, stop_before_pixels=not pixels, specific_tags=tags)
            if not preamble and not _says_something(dataset):
                raise FormatError(path, "is no DICOM file, though it is named like one")
            return dataset
    except FormatError:
        raise
    except InvalidDicomError as error:
        raise FormatError(path, "is no DICOM file, though it is named like one") from error
    except EOFError as error:
        raise FormatError(path, "the file ends too early (cut off while copying?)", "partial-file") from error
    except Exception as error:  # pydicom lets through whatever a damaged element causes
        raise FormatError(path, f"cannot be read as DICOM ({in_short(error)})") from error


@cache
def _wanted() -> frozenset[int]:
    return frozenset(int(_tag_of(keyword)) for keyword in HEADER_TAGS)


@cache
def _tag_of(keyword: str) -> BaseTag:
    return Tag(keyword)


def frames_of(dataset: Dataset, path: Path) -> list[Frame]:
    """The image planes that a data set describes. Raises FormatError (unreadable) for impossible values in it."""
    with sound_header(path):
        return list(_frames(dataset, path))


@contextmanager
def sound_header(path: Path) -> Iterator[None]:
    """Raise FormatError for header values that cannot be: pydicom raises when they are looked at, whatever it likes."""
    try:
        with quiet():
            yield
    except FormatError:
        raise
    except Exception as error:
        raise FormatError(path, f"its header holds a value that cannot be read ({in_short(error)})") from error


def text(dataset: Dataset, keyword: str) -> str:
    """A header value as text: '' where it is missing, empty or unreadable; cut where it is longer than any may be.

    Several values are divided by backslashes, as in the file.
    """
    plain = _plain(dataset, keyword)
    if plain is None:
        try:
            value = dataset.get(keyword)
        except Exception:  # pydicom decodes a value when it is looked at, and raises whatever it likes
            return ""
        many = isinstance(value, MultiValue)
        plain = "" if value is None else "\\".join(str(v) for v in value) if many else str(value)
    return " ".join(plain.split())[:_LONGEST]


def whole(dataset: Dataset, keyword: str) -> int:
    """A whole number of the header (US or IS), 0 where it is missing or empty. Raises what pydicom does for others."""
    tag = _tag_of(keyword)
    if tag not in dataset:
        return 0
    element = dataset.get_item(tag)
    if isinstance(element, RawDataElement) and (element.VR or dictionary_VR(tag)) == "US":
        value = element.value or b""
        if len(value) == _US_BYTES:  # as in `_plain`: the bytes are all there is to it
            return int.from_bytes(value, "little" if element.is_little_endian else "big")
    return int(dataset[tag].value or 0)


def _sequence(dataset: Dataset, keyword: str) -> Sequence[Any]:
    tag = _tag_of(keyword)
    items: Sequence[Any] = (dataset[tag].value if tag in dataset else None) or ()
    return items


def _plain(dataset: Dataset, keyword: str) -> str | None:
    """The text of an element as it stands in the file, '' where there is none; None where pydicom must decode it.

    What is ASCII needs no decoding, which takes pydicom ten times as long as reading the header did.
    """
    tag = _tag_of(keyword)
    if tag not in dataset:
        return ""
    element = dataset.get_item(tag)
    if not isinstance(element, RawDataElement) or (element.VR or dictionary_VR(tag)) not in _TEXTS:
        return None
    value = element.value or b""
    return value.decode("ascii").strip(" \0") if value.isascii() else None


def _says_something(dataset: Dataset) -> bool:
    return "SOPClassUID" in dataset or ("Rows" in dataset and "Columns" in dataset)


def _frames(dataset: Dataset, path: Path) -> Iterator[Frame]:
    count = whole(dataset, "NumberOfFrames") or 1
    if not 1 <= count <= max(1, path.stat().st_size // _FRAME_BYTES):
        raise FormatError(path, f"names {count} frames, which cannot be in a file of its size", "partial-file")
    per_frame = _sequence(dataset, "PerFrameFunctionalGroupsSequence")
    if per_frame and len(per_frame) != count:
        raise ValueError(f"{count} frames but {len(per_frame)} descriptions of frames")
    shared = next(iter(_sequence(dataset, "SharedFunctionalGroupsSequence")), Dataset())
    for number in range(count):
        # The most specific place comes first: this frame, all frames, the object itself.
        places = [*_groups(per_frame[number]), *_groups(shared)] if per_frame else []
        # Without functional groups only a single frame's position is known; a stack's would be a guess.
        top = dataset if per_frame or count == 1 else Dataset()
        yield _frame(dataset, path, number, [*places, top])


def _groups(item: Dataset) -> Iterator[Dataset]:
    """The functional group items inside an item of the (shared or per-frame) functional groups sequence."""
    for element in item:
        if element.VR == "SQ" and element.value:
            yield element.value[0]
            if element.keyword == "MRDiffusionSequence":  # the gradient's direction is one level further down
                yield from _groups(element.value[0])


def _frame(dataset: Dataset, path: Path, number: int, places: Sequence[Dataset]) -> Frame:
    slope, intercept = _numbers(places, "RescaleSlope", 1), _numbers(places, "RescaleIntercept", 1)
    thickness = _numbers(places, "SliceThickness", 1) or _numbers(places, "SpacingBetweenSlices", 1)
    return Frame(
        path=path,
        number=number,
        uid=text(dataset, "SOPInstanceUID"),
        size=(whole(dataset, "Rows"), whole(dataset, "Columns")),
        position=_numbers(places, "ImagePositionPatient", 3),
        orientation=_numbers(places, "ImageOrientationPatient", 6),
        spacing=_numbers(places, "PixelSpacing", 2) or _numbers(places, "ImagerPixelSpacing", 2),
        thickness=abs(thickness[0]) if thickness and thickness[0] else None,
        slope=slope[0] if slope else 1.0,
        intercept=intercept[0] if intercept else 0.0,
        samples=_samples(dataset),
        stamps=tuple(_stamps(places)),
    )


def _samples(dataset: Dataset) -> int:
    coloured = text(dataset, "PhotometricInterpretation") == "PALETTE COLOR"
    return 3 if coloured else whole(dataset, "SamplesPerPixel") or 1


def _numbers(places: Sequence[Dataset], keyword: str, count: int) -> tuple[float, ...] | None:
    tag = _tag_of(keyword)
    place = next((place for place in places if tag in place), None)
    if place is None:
        return None
    plain = _plain(place, keyword)
    value = place[tag].value if plain is None else plain.split("\\") if plain else None
    if value is None or value == "":
        return None
    values = tuple(float(v) for v in (value if isinstance(value, list | MultiValue) else [value]))
    if not all(math.isfinite(v) for v in values):
        raise ValueError(f"{keyword} is {values}, which is no place or size")
    return values if len(values) == count else None


def _stamps(places: Sequence[Dataset]) -> Iterator[tuple[str, str]]:
    for keyword, word in _STAMPS.items():
        value = next((found for place in places if (found := text(place, keyword))), "")
        if value:
            yield word, value
