"""Outlines and pieces give back the label map that they were made from, whatever it is."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from medseg.formats.annotations._outlines import nested, pieces
from medseg.formats.annotations._shapes import polygon_with_edge

MAPS = hnp.arrays(np.int32, hnp.array_shapes(min_dims=2, max_dims=2, max_side=14), elements=st.integers(0, 3))


@given(MAPS)
def test_painting_the_outlines_over_one_another_gives_the_label_map(labels: np.ndarray) -> None:
    painted = np.zeros_like(labels)
    for value, points in nested(labels):
        assert len(points) >= 3
        painted[polygon_with_edge(points, labels.shape)] = value
    assert np.array_equal(painted, labels)


@given(MAPS, st.booleans())
def test_the_pieces_cover_every_label_once(labels: np.ndarray, diagonal: bool) -> None:
    covered = np.zeros_like(labels)
    for piece in pieces(labels, diagonal):
        (row, column), (height, width) = piece.corner, piece.mask.shape
        covered[row : row + height, column : column + width] += piece.mask * piece.value
    assert np.array_equal(covered, labels)


def test_a_ring_around_a_dot_is_painted_before_its_hole_and_its_dot() -> None:
    labels = np.zeros((7, 7), dtype=np.int32)
    labels[1:6, 1:6] = 1
    labels[2:5, 2:5] = 0
    labels[3, 3] = 2
    assert [value for value, _ in nested(labels)] == [1, 0, 2]
