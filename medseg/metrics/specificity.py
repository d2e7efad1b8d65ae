"""Specificity, the true negative rate."""

from __future__ import annotations

from medseg.metrics.confusion import Counts


def measure(counts: Counts) -> float | None:
    """Share of the voxels outside the reference that the prediction leaves out, too, in 0..1.

    None where the label fills the reference. It grows with the field of view and says little of small labels.
    """
    outside = counts.tn + counts.fp
    return counts.tn / outside if outside else None
