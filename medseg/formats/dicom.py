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
from medseg.core.reading import POLICIES, Reading
from medseg.core.volume import LabelMap, Volume
from medseg.formats.checks import is_whole, require_finite
from medseg.formats.dicom_frames import Frame, frames_of, read_dataset, sound_header, text
from medseg.formats.dicom_index import refusal
from medseg.formats.dicom_pixels import Padding, fill_padding, is_lossy, stored_frames, to_values
from medseg.formats.dicom_stack import Stack, stack
from medseg.formats.dicom_suv import suv_factor


def read(source: Source, policy: Reading) -> Scan:
    """Read a series: values after each slice's own rescaling, i along rows' direction, k along the normal.

    CT comes in HU, PET in body-weight SUV (or as stored, see `Reading.pet`). Tilted or unevenly spaced
    slices come resampled onto a rectilinear grid where the policy says so. A colour image, or one
    without a position in the body, comes as a picture: [C, rows, columns, 1].

    Raises FormatError with the code of what is wrong: missing-slices, uneven-spacing, gantry-tilt,
    mixed-orientation, multi-volume, unknown-units, unsupported-syntax, partial-file, …
    """
    with sound_header(source.path):
        ordered, geometry = arranged(source, policy)
        slices, header, lossy = _decode(ordered)
        units = _to_suv(slices, header, ordered.frames, policy)
        kept = [finding for finding in source.findings if finding.code not in POLICIES]
        findings = _unique([*kept, *ordered.findings, *units, *_about(header, ordered.frames, lossy)])
        modality = text(header, "Modality") or source.modality
    require_finite(source.path, slices)
    whole = is_whole(slices.T)
    if ordered.frames[0].position is None:
        picture = slices[0] if slices.ndim == 4 else slices[0][..., np.newaxis]
        return Scan(source, Volume(picture.transpose(2, 0, 1)[..., np.newaxis], geometry), modality, whole, findings)
    if ordered.reslicing is not None:
        slices = ordered.reslicing.values_to_grid(slices)
    return Scan(source, Volume(_volume(slices), geometry), modality, whole, findings)


def _volume(slices: NDArray[np.float32]) -> NDArray[np.float32]:
    """[K, rows, columns] or, in colour, [K, rows, columns, 3] -> [C, columns, rows, K], without a copy."""
    coloured = slices if slices.ndim == 4 else slices[..., np.newaxis]
    return coloured.transpose(3, 2, 1, 0)


def _to_suv(slices: NDArray[np.float32], header: Dataset, frames: Sequence[Frame], policy: Reading) -> list[Finding]:
    """Scale PET to SUV in place, where it is no SUV yet; what was done, as findings."""
    if text(header, "Modality") != "PT":
        return []
    if policy.pet == "stored":
        units = text(header, "Units") or "unknown units"
        if units == "GML":
            return []
        message = f"PET values in {units} stay as they are, as the task's reading.pet says"
        return [Finding("unknown-units", Severity.WARNING, message, {"units": units})]
    acquired = [dict(frame.stamps).get("acquisition time", "") for frame in frames]
    factor, finding = suv_factor(header, acquired, frames[0].path)
    if factor != 1.0:
        slices *= np.float32(factor)
    return [finding] if finding else []


def read_labels(source: Source) -> LabelMap:
    """DICOM images are no label maps. Raises FormatError."""
    raise FormatError(source.path, "is a DICOM image series and no label map", "not-a-label-map")


def arranged(source: Source, policy: Reading) -> tuple[Stack, Geometry]:
    """The frames of a series in slice order, and the grid of its volume. Raises FormatError where they make none."""
    frames: list[Frame] = []
    wanted = set(source.frames)
    for place, path in enumerate(source.files):
        header = read_dataset(path)
        problem = refusal(header)
        if problem is not None:
            raise FormatError(path, problem.message, problem.code)
        frames += [frame for frame in frames_of(header, path) if not wanted or (place, frame.number) in wanted]
    ordered = stack(frames, policy)
    if ordered.geometry is None:
        problem = next(f for f in ordered.findings if f.severity is Severity.ERROR)
        raise FormatError(source.path, problem.message, problem.code)
    return ordered, ordered.geometry


def _decode(ordered: Stack) -> tuple[NDArray[np.float32], Dataset, bool]:
    """Values [K, rows, columns] of all slices, the first slice's full data set, and whether any is lossy."""
    first_frame = ordered.frames[0]
    colours = (first_frame.samples,) if first_frame.samples > 1 else ()
    slices = np.empty((len(ordered.frames), *first_frame.size, *colours), dtype=np.float32)
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
        if stored.shape[:2] != frames[k].size:
            raise FormatError(path, f"decodes to {stored.shape} pixels instead of {frames[k].size}", "unreadable")
        yield k, stored


def _about(header: Dataset, frames: Sequence[Frame], lossy: bool) -> Iterator[Finding]:
    """What is worth knowing about the values of a series."""
    modality = text(header, "Modality")
    if len({(frame.slope, frame.intercept) for frame in frames}) > 1:
        message = "slices have different rescale slopes or intercepts; each was rescaled by its own"
        yield Finding("mixed-rescale", Severity.INFO, message)
    if modality == "CT" and all((frame.slope, frame.intercept) == (1.0, 0.0) for frame in frames):
        kind = text(header, "RescaleType")
        if "RescaleIntercept" not in header and "PerFrameFunctionalGroupsSequence" not in header and kind != "HU":
            yield Finding("unknown-units", Severity.WARNING, "CT without RescaleIntercept: values may not be HU")
    if frames[0].samples > 1:
        message = "a colour image (red, green, blue), which holds no intensities of a scanner"
        yield Finding("color", Severity.INFO, message)
    if text(header, "BurnedInAnnotation") == "YES":
        message = "the header says that text is burned into the pixels, which may name the patient"
        yield Finding("burned-in-annotation", Severity.WARNING, message)
    if text(header, "PhotometricInterpretation") == "MONOCHROME1":
        yield Finding("inverted", Severity.WARNING, "stored as MONOCHROME1 (dark is high) and inverted")
    if lossy:
        yield Finding("lossy", Severity.INFO, "the pixels went through lossy compression")
    if text(header, "ImageType").upper().startswith("DERIVED"):
        yield Finding("derived", Severity.INFO, "a derived image (computed from others), not an original acquisition")


def _unique(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    kept = {(finding.code, finding.message): finding for finding in findings}
    return tuple(kept.values())
