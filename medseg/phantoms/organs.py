"""What lies between and below the lungs: heart, vessels, gullet, airways; liver, stomach, spleen, bowel."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from medseg.phantoms.body import Shell
from medseg.phantoms.fields import Array, Point, Space, capsule, ellipsoid, over, smooth_noise, soft
from medseg.phantoms.patient import LEFT, RIGHT, Patient, Side

# Beyond this distance (mm) from the mediastinum its exact distance does not matter to the lungs.
_FAR = 16.0


@dataclass(frozen=True, slots=True)
class Tube:
    """A vessel or pipe through `points`, its radii at these points, its HU; `wall` mm of soft tissue around."""

    points: tuple[Point, ...]
    radii: tuple[float, ...]
    value: float
    wall: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Mediastinum:
    """gap: mm to the nearest structure of the mediastinum (positive outside, at most 16);
    airways: the tubes that are opened at the very end; hila: where the lungs' trees start."""

    gap: Array
    airways: tuple[Tube, ...]
    hila: dict[int, Point]


def paint_mediastinum(hu: Array, space: Space, patient: Patient, shell: Shell, rng: np.random.Generator) -> Mediastinum:
    """Paint heart and great vessels; say how far from them every voxel lies."""
    back = -patient.half_depth + 18.0 - 0.6 * patient.kyphosis
    gap = np.full(space.geometry.shape, _FAR, dtype=np.float32)
    _paint_heart(hu, gap, space, patient, rng)
    tubes = _vessels(patient, back, rng)
    airways = _airways(patient, back, rng)
    for tube in (*tubes, *airways):
        _paint_tube(hu, space, tube, gap)
    _spare_the_spine(gap, space, shell)
    hila = {side: airways[2 if side == RIGHT else 3].points[-1] for side in (LEFT, RIGHT)}
    return Mediastinum(gap=gap, airways=airways, hila=hila)


def open_airways(hu: Array, space: Space, airways: tuple[Tube, ...]) -> None:
    """Paint the air in windpipe, bronchi and gullet."""
    for tube in airways:
        inner = Tube(tube.points, tuple(radius - tube.wall for radius in tube.radii), tube.value)
        _paint_tube(hu, space, inner, None)


def _paint_tube(hu: Array, space: Space, tube: Tube, gap: Array | None) -> None:
    for (start, first), (end, last) in pairwise(zip(tube.points, tube.radii, strict=True)):
        margin = max(first, last) + (_FAR if gap is not None else 3.0)
        if (box := space.box([start, end], margin)) is None:
            continue
        inside = capsule(space, (start, end), (first, last), box)
        value = 40.0 if tube.wall and gap is not None else tube.value
        over(hu[box], soft(inside, space.edge), value)
        if gap is not None:
            gap[box] = np.minimum(gap[box], -inside)


def _paint_heart(hu: Array, gap: Array, space: Space, patient: Patient, rng: np.random.Generator) -> None:
    height, depth, shift = patient.height, patient.half_depth, patient.shift
    grow = rng.uniform(0.85, 1.25)
    floor = 0.5 * (patient.left.dome + patient.right.dome)
    middle = floor + rng.uniform(12.0, 30.0)
    chambers = (
        ((-27.0 + shift, 0.22 * depth, middle), (50.0 * grow, 42.0 * grow, 50.0 * grow), 0.95),
        ((16.0 + shift, 0.22 * depth, middle + 12.0), (32.0, 34.0 * grow, 42.0 * grow), 1.1),
        ((-2.0 + shift, -0.12 * depth, middle + 26.0), (36.0 * grow, 22.0, 28.0), 1.0),
        ((-8.0 + shift, 0.35 * depth, min(middle + 48.0, 0.62 * height)), (30.0, 28.0, 36.0), 1.0),
    )
    for centre, radii, share in chambers:
        if (box := space.box([centre], max(radii) + _FAR)) is None:
            continue
        inside = ellipsoid(space, centre, radii, box)
        gap[box] = np.minimum(gap[box], -inside - 1.5)
        over(hu[box], soft(inside, space.edge), 45.0)
        over(hu[box], soft(inside - 8.0, space.edge), 45.0 + share * (patient.blood - 45.0) * 0.9)
    # Below the heart there is no lung; the belly's own painting stays.
    centre = (-14.0 + shift, 0.18 * depth, floor - 30.0)
    if (box := space.box([centre], 70.0 + _FAR)) is not None:
        gap[box] = np.minimum(gap[box], -ellipsoid(space, centre, (50.0, 0.62 * depth, 70.0), box))
    # Fat in the corner between heart and diaphragm is no lung either.
    for side in (LEFT, RIGHT):
        centre = (side * 48.0 + shift, 0.55 * depth, floor + rng.uniform(-18.0, 0.0))
        radii = (rng.uniform(16.0, 34.0), rng.uniform(14.0, 30.0), rng.uniform(12.0, 24.0))
        if (box := space.box([centre], max(radii) + _FAR)) is not None:
            gap[box] = np.minimum(gap[box], -ellipsoid(space, centre, radii, box))


