"""Hausdorff distance (Huttenlocher et al. 1993)."""

from __future__ import annotations

from medseg.metrics.surface import SurfaceDistances


def measure(surfaces: SurfaceDistances) -> float | None:
    """The largest distance from a voxel of either surface to the other surface, in mm.

    None where the label is absent in both masks; the image's diagonal where it is in one only.
    """
    if surfaces.missing is not None or not surfaces.defined:
        return surfaces.missing
    return float(max(surfaces.from_predicted.max(), surfaces.from_reference.max()))
