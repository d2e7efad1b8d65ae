"""Structures drawn on small DICOM series: RT structure sets and segmentations for the tests of several rooms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, RTStructureSetStorage, generate_uid

from medseg.core.geometry import Geometry
from medseg.core.volume import Volume
from medseg.formats.dicom_write import write_series

Contour = Sequence[Sequence[float]]


def ct(folder: Path, shape: tuple[int, int, int] = (12, 10, 6), seed: str = "ct", modality: str = "CT") -> Geometry:
    """A series of `shape` (columns, rows, slices) with pixels of 1 x 1 mm, slices 3 mm apart; its grid."""
    affine = np.diag([-1.0, -1.0, 3.0, 1.0])
    affine[:3, 3] = (20.0, 10.0, -50.0)
    values = np.random.default_rng(3).integers(-900, 1200, (1, *shape)).astype(np.float32)
    geometry = Geometry(affine, shape)
    write_series(Volume(values, geometry), folder, seed, modality=modality)
    return geometry


def change(folder: Path, **tags: Any) -> None:
    """Set tags in every file of a series."""
    for path in sorted(folder.iterdir()):
        dataset = pydicom.dcmread(path)
        for keyword, value in tags.items():
            setattr(dataset, keyword, value)
        dataset.save_as(path)


def square(geometry: Geometry, low: tuple[float, float], high: tuple[float, float], k: float) -> list[list[float]]:
    """The points (LPS+ mm) of a rectangle from (i, j) `low` to `high` in slice k, in voxels of the image's grid."""
    index = [(low[0], low[1], k), (high[0], low[1], k), (high[0], high[1], k), (low[0], high[1], k)]
    return (geometry.to_world(index) * (-1, -1, 1)).tolist()


def write_rtstruct(
    path: Path, folder: Path, rois: Mapping[str, Sequence[Contour]], kind: str = "CLOSED_PLANAR", **tags: Any
) -> Path:
    """An RT structure set of named contours (LPS+ mm) for the series in `folder`; its images' UIDs dangle."""
    image = pydicom.dcmread(next(path for path in sorted(folder.iterdir()) if path.is_file()), stop_before_pixels=True)
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = RTStructureSetStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = generate_uid(entropy_srcs=[str(path)])
    dataset.Modality = "RTSTRUCT"
    dataset.PatientID, dataset.PatientName = image.get("PatientID", ""), image.get("PatientName", "")
    dataset.StudyInstanceUID = image.StudyInstanceUID
    dataset.SeriesInstanceUID = generate_uid(entropy_srcs=[str(path), "series"])
    series, study, frame = Dataset(), Dataset(), Dataset()
    series.SeriesInstanceUID = image.SeriesInstanceUID
    series.ContourImageSequence = [_item(ReferencedSOPInstanceUID="1.2.3.4")]
    study.RTReferencedSeriesSequence = [series]
    frame.FrameOfReferenceUID = image.FrameOfReferenceUID
    frame.RTReferencedStudySequence = [study]
    dataset.ReferencedFrameOfReferenceSequence = [frame]
    dataset.StructureSetROISequence, dataset.ROIContourSequence = [], []
    for number, (name, contours) in enumerate(rois.items(), start=1):
        dataset.StructureSetROISequence.append(_item(ROINumber=number, ROIName=name))
        dataset.ROIContourSequence.append(
            _item(
                ReferencedROINumber=number,
                ROIDisplayColor=[255, 128, 0],
                ContourSequence=[_contour(points, kind) for points in contours],
            )
        )
    for keyword, value in tags.items():
        setattr(dataset, keyword, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return path


def _contour(points: Contour, kind: str) -> Dataset:
    values = [f"{value:.6f}" for point in points for value in point]
    return _item(ContourGeometricType=kind, NumberOfContourPoints=len(points), ContourData=values)


def _item(**tags: Any) -> Dataset:
    item = Dataset()
    for keyword, value in tags.items():
        setattr(item, keyword, value)
    return item
