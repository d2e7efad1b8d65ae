"""Lesion-wise sensitivity."""

from __future__ import annotations

from medseg.metrics.lesions import LesionCounts


def measure(lesions: LesionCounts) -> float | None:
    """Share of the reference's lesions that were found, in 0..1; None where the reference has none."""
    reference = sum(lesions.reference)
    return sum(lesions.found) / reference if reference else None
