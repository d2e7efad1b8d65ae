"""NIfTI-1 and NIfTI-2 single files (.nii, .nii.gz). Source: https://nifti.nimh.nih.gov/nifti-1/"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any, cast

import nibabel
import numpy as np
from nibabel.fileholders import FileHolder
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from medseg.core.case import Finding, Scan, Severity, Source
from medseg.core.errors import FormatError
from medseg.core.files import atomic
from medseg.core.geometry import Geometry, GeometryError
from medseg.core.volume import LabelMap, Volume
from medseg.formats.checks import (
    as_labels,
    in_short,
    is_whole,
    require_content,
    require_finite,
    skewed_axes,
    storable_labels,
)
from medseg.formats.lengths import converted
from medseg.formats.quiet import quiet

_GZIP_MAGIC = b"\x1f\x8b"
# xyzt_units: the lengths that the header may be in, as millimetres. 0 (unknown) is millimetres in practice.
_MILLIMETRES = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}
# Two transforms of one header that differ by less than this are roundings of each other.
_AGREEMENT_MM = 0.1
# Deflate packs 258 bytes into two bits at most.
_DEFLATE_MOST = 1032


def read(source: Source) -> Scan:
    """Read a NIfTI image as stored on disk: array [1, I, J, K], affine from sform, else qform, else the pixdims.

    Where sform and qform are both set and disagree, a finding says so. A file holds one volume: sizes
    beyond the third are 1, else it is refused.
    Raises FormatError: unreadable, partial-file, multi-volume, color, not-finite, bad-geometry.
    """
    image, raw, surplus = _load(source.path)
    geometry, findings = _geometry(source.path, image)
    array = _scaled(image, raw.reshape(geometry.shape, order="A"))
    del raw
    require_finite(source.path, array)
    volume = Volume(array[np.newaxis], geometry)
    return Scan(source, volume, source.modality, is_whole(array), (*source.findings, *findings, *surplus))


def read_labels(source: Source) -> LabelMap:
    """Read a NIfTI label map as int32 [I, J, K]. Raises FormatError as `read` does, and for fractions."""
    image, raw, _ = _load(source.path)
    geometry, _ = _geometry(source.path, image)
    raw = raw.reshape(geometry.shape, order="A")
    if _scaling(image) != (1.0, 0.0):
        raw = _scaled(image, raw)
    return LabelMap(as_labels(source.path, raw), geometry)


def write_labelmap(labelmap: LabelMap, source: Source, path: Path) -> None:
    """Write uint8/uint16 [I, J, K]; the header of a NIfTI source is kept with its sform and qform as they are.

    Raises FormatError where the shape is not the source's.
    """
    array = storable_labels(labelmap, path)
    if source.format != "nifti":
        _write(path, _new_image(array, labelmap.geometry))
        return
    with _opened(source.path) as (original, _):
        if _shape(source.path, original) != labelmap.geometry.shape:
            raise FormatError(
                path, f"a label map of {array.shape} is not on the grid of {source.path}", "grid-mismatch"
            )
        header = original.header.copy()
        kind = type(original)
    header.extensions.clear()
    header.set_data_dtype(array.dtype)
    header.set_slope_inter(1, 0)
    for key, value in {"cal_min": 0, "cal_max": 0, "intent_code": 0, "descrip": b"medseg label map"}.items():
        header[key] = value
    for key in ("aux_file", "db_name", "intent_name"):  # free text, where some tools put the patient's name
        if key in header.keys():  # noqa: SIM118 -- a nibabel header is no dict
            header[key] = b""
    _write(path, kind(array, None, header))


def write_volume(volume: Volume, path: Path) -> None:
    """Write a one-channel image with its dtype (8-byte types shortened). Raises FormatError for more channels."""
    if volume.channels != 1:
        raise FormatError(path, f"NIfTI files hold one channel here, not {volume.channels}; write one file a channel")
    array = volume.array[0]
    smaller: dict[str, type[np.generic]] = {
        "bool": np.uint8,
        "int64": np.int32,
        "uint64": np.uint32,
        "float16": np.float32,
    }
    _write(path, _new_image(array.astype(smaller.get(array.dtype.name, array.dtype), copy=False), volume.geometry))


def _new_image(array: NDArray[Any], geometry: Geometry) -> Any:
    image = nibabel.Nifti1Image(array, geometry.affine)
    image.header.set_xyzt_units("mm")
    image.set_sform(geometry.affine, code=1)
    # A quaternion holds no shear; a qform that disagrees with the sform would mislead other readers.
    image.set_qform(geometry.affine if geometry.is_orthogonal else None, code=1 if geometry.is_orthogonal else 0)
    return image


def _write(path: Path, image: Any) -> None:
    with quiet(), atomic(path) as temporary:
        nibabel.save(image, temporary)


# ---- reading ----------------------------------------------------------------------------------


def _load(path: Path) -> tuple[Any, NDArray[Any], tuple[Finding, ...]]:
    """The image, its unscaled array, and the finding that more bytes follow than it takes, where they do.

    The file is read to its end, so that a damaged gzip stream is noticed.
    """
    with _opened(path) as (image, stream):
        _shape(path, image)
        _require_all_bytes(path, image, isinstance(stream, gzip.GzipFile))
        raw = image.dataobj.get_unscaled()
        surplus = 0
        while chunk := stream.read(1 << 20):
            surplus += len(chunk)
    return image, cast(NDArray[Any], raw), _surplus(surplus, image)


def _surplus(count: int, image: Any) -> tuple[Finding, ...]:
    """Wrong sizes in a header shear or cut the image without any other trace."""
    if count == 0:
        return ()
    text = f"{count} bytes follow the {image.shape} voxels that the header describes, so its sizes may be wrong"
    return (Finding("surplus-data", Severity.WARNING, text, {"bytes": count}),)


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, IO[bytes]]]:
    require_content(path)
    try:
        with quiet(), ExitStack() as stack:
            plain = stack.enter_context(path.open("rb"))
            packed = plain.read(2) == _GZIP_MAGIC
            plain.seek(0)
            stream = cast(IO[bytes], stack.enter_context(gzip.GzipFile(fileobj=plain)) if packed else plain)
            kind = _kind(path, stream)
            # A fresh stream position and no memory map: the array must outlive the file.
            image = kind.from_file_map({"image": FileHolder(fileobj=stream)}, mmap=False)
            yield image, stream
    except (FormatError, GeometryError):
        raise
    except EOFError as error:
        raise FormatError(path, "the file ends too early (cut off while copying?)", "partial-file") from error
    except (zlib.error, gzip.BadGzipFile) as error:
        raise FormatError(path, f"the compressed data are damaged ({in_short(error)})", "unreadable") from error
    except Exception as error:  # nibabel lets through whatever a damaged header causes
        code, reason = _diagnose(error)
        raise FormatError(path, reason, code) from error


def _diagnose(error: Exception) -> tuple[str, str]:
    if "bytes, got" in str(error):
        return "partial-file", "the file ends too early (cut off while copying?)"
    return "unreadable", f"cannot be read as NIfTI ({in_short(error)})"


def _kind(path: Path, stream: IO[bytes]) -> Any:
    head = stream.read(352)
    stream.seek(0)
    if len(head) >= 348:
        sizes = {struct.unpack(order + "i", head[:4])[0] for order in "<>"}
        if 348 in sizes and head[344:347] in (b"n+1", b"ni1"):
            return nibabel.Nifti1Image
        if 540 in sizes:
            return nibabel.Nifti2Image
        if 348 in sizes:
            raise FormatError(path, "is an Analyze file, which does not tell left from right; convert it to NIfTI")
    raise FormatError(path, "is no NIfTI file, though it is named like one", "unreadable")


def _shape(path: Path, image: Any) -> tuple[int, int, int]:
    """The three spatial sizes; later axes must have length one. Raises FormatError otherwise."""
    shape = tuple(int(n) for n in image.shape)
    if image.get_data_dtype().fields is not None:
        raise FormatError(path, "holds colour values (RGB), which are no intensities", "color")
    if np.issubdtype(image.get_data_dtype(), np.complexfloating):
        raise FormatError(path, "holds complex values, which are no intensities", "unsupported-syntax")
    if len(shape) < 2 or min(shape) < 1:
        raise FormatError(path, f"has the shape {shape}, which is no image", "unreadable")
    if any(n > 1 for n in shape[4:]):  # dim[5] and up count the values of one voxel
        count = math.prod(shape[4:])
        raise FormatError(path, f"holds {count} values a voxel (shape {shape}); give one scalar volume", "multi-volume")
    if any(n > 1 for n in shape[3:]):
        reason = f"holds {shape[3]} volumes (shape {shape}); one file is one 3D volume here, so split it"
        raise FormatError(path, reason, "multi-volume")
    i, j, k = (*shape, 1)[:3]
    return i, j, k


def _require_all_bytes(path: Path, image: Any, packed: bool) -> None:
    """Raise FormatError where a file is too short for its header's sizes, before any memory is taken for them."""
    stored = path.stat().st_size
    needed = int(image.dataobj.offset) + math.prod(image.shape) * int(image.get_data_dtype().itemsize)
    if needed > (stored * _DEFLATE_MOST if packed else stored):
        raise FormatError(
            path, f"the file ends after {stored} of {needed} bytes (cut off while copying?)", "partial-file"
        )


