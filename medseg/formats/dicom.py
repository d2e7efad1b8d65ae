"""Reading a DICOM series into one volume: array [1, columns, rows, slices] on its exact grid."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from medseg.core.case import Finding, Scan, Severity, Source
from medseg.core.errors import FormatError
from medseg.core.geometry import Geometry
from medseg.core.volume import LabelMap, Volume
from medseg.formats.checks import is_whole, require_finite
from medseg.formats.dicom_frames import Frame, frames_of, read_dataset, sound_header, text
from medseg.formats.dicom_index import refusal
from medseg.formats.dicom_pixels import Padding, fill_padding, is_lossy, stored_frames, to_values
from medseg.formats.dicom_stack import Stack, stack


def read(source: Source) -> Scan:
    """Read a series: values after each slice's own rescaling (HU for CT), i along rows' direction, k along the normal.

    Raises FormatError with the code of what is wrong: missing-slices, uneven-spacing, gantry-tilt,
    mixed-orientation, multi-volume, color, unsupported-syntax, partial-file, …
    """
    with sound_header(source.path):
        ordered, geometry = arranged(source)
        slices, header, lossy = _decode(ordered)
        findings = _unique([*source.findings, *ordered.findings, *_about(header, ordered.frames, lossy)])
        modality = text(header, "Modality") or source.modality
    require_finite(source.path, slices)
    volume = Volume(slices.transpose(2, 1, 0)[np.newaxis], geometry)
    return Scan(source, volume, modality, is_whole(slices.T), findings)


def read_labels(source: Source) -> LabelMap:
    """DICOM images are no label maps. Raises FormatError."""
    raise FormatError(source.path, "is a DICOM image series and no label map", "not-a-label-map")


def arranged(source: Source) -> tuple[Stack, Geometry]:
    """The frames of a series in slice order, and their grid. Raises FormatError where they make none."""
    frames: list[Frame] = []
    for path in source.files:
        header = read_dataset(path)
        problem = refusal(header)
        if problem is not None:
            raise FormatError(path, problem.message, problem.code)
        frames += frames_of(header, path)
    ordered = stack(frames)
    if ordered.geometry is None:
        problem = next(f for f in ordered.findings if f.severity is Severity.ERROR)
        raise FormatError(source.path, problem.message, problem.code)
    return ordered, ordered.geometry


def _decode(ordered: Stack) -> tuple[NDArray[np.float32], Dataset, bool]:
    """Values [K, rows, columns] of all slices, the first slice's full data set, and whether any is lossy."""
    rows, columns = ordered.frames[0].size
    slices = np.empty((len(ordered.frames), rows, columns), dtype=np.float32)
    padding: list[Padding | None] = [None] * len(ordered.frames)
    places = {(frame.path, frame.number): k for k, frame in enumerate(ordered.frames)}
    first, lossy = Dataset(), False
    for path in dict.fromkeys(frame.path for frame in ordered.frames):
        dataset = read_dataset(path, pixels=True)
        for k, stored in _placed(dataset, path, places, ordered.frames):
            padding[k] = to_values(stored, dataset, ordered.frames[k], slices[k])
        lossy = lossy or is_lossy(dataset)
        first = first if first else dataset
    fill_padding(slices, padding)
    return slices, first, lossy


def _placed(
    dataset: Dataset, path: Path, places: dict[tuple[Path, int], int], frames: Sequence[Frame]
) -> Iterator[tuple[int, NDArray[np.generic]]]:
    """Each decoded frame of a file with its place k in the stack."""
    for number, stored in enumerate(stored_frames(dataset, path)):
        k = places.get((path, number))
        if k is None:
            continue
        if stored.shape != frames[k].size:
            raise FormatError(path, f"decodes to {stored.shape} pixels instead of {frames[k].size}", "unreadable")
        yield k, stored


def _about(header: Dataset, frames: Sequence[Frame], lossy: bool) -> Iterator[Finding]:
    """What is worth knowing about the values of a series."""
    modality = text(header, "Modality")
    if len({(frame.slope, frame.intercept) for frame in frames}) > 1:
        message = "slices have different rescale slopes or intercepts; each was rescaled by its own"
        yield Finding("mixed-rescale", Severity.INFO, message)
    units = text(header, "Units")
    if modality == "PT" and units not in ("GML", ""):
        message = f"PET values are in {units}, not in SUV (GML), and stay as they are"
        yield Finding("unknown-units", Severity.WARNING, message, {"units": units})
    if modality == "PT" and not units:
        yield Finding("unknown-units", Severity.WARNING, "PET values without Units")
    if modality == "CT" and all((frame.slope, frame.intercept) == (1.0, 0.0) for frame in frames):
        kind = text(header, "RescaleType")
        if "RescaleIntercept" not in header and "PerFrameFunctionalGroupsSequence" not in header and kind != "HU":
            yield Finding("unknown-units", Severity.WARNING, "CT without RescaleIntercept: values may not be HU")
    if text(header, "PhotometricInterpretation") == "MONOCHROME1":
        yield Finding("inverted", Severity.WARNING, "stored as MONOCHROME1 (dark is high) and inverted")
    if lossy:
        yield Finding("lossy", Severity.INFO, "the pixels went through lossy compression")
    image_type = [str(part).upper() for part in (header.get("ImageType") or ())]
    if image_type and image_type[0] == "DERIVED":
        yield Finding("derived", Severity.INFO, "a derived image (computed from others), not an original acquisition")


def _unique(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    kept = {(finding.code, finding.message): finding for finding in findings}
    return tuple(kept.values())
