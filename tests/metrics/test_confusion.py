"""Voxel counts and the metrics made of them, against figures counted by hand and against their own laws."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from medseg.core.errors import MedsegError, UsageError
from medseg.metrics import metric
from medseg.metrics.confusion import Counts, Presence, confusion

_counts = st.builds(Counts, *(st.integers(0, 10_000) for _ in range(3)))
_labels = arrays(np.uint8, (3, 4, 2), elements=st.sampled_from([0, 1, 2, 7, 255]))


def _naive(prediction: np.ndarray, reference: np.ndarray, value: int, ignore: int | None) -> Counts:
    keep = np.ones(reference.shape, bool) if ignore is None else reference != ignore
    found, true = (prediction == value) & keep, (reference == value) & keep
    tn = int((~found & ~true & keep).sum())
    return Counts(int((found & true).sum()), int((found & ~true).sum()), int((~found & true).sum()), tn)


def test_counts_by_hand() -> None:
    reference = np.array([1, 1, 1, 0, 2, 2, 0, 255])
    prediction = np.array([1, 1, 0, 1, 1, 2, 0, 1])
    result = confusion(prediction, reference, [1, 2])
    assert result.counts == {1: Counts(2, 2, 1, 2), 2: Counts(1, 0, 1, 5)}
    assert result.matrix.tolist() == [[1, 1, 0], [1, 2, 1], [0, 0, 1]]
    assert result.ignored == 1


def test_255_counts_like_any_value_where_nothing_is_ignored() -> None:
    mask = np.array([0, 255, 255], dtype=np.uint8)
    assert confusion(mask, mask, [255], ignore=None).counts == {255: Counts(2, 0, 0, 1)}


@settings(deadline=None, max_examples=60)
@given(_labels, _labels, st.sampled_from([None, 255, 7]), st.sampled_from([np.uint8, np.int32, np.int64]))
def test_counts_agree_with_counting_one_value_at_a_time(
    prediction: np.ndarray, reference: np.ndarray, ignore: int | None, kind: type
) -> None:
    found = confusion(prediction, reference.astype(kind), [2, 1, 9], ignore)
    assert found.counts == {value: _naive(prediction, reference, value, ignore) for value in (2, 1, 9)}
    assert found.ignored == (0 if ignore is None else int((reference == ignore).sum()))
    assert found.matrix.sum() + found.ignored == reference.size


def test_wide_value_ranges_and_mixed_memory_orders() -> None:
    rng = np.random.default_rng(0)
    values = np.array([0, 3, 2_000_000, -5], dtype=np.int64)
    prediction, reference = (
        values[rng.integers(0, 4, (5, 6, 7))],
        np.asfortranarray(values[rng.integers(0, 4, (5, 6, 7))]),
    )
    counts = confusion(prediction, reference, [3, 2_000_000], None).counts
    assert counts == {value: _naive(prediction, reference, value, None) for value in (3, 2_000_000)}


def test_many_chunks_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medseg.metrics.confusion._CHUNK", 16)
    rng = np.random.default_rng(1)
    prediction, reference = (rng.integers(0, 3, (4, 9, 5)).astype(np.uint8) for _ in range(2))
    counts = confusion(prediction, reference, [1, 2]).counts
    assert counts == {value: _naive(prediction, reference, value, 255) for value in (1, 2)}


def test_shapes_must_agree_and_values_differ() -> None:
    with pytest.raises(MedsegError, match="no reference of shape"):
        confusion(np.zeros((2, 2), int), np.zeros((2, 3), int), [1])
    with pytest.raises(UsageError, match="once only"):
        confusion(np.zeros(2, int), np.zeros(2, int), [1, 1])


@pytest.mark.parametrize(
    ("counts", "presence", "value"),
    [
        (Counts(0, 0, 0), Presence.NEITHER, None),
        (Counts(0, 5, 0), Presence.ONLY_PREDICTED, 0.0),
        (Counts(0, 0, 5), Presence.MISSED, 0.0),
        (Counts(0, 5, 5), Presence.BOTH, 0.0),
        (Counts(5, 0, 0), Presence.BOTH, 1.0),
    ],
)
@pytest.mark.parametrize("name", ["dice", "iou", "precision", "recall"])
def test_empty_masks(name: str, counts: Counts, presence: Presence, value: float | None) -> None:
    assert counts.presence is presence
    assert metric(name)(counts) == value


def test_figures_by_hand() -> None:
    counts = Counts(tp=3, fp=1, fn=2)
    assert metric("dice")(counts) == pytest.approx(6 / 9)
    assert metric("iou")(counts) == pytest.approx(3 / 6)
    assert metric("precision")(counts) == pytest.approx(3 / 4)
    assert metric("recall")(counts) == pytest.approx(3 / 5)
    assert metric("specificity")(Counts(3, 1, 2, 9)) == pytest.approx(9 / 10)
    assert metric("specificity")(Counts(3, 0, 0, 0)) is None
    assert Counts(3, 1, 2, 9).voxels == 15


@settings(deadline=None, max_examples=60)
@given(_counts)
def test_laws_of_overlap(counts: Counts) -> None:
    dice, iou = metric("dice")(counts), metric("iou")(counts)
    swapped = Counts(counts.tp, counts.fn, counts.fp)
    assert (metric("dice")(swapped), metric("iou")(swapped)) == (dice, iou)
    if dice is None or iou is None:
        assert dice is None and iou is None and counts == Counts(0, 0, 0)
        return
    assert 0 <= iou <= dice <= 1
    assert dice == pytest.approx(2 * iou / (1 + iou))
    precision, recall = metric("precision")(counts), metric("recall")(counts)
    assert precision is not None and recall is not None
    assert (metric("precision")(swapped), metric("recall")(swapped)) == (recall, precision)
    if precision + recall:
        assert dice == pytest.approx(2 * precision * recall / (precision + recall))


@settings(deadline=None, max_examples=60)
@given(st.lists(_counts, min_size=1, max_size=6))
def test_the_pooled_figure_is_the_mean_of_the_cases_weighted_by_their_voxels(each: list[Counts]) -> None:
    total = sum(each, Counts(0, 0, 0))
    for name, weight in (("dice", lambda c: c.predicted + c.reference), ("precision", lambda c: c.predicted)):
        weights = [weight(counts) for counts in each]
        if not sum(weights):
            continue
        mean = sum(w * (metric(name)(counts) or 0.0) for w, counts in zip(weights, each, strict=True)) / sum(weights)
        assert metric(name)(total) == pytest.approx(mean)
