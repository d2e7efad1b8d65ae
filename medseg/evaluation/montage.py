"""A small picture beside every prediction, cheap enough for a night of thousands of scans."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medseg.core.files import atomic
from medseg.core.geometry import GeometryError
from medseg.core.labels import IGNORE, Color
from medseg.core.volume import LabelMap, Volume
from medseg.evaluation.views import (
    Image,
    Plane,
    Window,
    axial_slice,
    canonical,
    channels_last,
    colors,
    is_picture,
    structure,
    window,
)

_TILES, _COLUMNS = 6, 3
_TILE = 184  # pixels, the longer side
_PICTURE = 420
_FILL = 0.38
_MOST_BYTES = 150_000
_EFFORT = 3  # of 9 in compressing: a fifth larger than the usual 6, in a third of the time
_NAMES = 12
_BACKGROUND, _TEXT = (16, 20, 24), (205, 212, 222)


def preview(volume: Volume, labelmap: LabelMap, path: Path) -> None:
    """Write a small PNG: six axial slices over the extent of what was found, or the whole picture.

    The patient's right is on the left; labels are tinted and outlined, their names stand below.
    Slices are cut before anything is computed, so that a 512x512x300 scan takes a fraction of a second.
    Raises GeometryError where the two do not lie on one grid.
    """
    if labelmap.geometry.shape != volume.geometry.shape:
        raise GeometryError(f"a label map of {labelmap.geometry.shape} does not lie on {volume.geometry.shape}")
    inside = structure(labelmap)
    tiles = _tiles(volume, labelmap, inside, window(volume, inside))
    known = {int(value) for _, plane in tiles for value in np.unique(plane)} - {0}
    table = colors(labelmap.labels, sorted(v for v in known if not (labelmap.labels and v == IGNORE)))
    sheet = _sheet([_tint(image, plane, table) for image, plane in tiles])
    _save(sheet, table, "R" if not is_picture(volume.geometry) else "", path)


def _tiles(volume: Volume, labelmap: LabelMap, inside: NDArray[np.bool_], shades: Window) -> list[tuple[Image, Plane]]:
    """Slices at the size at which they are shown: (image in 0..1, labels)."""
    if is_picture(volume.geometry):
        rows, columns, _ = volume.geometry.extent
        image = channels_last(volume.array[..., 0], shades)
        return [_resized(image, labelmap.array[..., 0], (columns, rows), _PICTURE)]
    image, labels = canonical(volume.array, volume.geometry), canonical(labelmap.array, volume.geometry)
    width, height, _ = volume.geometry.reordered(*volume.geometry.to_canonical()).extent
    hit = np.flatnonzero(canonical(inside, volume.geometry).any(axis=(0, 1)))
    first, last = (int(hit[0]), int(hit[-1])) if hit.size else (0, image.shape[-1] - 1)
    # The ends of a structure are slivers: the slices stand in the middles of equal parts.
    places = sorted({first + int((last - first + 1) * (n + 0.5) / _TILES) for n in range(_TILES)}, reverse=True)
    return [
        _resized(
            channels_last(axial_slice(image, place), shades), axial_slice(labels, place), (width, height), _TILE
        )
        for place in places
    ]  # fmt: skip


def _resized(image: Image, plane: Plane, size: tuple[float, float], longest: int) -> tuple[Image, Plane]:
    """Image (smoothly) and labels (nearest) at true proportions, the longer side `longest` pixels."""
    from PIL import Image as Pillow

    scale = longest / max(size)
    shape = max(8, round(size[0] * scale)), max(8, round(size[1] * scale))  # width, height
    shown = Pillow.fromarray(np.ascontiguousarray((image * 255).astype(np.uint8)))
    rows = ((np.arange(shape[1]) + 0.5) * plane.shape[0] / shape[1]).astype(np.intp)
    columns = ((np.arange(shape[0]) + 0.5) * plane.shape[1] / shape[0]).astype(np.intp)
    smooth = np.asarray(shown.resize(shape, Pillow.Resampling.BILINEAR), dtype=np.float32)
    return smooth * np.float32(1 / 255), plane[np.ix_(rows, columns)]


def _tint(image: Image, plane: Plane, table: Mapping[int, tuple[str, Color]]) -> NDArray[np.uint8]:
    """The tile in colour: labels translucent, their borders solid."""
    tile = np.repeat(image[..., None], 3, axis=2) if image.ndim == 2 else image.copy()
    for value, (_, color) in table.items():
        mask = plane == value
        shade = np.asarray(color, dtype=np.float32) / 255
        tile[mask] = (1 - _FILL) * tile[mask] + _FILL * shade
        tile[mask & ~_eroded(mask)] = shade
    return (tile * 255).round().astype(np.uint8)


def _eroded(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Pixels whose four neighbours belong to the mask too."""
    padded = np.pad(mask, 1, mode="edge")
    around = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return np.asarray(mask & around)


def _sheet(tiles: list[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """The tiles side by side, each in the middle of its cell."""
    columns = min(_COLUMNS, len(tiles))
    rows = -(-len(tiles) // columns)
    height, width = max(t.shape[0] for t in tiles) + 2, max(t.shape[1] for t in tiles) + 2
    sheet = np.full((rows * height, columns * width, 3), _BACKGROUND, dtype=np.uint8)
    for place, tile in enumerate(tiles):
        row, column = divmod(place, columns)
        top = row * height + (height - tile.shape[0]) // 2
        left = column * width + (width - tile.shape[1]) // 2
        sheet[top : top + tile.shape[0], left : left + tile.shape[1]] = tile
    return sheet


def _save(sheet: NDArray[np.uint8], table: Mapping[int, tuple[str, Color]], mark: str, path: Path) -> None:
    """Add the legend and write; fewer colours where the file would be large."""
    from PIL import Image as Pillow
    from PIL import ImageDraw, ImageFont

    font = ImageFont.load_default(size=13)
    entries = list(table.values())[:_NAMES] or [("nothing found", _TEXT)]
    if len(table) > _NAMES:
        entries.append((f"and {len(table) - _NAMES} more", _TEXT))
    lines = wrapped([(name, color, round(font.getlength(name)) + 32) for name, color in entries], sheet.shape[1])
    picture = Pillow.new("RGB", (sheet.shape[1], sheet.shape[0] + 22 * len(lines) + 6), _BACKGROUND)
    picture.paste(Pillow.fromarray(sheet), (0, 0))
    pen = ImageDraw.Draw(picture)
    pen.text((5, 3), mark, fill=_TEXT, font=font)
    for row, line in enumerate(lines):
        x, y = 8, sheet.shape[0] + 5 + 22 * row
        for name, color, width in line:
            pen.rectangle((x, y + 3, x + 11, y + 14), fill=color)
            pen.text((x + 17, y + 1), name, fill=_TEXT, font=font)
            x += width
    with atomic(path) as temporary:
        picture.save(temporary, format="PNG", compress_level=_EFFORT)
        for kept in (256, 64):
            if temporary.stat().st_size > _MOST_BYTES:
                few = picture.quantize(kept, method=Pillow.Quantize.FASTOCTREE, dither=Pillow.Dither.NONE)
                few.save(temporary, format="PNG", compress_level=_EFFORT)


def wrapped(entries: list[tuple[str, Color, int]], width: int) -> list[list[tuple[str, Color, int]]]:
    """Legend entries in lines no wider than the picture."""
    lines: list[list[tuple[str, Color, int]]] = [[]]
    for entry in entries:
        if lines[-1] and sum(other[2] for other in lines[-1]) + entry[2] > width - 8:
            lines.append([])
        lines[-1].append(entry)
    return lines
