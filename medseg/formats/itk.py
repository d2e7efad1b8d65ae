"""NRRD (.nrrd, .nhdr) and MetaImage (.mha, .mhd), read through SimpleITK. World positions come as LPS+."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import SimpleITK as sitk  # noqa: N813 -- the name under which the field knows it
from numpy.typing import NDArray

from medseg.core.case import Finding, Scan, Source
from medseg.core.errors import FormatError
from medseg.core.geometry import Geometry, GeometryError
from medseg.core.volume import LabelMap, Volume
from medseg.formats.checks import as_labels, in_short, is_whole, require_content, require_finite, skewed_axes
from medseg.formats.itk_header import read_header, require_sound_compression
from medseg.formats.quiet import quiet, without_chatter

_IMAGE_IO = {".nrrd": "NrrdImageIO", ".nhdr": "NrrdImageIO", ".mha": "MetaImageIO", ".mhd": "MetaImageIO"}


def read(source: Source) -> Scan:
    """Read an NRRD or MetaImage scan: array [1, I, J, K] in the file's own axis order.

    Raises FormatError: unreadable, partial-file, multi-volume, not-finite, bad-geometry.
    """
    array, geometry, findings = _load(source.path)
    values = array.astype(np.float32, copy=False)
    del array
    require_finite(source.path, values)
    volume = Volume(values[np.newaxis], geometry)
    return Scan(source, volume, source.modality, is_whole(values), source.findings + findings)


def read_labels(source: Source) -> LabelMap:
    """Read a label map as int32 [I, J, K]. Raises FormatError as `read` does, and for fractions."""
    array, geometry, _ = _load(source.path)
    return LabelMap(as_labels(source.path, array), geometry)


def _load(path: Path) -> tuple[NDArray[Any], Geometry, tuple[Finding, ...]]:
    require_content(path)
    header = read_header(path)
    require_sound_compression(header)
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.SetImageIO(_IMAGE_IO[path.suffix.lower()])
    # MetaImage prints what it then raises, too.
    with quiet(), without_chatter():
        try:
            reader.ReadImageInformation()
        except RuntimeError as error:
            if "direction" in str(error):
                raise FormatError(path, "its position in space is unusable: axes coincide", "bad-geometry") from error
            raise FormatError(path, f"cannot be read as {path.suffix.lower()} ({_reason(error)})") from error
        geometry = _geometry(path, reader, header.unit)
        try:
            image = reader.Execute()
        except RuntimeError as error:
            raise FormatError(path, "its pixels end too early or cannot be read", "partial-file") from error
    # A copy of its own, [K, J, I] seen as [I, J, K], as the image's buffer goes with the image.
    array = sitk.GetArrayFromImage(image).T.reshape(geometry.shape, order="F")
    return cast(NDArray[Any], array), geometry, (*header.findings(), *skewed_axes(geometry))


def _geometry(path: Path, reader: Any, unit: float) -> Geometry:
    """The grid in mm; ITK gives lengths in the header's `unit` (mm)."""
    size = tuple(int(n) for n in reader.GetSize())
    components = int(reader.GetNumberOfComponents())
    if components != 1:
        raise FormatError(path, f"holds {components} values a voxel; give one scalar volume a file", "multi-volume")
    if any(n > 1 for n in size[3:]) or len(size) < 2:
        raise FormatError(path, f"has the shape {size}; give one 3D volume a file", "multi-volume")
    rank = len(size)
    direction = np.eye(max(rank, 3))
    direction[:rank, :rank] = np.reshape(reader.GetDirection(), (rank, rank))
    spacing, origin = (*reader.GetSpacing(), 1.0)[:3], (*reader.GetOrigin(), 0.0)[:3]
    affine = np.eye(4)
    affine[:3, :3] = direction[:3, :3] * np.asarray(spacing) * unit
    affine[:3, 3] = np.asarray(origin) * unit
    try:
        return Geometry.from_lps(affine, (*size, 1)[:3])
    except GeometryError as error:
        raise FormatError(path, f"its position in space is unusable: {error}", "bad-geometry") from error


def _reason(error: RuntimeError) -> str:
    """The last line that ITK gives, which says what went wrong; those before it name its own source code."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return in_short(RuntimeError(lines[-1].split("ERROR:")[-1].strip() if lines else "no reason given"))
