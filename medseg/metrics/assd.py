"""Average symmetric surface distance (Heimann et al. 2009)."""

from __future__ import annotations

from medseg.metrics.surface import SurfaceDistances


def measure(surfaces: SurfaceDistances) -> float | None:
    """The mean distance to the other surface over the voxels of both surfaces together, in mm.

    None where the label is absent in both masks; the image's diagonal where it is in one only.
    """
    if surfaces.missing is not None or not surfaces.defined:
        return surfaces.missing
    total = surfaces.from_predicted.sum() + surfaces.from_reference.sum()
    return float(total / (surfaces.from_predicted.size + surfaces.from_reference.size))
