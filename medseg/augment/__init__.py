"""Variation of training samples: one resampling for everything spatial, batched intensity changes.

Parameters are drawn first, from an explicit generator, and then applied without further chance, so
that a run replays: `draw_spatial` then `sample_patch`, `draw_intensity` then `apply_intensity`.
"""

from __future__ import annotations

from medseg.augment.elastic import ELASTIC_ENGINES, require_engine
from medseg.augment.intensity import IntensityDraw, apply_intensity, draw_intensity
from medseg.augment.spatial import SpatialContext, SpatialDraw, draw_spatial, sample_patch

__all__ = [
    "ELASTIC_ENGINES",
    "IntensityDraw",
    "SpatialContext",
    "SpatialDraw",
    "apply_intensity",
    "draw_intensity",
    "draw_spatial",
    "require_engine",
    "sample_patch",
]
