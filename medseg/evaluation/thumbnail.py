"""A small picture of every volume: three planes in the usual window, labels as contours in their colours."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from medseg.core.labels import Color, Label, default_color
from medseg.core.volume import LabelMap, Volume
from medseg.evaluation.views import Image, Plane, View, is_picture, orthogonal_views

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

_HEIGHT = 224  # pixels of the three planes; the page shows them at half of that, sharp on any screen
_WIDEST, _PICTURE = 760, 380
_LINE = 2  # pixels
_GAP = 6
_COLORS = 128
_BACKGROUND = (16, 20, 24)
_MARK, _HALO = (225, 231, 240), (16, 20, 24)


def thumbnail(volume: Volume, labelmap: LabelMap | None, labels: Sequence[Label] = ()) -> bytes:
    """A PNG: axial, coronal and sagittal plane, whole and at true proportions; a picture once.

    The patient's right is on the left. The planes go through the middle or, where there are labels,
    where these are widest. `labels` give values their colours; others take the palette's. Touching
    objects of an instance map keep a line between them.
    """
    from PIL import Image as Pillow

    empty = np.zeros(volume.geometry.shape, dtype=np.uint8)
    array = empty if labelmap is None else labelmap.array
    views = orthogonal_views(volume, [array], array > 0, whole=True)
    colors = {label.value: label.color for label in labels}
    tiles = [_tile(view, shape, colors) for view, shape in zip(views, _shapes(views), strict=True)]
    sheet = _sheet(tiles)
    picture = Pillow.fromarray(sheet)
    if not is_picture(volume.geometry):
        _letter(picture, views[0].edges[0])
    few = picture.quantize(_COLORS, method=Pillow.Quantize.MEDIANCUT, dither=Pillow.Dither.NONE)
    file = io.BytesIO()
    few.save(file, format="PNG", optimize=False)
    return file.getvalue()


def _shapes(views: Sequence[View]) -> list[tuple[int, int]]:
    """(rows, columns) of each tile: one scale for all, as high as the highest plane allows."""
    widths, heights = [view.size[0] for view in views], [view.size[1] for view in views]
    scale = min(_HEIGHT / max(heights), (_WIDEST - _GAP * len(views)) / sum(widths))
    if len(views) == 1:
        scale = _PICTURE / max(widths + heights)
    return [(max(8, round(h * scale)), max(8, round(w * scale))) for w, h in zip(widths, heights, strict=True)]


def _tile(view: View, shape: tuple[int, int], colors: Mapping[int, Color]) -> NDArray[np.uint8]:
    shown = _resized(view.image, shape)
    plane = _sampled(view.labels[0], shape)
    for value in np.unique(plane[plane > 0]).tolist():
        mask = plane == value
        shown[mask & ~_eroded(mask, _LINE)] = colors.get(value) or default_color(value)
    return shown


def _resized(image: Image, shape: tuple[int, int]) -> NDArray[np.uint8]:
    """[rows, columns, 3] of the wanted size: averaged where it shrinks, smooth where it grows."""
    from PIL import Image as Pillow

    scaled = Pillow.fromarray(np.ascontiguousarray((image * 255).astype(np.uint8)))
    bytes_ = np.asarray(scaled.resize((shape[1], shape[0]), Pillow.Resampling.BICUBIC))
    return np.repeat(bytes_[..., None], 3, axis=2) if bytes_.ndim == 2 else bytes_.copy()


def _sampled(plane: Plane, shape: tuple[int, int]) -> Plane:
    """Labels at the wanted size, by nearest neighbour."""
    rows, columns = (
        ((np.arange(wanted) + 0.5) * given / wanted).astype(np.intp)
        for wanted, given in zip(shape, plane.shape, strict=True)
    )
    return plane[np.ix_(rows, columns)]


def _eroded(mask: NDArray[np.bool_], steps: int) -> NDArray[np.bool_]:
    """Pixels further than `steps` from everything outside the mask; the picture's border is no outside."""
    for _ in range(steps):
        padded = np.pad(mask, 1, mode="edge")
        mask = mask & padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return mask


def _sheet(tiles: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Tiles side by side, each in the middle of the row."""
    height = max(tile.shape[0] for tile in tiles)
    width = sum(tile.shape[1] for tile in tiles) + _GAP * (len(tiles) - 1)
    sheet = np.full((height, width, 3), _BACKGROUND, dtype=np.uint8)
    left = 0
    for tile in tiles:
        top = (height - tile.shape[0]) // 2
        sheet[top : top + tile.shape[0], left : left + tile.shape[1]] = tile
        left += tile.shape[1] + _GAP
    return sheet


def _letter(picture: Picture, text: str) -> None:
    """The side that is shown on the left, small in the corner."""
    from PIL import ImageDraw, ImageFont

    font = ImageFont.load_default(size=18)
    ImageDraw.Draw(picture).text((5, 2), text, fill=_MARK, font=font, stroke_width=2, stroke_fill=_HALO)
