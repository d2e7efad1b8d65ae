"""What the lungs are filled with: healthy, emphysematous, ground-glass or consolidated tissue, nodules.

Every phantom has so much dense lung that no threshold can find it: what is denser than -500 HU
holds over a third of the lungs. Where it lies (one lung or both; back, base, wall, a lobe,
patches) changes from phantom to phantom, so that healthy lung is seen everywhere too.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from medseg.phantoms.fields import Array, Space, ellipsoid, over, smooth_noise, soft
from medseg.phantoms.lungs import Lung, fissures
from medseg.phantoms.patient import Patient

# Patterns of spread: weights of back, base, wall, lobe below the fissure, coarse and fine patches.
_SPREADS = (
    (1.0, 0.8, 0.3, 0.0, 0.5, 0.2),
    (0.2, 0.2, 0.9, 0.0, 0.8, 0.3),
    (0.0, 0.0, 0.0, 2.5, 0.4, 0.2),
    (0.1, 0.1, 0.1, 0.0, 1.3, 0.3),
    (-0.6, -0.6, 0.2, -0.8, 0.6, 0.2),
    (0.4, 1.6, 0.3, 0.0, 0.3, 0.2),
)


@dataclass(frozen=True, slots=True, eq=False)
class Tissue:
    """healthy, glass, solid: HU if it were well, ground glass, consolidated; rank: the order of falling ill."""

    healthy: Array
    glass: Array
    solid: Array
    rank: Array


def draw_tissue(lung: Lung, space: Space, patient: Patient, bias: float, rng: np.random.Generator) -> Tissue:
    """Healthy and ill tissue of one lung; `bias` lets this lung fall ill before the other."""
    geometry = space.geometry
    coarse, patches = smooth_noise(rng, geometry, 110.0), smooth_noise(rng, geometry, 40.0)
    fine, grain = smooth_noise(rng, geometry, 14.0), smooth_noise(rng, geometry, 7.0)
    back = -space.y / np.float32(patient.half_depth)
    side = lung.side
    healthy = side.air + side.gradient * 0.5 * back + 14.0 * fine + 10.0 * grain
    healthy -= side.emphysema * soft(patches + 0.6 * fine - 0.6, 0.8)
    np.maximum(healthy, -985.0, out=healthy)
    weights = _SPREADS[int(rng.integers(0, len(_SPREADS)))]
    base = 1.0 - space.z * np.float32(2.0 / patient.height)
    wall = np.exp(-np.maximum(lung.depth, 0.0) * np.float32(1.0 / 14.0))
    lobe = soft(-fissures(lung, space, patient), 3.0)
    rank = 0.25 * fine
    for weight, part in zip(weights, (back, base, 2.0 * wall, lobe, coarse, patches), strict=True):
        rank = rank + weight * part
    glass = rng.uniform(-430.0, -290.0)
    net = soft(np.abs(grain) - 1.1, 0.5) * rng.uniform(20.0, 160.0)  # thickened septa: crazy paving
    dense = np.clip(glass + 30.0 * fine + 25.0 * grain + net, -480.0, 60.0)
    solid = rng.uniform(-240.0, -140.0) + 30.0 * fine + 30.0 * grain
    inside = rank[lung.depth > 0.0]
    if inside.size:
        rank = (rank - inside.mean()) / (inside.std() + np.float32(1e-3))
    return Tissue(healthy=healthy, glass=dense, solid=np.minimum(solid, 60.0), rank=rank + np.float32(bias))


def fill(tissue: Tissue, threshold: float, firm: float) -> Array:
    """HU of the lung when tissue of rank above `threshold` is ground glass and above `firm` consolidated."""
    picture = tissue.healthy.copy()
    over(picture, soft(tissue.rank - np.float32(threshold), 0.15), tissue.glass)
    over(picture, soft(tissue.rank - np.float32(firm), 0.2), tissue.solid)
    return picture


def paint_nodules(hu: Array, lung: Lung, space: Space, rng: np.random.Generator) -> None:
    """A few round nodules and masses inside the lung."""
    voxels = np.flatnonzero(lung.depth > 3.0)
    for _ in range(int(rng.integers(0, 5))):
        if not len(voxels):
            return
        place = int(voxels[rng.integers(0, len(voxels))])
        centre = (float(space.x.flat[place]), float(space.y.flat[place]), float(space.z.flat[place]))
        radius = float(rng.choice([3.0, 4.0, 6.0, 9.0, 13.0]))
        radii = (radius * rng.uniform(0.8, 1.2), radius * rng.uniform(0.8, 1.2), radius)
        if (box := space.box([centre], 1.3 * radius + 3.0)) is not None:
            over(hu[box], soft(ellipsoid(space, centre, radii, box), space.edge), rng.uniform(15.0, 90.0))
