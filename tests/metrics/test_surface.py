"""Surface distances: golden values, exact distance transforms, empty masks and their own laws."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.ndimage import binary_erosion, distance_transform_edt

from medseg.core.errors import UsageError
from medseg.metrics import METRICS, Source, metric
from medseg.metrics.case import Wanted, measure_case
from medseg.metrics.surface import SurfaceDistances, one_voxel, surface_distances

SURFACE = [name for name, entry in METRICS.items() if entry.source is Source.SURFACES]
_masks = arrays(np.uint8, (5, 4, 6), elements=st.integers(0, 1))
_spacings = st.tuples(*[st.sampled_from([0.5, 0.7, 1.0, 3.0])] * 3)


def _measure(found: np.ndarray, true: np.ndarray, spacing: tuple[float, ...], tau: float | None = None) -> dict:
    distances = surface_distances(found, true, spacing, [1], tau)[1]
    return {name: metric(name)(distances) for name in SURFACE}


def _by_transform(found: np.ndarray, true: np.ndarray, spacing: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Directed distances by eroding and by two full distance transforms."""
    edges = [mask.astype(bool) & ~binary_erosion(mask) for mask in (found, true)]
    one, other = (distance_transform_edt(~edge, sampling=spacing) for edge in edges)
    return other[edges[0]], one[edges[1]]


def test_two_voxels_by_hand() -> None:
    found, true = np.zeros((4, 9, 9), np.uint8), np.zeros((4, 9, 9), np.uint8)
    found[0, 2, 2], true[1, 6, 2] = 1, 1
    figures = _measure(found, true, (5, 1, 1), 7)
    expected = np.hypot(5, 4)
    assert figures == {"hd": pytest.approx(expected), "hd95": pytest.approx(expected),
                       "assd": pytest.approx(expected), "nsd": 1.0}  # fmt: skip


def test_the_two_directions_are_never_pooled() -> None:
    # 40 voxels in a row with and without a spur: from the spur it is far, from the row it is near.
    true = np.zeros((1, 60, 30), np.uint8)
    true[0, 5:45, 5] = 1
    found = true.copy()
    found[0, 5, 5:15] = 1
    distances = surface_distances(found, true, (1, 1, 1), [1])[1]
    assert metric("hd95")(distances) == pytest.approx(np.percentile([0] * 40 + list(range(1, 10)), 95))
    both = np.concatenate([distances.from_predicted, distances.from_reference])
    assert metric("hd95")(distances) > np.percentile(both, 95)


@settings(max_examples=80, deadline=None)
@given(_masks, _masks, _spacings)
def test_distances_are_those_of_an_exact_distance_transform(
    found: np.ndarray, true: np.ndarray, spacing: tuple[float, float, float]
) -> None:
    ours = surface_distances(found, true, spacing, [1])[1]
    if not (found.any() and true.any()):
        assert ours.from_predicted.size == ours.from_reference.size == 0
        return
    theirs = _by_transform(found, true, spacing)
    np.testing.assert_allclose(ours.from_predicted, theirs[0], rtol=1e-12)
    np.testing.assert_allclose(ours.from_reference, theirs[1], rtol=1e-12)


@settings(max_examples=60, deadline=None)
@given(_masks, _masks, _spacings)
def test_laws_of_surface_metrics(found: np.ndarray, true: np.ndarray, spacing: tuple[float, float, float]) -> None:
    figures = _measure(found, true, spacing, 1.0)
    swapped = _measure(true, found, spacing, 1.0)
    turned = _measure(np.rot90(found), np.rot90(true), (spacing[1], spacing[0], spacing[2]), 1.0)
    scaled = _measure(found, true, tuple(2 * step for step in spacing), 2.0)
    named = surface_distances(7 * found, 7 * true, spacing, [7], 1.0)[7]
    if figures["hd"] is None:
        assert not found.any() and not true.any() and set(figures.values()) == {None}
        return
    assert swapped == pytest.approx(figures) and turned == pytest.approx(figures)
    assert {name: metric(name)(named) for name in SURFACE} == pytest.approx(figures)
    assert scaled["nsd"] == figures["nsd"]
    for name in ("hd", "hd95", "assd"):
        assert scaled[name] == pytest.approx(2 * figures[name])
    assert 0 <= figures["nsd"] <= 1
    assert 0 <= figures["assd"] <= figures["hd"] and figures["hd95"] <= figures["hd"]
    assert figures["hd"] <= np.linalg.norm(np.multiply(spacing, found.shape))
    if true.any():
        assert _measure(true, true, spacing) == {"hd": 0.0, "hd95": 0.0, "assd": 0.0, "nsd": 1.0}


