"""The body's shell: cage, wall of muscle and fat, bones, arms; the table it lies on and the air around."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from medseg.phantoms.fields import Array, Space, capsule, ellipsoid, over, profile, smooth_noise, soft
from medseg.phantoms.patient import Patient

_KNOTS = (-1.0, -0.3, 0.0, 0.25, 0.5, 0.75, 0.9, 1.0, 1.08)


@dataclass(frozen=True, slots=True, eq=False)
class Shell:
    """Signed depths in mm, positive inside.

    cage: below the rib cage's inner surface; skin: below the body surface; front: how far to the
    front a point lies as seen from the cage's axis (-1 back .. 1 front); spine: y of the vertebral
    bodies' centre.
    """

    cage: Array
    skin: Array
    front: Array
    spine: Array


def shape_shell(space: Space, patient: Patient) -> Shell:
    """Where cage and body surface lie."""
    height = patient.height
    knots = [height * t for t in _KNOTS]
    z = space.z
    half_x = profile(z, knots, patient.half_width * np.array([0.92, 0.97, 1.0, 1.0, 0.97, 0.84, 0.66, 0.42, 0.15]))
    half_y = profile(z, knots, patient.half_depth * np.array([0.85, 0.92, 1.0, 1.0, 0.97, 0.83, 0.66, 0.48, 0.2]))
    bow = profile(z, [-0.4 * height, 0.1 * height, 0.6 * height, 1.2 * height], [8.0, 0.0, -patient.kyphosis, 4.0])
    x, y = space.x, space.y - bow
    radius = np.sqrt(x * x + y * y) + np.float32(1e-3)
    cage = _superellipse(x, y, half_x, half_y, radius)
    skin = _body_surface(space, patient, (x, y, radius))
    spine = bow - half_y + 17.0
    # Above the first rib the neck's vertebrae stand in the middle of the neck.
    spine = np.minimum(spine, 10.0)
    return Shell(cage=cage, skin=skin, front=y / radius, spine=spine)


def _superellipse(x: Array, y: Array, half_x: Array, half_y: Array, radius: Array) -> Array:
    """Signed depth (mm along the ray from the axis) in a superellipse between an ellipse and a box."""
    u, v = (x / half_x) ** 2, (y / half_y) ** 2
    rho = np.sqrt(np.sqrt(u * u + v * v + np.float32(1.3) * u * v)) + np.float32(1e-4)
    return np.asarray(radius / rho - radius)


def _body_surface(space: Space, patient: Patient, polar: tuple[Array, Array, Array]) -> Array:
    height, z = patient.height, space.z
    wall = patient.fat + patient.muscle + 10.0
    shoulders = 55.0 if patient.arms == "up" else 75.0
    knots = [height * t for t in (-1.0, -0.3, 0.0, 0.4, 0.7, 0.88, 1.0, 1.12, 1.25)]
    width = patient.half_width + wall
    wide = [width * 0.98, width * 0.95, width, width + 6, width + 18, width + shoulders * 0.6, 150 + shoulders, 105, 66]
    depth = patient.half_depth + wall
    deep = [depth * 0.97, depth * 0.97, depth, depth, depth * 0.97, depth * 0.86, depth * 0.75, 70.0, 64.0]
    x, y, radius = polar
    skin = _superellipse(x, y + 7.0, profile(z, knots, wide), profile(z, knots, deep), radius)
    if patient.breasts:
        size = patient.breasts
        for side in (-1.0, 1.0):
            box = (slice(None), slice(None), slice(None))
            centre = (side * 75.0, patient.half_depth + wall * 0.6, 0.42 * height)
            skin = np.maximum(skin, ellipsoid(space, centre, (size * 1.3, size * 1.1, size * 1.2), box))
    return skin


def paint_surroundings(hu: Array, space: Space, patient: Patient, shell: Shell, rng: np.random.Generator) -> None:
    """Table, cushion and cloth; the air itself is what `hu` starts with."""
    x, y = space.x, space.y
    waves, folds = smooth_noise(rng, space.geometry, 90.0), smooth_noise(rng, space.geometry, 30.0)
    bottom = -(patient.half_depth + patient.fat + patient.muscle + 10.0) - rng.uniform(6.0, 16.0)
    curve = bottom + x * x * np.float32(rng.uniform(0.0002, 0.0014))
    thick = rng.uniform(18.0, 45.0)
    inside = np.minimum(curve - y, y - (curve - thick))
    over(hu, soft(inside, space.edge), rng.uniform(-965.0, -850.0) + 12.0 * folds)
    over(hu, soft(2.5 - np.abs(inside), space.edge), rng.uniform(-600.0, 60.0))
    cushion = np.minimum(y - curve, bottom + rng.uniform(10.0, 40.0) + 5.0 * waves - y)
    over(hu, soft(cushion, space.edge), rng.uniform(-990.0, -900.0))
    for _ in range(int(rng.integers(0, 4))):
        away = rng.uniform(2.0, 30.0) + rng.uniform(0.0, 14.0) * waves + rng.uniform(0.0, 7.0) * folds
        sheet = rng.uniform(0.6, 2.5) - np.abs(shell.skin + np.maximum(away, 1.0))
        over(hu, soft(np.minimum(sheet, y - curve), space.edge), rng.uniform(-960.0, -650.0))


def paint_wall(hu: Array, space: Space, patient: Patient, shell: Shell, rng: np.random.Generator) -> None:
    """Skin, fat, muscle; inside the cage fat, which the organs then fill."""
    edge = space.edge
    blotches = smooth_noise(rng, space.geometry, 35.0)
    fibres = smooth_noise(rng, space.geometry, (9.0, 9.0, 25.0))
    fat = -105.0 + 10.0 * fibres
    body = soft(shell.skin, edge)
    over(hu, body, fat)
    over(hu, body * soft(2.0 - shell.skin, edge), 5.0)
    depth = shell.skin - patient.fat * (1.0 + 0.35 * blotches)
    seams = soft(fibres - 1.5, 0.8)
    muscle = 52.0 - 110.0 * seams
    over(hu, soft(np.minimum(depth, shell.skin - 2.0), edge), muscle)
    within = np.minimum(np.minimum(shell.cage + 1.0, depth), 0.98 * patient.height - space.z)
    over(hu, soft(within, edge), -92.0 + 14.0 * fibres)


def paint_arms(hu: Array, space: Space, patient: Patient) -> None:
    """Upper arms with their bone, beside the chest or raised above the shoulders."""
    if patient.arms == "none":
        return
    width = patient.half_width + patient.muscle + patient.fat
    for side in (-1.0, 1.0):
        shoulder = (side * (width + 22.0), -12.0, 0.95 * patient.height)
        reach = patient.height * (1.45 if patient.arms == "up" else -0.6)
        hand = (side * (width * 0.85 if patient.arms == "up" else width + 58.0), 5.0, reach)
        if (box := space.box([shoulder, hand], 60.0)) is None:
            continue
        limb = capsule(space, (shoulder, hand), (46.0, 38.0), box)
        over(hu[box], soft(limb, space.edge), -100.0)
        over(hu[box], soft(limb - 0.5 * patient.fat - 3.0, space.edge), 52.0)
        over(hu[box], soft(capsule(space, (shoulder, hand), (15.0, 11.0), box), space.edge), 3.0 * patient.bone)
        over(hu[box], soft(capsule(space, (shoulder, hand), (11.0, 6.0), box), space.edge), patient.bone * 0.7)


def paint_bones(hu: Array, space: Space, patient: Patient, shell: Shell, rng: np.random.Generator) -> None:
    """Ribs, spine, breastbone, shoulder blades and collar bones."""
    _paint_ribs(hu, space, patient, shell, rng)
    _paint_spine(hu, space, patient, shell, rng)
    _paint_blades(hu, space, patient, shell, rng)
    _paint_breastbone(hu, space, patient, shell)


def _paint_ribs(hu: Array, space: Space, patient: Patient, shell: Shell, rng: np.random.Generator) -> None:
    height, edge = patient.height, space.edge
    pitch, drop = height / rng.uniform(9.5, 11.0), rng.uniform(85.0, 140.0)
    along = 0.5 + 0.5 * shell.front  # 0 at the spine, 1 at the breastbone
    line = (space.z + drop * along) / np.float32(pitch) + np.float32(rng.random())
    away = np.abs(line - np.floor(line) - 0.5) * np.float32(pitch * 0.85)
    across = np.abs(shell.cage + 6.0)
    # In the muscle between the ribs the tube is an ellipse, higher than thick.
    tube = 1.0 - np.sqrt((across / 4.2) ** 2 + (away / 5.6) ** 2)
    # The lower ribs end at the flank, the upper ones reach the breastbone; all lie below the neck.
    floating = 95.0 * along * soft(0.35 * height - space.z, 30.0)
    ends = np.minimum((0.96 - along) * 120.0, space.z + 0.32 * height - floating)
    ends = np.minimum(ends, 1.02 * height - space.z)
    over(hu, soft(shell.cage + 11.0, edge) * soft(-shell.cage, edge) * soft(ends, 20.0), 48.0)
    occupied = soft(4.2 * tube, edge) * soft(ends, 3 * edge)
    marrow = soft(4.2 * tube - 2.2, edge)
    cartilage = soft((along - 0.86) * 120.0, 12.0)
    bone = 2.6 * patient.bone * (1 - 0.45 * marrow) * (1 - cartilage) + 115.0 * cartilage
    over(hu, occupied, bone)


def _paint_spine(hu: Array, space: Space, patient: Patient, shell: Shell, rng: np.random.Generator) -> None:
    edge, bone, x = space.edge, patient.bone, space.x
    y = space.y - shell.spine
    size = profile(space.z, [-0.8 * patient.height, 0.9 * patient.height, 1.1 * patient.height], [1.2, 0.85, 0.62])
    body = (1.0 - np.sqrt((x / (19.0 * size)) ** 2 + (y / (15.5 * size)) ** 2)) * 16.0
    pitch = patient.height / rng.uniform(10.0, 11.5)
    step = space.z / np.float32(pitch) + np.float32(rng.random())
    disc = 3.0 - np.abs(step - np.floor(step) - 0.5) * np.float32(pitch)
    over(hu, soft(body + 5.0, edge), 40.0)
    value = bone * (1.0 + 1.1 * soft(2.0 - body, edge))
    value = np.where(disc > -2.0, 1.7 * bone, value)
    over(hu, soft(body, edge), value)
    over(hu, soft(body, edge) * soft(disc, edge), 75.0)
    ring = np.sqrt(x * x + (y + 25.0 * size) ** 2)
    over(hu, soft(14.0 * size - ring, edge), 2.0 * bone)
    over(hu, soft(9.0 * size - ring, edge), 25.0)
    tilt = np.abs(step - np.floor(step) - 0.3) * np.float32(pitch) - 6.0
    wings = np.minimum(6.0 - np.abs(y + 24.0 - 0.15 * np.abs(x)), 34.0 - np.abs(x))
    process = np.minimum(4.0 - np.abs(x), np.minimum(-y - 30.0, y + 66.0))
    arch = np.minimum(np.maximum(wings, process), np.minimum(-tilt, ring - 9.0 * size))
    over(hu, soft(arch, edge), 1.9 * bone)


def _paint_blades(hu: Array, space: Space, patient: Patient, shell: Shell, rng: np.random.Generator) -> None:
    edge, height = space.edge, patient.height
    raised = 0.06 if patient.arms == "up" else 0.0
    for side in (-1.0, 1.0):
        x = side * space.x
        spread = rng.uniform(0.0, 12.0)
        plate = 3.2 - np.abs(shell.cage + 19.0 + 0.04 * (x - 90.0))
        area = np.minimum(x - 48.0 - spread, 126.0 + spread - x)
        area = np.minimum(area, np.minimum(space.z - (0.5 + raised) * height, (0.95 + raised) * height - space.z))
        area = np.minimum(area, -28.0 * (shell.front + 0.12) * 3.0)
        over(hu, soft(np.minimum(plate, area), edge), 2.1 * patient.bone)
        ends = ((side * 18.0, 52.0, 0.93 * height), (side * 140.0, 5.0, (1.0 + raised) * height))
        head = (side * 155.0, -12.0, (0.95 + raised) * height)
        if (box := space.box([*ends, head], 26.0)) is not None:
            over(hu[box], soft(capsule(space, ends, (7.0, 6.0), box), edge), 2.4 * patient.bone)
            over(hu[box], soft(ellipsoid(space, head, (22.0, 22.0, 22.0), box), edge), 1.5 * patient.bone)


def _paint_breastbone(hu: Array, space: Space, patient: Patient, shell: Shell) -> None:
    plate = np.minimum(6.0 - np.abs(shell.cage + 6.0), 19.0 - np.abs(space.x))
    plate = np.minimum(plate, np.minimum(space.z - 0.36 * patient.height, 0.9 * patient.height - space.z))
    plate = np.minimum(plate, shell.front * 40.0)
    value = patient.bone * (0.8 + 0.9 * soft(2.0 - plate, space.edge))
    over(hu, soft(plate, space.edge), value)
