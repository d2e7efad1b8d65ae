"""What a prediction shows of its own quality: figures against their definitions, however the map is cut."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medseg.core.geometry import Geometry
from medseg.core.labels import Label
from medseg.core.volume import LabelMap
from medseg.inference.quality import Certainty, QualityStatistics, count_pieces, evidence_of

LABELS = (Label("one", 1), Label("two", 2))


def probabilities(seed: int, shape: tuple[int, int, int] = (6, 7, 5), sharp: float = 2.0) -> torch.Tensor:
    logits = torch.randn(3, *shape, generator=torch.Generator().manual_seed(seed))
    return torch.softmax(sharp * logits, dim=0)


def certainty_of(*blocks: torch.Tensor) -> Certainty:
    statistics = QualityStatistics()
    for block in blocks:
        statistics.add(block)
    return statistics.finish()


def labelmap_of(array: np.ndarray, spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> LabelMap:
    return LabelMap(array.astype(np.uint8), Geometry.from_spacing(spacing, array.shape), LABELS)


@settings(deadline=None)
@given(seed=st.integers(0, 1000), axis=st.integers(1, 3), cuts=st.lists(st.integers(1, 2), min_size=1, max_size=3))
def test_the_figures_do_not_depend_on_how_the_map_is_cut(seed: int, axis: int, cuts: list[int]) -> None:
    whole = probabilities(seed)
    bounds = [0, *np.cumsum(cuts).clip(max=whole.shape[axis] - 1).tolist(), whole.shape[axis]]
    parts = [whole.narrow(axis, a, b - a) for a, b in pairwise(bounds) if b > a]
    found, expected = certainty_of(*reversed(parts)), certainty_of(whole)
    assert found.confidence == pytest.approx(expected.confidence, rel=1e-9)
    assert found.overlaps == pytest.approx(expected.overlaps, rel=1e-9)
    assert found.stability == expected.stability


def test_every_figure_is_what_it_is_said_to_be() -> None:
    p = probabilities(3).double().numpy()
    winner = p.argmax(axis=0)
    found = certainty_of(torch.from_numpy(p))
    assert found.confidence == pytest.approx(p.max(axis=0)[winner > 0].mean())
    for label, overlap, stability in zip((1, 2), found.overlaps, found.stability, strict=True):
        one, mine = p[label], winner == label
        assert overlap == pytest.approx(2 * one[mine].sum() / (mine.sum() + one[one >= 0.1].sum()))
        assert stability == pytest.approx(2 * (one >= 0.7).sum() / ((one >= 0.7).sum() + (one >= 0.3).sum()))


def test_the_overlap_is_the_dice_that_truths_drawn_from_the_probabilities_have() -> None:
    generator = torch.Generator().manual_seed(0)
    p = torch.rand(4000, generator=generator).clamp(0.1, 1) ** 0.5
    truths = torch.rand(300, 4000, generator=generator) < p
    mask = p > 0.5
    dice = (2 * (truths & mask).sum(dim=1) / (truths.sum(dim=1) + mask.sum())).mean()
    found = certainty_of(torch.stack([1 - p, p]).reshape(2, 20, 20, 10))
    assert found.overlaps[0] == pytest.approx(float(dice), abs=0.005)


def test_labels_that_won_nowhere_have_no_figures() -> None:
    p = torch.tensor([0.6, 0.4, 0.0]).reshape(3, 1, 1, 1).expand(3, 4, 4, 4)
    assert certainty_of(p) == Certainty(None, (None, None), (None, None))
    assert certainty_of(p.flip(0)).confidence == pytest.approx(0.6)
    assert certainty_of(p.flip(0)).overlaps == (None, pytest.approx(2 * 0.6 / (1 + 0.6)))
    assert certainty_of(torch.full((3, 2, 2, 2), float("nan"))).confidence is None


def test_evidence_names_the_labels_that_the_final_map_holds() -> None:
    array = np.zeros((8, 8, 8))
    array[:2, :2, :2] = 1  # the clean-up took label two away
    evidence = evidence_of(Certainty(0.9, (0.8, 0.7), (0.6, 0.5)), labelmap_of(array, (1.0, 2.0, 5.0)), (1.0, 2.0, 5.0))
    assert evidence.overlaps == {"one": 0.8} and evidence.stability == {"one": 0.6}
    assert evidence.volumes_ml == {"one": 0.08} and evidence.pieces == {"one": 1}
    assert (
        evidence_of(Certainty(0.9, (0.8, 0.7), (0.6, 0.5)), labelmap_of(np.zeros((4, 4, 4))), (1, 1, 1)).confidence
        is None
    )


def test_pieces_touch_by_corners_and_are_counted_at_the_networks_spacing() -> None:
    array = np.zeros((12, 12, 12))
    array[:4, :4, :4] = array[4:6, 4:6, 4:6] = 1  # corner to corner
    array[9:, 9:, 9:] = 1
    array[0, 11, 0] = 2
    assert count_pieces(labelmap_of(array), (1, 1, 1)) == {"one": 2, "two": 1}
    array[7, 7, 1] = 1  # a speck that a network of 2 mm cannot see
    assert count_pieces(labelmap_of(array), (2, 2, 2)) == {"one": 2}
