"""Robust Hausdorff distance at the 95th percentile."""

from __future__ import annotations

import numpy as np

from medseg.metrics.surface import SurfaceDistances


def measure(surfaces: SurfaceDistances) -> float | None:
    """The larger of the two directed 95th percentiles of surface distances, in mm, never of both pooled.

    Between two distances the percentile is interpolated linearly. None where the label is absent in
    both masks; the image's diagonal where it is in one only. Source: Maier-Hein et al. 2024.
    """
    if surfaces.missing is not None or not surfaces.defined:
        return surfaces.missing
    directed = (np.percentile(side, 95) for side in (surfaces.from_predicted, surfaces.from_reference))
    return float(max(directed))
