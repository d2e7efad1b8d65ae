"""A microscopy phantom: a picture of cell nuclei with one label per nucleus."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medseg.core.geometry import Geometry
from medseg.core.volume import LabelMap, Volume
from medseg.phantoms import Phantom
from medseg.phantoms.fields import Array, smooth_noise

SIZE = 256
# What a run of seeds goes through: fluorescence twice as often as each stained kind.
KINDS = (
    "fluorescence",
    "tissue",
    "fluorescence",
    "brightfield",
    "fluorescence",
    "fluorescence",
    "tissue",
    "brightfield",
)
# Red, green, blue of haematoxylin and eosin: optical density per unit of stain (Ruifrok & Johnston 2001).
_HAEMATOXYLIN = np.array([0.65, 0.70, 0.29], dtype=np.float32)
_EOSIN = np.array([0.07, 0.99, 0.11], dtype=np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class _Nuclei:
    """labels: [I, J] 0 or the nucleus' number; cover: soft occupancy; shade: one random number per nucleus."""

    labels: NDArray[np.uint16]
    cover: Array
    shade: Array


def paint_cells(seed: int) -> Phantom:
    """A picture of nuclei, many of them touching: uint8 [C, 256, 256, 1], C = 1 (grey) or 3 (stained tissue).

    The label map holds 1, 2, 3 … per nucleus. Fluorescence is bright on dark, the stained kinds are dark on bright.
    """
    rng = np.random.default_rng([seed, 0xCE])
    geometry = Geometry.from_spacing((1.0, 1.0, 1.0), (SIZE, SIZE, 1))
    kind = KINDS[seed % len(KINDS)]
    radius = float(np.exp(rng.uniform(np.log(6.0), np.log(17.0))))
    nuclei = _draw_nuclei(radius, rng)
    paint = {"fluorescence": _fluorescence, "tissue": _tissue, "brightfield": _brightfield}[kind]
    picture = paint(nuclei, geometry, radius, rng)
    stored = np.clip(np.round(picture), 0, 255).astype(np.uint8)[..., np.newaxis]
    return Phantom(volume=Volume(stored, geometry), labelmap=LabelMap(nuclei.labels[..., np.newaxis], geometry))


def _draw_nuclei(radius: float, rng: np.random.Generator) -> _Nuclei:
    """Place star-shaped nuclei, half of them right beside another one so that they touch."""
    from scipy.ndimage import gaussian_filter

    wanted = int(np.clip(rng.uniform(0.12, 0.4) * SIZE**2 / (np.pi * radius**2), 6, 220))
    labels = np.zeros((SIZE, SIZE), dtype=np.uint16)
    shade = np.zeros((SIZE, SIZE), dtype=np.float32)
    places: list[tuple[float, float]] = []
    count = 0
    for _ in range(wanted):
        centre = _next_place(places, radius, rng)
        region, box = _star(centre, radius * rng.uniform(0.75, 1.3), rng)
        free = region & (labels[box] == 0)
        # A nucleus of which most lies under others would be a sliver: it is left out.
        if free.sum() < 0.7 * region.sum() or free.sum() < 20:
            continue
        count += 1
        places.append(centre)
        labels[box][free] = count
        shade[box][free] = rng.uniform(-1.0, 1.0)
    cover = gaussian_filter((labels > 0).astype(np.float32), 0.8)
    return _Nuclei(labels=labels, cover=cover, shade=gaussian_filter(shade, 0.8))


def _next_place(places: list[tuple[float, float]], radius: float, rng: np.random.Generator) -> tuple[float, float]:
    if places and rng.random() < 0.5:
        i, j = places[int(rng.integers(0, len(places)))]
        angle, away = rng.uniform(0.0, 2 * np.pi), radius * rng.uniform(1.6, 2.1)
        return i + away * float(np.cos(angle)), j + away * float(np.sin(angle))
    return float(rng.uniform(0, SIZE)), float(rng.uniform(0, SIZE))


