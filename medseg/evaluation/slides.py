"""Slices of a case for the page's viewer: scan, reference and predictions as strips of small compressed tiles.

A scan is stored once, in 8 bits, lossy; in CT the 8 bits hold Hounsfield units on a bent scale (fine steps
for soft tissue, coarse ones for air and bone), so that the page can show it in any window. Label maps
are stored exactly, as the place of each label in the table of labels.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.core.labels import IGNORE, Label
from medseg.core.volume import LabelMap, Volume
from medseg.evaluation.page import embedded
from medseg.evaluation.views import EDGES, PLANES, Plane, Window, canonical, is_picture, plane_of, scale_of, window

# Hounsfield units and what they are stored as; between them the scale is straight.
CT_SCALE = ((-1350.0, -160.0, 240.0, 1500.0), (0.0, 84.0, 204.0, 255.0))
_MOST_SLICES = 32
_MOST_LABELS = IGNORE - 1
_LONGEST, _LONGEST_PICTURE = 256, 512  # pixels of a tile
_UPRIGHT = 1.3  # slices that much thicker along another axis than head-feet are shown as they were acquired
_BLOCK = 16  # pixels of a block of WebP
_QUALITY, _EFFORT = 82, 2  # of WebP; more effort saves a tenth and takes thrice the time


@dataclass(frozen=True, slots=True, eq=False)
class Slides:
    """One case in the viewer. All strips hold the same tiles, one below the other (see `stride`).

    tile: its rows and columns; size: its width and height in mm (pixels of a picture); plane, edges: which
    way it is cut, and the letters of left, right, top, bottom ('' for pictures); places: the slices shown,
    from 0, of `count`; start: which of them opens; scale: ct, grey, color, or '' where the scan is not at
    hand; low, high: the window that suits it, in HU for ct; scan: WebP; reference, predictions: PNG, whose
    values are 1 + the label's place in the table, 255 where the reference leaves voxels out.
    """

    case: str
    tile: tuple[int, int]
    size: tuple[float, float]
    plane: str
    edges: tuple[str, ...]
    places: tuple[int, ...]
    count: int
    start: int
    scale: str
    low: float
    high: float
    scan: bytes
    reference: bytes
    predictions: tuple[bytes, ...]

    def plain(self) -> dict[str, Any]:
        """What the viewer reads."""
        return {
            "case": self.case,
            "tile": list(self.tile),
            "stride": stride(self.tile[0]),
            "size": [round(side, 3) for side in self.size],
            "plane": self.plane,
            "edges": list(self.edges),
            "places": list(self.places),
            "count": self.count,
            "start": self.start,
            "scale": self.scale,
            "window": [self.low, self.high],
            "scan": embedded(self.scan, "image/webp") if self.scan else "",
            "reference": embedded(self.reference),
            "predictions": [embedded(prediction) for prediction in self.predictions],
        }

    @property
    def page_bytes(self) -> int:
        """About how much of the page it takes."""
        return 4 * (len(self.scan) + len(self.reference) + sum(map(len, self.predictions))) // 3 + 600


def make_slides(
    case: str,
    volume: Volume | None,
    reference: LabelMap,
    predictions: Sequence[LabelMap],
    labels: Sequence[Label],
    ignore: int | None = IGNORE,
) -> Slides:
    """Up to 34 slices of a case over the extent of what was marked, each at most 256 pixels wide.

    Cut head to feet, or as it was acquired where slices lie thickly along another axis; shown with the
    patient's right on the left. A picture is one slice of up to 512 pixels. volume: None where the scan is
    not at hand; all lie on one grid. labels: those that are told apart; other
    values are background; ignore: the reference's value of voxels that do not count.
    Where there are more slices than are kept, the one with the most disagreement is among them.
    """
    geometry = reference.geometry
    maps = [labelmap.array for labelmap in (reference, *predictions)]
    if is_picture(geometry):
        rows, columns, _ = geometry.extent
        cuts = [np.moveaxis(array, 2, 0) for array in maps]
        image = None if volume is None else np.moveaxis(volume.array, 3, 1)  # [C, K, rows, columns]
        plane, edges, size, longest = "", ("",) * 4, (columns, rows), _LONGEST_PICTURE
    else:
        upright = geometry.reordered(*geometry.to_canonical())
        axis = _slice_axis(upright.shape, upright.spacing)
        cuts = [plane_of(canonical(array, geometry), axis) for array in maps]
        image = None if volume is None else plane_of(canonical(volume.array, geometry), axis)
        across, down = (a for a in range(3) if a != axis)
        plane, edges, longest = PLANES[axis], EDGES[axis], _LONGEST
        size = (upright.extent[across], upright.extent[down])
    places, start = _chosen(cuts, ignore)
    tile = _tile(cuts[0].shape[1:], longest)
    scale = "" if volume is None else scale_of(volume)
    inside = (maps[0] > 0) & (maps[0] != (IGNORE if ignore is None else ignore))
    shades = Window(0.0, 1.0) if volume is None else window(volume, inside)
    strips = [_png(np.concatenate([_sampled(cut[k], tile, labels, ignore) for k in places])) for cut in cuts]
    scan = b"" if image is None else _webp([_toned(image[:, k], tile, scale, shades) for k in places])
    return Slides(
        case=case,
        tile=tile,
        size=size,
        plane=plane,
        edges=edges,
        places=tuple(places),
        count=len(cuts[0]),
        start=places.index(start),
        scale=scale,
        low=round(shades.low, 3),
        high=round(shades.high, 3),
        scan=scan,
        reference=strips[0],
        predictions=tuple(strips[1:]),
    )


def stride(rows: int) -> int:
    """How far apart tiles begin in the strip of a scan; those of label maps follow each other."""
    return -(-rows // _BLOCK) * _BLOCK


def _slice_axis(shape: Sequence[int], spacing: Sequence[float]) -> int:
    """The canonical axis that slices are counted along."""
    planar = [axis for axis in (2, 1, 0) if min(n for a, n in enumerate(shape) if a != axis) > 1] or [2]
    thickest = max(planar, key=lambda axis: spacing[axis])
    return thickest if spacing[thickest] > _UPRIGHT * spacing[planar[0]] else planar[0]


def _chosen(cuts: Sequence[NDArray[Any]], ignore: int | None) -> tuple[list[int], int]:
    """The slices to show, sorted, and the one to begin with; cuts: each [slices, rows, columns]."""
    # Whole arrays at once, in the order in which they lie in memory: single slices may be scattered over all of it.
    reference, count = cuts[0], len(cuts[0])
    ignored = None if ignore is None else reference == ignore
    if ignored is not None and not ignored.any():
        ignored = None
    marked = _per_slice(reference != 0, ignored)
    wrong = sum((_per_slice(cut != reference, ignored) for cut in cuts[1:]), np.zeros(count, dtype=np.int64))
    touched = np.flatnonzero(marked + wrong)
    start = int(wrong.argmax() if wrong.any() else marked.argmax() if marked.any() else count // 2)
    if count <= _MOST_SLICES:
        return list(range(count)), start
    first, last = (int(touched[0]), int(touched[-1])) if len(touched) else (0, count - 1)
    margin = max(2, (last - first) // 10)
    spread = np.linspace(max(0, first - margin), min(count - 1, last + margin), _MOST_SLICES)
    return sorted({*spread.round().astype(int).tolist(), start, int(marked.argmax()) if marked.any() else start}), start


def _per_slice(mask: NDArray[np.bool_], without: NDArray[np.bool_] | None) -> NDArray[np.int64]:
    """How many voxels of a mask [slices, rows, columns] each slice holds; the mask is used up."""
    if without is not None:
        mask &= ~without
    return np.asarray(np.count_nonzero(mask, axis=(1, 2)), dtype=np.int64)


def _tile(shape: Sequence[int], longest: int) -> tuple[int, int]:
    scale = min(1.0, longest / max(shape))
    return max(1, round(shape[0] * scale)), max(1, round(shape[1] * scale))


def _sampled(plane: Plane, tile: tuple[int, int], labels: Sequence[Label], ignore: int | None) -> NDArray[np.uint8]:
    """Labels at the size of a tile, by nearest neighbour, as 1 + their place in the table."""
    rows, columns = (
        ((np.arange(wanted) + 0.5) * given / wanted).astype(np.intp)
        for wanted, given in zip(tile, plane.shape, strict=True)
    )
    small = plane[np.ix_(rows, columns)]
    places = np.zeros(tile, dtype=np.uint8)
    for place, label in enumerate(labels[:_MOST_LABELS], start=1):
        places[small == label.value] = place
    if ignore is not None:
        places[small == ignore] = IGNORE
    return places


def _toned(image: NDArray[Any], tile: tuple[int, int], scale: str, shades: Window) -> NDArray[np.uint8]:
    """[C, rows, columns] -> a tile in 8 bits: [rows, columns] or, in colour, [rows, columns, 3]."""
    if scale == "color":
        return np.stack([_tone(_resized(channel, tile), shades) for channel in image[:3]], axis=-1)
    small = _resized(image[0], tile)
    if scale == "ct":
        return np.interp(small, *CT_SCALE).round().astype(np.uint8)
    return _tone(small, shades)


def _tone(plane: NDArray[np.float32], shades: Window) -> NDArray[np.uint8]:
    return (shades.shade(plane) * 255).round().astype(np.uint8)


def _resized(plane: NDArray[Any], tile: tuple[int, int]) -> NDArray[np.float32]:
    """Averaged, where it shrinks, over the pixels that a tile's pixel covers."""
    from PIL import Image

    given = np.ascontiguousarray(plane, dtype=np.float32)
    if given.shape == tile:
        return given
    return np.asarray(Image.fromarray(given).resize((tile[1], tile[0]), Image.Resampling.BOX))


def _webp(tiles: Sequence[NDArray[np.uint8]]) -> bytes:
    """A strip of tiles, each on blocks of its own, as compression mixes the pixels of a block."""
    rest = stride(tiles[0].shape[0]) - tiles[0].shape[0]
    padded = [np.pad(tile, ((0, rest), *((0, 0),) * (tile.ndim - 1)), mode="edge") for tile in tiles]
    return _encoded(np.concatenate(padded), "WEBP", quality=_QUALITY, method=_EFFORT)


def _png(strip: NDArray[np.uint8]) -> bytes:
    return _encoded(strip, "PNG", compress_level=6)


def _encoded(strip: NDArray[np.uint8], kind: str, **options: Any) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(strip).save(file, format=kind, **options)
    return file.getvalue()
