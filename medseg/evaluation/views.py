"""What a reader sees of a scan: planes in the usual orientation, grey values in the usual window, colours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.core.geometry import Geometry
from medseg.core.labels import IGNORE, Color, Label, default_color
from medseg.core.volume import LabelMap, Volume

Image = NDArray[np.float32]  # [rows, columns] or [rows, columns, 3], in 0..1
Plane = NDArray[Any]  # [rows, columns]

PLANES = ("sagittal", "coronal", "axial")  # by the canonical axis that is cut
EDGES = (("A", "P", "S", "I"), ("R", "L", "S", "I"), ("R", "L", "A", "P"))  # left, right, top, bottom
_SAMPLE = 200_000
_LUNG_WINDOW = (-1350.0, 150.0)
_SOFT_TISSUE_WINDOW = (-160.0, 240.0)


@dataclass(frozen=True, slots=True)
class Window:
    """The intensities shown black (low) and white (high); `color`: three channels are red, green, blue."""

    low: float
    high: float
    color: bool = False

    def shade(self, plane: NDArray[Any]) -> Image:
        """Stored values -> 0..1. Plane: [rows, columns] or [rows, columns, channels]."""
        scaled = (plane.astype(np.float32) - self.low) / max(self.high - self.low, 1e-12)
        return np.asarray(np.clip(np.nan_to_num(scaled), 0.0, 1.0), dtype=np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """One plane, as it is shown: rows run down, columns to the right.

    size: width and height in mm (pixels for pictures); edges: the letters of left, right, top and bottom,
    empty for pictures.
    """

    name: str
    image: Image
    labels: tuple[Plane, ...]
    size: tuple[float, float]
    edges: tuple[str, ...]


def is_picture(geometry: Geometry) -> bool:
    """Whether this is a 2D picture (i runs down its rows) and not one slice of a patient."""
    affine = geometry.affine
    plain = np.array_equal(affine, np.diag(np.diag(affine))) and bool((np.diag(affine) > 0).all())
    return geometry.shape[2] == 1 and plain


def canonical(array: NDArray[Any], geometry: Geometry) -> NDArray[Any]:
    """`array` [..., I, J, K] with its axes running R, A, S: a view, nothing is copied."""
    axes, flips = geometry.to_canonical()
    lead = array.ndim - 3
    turned = array.transpose(*range(lead), *(lead + a for a in axes))
    return turned[(..., *(slice(None, None, -1) if flip else slice(None) for flip in flips))]


def structure(labelmap: LabelMap) -> NDArray[np.bool_]:
    """Where any label is, on the source grid; ignored voxels are none where the labels are declared."""
    found: NDArray[np.bool_] = labelmap.array != 0
    return found & (labelmap.array != IGNORE) if labelmap.labels else found


def window(volume: Volume, inside: NDArray[np.bool_] | None = None) -> Window:
    """The window that suits the scan, from a sample of its voxels.

    Colour pictures are shown as they are, dark ones brightened; a CT (Hounsfield units) in the lung window when the
    structure `inside` [I, J, K] is mostly air and in a soft-tissue window otherwise; anything else
    between its own percentiles.
    """
    sample = _sample(volume)
    scale = _scale(sample, volume)
    if scale == "color":
        return Window(0.0, _brightest(sample), color=True)
    grey = sample[0]
    if scale == "ct":
        chosen = grey[inside[_strides(volume.geometry.shape)]] if inside is not None else np.empty(0, dtype=np.float32)
        low, high = _LUNG_WINDOW if chosen.size and np.median(chosen) < -300 else _SOFT_TISSUE_WINDOW
        return Window(low, high)
    low, high = (float(value) for value in np.percentile(grey, (0.5, 99.7)))
    return Window(low, high if high > low else low + 1)


def scale_of(volume: Volume) -> str:
    """What the values of a scan are: `color`, `ct` (Hounsfield units) or `grey`, told from a sample of its voxels."""
    return _scale(_sample(volume), volume)


def widest_slices(inside: NDArray[np.bool_]) -> tuple[int, int, int]:
    """Per axis of a canonical mask the slice that shows most of it; the middle where there is none."""
    chosen = []
    for axis in range(3):
        areas = np.count_nonzero(inside, axis=tuple(a for a in range(3) if a != axis))
        near = np.flatnonzero(areas == areas.max()) if areas.any() else np.array([len(areas) // 2])
        chosen.append(int(near[len(near) // 2]))
    return chosen[0], chosen[1], chosen[2]


def orthogonal_views(
    volume: Volume, maps: Sequence[NDArray[Any]], inside: NDArray[np.bool_], whole: bool = False
) -> list[View]:
    """Axial, coronal and sagittal planes through the structure where it is widest; one view of a picture.

    maps: label arrays [I, J, K] on the volume's grid; inside: where the structure is (the middle slices
    are shown where it is nowhere). Small structures are shown enlarged, with their surroundings,
    unless the `whole` planes are asked for. The patient's right is on the left.
    """
    shades = window(volume, inside)
    if is_picture(volume.geometry):
        return [_picture(volume, maps, shades)]
    geometry = volume.geometry.reordered(*volume.geometry.to_canonical())
    image = canonical(volume.array, volume.geometry)
    turned = [canonical(array, volume.geometry) for array in maps]
    where = canonical(inside, volume.geometry)
    box = _surroundings(where) if not whole else (slice(None), slice(None), slice(None))
    places = widest_slices(where)
    axes = [axis for axis in (2, 1, 0) if _planar(geometry.shape, axis)] or [2]
    return [_cut(image, turned, geometry, (axis, places[axis]), box, shades) for axis in axes]


def axial_slice(array: NDArray[Any], place: int) -> NDArray[Any]:
    """Slice `place` of a canonical array [..., R, A, S] as shown: [..., rows, columns], front at the top."""
    return np.swapaxes(array[..., ::-1, ::-1, place], -1, -2)


def plane_of(array: NDArray[Any], axis: int) -> NDArray[Any]:
    """All slices of a canonical array [..., R, A, S] along `axis`, as shown: [..., slices, rows, columns], a view."""
    moved = np.moveaxis(array, array.ndim - 3 + axis, -3)
    return np.swapaxes(moved[..., ::-1, ::-1], -1, -2)


def channels_last(image: NDArray[Any], shades: Window) -> Image:
    """[C, rows, columns] -> what is shown: colour [rows, columns, 3], or the first channel in grey."""
    return shades.shade(np.moveaxis(image[:3], 0, -1) if shades.color else image[0])


def colors(labels: Sequence[Label], values: Sequence[int]) -> dict[int, tuple[str, Color]]:
    """value -> (name, colour) for every value found; undeclared values are called by their number."""
    known = {label.value: (label.name, label.color) for label in labels}
    return {value: known.get(value, (str(value), default_color(value))) for value in values}


def _picture(volume: Volume, maps: Sequence[NDArray[Any]], shades: Window) -> View:
    rows, columns, _ = volume.geometry.extent
    return View(
        "", channels_last(volume.array[..., 0], shades), tuple(m[..., 0] for m in maps), (columns, rows), ("",) * 4
    )  # fmt: skip


def _cut(
    image: NDArray[Any],
    maps: Sequence[NDArray[Any]],
    geometry: Geometry,
    plane: tuple[int, int],
    box: tuple[slice, slice, slice],
    shades: Window,
) -> View:
    axis, place = plane
    across, down = (a for a in range(3) if a != axis)
    index = tuple(place if a == axis else box[a] for a in range(3))

    def shown(array: NDArray[Any]) -> NDArray[Any]:
        return np.swapaxes(array[(..., *index)][..., ::-1, ::-1], -1, -2)

    width, height = (len(range(geometry.shape[a])[box[a]]) * geometry.spacing[a] for a in (across, down))
    return View(
        PLANES[axis],
        channels_last(shown(image), shades),
        tuple(shown(array) for array in maps),
        (width, height),
        EDGES[axis],
    )


def _planar(shape: Sequence[int], axis: int) -> bool:
    return min(n for a, n in enumerate(shape) if a != axis) > 1


def _surroundings(where: NDArray[np.bool_]) -> tuple[slice, slice, slice]:
    """A box around the structure: three times its size, a third of the scan at least."""
    box = []
    for axis, n in enumerate(where.shape):
        hit = np.flatnonzero(where.any(axis=tuple(a for a in range(3) if a != axis)))
        if not hit.size:
            box.append(slice(0, n))
            continue
        size = min(n, max(3 * int(hit[-1] - hit[0] + 1), -(-n // 3)))
        start = min(max(0, int(hit[0] + hit[-1] + 1 - size) // 2), n - size)
        box.append(slice(start, start + size))
    return box[0], box[1], box[2]


def _strides(shape: Sequence[int]) -> tuple[slice, ...]:
    """Steps along the axes that leave about _SAMPLE voxels."""
    long = sum(n > 1 for n in shape) or 1
    step = max(1, round((np.prod(shape, dtype=np.float64) / _SAMPLE) ** (1 / long)))
    return tuple(slice(None, None, step if n > 1 else 1) for n in shape)


def _sample(volume: Volume) -> NDArray[np.float32]:
    return np.asarray(volume.array[(slice(None), *_strides(volume.geometry.shape))], dtype=np.float32)


def _scale(sample: NDArray[np.float32], volume: Volume) -> str:
    if volume.channels in (3, 4) and _is_color(sample, is_picture(volume.geometry)):
        return "color"
    return "ct" if _is_ct(sample[0]) else "grey"


def _is_ct(grey: NDArray[np.float32]) -> bool:
    """Hounsfield units: whole or nearly whole, air near -1000 and nothing far beyond the scale."""
    return bool(np.percentile(grey, 1) < -300 and grey.min() >= -4096 and -1500 < np.percentile(grey, 50) < 3100)


def _is_color(sample: NDArray[np.float32], picture: bool) -> bool:
    """Whole numbers of 8 bits (16 in a picture) are colours; other channels are images of their own."""
    fits = sample.min() >= 0 and sample.max() <= (65535 if picture else 255)
    return bool(fits and (sample == np.round(sample)).all())


def _brightest(sample: NDArray[np.float32]) -> float:
    """The value of a colour picture that is shown at full brightness: its depth's, less in dark fluorescence."""
    full = 255.0 if sample.max() <= 255 else 65535.0
    top = float(np.percentile(sample, 99.8))
    return full if top > 0.5 * full else max(1.1 * top, 0.02 * full)
