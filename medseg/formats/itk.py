"""NRRD (.nrrd, .nhdr) and MetaImage (.mha, .mhd), read through SimpleITK. World positions come as LPS+."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any, cast

import numpy as np
import SimpleITK as sitk  # noqa: N813 -- the name under which the field knows it
from numpy.typing import NDArray

from medseg.core.case import Scan, Source
from medseg.core.errors import FormatError
from medseg.core.geometry import Geometry, GeometryError
from medseg.core.volume import LabelMap, Volume
from medseg.formats.checks import as_labels, in_short, is_whole, require_content, require_finite, skewed_axes
from medseg.formats.quiet import quiet, without_chatter

_IMAGE_IO = {".nrrd": "NrrdImageIO", ".nhdr": "NrrdImageIO", ".mha": "MetaImageIO", ".mhd": "MetaImageIO"}

_HEADER_BYTES = 1 << 16
_CHUNK = 1 << 22
_ZLIB_OR_GZIP = 32  # zlib's word for "find out which of the two"


def read(source: Source) -> Scan:
    """Read an NRRD or MetaImage scan: array [1, I, J, K] in the file's own axis order.

    Raises FormatError: unreadable, partial-file, multi-volume, not-finite, bad-geometry.
    """
    array, geometry = _load(source.path)
    values = array.astype(np.float32, copy=False)
    del array
    require_finite(source.path, values)
    volume = Volume(values[np.newaxis], geometry)
    return Scan(source, volume, source.modality, is_whole(values), source.findings + skewed_axes(geometry))


def read_labels(source: Source) -> LabelMap:
    """Read a label map as int32 [I, J, K]. Raises FormatError as `read` does, and for fractions."""
    array, geometry = _load(source.path)
    return LabelMap(as_labels(source.path, array), geometry)


def _load(path: Path) -> tuple[NDArray[Any], Geometry]:
    require_content(path)
    _require_sound_compression(path)
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.SetImageIO(_IMAGE_IO[path.suffix.lower()])
    # MetaImage prints what it then raises, too.
    with quiet(), without_chatter():
        try:
            reader.ReadImageInformation()
        except RuntimeError as error:
            raise FormatError(path, f"cannot be read as {path.suffix.lower()} ({_reason(error)})") from error
        geometry = _geometry(path, reader)
        try:
            image = reader.Execute()
        except RuntimeError as error:
            raise FormatError(path, "its pixels end too early or cannot be read", "partial-file") from error
    # A copy of its own, [K, J, I] seen as [I, J, K], as the image's buffer goes with the image.
    array = sitk.GetArrayFromImage(image).T.reshape(geometry.shape, order="F")
    return cast(NDArray[Any], array), geometry


def _geometry(path: Path, reader: Any) -> Geometry:
    size = tuple(int(n) for n in reader.GetSize())
    components = int(reader.GetNumberOfComponents())
    if components != 1:
        raise FormatError(path, f"holds {components} values a voxel; give one scalar volume a file", "multi-volume")
    if any(n > 1 for n in size[3:]) or len(size) < 2:
        raise FormatError(path, f"has the shape {size}; give one 3D volume a file", "multi-volume")
    rank = len(size)
    direction = np.eye(max(rank, 3))
    direction[:rank, :rank] = np.reshape(reader.GetDirection(), (rank, rank))
    spacing = (*reader.GetSpacing(), 1.0)[:3]
    affine = np.eye(4)
    affine[:3, :3] = direction[:3, :3] * np.asarray(spacing)
    affine[:3, 3] = (*reader.GetOrigin(), 0.0)[:3]
    try:
        return Geometry.from_lps(affine, (*size, 1)[:3])
    except GeometryError as error:
        raise FormatError(path, f"its position in space is unusable: {error}", "bad-geometry") from error


def _reason(error: RuntimeError) -> str:
    """The last line that ITK gives, which says what went wrong; those before it name its own source code."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return in_short(RuntimeError(lines[-1].split("ERROR:")[-1].strip() if lines else "no reason given"))


def _require_sound_compression(path: Path) -> None:
    """Raise FormatError where compressed pixels are damaged: their checksum says so, but ITK does not look at it."""
    with path.open("rb") as file:
        head = file.read(_HEADER_BYTES)
    is_nrrd = path.suffix.lower() in (".nrrd", ".nhdr")
    header, offset = _header_fields(head, is_nrrd)
    compressed = header.get("encoding", "") in ("gzip", "gz") if is_nrrd else header.get("compresseddata") == "true"
    named = header.get("data file", header.get("datafile", "")) if is_nrrd else header.get("elementdatafile", "local")
    data = path if named in ("", "local") else path.parent / named
    # Lists and patterns of files are left to ITK.
    if not compressed or not data.is_file() or header.get("byte skip", header.get("byteskip", "0")) != "0":
        return
    unpack = zlib.decompressobj(wbits=zlib.MAX_WBITS | _ZLIB_OR_GZIP)
    with data.open("rb") as file:
        file.seek(offset if data == path else 0)
        try:
            while not unpack.eof and (chunk := file.read(_CHUNK)):
                unpack.decompress(chunk)
        except zlib.error as error:
            raise FormatError(path, f"its compressed pixels are damaged ({in_short(error)})") from error
    if not unpack.eof:
        raise FormatError(path, "its compressed pixels end too early (cut off while copying?)", "partial-file")


def _header_fields(head: bytes, is_nrrd: bool) -> tuple[dict[str, str], int]:
    """The `key: value` (NRRD) or `key = value` (MetaImage) lines, and where what follows them begins.

    Keys are in lower case, and so are values that are words; NRRD's header ends with an empty line,
    MetaImage's with ElementDataFile.
    """
    fields: dict[str, str] = {}
    offset = 0
    for line in head.splitlines(keepends=True):
        offset += len(line)
        text = line.decode("latin-1").strip()
        if is_nrrd and not text:
            break
        key, _, value = text.partition(":" if is_nrrd else "=")
        key, value = key.strip().lower(), value.strip()
        fields[key] = value if "file" in key and value != "LOCAL" else value.lower()
        if key == "elementdatafile":
            break
    return fields, offset
