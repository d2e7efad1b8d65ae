"""Writing an image as a DICOM series: for sample data and tests, with UIDs that follow from a seed.

CT Image (PS3.3 A.3) and MR Image (A.4) objects, one file a slice.
"""

from __future__ import annotations

import hashlib
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    UID,
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    MRImageStorage,
)
from pydicom.valuerep import format_number_as_ds

from medseg.core.errors import FormatError
from medseg.core.files import atomic
from medseg.core.volume import Volume
from medseg.formats.checks import is_whole, require_finite

_NAMESPACE = uuid.UUID("6f2f5f0e-6c1d-5b7a-9c55-0d6b6d656473")
_IMPLEMENTATION = "2.25.147831460926711184216394103389463220083"
_CT_INTERCEPT = -1024.0
_INT16, _UINT16 = np.iinfo(np.int16), np.iinfo(np.uint16)
_SYNTAXES: dict[str, UID] = {
    "explicit": ExplicitVRLittleEndian,
    "implicit": ImplicitVRLittleEndian,
    "big endian": ExplicitVRBigEndian,
    "deflated": DeflatedExplicitVRLittleEndian,
}
# A fixed date, so that the same seed gives the same bytes on any day.
_DATE, _TIME = "20250101", "120000"


@dataclass(frozen=True, slots=True)
class Style:
    """What scanners and archives do differently.

    signed: stored numbers are int16, else uint16; per_slice: every slice has a rescale slope and intercept
    of its own, as PET has; numbered: slices have an InstanceNumber (never in their order); syntax: the
    transfer syntax; names: "numbered" (IM0001 …), "random" (without an extension), "random.dcm", or
    "folders" (random names in sub-folders).
    """

    signed: bool = True
    per_slice: bool = False
    numbered: bool = True
    syntax: Literal["explicit", "implicit", "big endian", "deflated"] = "explicit"
    names: Literal["numbered", "random", "random.dcm", "folders"] = "numbered"

    @property
    def range(self) -> tuple[int, int]:
        """The numbers that can be stored."""
        limits = _INT16 if self.signed else _UINT16
        return int(limits.min), int(limits.max)


def write_series(
    volume: Volume,
    folder: Path,
    seed: str = "medseg",
    *,
    modality: str = "CT",
    description: str = "medseg",
    style: Style | None = None,
) -> None:
    """Write a one-channel image [1, I, J, K] as K files IM0001… in `folder`: columns along i, rows along j.

    Values are stored in 16 bits; whole numbers that fit come back exactly, others to 1/65535 of
    their range. The number in a file's name says nothing about its position, as in real archives.

    Raises FormatError for other modalities than CT and MR, several channels, values that are not
    finite, and skewed grids, which DICOM's image plane cannot describe.
    """
    style = style or Style()
    specific = {"CT": _ct, "MR": _mr}.get(modality)
    if specific is None:
        raise FormatError(folder, f"series are written as CT or MR, not as {modality!r}")
    if volume.channels != 1 or not volume.geometry.is_orthogonal:
        raise FormatError(folder, "only one-channel images on an orthogonal grid can be written as a series")
    require_finite(folder, volume.array)
    count = volume.array.shape[3]
    rank = np.random.default_rng(list(hashlib.sha256(seed.encode()).digest())).permutation(count)
    shared = None if style.per_slice else _rescaling(volume.array, modality, style)
    for k in range(count):
        slope, intercept = shared or _rescaling(volume.array[..., k], modality, style)
        dataset = _image(volume, k, seed)
        dataset.Modality = modality
        dataset.SeriesDescription = description
        if style.numbered:
            dataset.InstanceNumber = int(rank[k]) + 1
        specific(dataset)
        if modality == "CT" or (slope, intercept) != (1.0, 0.0):
            dataset.RescaleSlope = format_number_as_ds(slope)
            dataset.RescaleIntercept = format_number_as_ds(intercept)
        dataset.PixelRepresentation = int(style.signed)
        stored = np.rint((volume.array[0, :, :, k].T.astype(np.float64) - intercept) / slope).clip(*style.range)
        _save(dataset, stored, folder / _name(int(rank[k]) + 1, seed, style), style)


