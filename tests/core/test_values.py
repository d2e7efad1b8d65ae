"""Geometry by example, volumes, label maps and mirrored labels."""

from __future__ import annotations

import numpy as np
import pytest

from medseg.core.geometry import Geometry, GeometryError
from medseg.core.labels import Label, default_color, mirrored_values
from medseg.core.volume import LabelMap, Volume


def test_lps_and_ras_differ_in_the_first_two_signs():
    geometry = Geometry.from_lps(np.diag([1, 2, 3, 1]), (2, 2, 2))
    assert geometry.orientation == "LPS" and geometry.spacing == (1, 2, 3)
    np.testing.assert_array_equal(geometry.to_lps(), np.diag([1, 2, 3, 1]))
    assert geometry.to_canonical() == ((0, 1, 2), (True, True, False))


def test_world_positions():
    geometry = Geometry.from_spacing((1, 2, 3), (4, 5, 6), (10, 20, 30))
    np.testing.assert_array_equal(geometry.to_world([[1, 1, 1]]), [[11, 22, 33]])
    np.testing.assert_allclose(geometry.to_index([[11, 22, 33]]), [[1, 1, 1]])
    assert geometry.extent == (4, 10, 18) and geometry.voxel_volume_ml == pytest.approx(0.006)
    assert geometry.origin == (10, 20, 30) and len(geometry.corners()) == 8


def test_an_oblique_grid_keeps_three_distinct_axes():
    turn = np.pi / 4
    affine = np.eye(4)
    affine[:2, :2] = [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]
    assert set(Geometry(affine, (2, 3, 4)).orientation) in ({"R", "A", "S"}, {"R", "P", "S"}, {"L", "A", "S"})
    assert Geometry(affine, (2, 3, 4)).is_orthogonal
    affine[0, 2] = 0.3
    assert not Geometry(affine, (2, 3, 4)).is_orthogonal


@pytest.mark.parametrize(
    ("affine", "shape"),
    [
        (np.full((4, 4), np.nan), (1, 1, 1)),
        (np.zeros((4, 4)), (1, 1, 1)),
        (np.diag([1, 0, 1, 1]), (1, 1, 1)),
        (np.array([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]), (1, 1, 1)),
        (np.eye(4), (0, 1, 1)),
        (np.eye(3), (1, 1, 1)),
    ],
)
def test_impossible_grids_are_refused(affine, shape):
    with pytest.raises(GeometryError):
        Geometry(affine, shape)


def test_a_geometry_cannot_be_changed_behind_its_back():
    affine = np.eye(4)
    geometry = Geometry(affine, (1, 1, 1))
    affine[0, 0] = 5
    assert geometry.spacing == (1, 1, 1)
    with pytest.raises(ValueError, match="read-only"):
        geometry.affine[0, 0] = 5


def test_arrays_must_fit_their_grid():
    geometry = Geometry.from_spacing((1, 1, 1), (2, 3, 4))
    assert Volume(np.zeros((5, 2, 3, 4)), geometry).channels == 5
    with pytest.raises(GeometryError, match="does not fit"):
        Volume(np.zeros((2, 3, 4)), geometry)
    with pytest.raises(GeometryError, match="does not fit"):
        LabelMap(np.zeros((4, 3, 2), np.uint8), geometry)
    with pytest.raises(GeometryError, match="whole numbers"):
        LabelMap(np.zeros((2, 3, 4)), geometry)


def test_volumes_in_millilitres():
    geometry = Geometry.from_spacing((10, 10, 10), (2, 1, 1))
    labels = (Label("a", 1), Label("b", 2), Label("c", 7))
    volumes = LabelMap(np.array([[[2]], [[2]]], np.uint8), geometry, labels).volumes_ml()
    assert volumes == pytest.approx({"a": 0, "b": 2, "c": 0})


def test_mirrored_values_exchange_left_and_right():
    table = mirrored_values((Label("l", 1, mirror="r"), Label("r", 2, mirror="l"), Label("m", 3)))
    assert table[:4] == [0, 2, 1, 3] and table[255] == 255
    assert len({default_color(value) for value in range(1, 8)}) == 7
