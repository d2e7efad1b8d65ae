"""Centre line Dice (Shit et al. 2021)."""

from __future__ import annotations

from medseg.metrics.skeleton import SkeletonCounts


def measure(skeletons: SkeletonCounts) -> float | None:
    """Harmonic mean of the share of the predicted centre line inside the reference and the other way round, in 0..1.

    None where the label is absent in both masks, 0 where it is in one only.
    """
    if not (skeletons.predicted or skeletons.reference):
        return None
    if not (skeletons.predicted_inside and skeletons.reference_inside):
        return 0.0
    precision = skeletons.predicted_inside / skeletons.predicted
    sensitivity = skeletons.reference_inside / skeletons.reference
    return 2 * precision * sensitivity / (precision + sensitivity)