def test_a_label_in_one_mask_only_is_as_far_away_as_the_image_is_long() -> None:
    nothing, something = np.zeros((3, 4, 12), np.uint8), np.zeros((3, 4, 12), np.uint8)
    something[1, 1, 1] = 1
    for pair in ((nothing, something), (something, nothing)):
        assert _measure(*pair, (4, 1, 0.5)) == {"hd": pytest.approx(np.sqrt(12**2 + 4**2 + 6**2)),
                                               "hd95": pytest.approx(14.0), "assd": pytest.approx(14.0),
                                               "nsd": 0.0}  # fmt: skip
    assert set(_measure(nothing, nothing, (1, 1, 1)).values()) == {None}


def test_a_picture_one_voxel_thick_has_its_outline_as_surface() -> None:
    found, true = np.zeros((9, 9, 1), np.uint8), np.zeros((9, 9, 1), np.uint8)
    found[2:7, 2:7], true[2:7, 3:8] = 1, 1
    thick = surface_distances(found, true, (1, 1, 1), [1])[1]
    flat = surface_distances(found[..., 0], true[..., 0], (1, 1), [1])[1]
    assert thick.from_predicted.size == 16
    np.testing.assert_array_equal(thick.from_predicted, flat.from_predicted)
    lost = surface_distances(found, 0 * true, (3, 4, 100), [1])[1]
    assert lost.missing == pytest.approx(9 * 5)


def test_labels_that_touch_have_surfaces_of_their_own() -> None:
    rng = np.random.default_rng(0)
    found, true = (np.kron(rng.integers(0, 4, (3, 3, 3)), np.ones((4, 3, 3))).astype(np.int32) for _ in range(2))
    together = surface_distances(found, true, (2, 1, 1), [1, 2, 3])
    for value in (1, 2, 3):
        alone = surface_distances((found == value).astype(int), (true == value).astype(int), (2, 1, 1), [1])[1]
        for side in ("from_predicted", "from_reference"):
            np.testing.assert_array_equal(np.sort(getattr(together[value], side)), np.sort(getattr(alone, side)))


def test_a_distance_of_exactly_the_tolerance_is_within_it() -> None:
    found, true = np.zeros((1, 30, 1), np.uint8), np.zeros((1, 30, 1), np.uint8)
    found[0, 20], true[0, 23] = 1, 1
    assert _measure(found, true, (1, 0.1, 1), 0.3)["nsd"] == 1.0
    assert _measure(found, true, (1, 0.1, 1), 0.29)["nsd"] == 0.0


@pytest.mark.parametrize(
    ("shape", "spacing", "tolerance"),
    [
        ((4, 4, 4), (5, 1, 1), 1),
        ((4, 4, 4), (0.7, 2.5, 1), 1),
        ((9, 9, 1), (0.5, 0.6, 99), 0.6),
        ((1, 1, 1), (2, 3, 4), 4),
    ],
)
def test_the_tolerance_is_one_voxel_unless_told_otherwise(shape: tuple, spacing: tuple, tolerance: float) -> None:
    assert one_voxel(shape, spacing) == tolerance
    mask = np.ones(shape, np.uint8)
    assert surface_distances(mask, mask, spacing, [1])[1].tolerance == tolerance


def test_ignored_voxels_leave_both_masks_before_surfaces_are_looked_for() -> None:
    found, true = np.ones((6, 6, 6), np.uint8), np.ones((6, 6, 6), np.uint8)
    true[4:] = 255
    measured = measure_case(found, true, (1, 1, 1), [1], Wanted(("hd", "dice"))).labels[1]
    assert (measured.figure("hd"), measured.figure("dice")) == (0.0, 1.0)
    strict = measure_case(found, true, (1, 1, 1), [1], Wanted(("hd",), ignore=None)).labels[1]
    assert strict.figure("hd") == 2.0


def test_spacings_that_do_not_fit_are_refused() -> None:
    mask = np.ones((3, 3, 3), np.uint8)
    for spacing in ((1, 1), (1, 1, 0), (1, 1, np.nan)):
        with pytest.raises(UsageError, match="spacings above 0"):
            surface_distances(mask, mask, spacing, [1])


def test_nothing_is_measured_that_no_metric_asks_for() -> None:
    mask = np.ones((3, 3, 3), np.uint8)
    one = measure_case(mask, mask, (1, 1, 1), [1], Wanted(("dice",))).labels[1]
    assert (one.surfaces, one.skeletons, one.lesions) == (None, None, None)
    assert one.figure("hd95") is None and one.figure("dice") == 1.0
    assert isinstance(measure_case(mask, mask, (1, 1, 1), [1], Wanted(("nsd",))).labels[1].surfaces, SurfaceDistances)
