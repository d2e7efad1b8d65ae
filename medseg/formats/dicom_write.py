"""Writing an image as a DICOM series: for sample data and tests, with UIDs that follow from a seed.

CT Image (PS3.3 A.3) and MR Image (A.4) objects, explicit VR little endian, one file a slice.
"""

from __future__ import annotations

import hashlib
import uuid
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, MRImageStorage
from pydicom.valuerep import format_number_as_ds

from medseg.core.errors import FormatError
from medseg.core.files import atomic
from medseg.core.volume import Volume
from medseg.formats.checks import is_whole, require_finite

_NAMESPACE = uuid.UUID("6f2f5f0e-6c1d-5b7a-9c55-0d6b6d656473")
_IMPLEMENTATION = "2.25.147831460926711184216394103389463220083"
_CT_INTERCEPT = -1024.0
_INT16 = np.iinfo(np.int16)
# A fixed date, so that the same seed gives the same bytes on any day.
_DATE, _TIME = "20250101", "120000"


def write_series(
    volume: Volume, folder: Path, seed: str = "medseg", *, modality: str = "CT", description: str = "medseg"
) -> None:
    """Write a one-channel image [1, I, J, K] as K files IM0001… in `folder`: columns along i, rows along j.

    Values are stored as int16; whole numbers that fit come back exactly, others to 1/65535 of
    their range. The number in a file's name says nothing about its position, as in real archives.

    Raises FormatError for other modalities than CT and MR, several channels, values that are not
    finite, and skewed grids, which DICOM's image plane cannot describe.
    """
    specific = {"CT": _ct, "MR": _mr}.get(modality)
    if specific is None:
        raise FormatError(folder, f"series are written as CT or MR, not as {modality!r}")
    if volume.channels != 1 or not volume.geometry.is_orthogonal:
        raise FormatError(folder, "only one-channel images on an orthogonal grid can be written as a series")
    require_finite(folder, volume.array)
    slope, intercept = _rescaling(volume.array, modality)
    slices = np.rint((volume.array[0].astype(np.float64) - intercept) / slope).clip(_INT16.min, _INT16.max)
    rank = np.random.default_rng(list(hashlib.sha256(seed.encode()).digest())).permutation(slices.shape[2])
    for k in range(slices.shape[2]):
        dataset = _image(volume, k, seed)
        dataset.Modality = modality
        dataset.SeriesDescription = description
        dataset.InstanceNumber = int(rank[k]) + 1
        specific(dataset)
        if modality == "CT" or (slope, intercept) != (1.0, 0.0):
            dataset.RescaleSlope = format_number_as_ds(slope)
            dataset.RescaleIntercept = format_number_as_ds(intercept)
        dataset.PixelData = np.ascontiguousarray(slices[:, :, k].T).astype("<i2").tobytes()
        with atomic(folder / f"IM{int(rank[k]) + 1:04d}") as temporary:
            dataset.save_as(temporary, enforce_file_format=True)


def _rescaling(array: NDArray[Any], modality: str) -> tuple[float, float]:
    """Slope and intercept as the file will hold them (16 characters), so that coding and decoding agree."""
    low, high = float(array.min()), float(array.max())
    intercept = _CT_INTERCEPT if modality == "CT" else 0.0
    if is_whole(array[0]) and low - intercept >= _INT16.min and high - intercept <= _INT16.max:
        return 1.0, intercept
    slope = max((high - low) / (_INT16.max - _INT16.min), 1e-12)
    return _as_ds(slope), _as_ds(low - _INT16.min * slope)


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
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 16, 15, 1
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
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
