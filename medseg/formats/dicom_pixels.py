"""Decoding DICOM pixels and turning stored numbers into values.

One decoder after the other is tried: pydicom with its plug-ins (GDCM, OpenJPEG, CharLS, Pillow),
then SimpleITK, which knows retired JPEG processes too.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.pixels import apply_color_lut, get_decoder
from pydicom.uid import (
    UID,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
    RLELossless,
)

from medseg.core.errors import FormatError
from medseg.formats.checks import in_short
from medseg.formats.dicom_frames import Frame, text
from medseg.formats.quiet import quiet, without_chatter

_PIXEL_MODULE = (
    "Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "PhotometricInterpretation", "BitsAllocated", "BitsStored",
    "HighBit", "PixelRepresentation", "PixelData",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Padding:
    """What of a slice was padding: the value range (after rescaling) that marks it, and the range of the rest."""

    marked: tuple[float, float]
    rest: tuple[float, float] | None


def stored_frames(dataset: Dataset, path: Path) -> Iterator[NDArray[Any]]:
    """Each frame's stored numbers [rows, columns], in colour [rows, columns, 3] as RGB, in the order of the file.

    Raises FormatError: partial-file where pixels are missing, unsupported-syntax where nothing decodes them.
    """
    if "PixelData" not in dataset:
        raise FormatError(path, "has no pixel data (cut off while copying?)", "partial-file")
    syntax = _transfer_syntax(dataset)
    dataset.file_meta.TransferSyntaxUID = syntax
    if not syntax.is_encapsulated:
        _require_all_bytes(dataset, path)
    frames = int(dataset.get("NumberOfFrames") or 1)
    done = 0
    reason = ""
    with quiet():
        try:
            for array in _with_pydicom(dataset, syntax):
                yield _significant(array, dataset) if array.ndim == 2 and _keeps_unused_bits(syntax) else array
                done += 1
            if done == frames:
                return
        except Exception as error:  # every plug-in raises its own
            reason = in_short(error)
        if done == 0 and frames >= 1:
            yield from _with_simpleitk(dataset, path, f"{_name(syntax)}: {reason}")
            return
    raise FormatError(path, f"only {done} of its {frames} frames can be decoded ({reason})", "partial-file")


def to_values(stored: NDArray[Any], dataset: Dataset, frame: Frame, out: NDArray[np.float32]) -> Padding | None:
    """Write a frame's values into `out` [rows, columns] (float32): inverted where MONOCHROME1, then rescaled.

    Colours [rows, columns, 3] are written as they are. Returns what of it is padding (PS3.3 C.7.5.1.1.2),
    None where nothing is.
    """
    if stored.ndim == 3:
        out[...] = stored
        return None
    limits = _padding_limits(dataset)
    inverted = text(dataset, "PhotometricInterpretation") == "MONOCHROME1"
    total = sum(_stored_range(dataset))
    padded = (stored >= limits[0]) & (stored <= limits[1]) if limits else None
    if inverted:
        np.subtract(total, stored, out=out, dtype=np.float32, casting="unsafe")
    else:
        out[...] = stored
    if frame.slope != 1.0:
        out *= np.float32(frame.slope)
    if frame.intercept != 0.0:
        out += np.float32(frame.intercept)
    if padded is None or not padded.any():
        return None
    marked, rest = out[padded], out[~padded]
    return Padding(
        (float(marked.min()), float(marked.max())), (float(rest.min()), float(rest.max())) if rest.size else None
    )


def fill_padding(slices: NDArray[np.float32], padding: list[Padding | None]) -> bool:
    """Give padding the smallest real value (air), in place; `slices` [K, rows, columns]. Returns whether it did.

    Padding is left as it is where its value lies among the real ones, as some writers name a value
    such as 0 that is in use, and holes punched into tissue would be worse than padding left in.
    """
    marked = [p for p in padding if p is not None]
    ranges = [
        p.rest if p is not None else (float(s.min()), float(s.max())) for p, s in zip(padding, slices, strict=True)
    ]
    real = [r for r in ranges if r is not None]
    if not marked or not real:
        return False
    low, high = min(r[0] for r in real), max(r[1] for r in real)
    below = max(p.marked[1] for p in marked) < low
    above = min(p.marked[0] for p in marked) > high
    if not (below or above):
        return False
    for part in slices:
        part[part < low if below else part > high] = low
    return True


def is_lossy(dataset: Dataset) -> bool:
    """Whether the pixels went through lossy compression at any time (PS3.3 C.7.6.1.1.5)."""
    if text(dataset, "LossyImageCompression") == "01":
        return True
    return any(word in _name(_transfer_syntax(dataset)) for word in ("Baseline", "Extended", "Near-Lossless"))


# ---- decoding ---------------------------------------------------------------------------------


def _transfer_syntax(dataset: Dataset) -> UID:
    """The file's transfer syntax; where its meta header is missing, what the parser found."""
    meta = getattr(dataset, "file_meta", None)
    given = meta.get("TransferSyntaxUID") if meta is not None else None
    if given:
        return UID(given)
    implicit, little = dataset.original_encoding
    if implicit:
        return ImplicitVRLittleEndian
    return ExplicitVRLittleEndian if little else ExplicitVRBigEndian


