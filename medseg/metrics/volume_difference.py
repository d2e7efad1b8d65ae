"""Difference of volumes."""

from __future__ import annotations

from medseg.metrics.volume import Volumes


def measure(volumes: Volumes) -> float | None:
    """Predicted minus true volume in ml: above 0 too much was found. None where the label is absent in both masks."""
    if not (volumes.predicted or volumes.reference):
        return None
    return volumes.predicted - volumes.reference
