"""Instance matching against figures counted by hand and against its own laws."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from medseg.core.errors import MedsegError, UsageError
from medseg.metrics.instances import THRESHOLDS, InstanceCounts, match_instances, per_image, pooled

_maps = arrays(np.uint8, (6, 5), elements=st.integers(0, 4))


def _row(*runs: tuple[int, int]) -> np.ndarray:
    """A picture of one row from (value, length) runs."""
    return np.concatenate([np.full(length, value) for value, length in runs])[None]


def test_thresholds_are_those_of_the_field() -> None:
    assert THRESHOLDS == (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)


def test_one_image_by_hand() -> None:
    reference = _row((1, 10), (2, 10), (0, 5), (3, 4))
    predicted = _row((7, 10), (9, 6), (0, 9), (8, 2), (0, 2))
    counts = match_instances(predicted, reference)
    # IoU: 1 with 7 is 1, 2 with 9 is .6, 3 with 8 is .5
    assert counts.tp == (3, 2, 2, 1, 1, 1, 1, 1, 1, 1)
    assert counts.fp == counts.fn == (0, 1, 1, 2, 2, 2, 2, 2, 2, 2)
    assert counts.iou[:3] == pytest.approx((2.1, 1.6, 1.6))
    figures = pooled([counts])
    assert figures["f1_50"] == 1.0 and figures["f1_60"] == pytest.approx(2 / 3)
    assert figures["accuracy_60"] == pytest.approx(2 / 4)
    assert figures["pq_60"] == pytest.approx(1.6 / 3) and figures["sq_60"] == pytest.approx(0.8)
    assert figures["pq_60"] == pytest.approx(figures["sq_60"] * figures["rq_60"])
    assert figures["aji"] == pytest.approx((10 + 6 + 2) / (10 + 10 + 4))
    assert (figures["n_predicted"], figures["n_reference"]) == (3, 3)


def test_pooled_adds_up_matches_and_per_image_averages_figures() -> None:
    many = match_instances(_row((1, 2), (2, 2), (3, 2), (4, 2)), _row((1, 2), (2, 2), (3, 2), (4, 2)))
    none = match_instances(_row((0, 4), (1, 1)), _row((1, 1), (0, 4)))
    assert pooled([many, none])["f1_50"] == pytest.approx(8 / 10)
    assert per_image([many, none])["f1_50"] == pytest.approx(0.5)


def test_an_image_without_instances_on_either_side_is_undefined_and_left_out() -> None:
    empty = match_instances(np.zeros((3, 3), int), np.zeros((3, 3), int))
    right = match_instances(_row((1, 3)), _row((2, 3)))
    assert pooled([empty])["f1_50"] is None and pooled([empty])["aji"] is None
    assert per_image([empty, right])["f1_50"] == 1.0
    assert pooled([]) == {} and per_image([]) == {}


def test_invented_instances_in_an_empty_image_count_as_zero() -> None:
    figures = pooled([match_instances(_row((1, 3)), _row((0, 3)))])
    assert (figures["f1_50"], figures["pq_50"], figures["aji"], figures["sq_50"]) == (0.0, 0.0, 0.0, None)


def test_two_halves_of_one_cell_match_once_at_one_half() -> None:
    counts = match_instances(_row((1, 2), (2, 2)), _row((5, 4)))
    assert (counts.tp[0], counts.fp[0], counts.fn[0]) == (1, 1, 0)


def test_below_one_half_the_most_matches_are_chosen_rather_than_the_best_first() -> None:
    # A overlaps B and C, and D overlaps only B: taking the best pair A-B first would leave D alone.
    predicted = _row((1, 6), (2, 3))
    reference = _row((9, 2), (8, 7))
    counts = match_instances(predicted, reference, [0.3])
    assert counts.tp == (2,)


def test_ignored_voxels_leave_both_maps() -> None:
    reference, predicted = _row((1, 4), (2, 4)), _row((1, 4), (0, 4))
    ignored = _row((0, 4), (1, 4)).astype(bool)
    assert match_instances(predicted, reference, ignored=ignored).fn == (0,) * 10


def test_misuse_is_refused() -> None:
    whole = np.zeros((2, 2), int)
    with pytest.raises(UsageError, match="thresholds"):
        match_instances(whole, whole, [0.0])
    with pytest.raises(MedsegError, match="no reference of shape"):
        match_instances(whole, np.zeros((2, 3), int))
    with pytest.raises(MedsegError, match="whole numbers"):
        match_instances(whole - 1, whole)
    with pytest.raises(UsageError, match="different thresholds"):
        match_instances(whole, whole, [0.5]) + match_instances(whole, whole, [0.6])


@settings(max_examples=60, deadline=None)
@given(_maps, _maps, st.permutations(range(1, 5)))
def test_laws_of_matching(predicted: np.ndarray, reference: np.ndarray, names: list[int]) -> None:
    counts = match_instances(predicted, reference)
    table = np.array([0, *[17 * name for name in names]])
    for same in (
        match_instances(table[predicted], reference),
        match_instances(np.rot90(predicted), np.rot90(reference)),
    ):
        assert (same.tp, same.fp, same.fn) == (counts.tp, counts.fp, counts.fn)
        assert same.iou == pytest.approx(counts.iou)
    swapped = match_instances(reference, predicted)
    assert (swapped.tp, swapped.fp, swapped.fn) == (counts.tp, counts.fn, counts.fp)
    assert sorted(counts.tp, reverse=True) == list(counts.tp)
    assert all(value is None or 0 <= value <= 1 for key, value in pooled([counts]).items() if not key.startswith("n_"))
    same = match_instances(reference, reference)
    assert same.fp == same.fn == (0,) * 10 and same.shared == same.united


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(_maps, _maps), min_size=1, max_size=4))
def test_pooled_is_that_of_all_images_side_by_side(pairs: list[tuple[np.ndarray, np.ndarray]]) -> None:
    each = [match_instances(*pair) for pair in pairs]
    beside = [
        np.hstack([np.where(pair[side] > 0, pair[side] + 10 * place, 0) for place, pair in enumerate(pairs)])
        for side in (0, 1)
    ]
    together = match_instances(*beside)
    assert isinstance(together, InstanceCounts)
    one, other = pooled(each), pooled([together])
    assert one == pytest.approx(other)


def test_the_aggregated_index_does_not_depend_on_names_or_on_the_way_a_picture_lies() -> None:
    rng = np.random.default_rng(4)
    blocks = np.kron(rng.integers(0, 30, (7, 7)), np.ones((5, 5), int))
    predicted = np.where(rng.random(blocks.shape) < 0.8, blocks, 0)
    table = np.concatenate([[0], rng.permutation(np.arange(1, 30))])
    figure = pooled([match_instances(predicted, blocks)])["aji"]
    assert figure is not None and 0.6 < figure < 0.9
    assert pooled([match_instances(table[predicted].T, blocks.T)])["aji"] == figure
