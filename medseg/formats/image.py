"""Pictures: PNG, JPEG, BMP, GIF and PNM through Pillow, TIFF (also multi-page) through tifffile.

Array [C, rows, columns, pages]; C is 1 (grey) or 3 (colour) or what a TIFF has; alpha is dropped.
Pictures have a spacing of 1 on every axis: their resolution tags are about print and seldom true, and
a label picture hardly ever repeats those of its image, so that pixels are the only common measure.
TIFF stacks have the spacing in mm that ImageJ or OME state (see tiff_spacing), else 1, too.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.core.case import Finding, Scan, Severity, Source
from medseg.core.errors import FormatError
from medseg.core.files import atomic
from medseg.core.geometry import Geometry, Triple
from medseg.core.volume import LabelMap, Volume
from medseg.formats.checks import as_labels, in_short, is_whole, require_content, require_finite, storable_labels
from medseg.formats.quiet import quiet
from medseg.formats.tiff_spacing import imagej_tags, stack_spacing

_TIFF = (".tif", ".tiff")
_GREY_MODES = ("1", "L", "I", "F", "I;16", "I;16B", "I;16L", "I;16N")
_EXIF_ORIENTATION = 274
_UPRIGHT = (None, 0, 1)
_IN_PAGE = "SCYX"  # tifffile's names of the axes within a page: samples, channels, rows, columns


def read(source: Source) -> Scan:
    """Read a picture: float32 [C, rows, columns, pages], modality "image".

    Raises FormatError: unreadable, partial-file, multi-volume, not-finite.
    """
    loaded = _load(source.path, indices=False)
    values = loaded.array.astype(np.float32, copy=False)
    require_finite(source.path, values)
    volume = Volume(values, loaded.geometry)
    return Scan(source, volume, "image", is_whole(values), source.findings + loaded.findings)


def read_labels(source: Source) -> LabelMap:
    """Read a label picture as int32 [rows, columns, pages]: palette pictures give their indices.

    Raises FormatError as `read` does, for fractions, and for colour pictures, whose colours name no values.
    """
    loaded = _load(source.path, indices=True)
    if not all(np.array_equal(channel, loaded.array[0]) for channel in loaded.array[1:]):
        reason = "is a colour picture, whose colours name no label values; save it as grey values or with a palette"
        raise FormatError(source.path, reason, "not-a-label-map")
    return LabelMap(as_labels(source.path, loaded.array[0]), loaded.geometry)


def write_labelmap(labelmap: LabelMap, source: Source, path: Path) -> None:
    """Write [rows, columns, pages] as .png (one page) or .tif with its spacing.

    Raises FormatError for another size than the source's.
    """
    size = _size(source.path)
    if size != labelmap.array.shape[:2]:
        raise FormatError(
            path, f"a label map of {labelmap.array.shape[:2]} is not on the grid of {size}", "grid-mismatch"
        )
    _write(storable_labels(labelmap, path)[np.newaxis], labelmap.geometry, path)


def write_volume(volume: Volume, path: Path) -> None:
    """Write 1 or 3 channels of whole values 0..65535 (.png: one page; colour 0..255); .tif also takes float32.

    Of the place in the world a stack keeps its spacing, a single picture nothing.
    Raises FormatError where the format cannot hold the values.
    """
    array = volume.array
    if volume.channels not in (1, 3):
        raise FormatError(path, f"pictures have 1 or 3 channels, not {volume.channels}")
    if is_whole(array) and array.min() >= 0 and array.max() <= np.iinfo(np.uint16).max:
        array = array.astype(np.uint8 if array.max() <= np.iinfo(np.uint8).max else np.uint16, copy=False)
    elif path.suffix.lower() == ".png":
        raise FormatError(path, "a PNG holds whole values 0..65535; write a .tif")
    else:
        array = array.astype(np.float32, copy=False)
    _write(array, volume.geometry, path)


def _write(array: NDArray[Any], geometry: Geometry, path: Path) -> None:
    """Write [C, rows, columns, pages]."""
    if path.suffix.lower() in _TIFF:
        import tifffile

        pages = np.ascontiguousarray(np.moveaxis(array, -1, 0))  # [pages, C, rows, columns]
        colour = array.shape[0] == 3
        pages = np.ascontiguousarray(np.moveaxis(pages, 1, -1)) if colour else pages[:, 0]
        with quiet(), atomic(path) as temporary:
            kind = "rgb" if colour else "minisblack"
            tifffile.imwrite(temporary, pages, photometric=kind, compression="zlib", **_stated(pages, geometry, path))
        return
    from PIL import Image

    if array.shape[-1] != 1 or (array.shape[0] == 3 and array.dtype != np.uint8):
        raise FormatError(path, "a PNG holds one page, and 8 bits a colour; write a .tif")
    page = np.ascontiguousarray(array[..., 0].transpose(1, 2, 0) if array.shape[0] == 3 else array[0, ..., 0])
    with quiet(), atomic(path) as temporary:
        Image.fromarray(page).save(temporary, format="PNG")


def _stated(pages: NDArray[Any], geometry: Geometry, path: Path) -> dict[str, Any]:
    """How a TIFF [pages, rows, columns(, C)] states its spacing; single pages and spacings of 1 say nothing."""
    if len(pages) == 1 or geometry.spacing == (1.0, 1.0, 1.0):
        return {"metadata": None}
    if pages.ndim == 4 and pages.dtype != np.uint8:
        raise FormatError(
            path, "a colour stack of more than 8 bits cannot state its spacing; write its channels singly"
        )
    tags = imagej_tags(geometry.spacing)
    tags["metadata"] |= {"axes": "ZYXS" if pages.ndim == 4 else "ZYX"}
    return tags


# ---- reading ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class _Loaded:
    """array [C, rows, columns, pages] in the file's own type; spacing: mm, None where pixels are the only measure."""

    array: NDArray[Any]
    spacing: Triple | None = None
    findings: tuple[Finding, ...] = ()

    @property
    def geometry(self) -> Geometry:
        return Geometry.from_spacing(self.spacing or (1.0, 1.0, 1.0), self.array.shape[1:])


