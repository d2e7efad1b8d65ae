"""Centre lines, lesions, partitions, probabilities and pooled figures: by hand, beside scikit-image, and their laws."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from skimage.metrics import adapted_rand_error
from skimage.metrics import variation_of_information as skimage_information

from medseg.core.errors import MedsegError, UsageError
from medseg.metrics import METRICS, metric
from medseg.metrics.calibration import BINS, CalibrationCounts, calibration
from medseg.metrics.case import Wanted, measure_case
from medseg.metrics.confusion import confusion
from medseg.metrics.contingency import contingency
from medseg.metrics.information import variation_of_information
from medseg.metrics.lesions import LesionCounts, lesions
from medseg.metrics.pooled import frequency_weighted_iou, mean_iou, pixel_accuracy
from medseg.metrics.rand import adapted_rand
from medseg.metrics.skeleton import SkeletonCounts, skeletons

_regions = arrays(np.int32, (6, 5), elements=st.integers(0, 4))
_masks = arrays(np.bool_, (7, 6, 1), elements=st.booleans())


# ---- the table ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", METRICS)
def test_every_metric_of_the_table_is_there_and_defined_in_words(name: str) -> None:
    assert callable(metric(name)) and len(METRICS[name].definition) > 20
    mask = np.zeros((6, 6, 6), np.uint8)
    mask[2:4, 2:4, 1:5] = 1
    measured = measure_case(mask, mask, (1, 1, 1), [1], Wanted((name,))).labels[1]
    perfect = {"mm": 0.0, "ml": 0.0, "per scan": 0.0, "": 1.0}
    assert measured.figure(name) == perfect[METRICS[name].unit]
    assert METRICS[name].better is (METRICS[name].unit == "")


def test_an_unknown_metric_is_refused_with_the_list() -> None:
    with pytest.raises(UsageError, match="dice, iou"):
        metric("accuracy")


def test_volumes_are_in_millilitres_and_their_difference_has_a_sign() -> None:
    found, true = np.zeros((10, 10, 10), np.uint8), np.zeros((10, 10, 10), np.uint8)
    found[:5], true[:2] = 1, 1
    one = measure_case(found, true, (2, 1, 0.5), [1, 2], Wanted(("volume_difference_ml",))).labels
    assert (one[1].volumes.predicted, one[1].volumes.reference) == (pytest.approx(0.5), pytest.approx(0.2))
    assert one[1].figure("volume_difference_ml") == pytest.approx(0.3)
    assert one[2].figure("volume_difference_ml") is None


# ---- centre lines ---------------------------------------------------------------------------


def test_cldice_of_a_tube_that_ends_half_way() -> None:
    true = np.zeros((9, 9, 40), bool)
    true[3:6, 3:6, 2:38] = True
    found = true.copy()
    found[:, :, 20:] = False
    counts = skeletons(found, true)
    assert metric("cldice")(counts) == pytest.approx(2 / 3, abs=0.03)
    assert metric("skeleton_recall")(counts) == pytest.approx(0.5, abs=0.03)
    thick = np.zeros_like(true)
    thick[2:7, 2:7, 1:39] = True
    assert metric("cldice")(skeletons(thick, true)) == 1.0  # thickness does not matter


def test_cldice_by_hand_and_in_empty_masks() -> None:
    assert metric("cldice")(SkeletonCounts(10, 5, 8, 6)) == pytest.approx(2 * 0.5 * 0.75 / 1.25)
    for name in ("cldice", "skeleton_recall"):
        assert metric(name)(SkeletonCounts(0, 0, 0, 0)) is None
        assert metric(name)(SkeletonCounts(4, 0, 0, 0)) == metric(name)(SkeletonCounts(0, 0, 4, 0)) == 0.0


@settings(max_examples=60, deadline=None)
@given(_masks, _masks)
def test_laws_of_centre_lines(found: np.ndarray, true: np.ndarray) -> None:
    counts, swapped = skeletons(found, true), skeletons(true, found)
    assert (counts.predicted > 0, counts.reference > 0) == (found.any(), true.any())
    value = metric("cldice")(counts)
    assert value == metric("cldice")(swapped) and (value is None or 0 <= value <= 1)
    assert metric("cldice")(skeletons(true, true)) == (1.0 if true.any() else None)
    assert skeletons(found[..., 0], true[..., 0]) == counts


# ---- lesions --------------------------------------------------------------------------------


def test_lesions_by_hand() -> None:
    true, found = np.zeros((40, 20, 20), bool), np.zeros((40, 20, 20), bool)
    true[1, 1, 1] = True  # 1.2 mm, missed
    true[4:8, 4:8, 4:8] = True  # 5.0 mm (64 voxels), found by a corner
    true[20:32, 4:16, 4:16] = True  # 14.9 mm, found in two pieces
    found[7:9, 7:9, 7:9] = True
    found[20:22, 4:16, 4:16] = found[30:32, 4:16, 4:16] = True
    found[36, 18, 18] = True  # invented
    counts = lesions(found, true, (1, 1, 1))
    assert counts == LesionCounts(found=(1, 0, 1), reference=(2, 0, 1), predicted=4, false_positives=1)
    assert metric("lesion_f1")(counts) == pytest.approx(2 * 2 / (2 * 2 + 1 + 1))
    assert metric("lesion_sensitivity")(counts) == pytest.approx(2 / 3)
    assert counts.sensitivities() == {"below 5 mm": 0.5, "5 to 10 mm": None, "10 mm or more": 1.0}


def test_strata_are_of_millimetres_and_of_discs_in_pictures() -> None:
    voxel = np.zeros((5, 5, 5), bool)
    voxel[2, 2, 2] = True
    assert lesions(voxel, voxel, (9, 9, 9)).reference == (0, 0, 1)  # a ball of 729 mm³ measures 11.2 mm
    picture = np.ones((7, 6, 1), bool)
    assert lesions(picture, picture, (1, 1, 50)).reference == (0, 1, 0)  # a disc of 42 mm² measures 7.3 mm


def test_false_positives_are_counted_per_scan_and_healthy_scans_count() -> None:
    nothing, one = np.zeros((4, 4, 4), bool), np.zeros((4, 4, 4), bool)
    one[1, 1, 1] = True
    healthy, alarm = lesions(nothing, nothing, (1, 1, 1)), lesions(one, nothing, (1, 1, 1))
    assert metric("lesion_f1")(healthy) is None and metric("lesion_f1")(alarm) == 0.0
    assert metric("lesion_sensitivity")(alarm) is None
    assert metric("lesion_false_positives")(healthy + alarm) == 0.5


@settings(max_examples=40, deadline=None)
@given(_masks, _masks)
def test_laws_of_lesions(found: np.ndarray, true: np.ndarray) -> None:
    counts = lesions(found, true, (1, 1, 1))
    assert all(0 <= hit <= all_ for hit, all_ in zip(counts.found, counts.reference, strict=True))
    assert 0 <= counts.false_positives <= counts.predicted
    assert lesions(np.rot90(found), np.rot90(true), (1, 1, 1)) == counts
    same = lesions(true, true, (1, 1, 1))
    assert same.found == same.reference and same.false_positives == 0


# ---- partitions -----------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(_regions, _regions)
def test_rand_error_and_information_are_those_of_scikit_image(found: np.ndarray, true: np.ndarray) -> None:
    table = contingency(found, true)
    assert variation_of_information(table) == pytest.approx(tuple(skimage_information(true, found)), abs=1e-12)
    ours = adapted_rand(table)
    sizes = [np.unique(side[true > 0], return_counts=True)[1] for side in (found, true)]
    if min(side.max(initial=1) for side in sizes) == 1:
        return  # there scikit-image divides by no pairs at all
    error, precision, recall = adapted_rand_error(true, found)
    assert ours == pytest.approx((error, recall, precision))


def test_scikit_image_exchanges_precision_and_recall_of_the_rand_index() -> None:
    true, merged = np.array([1, 1, 2, 2]), np.array([1, 1, 1, 1])
    ours = adapted_rand(contingency(merged, true))
    assert ours == pytest.approx((0.5, 4 / 12, 1.0))  # of 12 ordered pairs that were put together 4 belong together
    assert adapted_rand_error(true, merged) == pytest.approx((0.5, 1.0, 4 / 12))


@settings(deadline=None, max_examples=60)
@given(_regions, _regions, st.permutations(range(1, 5)))
def test_laws_of_partitions(found: np.ndarray, true: np.ndarray, names: list[int]) -> None:
    table = contingency(found, true)
    renamed = contingency(np.array([0, *names])[found], true)
    assert adapted_rand(renamed) == pytest.approx(adapted_rand(table))
    assert variation_of_information(renamed) == pytest.approx(variation_of_information(table))
    assert variation_of_information(contingency(true, found)) == pytest.approx(variation_of_information(table)[::-1])
    assert sum(variation_of_information(contingency(true, true)) or ()) == pytest.approx(0)
    error = adapted_rand(table)
    assert error is None or 0 <= error[0] <= 1 + 1e-12
    assert adapted_rand(contingency(true, true)) == (None if not true.any() else (0.0, 1.0, 1.0))


def test_regions_of_one_voxel_each_hold_no_pair_that_could_be_wrong() -> None:
    alone = np.arange(1, 7).reshape(2, 3)
    assert adapted_rand(contingency(alone, alone)) == (0.0, 1.0, 1.0)
    assert adapted_rand(contingency(alone, np.ones((2, 3), int))) == (1.0, 1.0, 0.0)


def test_nothing_at_all_has_no_figure() -> None:
    nothing = np.zeros((0, 3), int)
    assert variation_of_information(contingency(nothing, nothing)) is None


# ---- probabilities --------------------------------------------------------------------------


def test_calibration_by_hand() -> None:
    # Four voxels at .9, of which three are right, and one at .6, right.
    sure = np.array([0.9, 0.9, 0.9, 0.9, 0.6])
    counts = calibration(np.stack([1 - sure, sure]), np.array([1, 1, 1, 0, 1]))
    assert counts.ece == pytest.approx((4 * abs(0.9 - 0.75) + abs(0.6 - 1)) / 5)
    assert counts.brier == pytest.approx((3 * 2 * 0.1**2 + 2 * 0.9**2 + 2 * 0.4**2) / 5)
    assert (counts + counts).ece == pytest.approx(counts.ece)


def test_calibration_leaves_out_what_is_ignored_and_refuses_what_does_not_fit() -> None:
    even = np.full((2, 3), 0.5)
    assert sum(calibration(even, np.array([0, 1, 255])).voxels) == 2
    assert calibration(even, np.full(3, 255)).ece is None and calibration(even, np.full(3, 255)).brier is None
    with pytest.raises(MedsegError, match="do not fit"):
        calibration(even, np.zeros(4, int))
    with pytest.raises(MedsegError, match="beyond the 2"):
        calibration(even, np.array([0, 1, 2]))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000))
def test_a_forecast_that_is_right_as_often_as_it_says_is_calibrated(seed: int) -> None:
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet([1.0, 1.0, 1.0], 4000).T  # [3, voxels]
    truth = (rng.random(4000) > np.cumsum(probabilities, axis=0)).sum(axis=0)
    counts = calibration(probabilities, truth)
    assert isinstance(counts, CalibrationCounts) and len(counts.voxels) == BINS
    assert counts.ece is not None and counts.ece < 0.06
    assert counts.brier is not None and 0 <= counts.brier <= 2


# ---- all cases together ---------------------------------------------------------------------


def test_pooled_figures_by_hand() -> None:
    true = np.array([0, 0, 0, 0, 1, 1, 2, 2])
    found = np.array([0, 0, 0, 1, 1, 1, 2, 0])
    matrix = confusion(found, true, [1, 2, 3]).matrix  # 3 is in neither and does not count
    assert pixel_accuracy(matrix) == pytest.approx(6 / 8)
    assert mean_iou(matrix) == pytest.approx((3 / 5 + 2 / 3 + 1 / 2) / 3)
    assert frequency_weighted_iou(matrix) == pytest.approx((4 * 3 / 5 + 2 * 2 / 3 + 2 * 1 / 2) / 8)
    nothing = np.zeros((2, 2), np.int64)
    assert (pixel_accuracy(nothing), mean_iou(nothing), frequency_weighted_iou(nothing)) == (None, None, None)


@settings(deadline=None, max_examples=60)
@given(_regions, _regions, _regions, _regions)
def test_pooled_figures_are_those_of_all_cases_side_by_side(
    a: np.ndarray, b: np.ndarray, c: np.ndarray, d: np.ndarray
) -> None:
    added = confusion(a, b, [1, 2, 3]).matrix + confusion(c, d, [1, 2, 3]).matrix
    beside = confusion(np.hstack([a, c]), np.hstack([b, d]), [1, 2, 3]).matrix
    for figure in (pixel_accuracy, mean_iou, frequency_weighted_iou):
        value = figure(added)
        assert value == figure(beside) and value is not None and 0 <= value <= 1
