"""False positive lesions per scan."""

from __future__ import annotations

from medseg.metrics.lesions import LesionCounts


def measure(lesions: LesionCounts) -> float | None:
    """Predicted lesions that touch nothing of the reference, per scan; defined for healthy scans, too."""
    return lesions.false_positives / lesions.scans
