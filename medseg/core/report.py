"""Scores as rows: which case, which label, which metric, and its value or why there is none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Row:
    """One figure. `value` is None where the metric is undefined; `reason` then says why."""

    case: str
    label: str
    metric: str
    value: float | None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """Everything measured on one set of cases.

    rows: per case and label; summary: named figures over all (mean_dice, mean_iou, dataset_miou,
    n_… counts); scored_on: test, validation or given; context: what was compared with what;
    problems: cases that could not be scored, each with the reason.
    """

    rows: tuple[Row, ...]
    summary: Mapping[str, Any]
    scored_on: str
    labels: tuple[str, ...]
    context: Mapping[str, Any] = field(default_factory=dict)
    problems: Mapping[str, str] = field(default_factory=dict)
