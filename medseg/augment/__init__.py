"""Variation of training samples: one resampling for everything spatial, batched mixing and intensity changes.

Parameters are drawn first, from an explicit generator, and then applied without further chance, so
that a run replays: `draw_spatial` then `sample_patch`, `draw_mixing` then `apply_mixing`, `draw_intensity` then
`apply_intensity`.
"""

from __future__ import annotations

from medseg.augment.elastic import ELASTIC_ENGINES, require_engine
from medseg.augment.intensity import IntensityDraw, apply_intensity, draw_intensity
from medseg.augment.mixing import MixingDraw, Second, apply_mixing, draw_mixing
from medseg.augment.spatial import SpatialContext, SpatialDraw, draw_spatial, sample_patch

__all__ = [
    "ELASTIC_ENGINES",
    "IntensityDraw",
    "MixingDraw",
    "Second",
    "SpatialContext",
    "SpatialDraw",
    "apply_intensity",
    "apply_mixing",
    "draw_intensity",
    "draw_mixing",
    "draw_spatial",
    "require_engine",
    "sample_patch",
]
