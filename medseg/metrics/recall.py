"""Recall, the sensitivity."""

from __future__ import annotations

from medseg.metrics.confusion import Counts


def measure(counts: Counts) -> float | None:
    """|P∩R| / |R|, in 0..1; None where the label is absent in both masks, 0 where it is in one only."""
    if not counts.reference:
        return 0.0 if counts.predicted else None
    return counts.tp / counts.reference
