"""A chest CT phantom: drawn, painted on a fine grid, then scanned onto the source grid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medseg.core.labels import Label
from medseg.core.volume import LabelMap, Volume
from medseg.phantoms import Phantom
from medseg.phantoms.body import paint_arms, paint_bones, paint_surroundings, paint_wall, shape_shell
from medseg.phantoms.disease import Tissue, draw_tissue, fill, paint_nodules
from medseg.phantoms.fields import Array, Point, Space, block_mean, over, smooth_noise, soft, world
from medseg.phantoms.lungs import Lung, fissures, grow_tree, paint_tree, shape_lungs
from medseg.phantoms.organs import diaphragm, open_airways, paint_abdomen, paint_mediastinum
from medseg.phantoms.patient import Acquisition, Patient, draw_acquisition, draw_patient

LABELS = (
    Label(name="left lung", value=1, sources=(1,), mirror="right lung"),
    Label(name="right lung", value=2, sources=(2,), mirror="left lung"),
)
# With this share of the lungs below -500 HU even a perfect choice among what a threshold finds
# reaches a Dice of 2s / (1 + s) = 0.77 only.
AERATED = 0.61
# HU values are multiples of this.
STEP = 4.0


@dataclass(frozen=True, slots=True, eq=False)
class _Content:
    """One lung with what it is filled with. vessels, walls, lumen: coverage 0..1 of its trees."""

    lung: Lung
    tissue: Tissue
    vessels: Array
    walls: Array
    lumen: Array


def paint_chest(seed: int) -> Phantom:
    """A chest CT of a made-up patient: int16 HU on a grid whose orientation, spacing and view follow the seed.

    Labels: 1 left lung, 2 right lung, as lung masks are usually drawn: vessels, small bronchi,
    nodules and consolidations inside the lung belong to it; windpipe, main bronchi, the great
    vessels up to the hilum and pleural fluid do not.
    """
    rng = np.random.default_rng([seed, 0xC7])
    patient = draw_patient(seed, rng)
    scan = draw_acquisition(seed, patient, rng)
    space = _space(scan, patient, rng)
    hu = np.full(space.geometry.shape, -1000.0, dtype=np.float32)
    shell = shape_shell(space, patient)
    paint_surroundings(hu, space, patient, shell, rng)
    paint_arms(hu, space, patient)
    paint_wall(hu, space, patient, shell, rng)
    paint_bones(hu, space, patient, shell, rng)
    lift = diaphragm(space, patient, rng)
    paint_abdomen(hu, space, patient, (shell, -lift), rng)
    mediastinum = paint_mediastinum(hu, space, patient, shell, rng)
    lungs = shape_lungs(space, patient, shell, mediastinum, lift)
    # Disease prefers one side, more or less.
    bias = float(rng.choice([-1.0, 1.0])) * rng.uniform(0.0, 1.3)
    contents = [
        _content(lung, space, patient, (bias * lung.side.side, mediastinum.hila[lung.side.side]), rng) for lung in lungs
    ]
    _paint_lungs(hu, contents, scan, (patient.blood, rng.uniform(0.02, 0.2)))
    for content in contents:
        paint_nodules(hu, content.lung, space, rng)
    open_airways(hu, space, mediastinum.airways)
    return _scan(hu, lungs, scan, rng)


def _space(scan: Acquisition, patient: Patient, rng: np.random.Generator) -> Space:
    fine = scan.canonical.resampled([n * f for n, f in zip(scan.canonical.shape, scan.factors, strict=True)])
    x, y, z = world(fine)
    bend = 7.0
    x += np.clip(0.5 * bend * smooth_noise(rng, fine, 130.0), -bend, bend)
    y += np.clip(0.5 * bend * smooth_noise(rng, fine, 130.0), -bend, bend)
    x -= np.float32(patient.scoliosis) * np.sin(z * np.float32(2 * np.pi / (1.4 * patient.height)))
    return Space(geometry=fine, x=x, y=y, z=z, warp_mm=1.5 * bend + abs(patient.scoliosis))


def _content(
    lung: Lung, space: Space, patient: Patient, place: tuple[float, Point], rng: np.random.Generator
) -> _Content:
    """Draw the lung's tissue and trees; place: how early it falls ill, where its hilum is."""
    bias, hilum = place
    plain = space.unbent()
    tissue = draw_tissue(lung, space, patient, bias, rng)
    vessels, walls, lumen = (np.zeros(space.geometry.shape, dtype=np.float32) for _ in range(3))
    sheet = fissures(lung, space, patient)
    over(vessels, soft(0.4 - np.abs(sheet), space.edge) * np.float32(0.5), 1.0)
    scale = rng.uniform(0.55, 0.85)
    for branches, shift in ((230, (0.0, 6.0, 4.0)), (150, (0.0, 2.0, -12.0))):
        x, y, z = (h + d for h, d in zip(hilum, shift, strict=True))
        tree = grow_tree(lung, plain, space.place((x + lung.side.side * 6.0, y, z)), branches, rng)
        paint_tree(vessels, plain, tree, scale, 1.0)
    bronchi = grow_tree(lung, plain, space.place(hilum), 40, rng)
    paint_tree(walls, plain, bronchi, 1.35, 1.0)
    paint_tree(lumen, plain, bronchi, 1.35, 0.72)
    return _Content(lung=lung, tissue=tissue, vessels=vessels, walls=walls, lumen=lumen)


