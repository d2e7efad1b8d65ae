"""Dice coefficient (Dice 1945; Sørensen 1948)."""

from __future__ import annotations

from medseg.metrics.confusion import Counts


def measure(counts: Counts) -> float | None:
    """2|P∩R| / (|P| + |R|), in 0..1; None where the label is absent in both masks.

    A label in one mask only gives 0, whichever mask it is: a false alarm counts like a miss.
    """
    total = counts.predicted + counts.reference
    return 2.0 * counts.tp / total if total else None