def _geometry(path: Path, image: Any) -> tuple[Geometry, tuple[Finding, ...]]:
    header, shape = image.header, _shape(path, image)
    unit = _MILLIMETRES.get(int(header["xyzt_units"]) & 7, 1.0)
    findings: list[Finding] = []
    if int(header["sform_code"]) <= 0 and int(header["qform_code"]) <= 0:
        text = "neither sform nor qform is set, so left and right are a guess"
        findings.append(Finding("missing-xform", Severity.WARNING, text))
    findings += converted(unit)
    try:
        geometry = _in_millimetres(image.affine, unit, shape)
    except (GeometryError, ValueError) as error:
        raise FormatError(path, f"its position in space is unusable: {in_short(error)}", "bad-geometry") from error
    if int(header["sform_code"]) > 0 and int(header["qform_code"]) > 0:
        findings += _disagreement(geometry, header, unit)
    return geometry, (*findings, *skewed_axes(geometry))


def _in_millimetres(affine: NDArray[Any], unit: float, shape: tuple[int, int, int]) -> Geometry:
    return Geometry(np.diag([unit, unit, unit, 1.0]) @ np.asarray(affine, dtype=np.float64), shape)


def _disagreement(sform: Geometry, header: Any, unit: float) -> list[Finding]:
    """The finding that the qform, which is not used, places the voxels elsewhere, where it does."""
    values: dict[str, Any] = {"used": "sform"}
    try:
        qform = _in_millimetres(header.get_qform(), unit, sform.shape)
    except (GeometryError, ValueError, HeaderDataError) as error:
        text = f"the qform is unusable ({in_short(error)}); the sform is used"
        return [Finding("sform-qform-disagreement", Severity.WARNING, text, values)]
    distance = sform.corner_distance(qform)
    if distance <= _AGREEMENT_MM:
        return []
    text = f"sform and qform place the corners up to {distance:.2f} mm apart; the sform is used"
    return [Finding("sform-qform-disagreement", Severity.WARNING, text, {"mm": distance, **values})]


def _scaling(image: Any) -> tuple[float, float]:
    return float(image.dataobj.slope), float(image.dataobj.inter)


def _scaled(image: Any, raw: NDArray[Any]) -> NDArray[np.float32]:
    """float32 values [I, J, K] after scl_slope and scl_inter, which are applied in float64 slice by slice."""
    slope, inter = _scaling(image)
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows is infinite, and refused as such
        if (slope, inter) == (1.0, 0.0):
            return raw.astype(np.float32, copy=False)
        array = np.empty(raw.shape, dtype=np.float32, order="F")
        for k in range(raw.shape[2]):
            array[:, :, k] = raw[:, :, k].astype(np.float64) * slope + inter
    return array
