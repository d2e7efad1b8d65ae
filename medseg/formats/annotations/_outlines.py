"""Label maps as shapes that an annotation tool can edit: connected pieces, their boxes and outlines."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.formats.annotations._picture import Mask
from medseg.formats.annotations._shapes import Points

_NEAR_ONE = 0.999  # a contour at this level runs through the centres of the edge pixels, when rounded


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """One connected piece of a label: its mask cut to its box, whose first pixel lies at `corner` (row, column)."""

    value: int
    corner: tuple[int, int]
    mask: Mask


def pieces(labels: NDArray[Any], diagonal: bool = True) -> Iterator[Piece]:
    """The connected pieces of every value but 0 in a label map [rows, columns], by value.

    diagonal: whether pixels that touch at a corner belong together.
    """
    from scipy import ndimage

    structure = np.ones((3, 3), dtype=bool) if diagonal else None
    for value in np.unique(labels[labels > 0]).tolist():
        numbered, _ = ndimage.label(labels == value, structure)
        for number, box in enumerate(ndimage.find_objects(numbered), start=1):
            yield Piece(value, (box[0].start, box[1].start), numbered[box] == number)


def nested(labels: NDArray[Any]) -> list[tuple[int, Points]]:
    """(value, outline) of every piece, in an order in which painting them over one another gives `labels`.

    Outlines [N, 2] are (x, y) through pixel centres, edges included, without holes: what lies within
    a piece comes after it, background (value 0) as a piece of its own. Larger pieces come first.
    """
    from scipy import ndimage

    found: list[tuple[int, int, Points]] = []
    for piece in pieces(labels + 1, diagonal=False):
        if piece.value == 1 and _touches_edge(piece, labels.shape):
            continue
        filled = ndimage.binary_fill_holes(piece.mask, np.ones((3, 3), dtype=bool))
        found.append((int(filled.sum()), piece.value - 1, outline(filled) + piece.corner[::-1]))
    return [(value, points) for _, value, points in sorted(found, key=lambda entry: -entry[0])]


def outline(mask: Mask) -> Points:
    """The outer outline (x, y) [N, 2] of one piece without holes, through the centres of its edge pixels."""
    from skimage.measure import find_contours

    contours = find_contours(np.pad(mask, 1).astype(np.float64), _NEAR_ONE, fully_connected="low")
    points = np.rint(max(contours, key=len)[:, ::-1]) - 1
    steps = np.any(points != np.roll(points, 1, axis=0), axis=1)
    corners = _corners(points[steps] if steps.any() else points[:1])
    return np.concatenate([corners, np.repeat(corners[-1:], max(0, 3 - len(corners)), axis=0)])


def _corners(points: Points) -> Points:
    """The points of a closed outline at which its direction changes."""
    if len(points) < 3:
        return points
    before, after = points - np.roll(points, 1, axis=0), np.roll(points, -1, axis=0) - points
    turns: Points = points[np.any(before != after, axis=1)]
    return turns


def _touches_edge(piece: Piece, shape: tuple[int, ...]) -> bool:
    (row, column), (height, width) = piece.corner, piece.mask.shape
    return row == 0 or column == 0 or row + height == shape[0] or column + width == shape[1]
