"""Outlines as masks, under the pixel rules of the tools that they were drawn with.

Points are (x, y): x along a row, y down a column.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.formats.annotations._picture import Mask
from medseg.formats.quiet import quiet

Points = NDArray[np.float64]
_FAR = 16  # a point this many image sizes away is no outline of something in the image


class ShapeError(Exception):
    """A shape cannot be painted; the text says why."""


def points_of(given: Any, size: tuple[int, int], least: int = 3) -> Points:
    """Points [N, 2] from lists of pairs. Raises ShapeError: too few, no numbers, or absurdly far away."""
    try:
        points = np.asarray(given, dtype=np.float64)
    except (TypeError, ValueError):
        raise ShapeError("its points are no pairs of numbers") from None
    if points.ndim != 2 or points.shape[1:] != (2,):
        raise ShapeError("it has no points" if points.size == 0 else "its points are no pairs of numbers")
    if len(points) < least:
        raise ShapeError(f"it has {len(points)} point{'s' * (len(points) > 1)}, but needs at least {least}")
    if not np.isfinite(points).all() or np.abs(points).max() > _FAR * max(size):
        raise ShapeError("its points lie far outside the image")
    return points


def polygon_with_edge(points: Points, size: tuple[int, int]) -> Mask:
    """Mask [rows, columns] of a polygon whose vertices are pixel centres, its edge included.

    This is how Labelme and Supervisely draw: pixels under the outline belong to the shape.
    """
    from PIL import Image, ImageDraw

    canvas = Image.new("L", (size[1], size[0]))
    ImageDraw.Draw(canvas).polygon([(x, y) for x, y in points.tolist()], outline=1, fill=1)
    return np.asarray(canvas) > 0


def rectangle_with_edge(points: Points, size: tuple[int, int]) -> Mask:
    """Mask of the rectangle between two opposite corners (pixel centres), both included."""
    from PIL import Image, ImageDraw

    canvas = Image.new("L", (size[1], size[0]))
    low, high = points.min(axis=0), points.max(axis=0)
    ImageDraw.Draw(canvas).rectangle([*low.tolist(), *high.tolist()], outline=1, fill=1)
    return np.asarray(canvas) > 0


def circle_with_edge(points: Points, size: tuple[int, int]) -> Mask:
    """Mask of the circle around the first point through the second, its edge included."""
    from PIL import Image, ImageDraw

    (x, y), radius = points[0], float(np.hypot(*(points[1] - points[0])))
    canvas = Image.new("L", (size[1], size[0]))
    ImageDraw.Draw(canvas).ellipse([x - radius, y - radius, x + radius, y + radius], outline=1, fill=1)
    return np.asarray(canvas) > 0


def polygons_by_area(outlines: Sequence[Points], size: tuple[int, int]) -> Mask:
    """Mask of the union of polygons whose coordinates are pixel edges: (0, 0) is the image's corner.

    COCO's own rule (pycocotools), which CVAT follows: pixels whose centre lies inside, as near as a
    fifth of a pixel can tell.
    """
    from pycocotools import mask as coco_mask

    flat = [points.ravel().tolist() for points in outlines]
    with quiet():  # pycocotools was written for NumPy 1 and is told so by NumPy 2
        decoded: NDArray[np.uint8] = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(flat, *size)))
    return decoded > 0


def ellipse_by_area(
    center: tuple[float, float], radii: tuple[float, float], degrees: float, size: tuple[int, int]
) -> Mask:
    """Mask of the pixels whose centres lie inside an ellipse turned clockwise by `degrees`; pixel-edge coordinates."""
    if min(radii) <= 0:
        raise ShapeError("its radii are not above zero")
    reach = max(radii)
    low = [min(total, max(0, int(at - reach))) for at, total in zip(center, size[::-1], strict=True)]
    high = [min(total, max(0, int(at + reach) + 1)) for at, total in zip(center, size[::-1], strict=True)]
    y, x = np.mgrid[low[1] : high[1], low[0] : high[0]] + 0.5
    angle = np.deg2rad(degrees)
    along = (x - center[0]) * np.cos(angle) + (y - center[1]) * np.sin(angle)
    across = -(x - center[0]) * np.sin(angle) + (y - center[1]) * np.cos(angle)
    mask = np.zeros(size, dtype=np.bool_)
    mask[low[1] : high[1], low[0] : high[0]] = (along / radii[0]) ** 2 + (across / radii[1]) ** 2 <= 1
    return mask


def turned_box(low: Points, high: Points, degrees: float) -> Points:
    """The corners [4, 2] of the box between `low` and `high`, turned clockwise about its centre."""
    center = (low + high) / 2
    corners = np.array([low, (high[0], low[1]), high, (low[0], high[1])]) - center
    cos, sin = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    turned: Points = corners @ np.array([[cos, sin], [-sin, cos]]) + center
    return turned


def mask_from_runs(counts: Any, size: tuple[int, int]) -> Mask:
    """Mask [rows, columns] from COCO's uncompressed run lengths (down the columns, background first).

    Raises ShapeError where they do not cover the image exactly: pycocotools does not check.
    """
    from pycocotools import mask as coco_mask

    whole = isinstance(counts, list) and all(type(count) is int and count >= 0 for count in counts)
    if not whole or sum(counts) != size[0] * size[1]:
        total = sum(counts) if whole else "no"
        raise ShapeError(f"its run lengths cover {total} pixels, but it must have {size[0] * size[1]}")
    with quiet():  # as above
        runs = coco_mask.frPyObjects({"counts": counts, "size": list(size)}, *size)
        decoded: NDArray[np.uint8] = coco_mask.decode(runs)
    return decoded > 0