def _vessels(patient: Patient, back: float, rng: np.random.Generator) -> list[Tube]:
    h, s, blood = patient.height, patient.shift, patient.blood
    wide = rng.uniform(0.85, 1.25)
    arch = rng.uniform(0.70, 0.76) * h
    aorta = Tube(
        ((10.0 + s, back + 58, 0.5 * h), (14.0 + s, back + 60, arch - 24), (4.0 + s, back + 52, arch),
         (-16.0 + s, back + 32, arch), (-22.0, back + 15, arch - 16), (-19.0, back + 14, 0.4 * h),
         (-9.0, back + 24, 0.1 * h), (-4.0, back + 26, -1.2 * h)),
        tuple(wide * r for r in (16.0, 15.5, 14.5, 13.5, 13.0, 12.0, 11.5, 9.0)), blood)  # fmt: skip
    vein = Tube(((24.0 + s, back + 50, 0.86 * h), (24.0 + s, back + 52, 0.45 * h)), (9.0, 10.0), blood * 1.15)
    cava = Tube(((20.0 + s, back + 38, 0.42 * h), (18.0, back + 32, -1.2 * h)), (11.0, 10.0), 0.7 * blood + 15)
    trunk = Tube(((-18.0 + s, back + 62, 0.5 * h), (-20.0 + s, back + 52, 0.59 * h)), (14.0, 13.0), blood)
    right = Tube(
        ((-18.0 + s, back + 50, 0.59 * h), (18.0 + s, back + 42, 0.57 * h), (42.0 + s, back + 34, 0.55 * h),
         (54.0 + s, back + 28, 0.5 * h)), (12.0, 10.5, 9.5, 7.0), blood)  # fmt: skip
    left = Tube(((-22.0 + s, back + 52, 0.6 * h), (-46.0 + s, back + 34, 0.6 * h), (-58.0 + s, back + 24, 0.54 * h)),
                (12.0, 10.5, 7.0), blood)  # fmt: skip
    veins = [
        Tube(
            ((side * 20.0 + s, back + 36, 0.5 * h), (side * 56.0 + s, back + 34 + dy, 0.5 * h + dz)), (7.0, 5.0), blood
        )
        for side in (LEFT, RIGHT)
        for dy, dz in ((18.0, 14.0), (-8.0, -12.0))
    ]
    neck = [
        Tube(
            ((x * 0.6 + s, back + 50, arch), (x, back + 46, 0.95 * h), (x * 1.6, back + 52, 1.4 * h)),
            (6.0, 5.0, 4.0),
            blood,
        )
        for x in (14.0, -6.0, -18.0, 26.0, -30.0)
    ]
    return [aorta, vein, cava, trunk, right, left, *veins, *neck]