def _load(path: Path, indices: bool) -> _Loaded:
    """The picture in a file; `indices`: palette pictures as indices, not colours."""
    with _sentences(path):
        return _read_tiff(path, indices) if path.suffix.lower() in _TIFF else _read_pillow(path, indices)


def _size(path: Path) -> tuple[int, int]:
    """Rows and columns, from the header alone."""
    with _sentences(path):
        if path.suffix.lower() in _TIFF:
            import tifffile

            with tifffile.TiffFile(path) as file:
                page = file.pages.first
                return int(page.imagelength), int(page.imagewidth)
        from PIL import Image

        with Image.open(path) as picture:
            return int(picture.height), int(picture.width)


@contextmanager
def _sentences(path: Path) -> Iterator[None]:
    """Turn whatever the picture libraries raise into one sentence of ours."""
    require_content(path)
    try:
        with quiet():
            yield
    except FormatError:
        raise
    except Exception as error:  # damaged pictures raise anything from SyntaxError to struct.error
        text = str(error).lower()
        if any(word in text for word in ("truncated", "too short", "end of file", "not enough", "corrupted strip")):
            raise FormatError(path, "the file ends too early (cut off while copying?)", "partial-file") from error
        if "cannot identify" in text:
            raise FormatError(path, f"is no {path.suffix.lower()} picture, though it is named like one") from error
        raise FormatError(path, f"cannot be read as a picture ({in_short(error)})", "unreadable") from error


def _read_pillow(path: Path, indices: bool) -> _Loaded:
    from PIL import Image

    with Image.open(path) as picture:
        frames = int(getattr(picture, "n_frames", 1))
        if frames > 1:
            raise FormatError(
                path, f"holds {frames} frames (an animation); save them as single pictures", "multi-volume"
            )
        orientation = picture.getexif().get(_EXIF_ORIENTATION)
        array = _channels(picture, indices)[..., np.newaxis]
    if orientation in _UPRIGHT:
        return _Loaded(array)
    text = "the camera marked the picture as turned (EXIF orientation); its pixels are taken as they are stored"
    turned = Finding("exif-orientation", Severity.WARNING, text, {"orientation": int(orientation)})
    return _Loaded(array, findings=(turned,))


