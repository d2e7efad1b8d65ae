"""Classes and weights of touching objects, against the definitions worked out voxel by voxel."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from medseg.core.geometry import Geometry
from medseg.core.labels import IGNORE
from medseg.core.plan import NetworkSpec, Normalization, Plan
from medseg.core.volume import LabelMap
from medseg.phantoms.microscopy import paint_cells
from medseg.preprocess import prepare_instances
from medseg.preprocess.instances import BORDER, INTERIOR, instance_classes, touching_weights


def scattered(shape: tuple[int, ...], count: int, seed: int) -> np.ndarray:
    """Objects of random sizes, many of which touch: every voxel near a centre belongs to the nearest one."""
    rng = np.random.default_rng(seed)
    centers = rng.uniform(0, shape, (count, len(shape)))
    places = np.indices(shape).reshape(len(shape), -1).T
    distances = cdist(places, centers)
    near = distances.min(axis=1) < rng.uniform(2, 6, count)[distances.argmin(axis=1)]
    return np.where(near, distances.argmin(axis=1) + 1, 0).reshape(shape).astype(np.int32)


def weights_by_hand(ids: np.ndarray, units: tuple[float, ...]) -> np.ndarray:
    places = np.indices(ids.shape).reshape(ids.ndim, -1).T * np.array(units)
    flat = ids.reshape(-1)
    nearest = [cdist(places, places[flat == value]).min(axis=1) for value in np.unique(flat[flat > 0])]
    first, second = np.sort(np.stack(nearest), axis=0)[:2]
    return (1 + 10 * np.exp(-((first + second) ** 2) / (2 * 5.0**2))).reshape(ids.shape)


@pytest.mark.parametrize("seed", range(3))
def test_weights_are_the_papers_in_a_picture(seed: int) -> None:
    ids = scattered((40, 33, 1), 9, seed)
    found = touching_weights(ids, 2, (0.5, 0.5, 7.0))
    np.testing.assert_allclose(found[..., 0], weights_by_hand(ids[..., 0], (1.0, 1.0)), rtol=1e-4)


def test_weights_are_the_papers_in_an_anisotropic_volume() -> None:
    ids = scattered((16, 14, 9), 6, 4)
    found = touching_weights(ids, 3, (0.5, 0.5, 1.0))
    np.testing.assert_allclose(found, weights_by_hand(ids, (1.0, 1.0, 2.0)), rtol=1e-4)


def test_weights_of_2d_plans_know_nothing_of_other_slices() -> None:
    ids = np.zeros((20, 20, 2), dtype=np.int32)
    ids[4:8, 4:8, 0], ids[8:12, 4:8, 1] = 1, 2
    assert (touching_weights(ids, 2, (1, 1, 1)) == 1).all()
    assert (touching_weights(ids, 3, (1, 1, 1)) > 5).any()


def test_a_single_object_or_none_weighs_nowhere_more() -> None:
    ids = np.zeros((9, 9, 1), dtype=np.int32)
    assert (touching_weights(ids, 2, (1, 1, 1)) == 1).all()
    ids[2:4] = 7
    assert (touching_weights(ids, 2, (1, 1, 1)) == 1).all()


@pytest.mark.parametrize("seed", range(4))
def test_interiors_and_borders_are_the_objects_and_interiors_never_touch(seed: int) -> None:
    ids = paint_cells(seed).labelmap.array.astype(np.int32)
    classes = instance_classes(ids, 2, (1, 1, 1))
    assert np.array_equal(classes > 0, ids > 0)
    assert set(np.unique(ids[classes == INTERIOR])) == set(np.unique(ids)) - {0}
    inside = np.where(classes == INTERIOR, ids, 0)
    for one, other in ((inside[1:], inside[:-1]), (inside[:, 1:], inside[:, :-1])):
        both = (one > 0) & (other > 0)
        assert (one[both] == other[both]).all()


def test_borders_are_two_voxels_wide_and_half_of_a_small_object() -> None:
    ids = np.zeros((30, 30, 1), dtype=np.int32)
    ids[2:16, 2:16], ids[20:23, 20:23], ids[27, 27] = 1, 2, 3
    classes = instance_classes(ids, 2, (1, 1, 1))[..., 0]
    assert (classes[4:14, 4:14] == INTERIOR).all() and (classes[2:4, 2:16] == BORDER).all()
    assert classes[21, 21] == INTERIOR and (classes[20, 20:23] == BORDER).all()
    assert classes[27, 27] == INTERIOR


def test_what_the_pictures_edge_cuts_has_no_border_there() -> None:
    ids = np.zeros((12, 12, 1), dtype=np.int32)
    ids[:6] = 1
    classes = instance_classes(ids, 2, (1, 1, 1))[..., 0]
    assert (classes[0] == INTERIOR).all() and (classes[4:6] == BORDER).all()
    assert (instance_classes(np.ones((5, 5, 1), np.int32), 2, (1, 1, 1)) == INTERIOR).all()


def test_ignored_voxels_are_neither() -> None:
    ids = np.ones((6, 6, 1), dtype=np.int32)
    ignored = np.zeros(ids.shape, dtype=bool)
    ignored[0] = True
    assert (instance_classes(ids, 2, (1, 1, 1), ignored)[0] == IGNORE).all()


def test_objects_keep_their_numbers_on_the_networks_grid() -> None:
    spec = NetworkSpec("unet", 3, 1, 3, (4,), ((1, 1, 1),), ((3, 3, 3),))
    plan = Plan("t", 3, (2.0, 2.0, 2.0), (Normalization("zscore"),), (4, 4, 4), 1, spec)
    array = np.zeros((8, 8, 8), dtype=np.int32)
    array[:4], array[4:] = 70000, 3
    affine = np.diag([-1.0, 1.0, 1.0, 1.0])
    found = prepare_instances(LabelMap(array, Geometry(affine, array.shape)), plan)
    assert found.shape == (4, 4, 4) and (found[:2] == 3).all() and (found[2:] == 70000).all()
