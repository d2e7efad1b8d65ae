"""Three cases of two labels, small enough to count by hand."""

from __future__ import annotations

import numpy as np
import pytest

from medseg.core.geometry import Geometry
from medseg.core.labels import Label
from medseg.core.volume import LabelMap
from medseg.evaluation.score import CaseScores, score_case

LABELS = (Label("one", 1, color=(230, 159, 0)), Label("two", 2, color=(86, 180, 233)))


def _map(one: range, two: range) -> LabelMap:
    flat = np.zeros(32, dtype=np.uint8)
    flat[list(one)], flat[list(two)] = 1, 2
    return LabelMap(flat.reshape(4, 4, 2), Geometry.from_spacing((1, 1, 2), (4, 4, 2)), LABELS)


@pytest.fixture
def toy_scores() -> list[CaseScores]:
    """a: half overlap, two absent in both. b: one missed, two invented. c: one right, two too large."""
    none = range(0)
    return [
        score_case("a", _map(range(2, 6), none), _map(range(4), none), LABELS),
        score_case("b", _map(none, range(3)), _map(range(10, 12), none), LABELS),
        score_case("c", _map(range(6), range(10, 16)), _map(range(6), range(10, 14)), LABELS, outcome="review: odd"),
    ]