def _paint_lungs(hu: Array, contents: list[_Content], scan: Acquisition, look: tuple[float, float]) -> None:
    """Fill the lungs so that the share `AERATED` of them stays below -500 HU; look: HU of blood, firm share."""
    blood, firm = look
    well = [_compose(hu, content, content.tissue.healthy, blood) for content in contents]
    ranks, airy = [], []
    for content, picture in zip(contents, well, strict=True):
        inside = block_mean(content.lung.occupancy, scan.factors) > 0.5
        ranks.append(block_mean(content.tissue.rank, scan.factors)[inside])
        airy.append(block_mean(picture, scan.factors)[inside] < -500.0)
    rank, air = np.concatenate(ranks), np.concatenate(airy)
    threshold, hard = _thresholds(rank, air, firm)
    for content in contents:
        picture = _compose(hu, content, fill(content.tissue, threshold, hard), blood)
        if content.lung.fluid is not None:
            over(hu, content.lung.fluid, 10.0)
        np.copyto(hu, picture, where=content.lung.occupancy > 0.0)


def _thresholds(rank: NDArray[np.float32], air: NDArray[np.bool_], firm: float) -> tuple[float, float]:
    """Ranks from which tissue is ill, and from which it is firm (the share `firm` of what is ill)."""
    if not air.any():
        return 1e3, 1e3
    keep = min(1.0, AERATED * len(rank) / float(air.sum()))
    threshold = float(np.quantile(rank[air], keep))
    ill = rank[rank > threshold]
    return threshold, float(np.quantile(ill, 1.0 - firm)) if len(ill) else 1e3


def _compose(hu: Array, content: _Content, tissue: Array, blood: float) -> Array:
    """The whole picture with this lung filled with `tissue` and its trees."""
    filling = tissue.copy()
    over(filling, content.walls, np.maximum(filling, -150.0))
    over(filling, content.lumen, -960.0)
    over(filling, content.vessels, 0.85 * blood)
    picture = hu.copy()
    over(picture, content.lung.occupancy, filling)
    return picture


def _scan(hu: Array, lungs: list[Lung], scan: Acquisition, rng: np.random.Generator) -> Phantom:
    """Blur, average over the output's voxels, add noise, store; labels by majority of the fine voxels."""
    from scipy.ndimage import gaussian_filter

    width = [scan.blur / s for s in scan.canonical.spacing]
    sharp = gaussian_filter(hu, [w * f for w, f in zip(width, scan.factors, strict=True)], truncate=2.5)
    picture = block_mean(sharp, scan.factors)
    grain = gaussian_filter(rng.standard_normal(picture.shape, dtype=np.float32), [0.7, 0.7, 0.35])
    picture += scan.noise / float(grain.std()) * grain + scan.offset
    if scan.padding is not None:
        _pad_outside(picture, scan)
    shares = np.stack([block_mean(lung.occupancy, scan.factors) for lung in lungs])
    labels = np.where(shares.sum(axis=0) > 0.5, shares.argmax(axis=0) + 1, 0).astype(np.uint8)
    # Steps of four HU: the last bits are noise anyway, and the files shrink by a fifth.
    stored = (STEP * np.round(np.clip(picture, min(scan.floor, scan.padding or 0.0), 3000.0) / STEP)).astype(np.int16)
    keep = _without_slivers(labels)
    stored, labels = stored[keep], labels[keep]
    geometry = scan.canonical.cropped((keep.start, 0, 0), (keep.stop, *labels.shape[1:]))
    geometry = geometry.reordered(scan.axes, scan.flips)
    flipped = tuple(slice(None, None, -1) if flip else slice(None) for flip in scan.flips)
    source = np.ascontiguousarray(stored.transpose(scan.axes)[flipped])
    return Phantom(
        volume=Volume(source[None], geometry),
        labelmap=LabelMap(np.ascontiguousarray(labels.transpose(scan.axes)[flipped]), geometry, LABELS),
    )


def _without_slivers(labels: NDArray[np.uint8]) -> slice:
    """Sagittal slices to keep: a view of one lung ends where a mere sliver of the other one begins."""
    counts = np.stack([(labels == value).sum(axis=(1, 2)) for value in (1, 2)])  # left, right per slice
    totals = counts.sum(axis=1)
    if not 0 < totals.min() < 0.2 * totals.max():
        return slice(0, labels.shape[0])
    sliver = np.flatnonzero(counts[int(totals.argmin())])
    # The left lung lies at low indices, the right one at high ones.
    return slice(int(sliver[-1]) + 1, labels.shape[0]) if totals[0] < totals[1] else slice(0, int(sliver[0]))


def _pad_outside(picture: Array, scan: Acquisition) -> None:
    """What the scanner stores outside its round field of view."""
    i, j, _ = np.ogrid[tuple(slice(0, n) for n in picture.shape)]
    ni, nj, _ = picture.shape
    radius = 0.5 * max(ni, nj) * 1.02
    outside = (i - 0.5 * (ni - 1)) ** 2 + (j - 0.5 * (nj - 1)) ** 2 > radius**2
    np.copyto(picture, np.float32(scan.padding or 0.0), where=np.broadcast_to(outside, picture.shape))
