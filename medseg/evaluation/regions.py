"""Scoring unions of labels, such as an organ with its tumour: each as if it were the only label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from medseg.core.labels import IGNORE, Label
from medseg.core.volume import LabelMap
from medseg.evaluation.score import LabelScore, score_case
from medseg.metrics.case import Wanted

_INSIDE = 1


def score_regions(
    prediction: LabelMap, reference: LabelMap, regions: Mapping[str, Sequence[int]], measured: Wanted
) -> tuple[LabelScore, ...]:
    """The figures of every region (name -> label values), in a task's label maps on one grid."""
    scores: list[LabelScore] = []
    for name, values in regions.items():
        found, true = (_united(labelmap, values) for labelmap in (prediction, reference))
        scores += score_case(name, found, true, [Label(name, _INSIDE)], measured=measured).labels
    return tuple(scores)


def _united(labelmap: LabelMap, values: Sequence[int]) -> LabelMap:
    table: Any = np.zeros(256, dtype=np.uint8)
    table[list(values)] = _INSIDE
    table[IGNORE] = IGNORE
    return LabelMap(table[labelmap.array], labelmap.geometry, ())
