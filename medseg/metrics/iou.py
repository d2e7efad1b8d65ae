"""Intersection over union (Jaccard 1912)."""

from __future__ import annotations

from medseg.metrics.confusion import Counts


def measure(counts: Counts) -> float | None:
    """|P∩R| / |P∪R|, in 0..1; None where the label is absent in both masks.

    A label in one mask only gives 0, whichever mask it is: a false alarm counts like a miss.
    """
    union = counts.tp + counts.fp + counts.fn
    return counts.tp / union if union else None