def _name(syntax: UID) -> str:
    return str(syntax.name)


def _keeps_unused_bits(syntax: UID) -> bool:
    return not syntax.is_encapsulated or syntax == RLELossless


def _require_all_bytes(dataset: Dataset, path: Path) -> None:
    pixels = int(dataset.Rows) * int(dataset.Columns) * int(dataset.get("NumberOfFrames") or 1)
    expected = pixels * int(dataset.get("SamplesPerPixel") or 1) * int(dataset.BitsAllocated) // 8
    actual = len(dataset.PixelData)
    if actual < expected:
        reason = f"its pixel data end after {actual} of {expected} bytes (cut off while copying?)"
        raise FormatError(path, reason, "partial-file")


def _significant(stored: NDArray[Any], dataset: Dataset) -> NDArray[Any]:
    """Only the stored bits count; older files keep overlays in the others, and leave the sign in the middle."""
    allocated, bits = int(dataset.BitsAllocated), int(dataset.get("BitsStored") or dataset.BitsAllocated)
    shift = int(dataset.get("HighBit") or bits - 1) + 1 - bits
    if stored.dtype.kind not in "iu" or (bits >= allocated and shift <= 0):
        return stored
    # Up to the top and down again: the second shift copies the sign, where there is one.
    up = allocated - bits - shift
    return (stored << up) >> (allocated - bits)


def _with_pydicom(dataset: Dataset, syntax: UID) -> Iterator[NDArray[Any]]:
    """Frame by frame, so that a long file never lies decoded twice in memory; colours as RGB."""
    palette = text(dataset, "PhotometricInterpretation") == "PALETTE COLOR"
    coloured = int(dataset.get("SamplesPerPixel") or 1) > 1
    decoded = get_decoder(syntax).iter_array(dataset, raw=not coloured)
    while True:
        with without_chatter() if syntax.is_encapsulated else nullcontext():
            item = next(decoded, None)
        if item is None:
            return
        yield apply_color_lut(item[0], dataset)[..., :3] if palette else item[0]


def _with_simpleitk(dataset: Dataset, path: Path, reason: str) -> Iterator[NDArray[Any]]:
    """All frames through SimpleITK, from a copy without rescaling, so that stored numbers come back."""
    import SimpleITK as sitk  # noqa: N813 -- the name under which the field knows it

    try:
        with tempfile.TemporaryDirectory() as folder, without_chatter():
            copy = Path(folder) / "pixels.dcm"
            _pixels_alone(dataset).save_as(copy, enforce_file_format=True)
            sitk.ProcessObject.SetGlobalWarningDisplay(False)
            reader = sitk.ImageFileReader()
            reader.SetFileName(str(copy))
            reader.SetImageIO("GDCMImageIO")
            stored = sitk.GetArrayFromImage(reader.Execute())
    except RuntimeError as error:
        raise FormatError(path, f"no installed decoder reads its pixels ({reason})", "unsupported-syntax") from error
    rows, columns = int(dataset.Rows), int(dataset.Columns)
    samples = int(dataset.get("SamplesPerPixel") or 1)
    if stored.size != rows * columns * samples * int(dataset.get("NumberOfFrames") or 1):
        raise FormatError(path, f"no installed decoder reads its pixels ({reason})", "unsupported-syntax")
    yield from stored.reshape(-1, rows, columns, *([samples] if samples > 1 else []))


def _pixels_alone(dataset: Dataset) -> Dataset:
    """A secondary capture object (PS3.3 A.8) with the same compressed pixels and nothing that changes their values."""
    alone = Dataset()
    for keyword in _PIXEL_MODULE:
        if keyword in dataset:
            alone[keyword] = dataset[keyword]
    alone.SOPClassUID = MultiFrameGrayscaleWordSecondaryCaptureImageStorage
    alone.SOPInstanceUID = "2.25.1"
    alone.file_meta = FileMetaDataset()
    alone.file_meta.TransferSyntaxUID = dataset.file_meta.TransferSyntaxUID
    return alone


# ---- padding ----------------------------------------------------------------------------------


def _stored_range(dataset: Dataset) -> tuple[int, int]:
    bits = int(dataset.get("BitsStored") or dataset.BitsAllocated)
    return (-(1 << bits - 1), (1 << bits - 1) - 1) if _signed(dataset) else (0, (1 << bits) - 1)


def _signed(dataset: Dataset) -> bool:
    return int(dataset.get("PixelRepresentation") or 0) == 1


def _padding_limits(dataset: Dataset) -> tuple[int, int] | None:
    first = dataset.get("PixelPaddingValue")
    if first is None or first == "":
        return None
    last = dataset.get("PixelPaddingRangeLimit")
    values = [_as_stored(v, dataset) for v in (first, first if last is None or last == "" else last)]
    return min(values), max(values)


def _as_stored(value: Any, dataset: Dataset) -> int:
    """The padding value as pixels have it: it is often written unsigned though pixels are signed, and the reverse."""
    number, allocated = int(value), int(dataset.BitsAllocated)
    if _signed(dataset) and number >= 1 << (allocated - 1):
        return number - (1 << allocated)
    return number + (1 << allocated) if not _signed(dataset) and number < 0 else number
