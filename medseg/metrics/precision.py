"""Precision, the positive predictive value."""

from __future__ import annotations

from medseg.metrics.confusion import Counts


def measure(counts: Counts) -> float | None:
    """|P∩R| / |P|, in 0..1; None where the label is absent in both masks, 0 where it is in one only."""
    if not counts.predicted:
        return 0.0 if counts.reference else None
    return counts.tp / counts.predicted