def _save(dataset: Dataset, stored: NDArray[np.float64], path: Path, style: Style) -> None:
    syntax = _SYNTAXES[style.syntax]
    kind = np.dtype(np.int16 if style.signed else np.uint16).newbyteorder("<" if syntax.is_little_endian else ">")
    dataset.PixelData = np.ascontiguousarray(stored).astype(kind).tobytes()
    dataset.file_meta.TransferSyntaxUID = syntax
    with atomic(path) as temporary:
        dataset.save_as(temporary, enforce_file_format=True)


def _name(number: int, seed: str, style: Style) -> str:
    if style.names == "numbered":
        return f"IM{number:04d}"
    drawn = hashlib.sha256(f"{seed}|name|{number}".encode()).hexdigest()
    if style.names == "folders":
        return f"{drawn[0]}/{drawn[1]}/{drawn[:10]}"
    return drawn[:10] + (".dcm" if style.names == "random.dcm" else "")


def _rescaling(array: NDArray[Any], modality: str, style: Style) -> tuple[float, float]:
    """Slope and intercept as the file will hold them (16 characters), so that coding and decoding agree."""
    low, high = float(array.min()), float(array.max())
    least, most = style.range
    intercept = _CT_INTERCEPT if modality == "CT" else 0.0
    if not style.per_slice and is_whole(array[0]) and low - intercept >= least and high - intercept <= most:
        return 1.0, intercept
    slope = max((high - low) / (most - least), 1e-12)
    return _as_ds(slope), _as_ds(low - least * slope)


def _as_ds(value: float) -> float:
    return float(format_number_as_ds(value))


def _uid(*parts: object) -> str:
    return f"2.25.{uuid.uuid5(_NAMESPACE, '|'.join(str(part) for part in parts)).int}"


def _image(volume: Volume, k: int, seed: str) -> Dataset:
    """All that CT and MR have in common for slice k, without its pixels."""
    affine = volume.geometry.to_lps()
    spacing = volume.geometry.spacing
    directions = affine[:3, :3] / np.asarray(spacing)
    position = affine[:3, 3] + k * affine[:3, 2]
    dataset = Dataset()
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.SOPInstanceUID = _uid(seed, "instance", k)
    dataset.StudyInstanceUID = _uid(seed, "study")
    dataset.SeriesInstanceUID = _uid(seed, "series")
    dataset.FrameOfReferenceUID = _uid(seed, "frame of reference")
    dataset.StudyDate = dataset.SeriesDate = dataset.AcquisitionDate = dataset.ContentDate = _DATE
    dataset.StudyTime = dataset.SeriesTime = dataset.AcquisitionTime = dataset.ContentTime = _TIME
    dataset.PatientName = dataset.PatientID = f"medseg-{hashlib.sha256(seed.encode()).hexdigest()[:8]}"
    for keyword in ("PatientBirthDate", "PatientSex", "AccessionNumber", "ReferringPhysicianName", "StudyID"):
        setattr(dataset, keyword, "")
    dataset.PositionReferenceIndicator = ""
    dataset.PatientPosition = "HFS"
    dataset.Manufacturer = "medseg"
    dataset.SeriesNumber, dataset.AcquisitionNumber = 1, 1
    dataset.ImagePositionPatient = [format_number_as_ds(float(x)) for x in position]
    dataset.ImageOrientationPatient = [format_number_as_ds(float(x)) for x in directions[:, :2].T.ravel()]
    dataset.PixelSpacing = [format_number_as_ds(spacing[1]), format_number_as_ds(spacing[0])]
    dataset.SliceThickness = dataset.SpacingBetweenSlices = format_number_as_ds(spacing[2])
    dataset.Columns, dataset.Rows = volume.geometry.shape[:2]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 16, 15
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.ImplementationClassUID = _IMPLEMENTATION
    dataset.file_meta.ImplementationVersionName = "MEDSEG"
    return dataset


def _ct(dataset: Dataset) -> None:
    dataset.SOPClassUID = CTImageStorage
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.KVP = "120"
    dataset.RescaleType = "HU"
    # An attribute of the CT multi-frame and MR modules, not of the CT image.
    del dataset.SpacingBetweenSlices


def _mr(dataset: Dataset) -> None:
    dataset.SOPClassUID = MRImageStorage
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "OTHER"]
    dataset.ScanningSequence, dataset.SequenceVariant, dataset.ScanOptions = "SE", "NONE", ""
    dataset.MRAcquisitionType = "2D"
    dataset.RepetitionTime, dataset.EchoTime, dataset.EchoTrainLength = "500", "10", 1
