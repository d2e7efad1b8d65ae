"""Geometry: reordering, cropping and resampling keep every voxel where it is in the world."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from medseg.core.geometry import Geometry

shapes = st.tuples(*[st.integers(1, 7)] * 3)
orders = st.tuples(st.permutations(range(3)).map(tuple), st.tuples(*[st.booleans()] * 3))


@st.composite
def geometries(draw) -> Geometry:
    """Any orthogonal grid: turned by any angles, axes in any order and direction, spacing 0.2 … 8 mm."""
    matrix = np.eye(3)
    for axis in range(3):
        angle = draw(st.floats(-np.pi, np.pi))
        turn = np.eye(3)
        a, b = [n for n in range(3) if n != axis]
        turn[a, a] = turn[b, b] = np.cos(angle)
        turn[a, b], turn[b, a] = -np.sin(angle), np.sin(angle)
        matrix = matrix @ turn
    affine = np.eye(4)
    affine[:3, :3] = matrix * [draw(st.floats(0.2, 8)) for _ in range(3)]
    affine[:3, 3] = [draw(st.floats(-500, 500)) for _ in range(3)]
    return Geometry(affine, draw(shapes))


def voxels(shape) -> np.ndarray:
    return np.indices(shape).reshape(3, -1).T


def reorder(array: np.ndarray, axes, flips) -> np.ndarray:
    return np.flip(array.transpose(axes), tuple(axis for axis, flip in enumerate(flips) if flip))


@given(geometries(), orders)
def test_a_reordered_array_has_the_same_value_at_the_same_place(geometry, order):
    axes, flips = order
    places = geometry.to_world(voxels(geometry.shape)).reshape(*geometry.shape, 3)
    new = geometry.reordered(axes, flips)
    moved = np.stack([reorder(places[..., world], axes, flips) for world in range(3)], axis=-1)
    assert moved.shape[:3] == new.shape
    np.testing.assert_allclose(new.to_world(voxels(new.shape)), moved.reshape(-1, 3), atol=1e-9)


@given(geometries())
def test_canonical_axes_run_nearest_to_right_front_head(geometry):
    axes, flips = geometry.to_canonical()
    canonical = geometry.reordered(axes, flips)
    assert canonical.orientation == "RAS"
    assert (np.diag(canonical.direction) >= -1e-9).all()
    assert canonical.to_canonical() == ((0, 1, 2), (False, False, False))
    assert sorted(canonical.spacing) == sorted(canonical.spacing) and np.isclose(
        canonical.voxel_volume_ml, geometry.voxel_volume_ml
    )


@given(geometries(), orders)
def test_reordering_can_be_undone(geometry, order):
    axes, flips = order
    new = geometry.reordered(axes, flips)
    back = tuple(axes.index(axis) for axis in range(3))
    undone = new.reordered(back, tuple(flips[axes.index(axis)] for axis in range(3)))
    assert undone.same_grid(geometry, 1e-6)


@given(geometries())
def test_lps_and_back(geometry):
    assert Geometry.from_lps(geometry.to_lps(), geometry.shape).same_grid(geometry, 1e-9)


@given(geometries())
def test_world_and_index_undo_each_other(geometry):
    index = voxels(geometry.shape)
    np.testing.assert_allclose(geometry.to_index(geometry.to_world(index)), index, atol=1e-6)


@given(geometries(), st.tuples(*[st.integers(-3, 3)] * 3), st.tuples(*[st.integers(1, 6)] * 3))
def test_a_crop_or_pad_moves_no_voxel_and_can_be_undone(geometry, start, size):
    stop = tuple(a + n for a, n in zip(start, size, strict=True))
    cropped = geometry.cropped(start, stop)
    assert cropped.shape == size
    np.testing.assert_allclose(
        cropped.to_world(voxels(size)), geometry.to_world(voxels(size) + np.array(start)), atol=1e-9
    )
    undone = cropped.cropped([-a for a in start], [n - a for n, a in zip(geometry.shape, start, strict=True)])
    assert undone.same_grid(geometry, 1e-9)


@given(geometries(), shapes)
def test_resampling_keeps_the_field_of_view_and_can_be_undone(geometry, shape):
    new = geometry.resampled(shape)
    np.testing.assert_allclose(new.extent, geometry.extent, rtol=1e-9)
    np.testing.assert_allclose(new.to_world([[-0.5] * 3]), geometry.to_world([[-0.5] * 3]), atol=1e-6)
    last, new_last = np.array(geometry.shape) - 0.5, np.array(shape) - 0.5
    np.testing.assert_allclose(new.to_world([new_last]), geometry.to_world([last]), atol=1e-6)
    assert new.resampled(geometry.shape).same_grid(geometry, 1e-6)
    np.testing.assert_allclose(new.direction, geometry.direction, atol=1e-9)


@given(geometries(), orders, shapes)
def test_resampling_and_reordering_commute(geometry, order, shape):
    axes, flips = order
    one = geometry.resampled(shape).reordered(axes, flips)
    other = geometry.reordered(axes, flips).resampled([shape[axis] for axis in axes])
    assert one.same_grid(other, 1e-6)


@given(geometries())
def test_the_shape_at_its_own_spacing_is_its_own(geometry):
    assert geometry.shape_at(geometry.spacing) == geometry.shape
