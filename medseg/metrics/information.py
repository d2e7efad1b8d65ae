"""Variation of information (Meilă 2007): what two partitions tell that the other does not."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from medseg.metrics.contingency import Contingency


def variation_of_information(table: Contingency) -> tuple[float, float] | None:
    """(false splits, false merges) in bits, as scikit-image gives them for (reference, prediction); 0 is none.

    Their sum is the variation of information. Background (0) counts as one region. None without voxels.
    """
    total = int(table.shared.sum())
    if not total:
        return None
    joint = _entropy(table.shared / total)
    predicted, reference = (
        _entropy(_shares(side, table.shared / total)) for side in (table.predicted, table.reference)
    )
    return max(0.0, joint - reference), max(0.0, joint - predicted)


def _shares(regions: NDArray[np.int64], shares: NDArray[np.float64]) -> NDArray[np.float64]:
    _, place = np.unique(regions, return_inverse=True)
    return np.bincount(place, weights=shares).astype(np.float64)


def _entropy(shares: NDArray[np.float64]) -> float:
    return float(-(shares * np.log2(shares)).sum())