def _star(
    centre: tuple[float, float], radius: float, rng: np.random.Generator
) -> tuple[NDArray[np.bool_], tuple[slice, slice]]:
    """A wobbly ellipse as (mask, where it lies), cut off at the picture's edge; empty where outside."""
    reach = 1.9 * radius + 2
    i0, j0 = (max(0, int(c - reach)) for c in centre)
    i1, j1 = (min(SIZE, max(0, int(c + reach) + 1)) for c in centre)
    box = (slice(min(i0, i1), i1), slice(min(j0, j1), j1))
    i, j = np.ogrid[box]
    turn, long = rng.uniform(0.0, np.pi), rng.uniform(1.0, 1.35)
    u, v = i - centre[0], j - centre[1]
    a, b = u * np.cos(turn) + v * np.sin(turn), v * np.cos(turn) - u * np.sin(turn)
    angle = np.arctan2(b, a)
    edge = np.ones_like(angle)
    for wave in (2, 3, 4, 5):
        edge += rng.uniform(-0.1, 0.1) / np.sqrt(wave - 1) * np.cos(wave * angle + rng.uniform(0.0, 2 * np.pi))
    return (a / long) ** 2 + (b * long) ** 2 < (radius * edge) ** 2, box


def _light(geometry: Geometry, rng: np.random.Generator) -> Array:
    """Uneven illumination around 1 [I, J]."""
    strength = rng.uniform(0.05, 0.3)
    return np.asarray(1.0 + strength * np.clip(_plane(geometry, 300.0, rng), -1.5, 1.5))


def _plane(geometry: Geometry, wavelength: float, rng: np.random.Generator) -> Array:
    return smooth_noise(rng, geometry, wavelength)[:, :, 0]


def _fluorescence(nuclei: _Nuclei, geometry: Geometry, radius: float, rng: np.random.Generator) -> Array:
    """Bright nuclei over a dark, slightly glowing background, with stray light and shot noise."""
    from scipy.ndimage import gaussian_filter

    level = rng.uniform(70.0, 170.0)
    chromatin = _plane(geometry, 0.6 * radius, rng)
    signal = nuclei.cover * level * (1.0 + 0.35 * nuclei.shade + 0.12 * chromatin)
    signal = gaussian_filter(signal, rng.uniform(0.4, 1.4))
    glow = rng.uniform(0.03, 0.18) * gaussian_filter(signal, 1.2 * radius)
    dust = np.clip(_plane(geometry, 18.0, rng) - 2.2, 0.0, 1.0) * 0.25 * level
    light = _light(geometry, rng)
    clean = np.clip((rng.uniform(6.0, 24.0) + signal + glow + dust) * light, 0.0, 255.0)
    noise = rng.standard_normal(clean.shape, dtype=np.float32) * np.sqrt(clean * np.float32(rng.uniform(0.05, 0.35)))
    return np.asarray((clean + noise)[np.newaxis])


def _tissue(nuclei: _Nuclei, geometry: Geometry, radius: float, rng: np.random.Generator) -> Array:
    """Haematoxylin (purple nuclei) and eosin (pink tissue) by Beer and Lambert; gaps are white."""
    fibres, clumps = _plane(geometry, 22.0, rng), _plane(geometry, 70.0, rng)
    chromatin = _plane(geometry, 0.5 * radius, rng)
    gaps = np.clip(1.6 - np.abs(clumps), 0.15, 1.0)
    eosin = rng.uniform(0.18, 0.4) * gaps * (1.0 + 0.3 * fibres)
    dark = rng.uniform(0.7, 1.25)
    haematoxylin = dark * nuclei.cover * (1.0 + 0.25 * nuclei.shade + 0.18 * chromatin) + 0.07 * gaps
    density = _HAEMATOXYLIN[:, None, None] * haematoxylin + _EOSIN[:, None, None] * np.clip(eosin, 0.0, None)
    noise = 1.5 * rng.standard_normal(density.shape[1:], dtype=np.float32)
    # Steps of two grey levels: nobody sees them, and the file shrinks.
    return np.asarray(2.0 * np.round(0.5 * (244.0 * np.exp(-density) * _light(geometry, rng) ** 0.4 + noise)))


def _brightfield(nuclei: _Nuclei, geometry: Geometry, radius: float, rng: np.random.Generator) -> Array:
    """Dark nuclei on a bright field, faint cell bodies around them."""
    from scipy.ndimage import gaussian_filter

    body = np.clip(gaussian_filter(nuclei.cover, 0.8 * radius) * 2.0, 0.0, 1.0)
    chromatin = _plane(geometry, 0.6 * radius, rng)
    contrast = rng.uniform(60.0, 120.0)
    clean = rng.uniform(195.0, 225.0) - rng.uniform(8.0, 25.0) * body
    clean = clean - contrast * nuclei.cover * (1.0 + 0.2 * nuclei.shade + 0.15 * chromatin)
    noise = rng.uniform(2.0, 5.0) * rng.standard_normal(clean.shape, dtype=np.float32)
    return np.asarray(clean * _light(geometry, rng) ** 0.5 + noise, dtype=np.float32)[np.newaxis]
