"""Slices with outlined labels, as a reader pages through them: the pictures of a secondary capture."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from medseg.core.geometry import GeometryError
from medseg.core.labels import IGNORE, Color
from medseg.core.volume import LabelMap, Volume
from medseg.evaluation.montage import wrapped
from medseg.evaluation.views import Image, Plane, Window, channels_last, colors, is_picture, structure, window

_LONGEST = 512  # pixels of a slice's longer side
_STRIP = 22  # pixels of a line of text
_NAMES = 12
_BACKGROUND, _TEXT, _HALO = (0, 0, 0), (225, 231, 240), (0, 0, 0)
_LETTERS = (("L", "R"), ("P", "A"), ("I", "S"))  # what the world's axes point away from, and towards


def overlays(volume: Volume, labelmap: LabelMap, most: int) -> list[NDArray[np.uint8]]:
    """Every n-th slice along k, so that there are at most `most`: pictures [rows, columns, 3] of one size.

    Slices are shown as they were acquired (i to the right, j down; pictures as they are), at true
    proportions, in the usual window; the letters say what the left and the top edge are towards. Labels
    are outlined in their colours and named below; "nothing found" stands there where the result is empty.
    Raises GeometryError where the two do not lie on one grid.
    """
    if labelmap.geometry.shape != volume.geometry.shape:
        raise GeometryError(f"a label map of {labelmap.geometry.shape} does not lie on {volume.geometry.shape}")
    count = volume.geometry.shape[2]
    step = -(-count // most)
    places = list(range((count - 1) % step // 2, count, step))
    shades = window(volume, structure(labelmap))
    known = sorted({int(v) for k in range(count) for v in np.unique(labelmap.array[..., k])} - {0})
    table = colors(labelmap.labels, [v for v in known if not (labelmap.labels and v == IGNORE)])
    shape = _shape(volume)
    edges = _edges(volume)
    return [_picture(_slice(volume, labelmap, k, shades, shape), table, (edges, k, count)) for k in places]


def _shape(volume: Volume) -> tuple[int, int]:
    """(rows, columns) of a slice in square pixels; even, as colours are stored for two pixels at a time."""
    width, height, _ = volume.geometry.extent
    if is_picture(volume.geometry):
        width, height = height, width
    scale = _LONGEST / max(width, height)
    return max(8, 2 * round(height * scale / 2)), max(8, 2 * round(width * scale / 2))


def _edges(volume: Volume) -> tuple[str, str]:
    """The letters of the left and the top edge; a picture has none."""
    if is_picture(volume.geometry):
        return "", ""
    return _letter(-volume.geometry.direction[:, 0]), _letter(-volume.geometry.direction[:, 1])


def _letter(towards: NDArray[np.float64]) -> str:
    axis = int(np.abs(towards).argmax())
    return _LETTERS[axis][int(towards[axis] > 0)]


def _slice(
    volume: Volume, labelmap: LabelMap, k: int, shades: Window, shape: tuple[int, int]
) -> tuple[NDArray[np.uint8], Plane]:
    """Slice k in colour and its labels, both at the size at which they are shown."""
    from PIL import Image as Pillow

    array, plane = volume.array[..., k], labelmap.array[..., k]
    if not is_picture(volume.geometry):  # whose i runs down its rows already
        array, plane = np.swapaxes(array, -1, -2), plane.T
    image: Image = channels_last(array, shades)
    given = Pillow.fromarray(np.ascontiguousarray((image * 255).round().astype(np.uint8)))
    resized = np.asarray(given.resize((shape[1], shape[0]), Pillow.Resampling.BILINEAR))
    rows = ((np.arange(shape[0]) + 0.5) * plane.shape[0] / shape[0]).astype(np.intp)
    columns = ((np.arange(shape[1]) + 0.5) * plane.shape[1] / shape[1]).astype(np.intp)
    colored = resized.copy() if resized.ndim == 3 else np.repeat(resized[..., None], 3, axis=2)
    return colored, plane[np.ix_(rows, columns)]


def _picture(
    shown: tuple[NDArray[np.uint8], Plane],
    table: Mapping[int, tuple[str, Color]],
    place: tuple[tuple[str, str], int, int],
) -> NDArray[np.uint8]:
    from PIL import Image as Pillow
    from PIL import ImageDraw, ImageFont

    image, plane = shown
    for value, (_, color) in table.items():
        mask = plane == value
        image[mask & ~_eroded(mask)] = color
    (left, top), k, count = place
    font = ImageFont.load_default(size=13)
    entries = list(table.values())[:_NAMES] or [("nothing found", _TEXT)]
    if len(table) > _NAMES:
        entries.append((f"and {len(table) - _NAMES} more", _TEXT))
    lines = wrapped([(name, color, round(font.getlength(name)) + 32) for name, color in entries], image.shape[1])
    picture = Pillow.new("RGB", (image.shape[1], image.shape[0] + _STRIP * len(lines)), _BACKGROUND)
    picture.paste(Pillow.fromarray(image), (0, 0))
    pen = ImageDraw.Draw(picture)
    marks = ((5, 4, f"{k + 1}/{count}"), (5, image.shape[0] / 2, left), (image.shape[1] / 2, 4, top))
    for x, y, mark in marks:
        pen.text((x, y), mark, font=font, fill=_TEXT, stroke_width=1, stroke_fill=_HALO)
    for row, line in enumerate(lines):
        x, y = 6, image.shape[0] + _STRIP * row
        for name, color, width in line:
            pen.rectangle((x, y + 5, x + 11, y + 16), fill=color)
            pen.text((x + 17, y + 3), name, fill=_TEXT, font=font)
            x += width
    return np.asarray(picture)


def _eroded(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Pixels whose four neighbours, and theirs, belong to the mask too; the picture's border is no outside."""
    for _ in range(2):
        padded = np.pad(mask, 1, mode="edge")
        mask = mask & padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return mask
