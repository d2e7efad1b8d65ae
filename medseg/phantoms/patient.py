"""Who lies in the scanner and how the scan is taken: every number of a phantom, drawn from its seed.

Anatomical frame: x right, y front, z head, in mm; x = 0 is the midline, z = 0 the lowest point of
the lungs' back recess, z = `height` their apex. Sizes follow adult chest CT.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from medseg.core.geometry import Axes, Flips, Geometry, Shape

LEFT, RIGHT = -1, 1

# What part of the body is scanned; a run of seeds goes through the list, so that any few phantoms differ.
VIEWS = (
    "chest", "chest", "chest", "one lung", "chest", "lower", "one lung", "neck", "chest", "whole", "lower", "chest",
    "belly", "whole",
)  # fmt: skip
ORIENTATIONS = ("RAS", "LPS", "LAS", "PIR", "RAI", "LPS", "ASL", "oblique", "RPS", "LPI", "SAR", "LPS", "IPL", "LAS")


@dataclass(frozen=True, slots=True)
class Side:
    """One lung. side: LEFT or RIGHT; dome: top of its diaphragm (mm); air: HU of healthy parenchyma."""

    side: int
    dome: float
    recess: float
    air: float
    gradient: float
    emphysema: float
    fissure: float
    effusion: float


@dataclass(frozen=True, slots=True)
class Patient:
    """A body. Lengths in mm; `blood` and `liver` in HU (contrast agent); `arms`: up, down or none."""

    height: float
    half_width: float
    half_depth: float
    fat: float
    muscle: float
    arms: str
    shift: float
    scoliosis: float
    kyphosis: float
    blood: float
    liver: float
    bone: float
    breasts: float
    gas: float
    left: Side
    right: Side


@dataclass(frozen=True, slots=True, eq=False)
class Acquisition:
    """How it is scanned.

    canonical: the output grid reordered to R, A, S; axes, flips: how to get from there to the
    source grid; factors: fine voxels per output voxel along canonical axes; noise: HU; blur: mm;
    padding: HU outside the round field of view, None without one; floor: the lowest HU stored.
    """

    canonical: Geometry
    axes: Axes
    flips: Flips
    factors: Shape
    noise: float
    blur: float
    padding: float | None
    floor: float
    offset: float


def draw_patient(seed: int, rng: np.random.Generator) -> Patient:
    """A patient; left and right lung differ, now and then grossly (one small lung, a raised diaphragm)."""
    height = rng.uniform(225.0, 300.0)
    small = int(rng.choice([0, 0, 0, LEFT, RIGHT]))
    domes = rng.uniform(0.27, 0.46) * height + np.array([rng.uniform(-22.0, 4.0), 0.0])
    air = rng.uniform(-925.0, -790.0)
    if seed % 4 == 3:
        air = rng.uniform(-965.0, -930.0)
    sides = []
    for place, side in enumerate((LEFT, RIGHT)):
        raised = rng.uniform(25.0, 55.0) if small == side else 0.0
        sides.append(
            Side(
                side=side,
                dome=float(min(domes[place] + raised, 0.62 * height)),
                recess=rng.uniform(0.62, 0.98),
                air=air + rng.uniform(-15.0, 15.0),
                gradient=rng.uniform(10.0, 130.0) if air > -930 else rng.uniform(0.0, 50.0),
                emphysema=rng.uniform(10.0, 70.0),
                fissure=rng.uniform(-0.1, 0.1),
                effusion=rng.uniform(6.0, 22.0) if rng.random() < 0.15 else 0.0,
            )
        )
    contrast = rng.random() < 0.55
    return Patient(
        height=height,
        half_width=rng.uniform(112.0, 144.0),
        half_depth=rng.uniform(80.0, 112.0),
        fat=float(np.exp(rng.uniform(np.log(5.0), np.log(34.0)))),
        muscle=rng.uniform(9.0, 18.0),
        arms=str(rng.choice(["up", "up", "down", "down", "none"])),
        shift=small * rng.uniform(10.0, 25.0) + rng.uniform(-6.0, 6.0),
        scoliosis=rng.uniform(-10.0, 10.0),
        kyphosis=rng.uniform(5.0, 22.0),
        blood=rng.uniform(110.0, 320.0) if contrast else rng.uniform(32.0, 50.0),
        liver=rng.uniform(80.0, 120.0) if contrast else rng.uniform(40.0, 65.0),
        bone=rng.uniform(160.0, 330.0),
        breasts=rng.uniform(25.0, 55.0) if rng.random() < 0.35 else 0.0,
        gas=rng.uniform(0.2, 1.0),
        left=sides[0],
        right=sides[1],
    )


def draw_acquisition(seed: int, patient: Patient, rng: np.random.Generator) -> Acquisition:
    """A scan of the patient: what part, which grid, which scanner."""
    low, high = _field_of_view(seed, patient, rng)
    extent = np.maximum(high - low, 60.0)
    # The in-plane spacing rises with the field of view, as it does on a scanner with a fixed matrix.
    plane = float(np.clip(max(extent[0], extent[1]) / rng.uniform(82.0, 96.0), 2.4, 4.5))
    spacing = np.round([plane, plane, np.clip(extent[2] / rng.uniform(42.0, 54.0), 2.5, 7.0)], 3)
    shape = np.maximum(np.round(extent / spacing), 16).astype(int)
    name = ORIENTATIONS[seed % len(ORIENTATIONS)]
    tilt = rng.uniform(-0.12, 0.12, 3) if name == "oblique" else np.zeros(3)
    rotation = _rotation(tilt)
    affine = np.eye(4)
    affine[:3, :3] = rotation * spacing
    middle = (low + high) / 2
    affine[:3, 3] = middle - affine[:3, :3] @ ((shape - 1) / 2)
    canonical = Geometry(affine, _triple(shape))
    axes, flips = _axes("LAS" if name == "oblique" else name)
    round_view = rng.random() < 0.25
    return Acquisition(
        canonical=canonical,
        axes=axes,
        flips=flips,
        factors=(2, 2, 2 if spacing[2] < 5.0 else 3),
        noise=rng.uniform(5.0, 24.0),
        blur=rng.uniform(0.35, 0.6) * plane,
        padding=float(rng.choice([-1024.0, -2000.0])) if round_view else None,
        floor=float(rng.choice([-1000.0, -1024.0])),
        offset=rng.uniform(-15.0, 10.0),
    )


def _field_of_view(seed: int, patient: Patient, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest corner (mm) of what is scanned."""
    view = VIEWS[seed % len(VIEWS)]
    top = patient.height
    wide = patient.half_width + patient.muscle + patient.fat
    deep = patient.half_depth + patient.muscle + patient.fat
    # Often the body is cut off at the flanks, never the lungs.
    side = max(rng.uniform(0.84, 1.2) * wide + 10.0, patient.half_width + 6.0)
    low, high = [-side, -deep - rng.uniform(5.0, 80.0)], [side, deep + rng.uniform(-8.0, 30.0)]
    if rng.random() < 0.4:
        # The reconstruction of a large circle holds much air around the body, most of it in front.
        side += rng.uniform(15.0, 70.0)
        low, high = [-side, low[1] - rng.uniform(10.0, 50.0)], [side, high[1] + rng.uniform(40.0, 110.0)]
    heights = {
        "chest": (rng.uniform(-70.0, -20.0), top + rng.uniform(15.0, 45.0)),
        "belly": (rng.uniform(-290.0, -170.0), rng.uniform(0.22, 0.5) * top),
        "lower": (rng.uniform(-110.0, -60.0), rng.uniform(0.6, 0.8) * top),
        "neck": (rng.uniform(0.3, 0.45) * top, top + rng.uniform(60.0, 110.0)),
        "one lung": (rng.uniform(-50.0, -15.0), top + rng.uniform(-10.0, 25.0)),
        "whole": (rng.uniform(-190.0, -120.0), top + rng.uniform(30.0, 60.0)),
    }[view]
    if view == "one lung":
        inner, outer = rng.uniform(-25.0, 25.0), wide + rng.uniform(-25.0, 15.0)
        low[0], high[0] = (-inner, outer) if seed // 3 % 2 else (-outer, inner)
        low[1], high[1] = -deep + rng.uniform(-15.0, 15.0), deep + rng.uniform(-25.0, 10.0)
    return np.array([*low, heights[0]]), np.array([*high, heights[1]])


def _rotation(angles: np.ndarray) -> np.ndarray:
    """Rotation matrix about x, then y, then z (radians)."""
    matrix = np.eye(3)
    for axis, angle in enumerate(angles):
        turn = np.eye(3)
        a, b = [n for n in range(3) if n != axis]
        turn[a, a] = turn[b, b] = np.cos(angle)
        turn[a, b], turn[b, a] = -np.sin(angle), np.sin(angle)
        matrix = turn @ matrix
    return matrix


def _axes(orientation: str) -> tuple[Axes, Flips]:
    """Canonical array -> array of this orientation: transpose by axes, then reverse the flagged new axes."""
    a, b, c = (next(n for n, pair in enumerate(("LR", "PA", "IS")) if letter in pair) for letter in orientation)
    f, g, h = (letter in "LPI" for letter in orientation)
    return (a, b, c), (f, g, h)


def _triple(values: np.ndarray) -> Shape:
    i, j, k = (int(v) for v in values)
    return i, j, k
