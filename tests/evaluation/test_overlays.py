"""The pictures of a secondary capture: right number, size, way up and colours."""

from __future__ import annotations

import numpy as np
import pytest

from medseg.core.geometry import Geometry, GeometryError
from medseg.core.labels import Label
from medseg.core.volume import LabelMap, Volume
from medseg.evaluation.overlays import overlays

LABELS = (Label("lung", 1, color=(230, 159, 0)),)


def pair(shape: tuple[int, int, int], spacing: tuple[float, float, float] = (1, 1, 2)) -> tuple[Volume, LabelMap]:
    affine = np.diag([-spacing[0], -spacing[1], spacing[2], 1.0])
    values = np.random.default_rng(0).integers(-1000, 1000, (1, *shape)).astype(np.float32)
    geometry = Geometry(affine, shape)
    return Volume(values, geometry), LabelMap(np.zeros(shape, np.uint8), geometry, LABELS)


@pytest.mark.parametrize(("count", "shown"), [(1, 1), (64, 64), (65, 33), (200, 50), (400, 58)])
def test_every_nth_slice_is_shown_and_never_too_many(count: int, shown: int) -> None:
    volume, labelmap = pair((8, 6, count))
    assert len(overlays(volume, labelmap, 64)) == shown


def test_slices_keep_their_proportions() -> None:
    volume, labelmap = pair((10, 40, 2), (2.0, 1.0, 3.0))
    (first, second) = overlays(volume, labelmap, 64)
    assert first.shape == second.shape and first.dtype == np.uint8
    rows, columns = first.shape[0], first.shape[1]
    assert rows > 512 and columns == 256  # half as wide as high, and a line of text below


def test_outlines_lie_where_the_labels_are() -> None:
    volume, labelmap = pair((32, 32, 1))
    labelmap.array[8:16, 20:28, 0] = 1
    (picture,) = overlays(Volume(np.zeros_like(volume.array), volume.geometry), labelmap, 64)
    found = np.argwhere((picture[:512] == LABELS[0].color).all(axis=2))
    assert found.min(axis=0).tolist() == [20 * 16, 8 * 16]  # rows along j, columns along i
    assert found.max(axis=0).tolist() == [28 * 16 - 1, 16 * 16 - 1]
    assert not (picture[24 * 16, 12 * 16] == LABELS[0].color).all()  # an outline, no area


def test_an_empty_result_and_another_grid() -> None:
    volume, labelmap = pair((8, 8, 2))
    assert overlays(volume, labelmap, 64)[0].shape[0] > 512  # "nothing found" stands below
    other = LabelMap(np.zeros((8, 8, 3), np.uint8), Geometry(np.eye(4), (8, 8, 3)), LABELS)
    with pytest.raises(GeometryError):
        overlays(volume, other, 64)


def test_pictures_are_shown_the_way_they_are() -> None:
    geometry = Geometry.from_spacing((1, 1, 1), (16, 32, 1))  # rows, columns
    labelmap = LabelMap(np.zeros(geometry.shape, np.uint8), geometry, LABELS)
    labelmap.array[2:6, 20:30, 0] = 1
    volume = Volume(np.full((3, 16, 32, 1), 100, np.float32), geometry)
    (picture,) = overlays(volume, labelmap, 64)
    assert picture.shape[1] == 512
    found = np.argwhere((picture[:256] == LABELS[0].color).all(axis=2))
    assert found.min(axis=0).tolist() == [2 * 16, 20 * 16]
    assert found.max(axis=0).tolist() == [6 * 16 - 1, 30 * 16 - 1]
