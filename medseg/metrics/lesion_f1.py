"""Lesion-wise F1."""

from __future__ import annotations

from medseg.metrics.lesions import LesionCounts


def measure(lesions: LesionCounts) -> float | None:
    """2 TP / (2 TP + FP + FN) of lesions, in 0..1: found, invented and missed ones, of any size.

    None where the label is absent in both masks.
    """
    tp, reference = sum(lesions.found), sum(lesions.reference)
    total = tp + reference + lesions.false_positives  # TP + (TP + FN) + FP
    return 2 * tp / total if total else None