def _airways(patient: Patient, back: float, rng: np.random.Generator) -> tuple[Tube, ...]:
    h, s = patient.height, patient.shift
    wide = rng.uniform(7.5, 10.5)
    carina = (s + rng.uniform(-2.0, 4.0), back + 38.0, rng.uniform(0.6, 0.66) * h)
    air, wall = -985.0, 1.6
    trachea = Tube(
        ((rng.uniform(-5.0, 5.0), back + 58.0, 1.5 * h), (0.5 * s, back + 50.0, 0.95 * h), carina),
        (wide + 1, wide + wall, wide + wall), air, wall,
    )  # fmt: skip
    hilum_right = (44.0 + s, back + 30.0, carina[2] - rng.uniform(20.0, 30.0))
    hilum_left = (-50.0 + s, back + 26.0, carina[2] - rng.uniform(22.0, 32.0))
    right = Tube((carina, hilum_right), (0.85 * wide, 0.7 * wide), air, wall)
    left = Tube((carina, hilum_left), (0.78 * wide, 0.62 * wide), air, wall)
    filled = rng.random() < 0.5
    gullet = Tube(
        ((-3.0, back + 40.0, 1.3 * h), (-6.0 + 0.5 * s, back + 26.0, 0.7 * h), (-8.0 + 0.5 * s, back + 28.0, 0.2 * h)),
        (6.0, 8.0, 8.5), -900.0 if filled else 35.0, rng.uniform(3.5, 6.0),
    )  # fmt: skip
    return trachea, gullet, right, left


def _spare_the_spine(gap: Array, space: Space, shell: Shell) -> None:
    """Vertebrae with the tissue beside them, and the thin sheets where left and right pleura meet."""
    behind = np.sqrt((space.x / 1.12) ** 2 + (space.y - shell.spine) ** 2) - np.float32(20.5)
    sheet = np.abs(space.x) - np.float32(5.0)
    np.minimum(gap, np.minimum(behind, sheet), out=gap)


def paint_abdomen(
    hu: Array, space: Space, patient: Patient, parts: tuple[Shell, Array], rng: np.random.Generator
) -> None:
    """Liver, spleen, stomach, kidneys, bowel with gas; parts: the shell, mm below the diaphragm's upper surface."""
    shell, depth = parts
    edge, x, y, z = space.edge, space.x, space.y, space.z
    cavity = np.minimum(shell.cage - 3.0, depth)
    behind = np.sqrt((space.x / 1.6) ** 2 + (y - shell.spine) ** 2) - np.float32(26.0)
    room = np.minimum(cavity, behind)
    muscle = np.minimum(np.minimum(shell.cage + 1.0, depth), 3.5 - np.minimum(depth, shell.cage))
    over(hu, soft(muscle, edge), 45.0)
    lumps = smooth_noise(rng, space.geometry, 32.0)
    _paint_bowel(hu, space, patient, (room, lumps), rng)
    lower = patient.right.dome - rng.uniform(105.0, 160.0)
    liver = np.minimum(room - 2.0, 0.8 * (x + 42.0 + 0.55 * (z - patient.right.dome + 30.0) - 8.0 * lumps))
    liver = np.minimum(liver, 0.8 * (z - lower - 0.25 * np.abs(x)))
    liver = np.minimum(liver, 0.8 * (y + 0.85 * patient.half_depth))
    over(hu, soft(liver, edge), patient.liver + 4.0 * lumps)
    _paint_left_organs(hu, space, patient, room, rng)
    _paint_colon(hu, space, patient, room, rng)


def _paint_bowel(
    hu: Array, space: Space, patient: Patient, parts: tuple[Array, Array], rng: np.random.Generator
) -> None:
    room, lumps = parts
    low = np.minimum(room - 8.0, patient.left.dome - 70.0 - space.z)
    folds = smooth_noise(rng, space.geometry, 26.0)
    over(hu, soft(low, space.edge) * soft(folds * 14.0 + 2.0, 3.0), 35.0 + 10.0 * lumps)
    gas = np.minimum(low - 6.0, 16.0 * (folds + lumps - 2.5 + patient.gas) + 0.12 * space.y)
    over(hu, soft(gas, space.edge), -960.0)