def _channels(picture: Any, indices: bool) -> NDArray[Any]:
    """[C, rows, columns] of one Pillow picture; alpha is dropped."""
    mode = picture.mode
    if mode == "P" and indices:
        return np.asarray(picture)[np.newaxis]
    if mode == "LA":
        return np.asarray(picture)[np.newaxis, ..., 0]
    if mode in _GREY_MODES:
        return np.asarray(picture)[np.newaxis]
    colours = picture if mode in ("RGB", "RGBA") else picture.convert("RGB")
    return np.asarray(colours)[..., :3].transpose(2, 0, 1)


def _read_tiff(path: Path, indices: bool) -> _Loaded:
    import tifffile

    try:
        file = tifffile.TiffFile(path)
    except tifffile.TiffFileError as error:
        raise FormatError(path, f"is no TIFF file, though it is named like one ({in_short(error)})") from error
    with file:
        if len(file.series) != 1:
            sizes = ", ".join("x".join(str(n) for n in series.shape) for series in file.series[:4])
            raise FormatError(path, f"holds {len(file.series)} different images ({sizes}); keep one", "multi-volume")
        array = _tiff_pixels(path, file, indices)
        if array.shape[-1] == 1:
            return _Loaded(array)
        series = file.series[0]
        axes = zip(str(series.axes), series.shape, strict=True)
        pages = next((name for name, n in axes if name not in _IN_PAGE and n > 1), "")
        return _Loaded(array, *stack_spacing(file, pages))


def _tiff_pixels(path: Path, file: Any, indices: bool) -> NDArray[Any]:
    """[C, rows, columns, pages] of the only series in an open TIFF file."""
    import tifffile

    series, page = file.series[0], file.pages.first
    if page.photometric == tifffile.PHOTOMETRIC.PALETTE and not indices:
        return _arranged(path, _coloured(series.asarray(), page.colormap), "S" + str(series.axes), samples=3)
    try:
        array = series.asarray()
    except ValueError as error:
        if "imagecodecs" not in str(error):
            raise
        return _read_tiff_pages_with_pillow(path, indices)
    if page.photometric == tifffile.PHOTOMETRIC.MINISWHITE and not indices and array.dtype == np.uint8:
        array = 255 - array
    return _arranged(path, array, str(series.axes), int(page.samplesperpixel))


def _coloured(array: NDArray[Any], colormap: NDArray[Any]) -> NDArray[Any]:
    """Palette indices [...] -> 8-bit colours [3, ...]; TIFF's colour map has 16 bits a colour."""
    return (colormap[:, array] >> 8).astype(np.uint8)


def _arranged(path: Path, array: NDArray[Any], axes: str, samples: int) -> NDArray[Any]:
    """Any TIFF axis order -> [C, rows, columns, pages]. tifffile: S samples, C channels, all but X and Y pages."""
    pages = [n for n, name in enumerate(axes) if name not in _IN_PAGE and array.shape[n] > 1]
    channels = [n for n, name in enumerate(axes) if name in "SC" and array.shape[n] > 1]
    if len(pages) > 1 or len(channels) > 1 or "Y" not in axes or "X" not in axes:
        shape = "x".join(str(n) for n in array.shape)
        raise FormatError(path, f"holds {shape} values along {axes}; keep one picture or one stack", "multi-volume")
    order = [*channels, axes.index("Y"), axes.index("X"), *pages]
    squeezed = array.transpose(*order, *(n for n in range(array.ndim) if n not in order))
    rows, columns = array.shape[axes.index("Y")], array.shape[axes.index("X")]
    count = array.shape[channels[0]] if channels else 1
    result = squeezed.reshape(count, rows, columns, array.shape[pages[0]] if pages else 1)
    alpha = samples in (2, 4) and samples == count
    return result[: samples - 1] if alpha else result


def _read_tiff_pages_with_pillow(path: Path, indices: bool) -> NDArray[Any]:
    """LZW and JPEG inside TIFF: tifffile needs a further package for them, Pillow has its own decoders."""
    from PIL import Image, ImageSequence, UnidentifiedImageError

    try:
        with Image.open(path) as picture:
            pages = [_channels(page, indices) for page in ImageSequence.Iterator(picture)]
    except UnidentifiedImageError as error:
        reason = "is compressed in a way that no installed decoder knows; save it uncompressed or with deflate"
        raise FormatError(path, reason, "unsupported-syntax") from error
    return np.stack(pages, axis=-1)
