"""Skeleton recall (Kirchhoff et al. 2024)."""

from __future__ import annotations

from medseg.metrics.skeleton import SkeletonCounts


def measure(skeletons: SkeletonCounts) -> float | None:
    """Share of the reference's centre line that the prediction covers, in 0..1.

    None where the label is absent in both masks, 0 where it is in one only.
    """
    if not skeletons.reference:
        return 0.0 if skeletons.predicted else None
    return skeletons.reference_inside / skeletons.reference