def _paint_left_organs(hu: Array, space: Space, patient: Patient, room: Array, rng: np.random.Generator) -> None:
    dome, wide, deep = patient.left.dome, patient.half_width, patient.half_depth
    organ = 0.6 * patient.liver + 25.0
    spleen = (-0.66 * wide, -0.4 * deep, dome - rng.uniform(45.0, 75.0))
    stomach = (-0.42 * wide, rng.uniform(0.05, 0.35) * deep, dome - rng.uniform(38.0, 60.0))
    sizes = (rng.uniform(34.0, 52.0), rng.uniform(36.0, 52.0), rng.uniform(36.0, 58.0))
    kidneys = [(side * 58.0, -0.35 * deep, dome - rng.uniform(125.0, 160.0)) for side in (-1.0, 1.0)]
    for centre, radii, value in (
        (stomach, sizes, rng.uniform(10.0, 60.0)),
        (spleen, (30.0, 42.0, 48.0), organ),
        (kidneys[0], (27.0, 26.0, 52.0), 1.2 * organ),
        (kidneys[1], (27.0, 26.0, 52.0), 1.2 * organ),
    ):
        if (box := space.box([centre], max(radii) + 4.0)) is None:
            continue
        inside = np.minimum(ellipsoid(space, centre, radii, box), room[box] - 2.0)
        over(hu[box], soft(inside, space.edge), value)
        if centre is stomach:
            level = space.y[box] - (centre[1] + sizes[1] * (1.0 - 1.5 * patient.gas))
            over(hu[box], soft(np.minimum(inside - 3.5, level), space.edge), -965.0)


def _paint_colon(hu: Array, space: Space, patient: Patient, room: Array, rng: np.random.Generator) -> None:
    """The colon runs up the right side, across below the stomach, up to the spleen and down the left side."""
    wide, deep = 0.68 * patient.half_width, patient.half_depth
    left, right = patient.left.dome, patient.right.dome
    flexure = left - rng.uniform(28.0, 80.0)
    points = (
        (wide, -0.1 * deep, -240.0), (wide, 0.2 * deep, right - 165.0), (0.3 * wide, 0.6 * deep, right - 175.0),
        (-0.4 * wide, 0.62 * deep, left - 130.0), (-1.05 * wide, 0.2 * deep, flexure),
        (-1.1 * wide, -0.1 * deep, flexure - 60.0), (-1.05 * wide, -0.1 * deep, -240.0),
    )  # fmt: skip
    mottle = smooth_noise(rng, space.geometry, 9.0)
    for start, end in pairwise(points):
        radius = rng.uniform(15.0, 26.0)
        content = rng.random()
        if (box := space.box([start, end], radius + 3.0)) is None:
            continue
        shape = capsule(space, (start, end), (radius, radius), box) + 3.0 * mottle[box]
        inside = np.minimum(shape, room[box] - 1.0)
        over(hu[box], soft(inside, space.edge), 40.0)
        if content < 0.75 * patient.gas:
            level = space.y[box] - (0.5 * (start[1] + end[1]) - radius * (1.6 * patient.gas - 0.7))
            over(hu[box], soft(np.minimum(inside - 3.0, level), space.edge), -970.0)
        else:
            over(hu[box], soft(inside - 3.0, space.edge), -120.0 + 170.0 * mottle[box])


def diaphragm(space: Space, patient: Patient, rng: np.random.Generator) -> Array:
    """Height in mm of every voxel above the diaphragm (negative below): two domes with a saddle between."""
    waves = smooth_noise(rng, space.geometry, 75.0)
    middle = patient.half_depth * rng.uniform(0.1, 0.3)
    left, right = (
        side.dome * (1.0 - side.recess * _fall(space, patient, side, middle)) for side in (patient.left, patient.right)
    )
    return np.asarray(space.z - 4.0 * waves - (left + soft(space.x, 50.0) * (right - left)))


def _fall(space: Space, patient: Patient, side: Side, middle: float) -> Array:
    """How far the dome has fallen from its top (0) towards the wall (about 1)."""
    centre = side.side * 0.46 * patient.half_width + 0.5 * patient.shift
    u = side.side * (space.x - centre) * np.float32(1.0 / (0.56 * patient.half_width))
    u = np.where(u < 0.0, 0.55 * u, u)  # towards the middle, where the heart lies on it, it stays high
    v = (space.y - middle) * np.float32(1.0 / (1.05 * patient.half_depth))
    fall = u * u + v * v
    return np.asarray(fall / np.sqrt(1.0 + 0.15 * fall))
