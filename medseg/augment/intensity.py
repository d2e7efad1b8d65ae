"""Changes of brightness, contrast, gamma, noise, sharpness and resolution, on a batch on its device.

All strengths are relative to each sample's own deviation or range, so that one setting fits HU,
z-scores and 8-bit pictures; a strength of 0 switches a change off.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from medseg.core.errors import PlanError
from medseg.core.plan import AugmentSpec

Float = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class IntensityDraw:
    """What was drawn for a batch; a neutral value (0, or 1 for factors) leaves a sample as it is.

    Per sample and channel [B, C]: brightness (added, in deviations), contrast (factor about the
    mean), gamma (exponent), noise (deviation, in deviations). Per sample [B]: blur (sigma in voxels),
    resolution (fraction of the voxels kept per axis), seeds of the noise, inverted (bright becomes dark).
    """

    brightness: Float
    contrast: Float
    gamma: Float
    noise: Float
    blur: Float
    resolution: Float
    seeds: NDArray[np.int64]
    inverted: NDArray[np.bool_]


def draw_intensity(spec: AugmentSpec, size: int, channels: int, rng: np.random.Generator) -> IntensityDraw:
    """Draw for `size` samples of `channels`; each change befalls a sample with intensity_probability.

    Raises PlanError for strengths that cannot work.
    """
    for name in ("contrast", "low_resolution"):
        if not 0 <= getattr(spec, name) < 1:
            raise PlanError(f"augment.{name} must lie within 0..1 (without 1), not {getattr(spec, name):g}")
    for name in ("brightness", "gamma", "noise", "blur"):
        if getattr(spec, name) < 0:
            raise PlanError(f"augment.{name} must not be negative, not {getattr(spec, name):g}")
    hit = rng.random((6, size)) < spec.intensity_probability
    inverted = rng.random(size) < spec.invert_probability
    each = (size, channels)
    return IntensityDraw(
        brightness=hit[0][:, None] * rng.uniform(-spec.brightness, spec.brightness, each),
        contrast=np.exp(hit[1][:, None] * np.log(rng.uniform(1 - spec.contrast, 1 + spec.contrast, each))),
        gamma=np.exp(hit[2][:, None] * rng.uniform(-spec.gamma, spec.gamma, each)),
        noise=hit[3][:, None] * rng.uniform(0.0, spec.noise, each),
        blur=hit[4] * rng.uniform(0.0, spec.blur, size),
        resolution=1.0 - hit[5] * rng.uniform(0.0, spec.low_resolution, size),
        seeds=rng.integers(0, 2**62, size),
        inverted=inverted,
    )


def apply_intensity(batch: torch.Tensor, draw: IntensityDraw) -> torch.Tensor:
    """The changed batch [B, C, *spatial] (two or three spatial axes); the given one stays as it is.

    The same draw gives the same bits on the same device.
    """
    out = batch.clone()
    _noise(out, draw)
    _blur(out, draw.blur)
    _brightness_contrast(out, draw)
    _resolution(out, draw.resolution)
    _gamma(out, draw.gamma)
    _invert(out, draw.inverted)
    return out


def _noise(batch: torch.Tensor, draw: IntensityDraw) -> None:
    for sample in np.flatnonzero(draw.noise.any(axis=1)):
        image = batch[sample]
        source = torch.Generator(batch.device).manual_seed(int(draw.seeds[sample]))
        noise = torch.randn(image.shape, generator=source, device=batch.device, dtype=batch.dtype)
        strength = _column(draw.noise[sample], image) * _deviation(image[None])[0]
        image += noise * strength


def _blur(batch: torch.Tensor, sigmas: Float) -> None:
    """Gaussian blur, one axis after the other, as a sum of shifted copies; borders repeat."""
    for sample in np.flatnonzero(sigmas):
        sigma = float(sigmas[sample])
        radius = max(1, ceil(3 * sigma))
        taps = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
        taps /= taps.sum()
        image = batch[sample]
        for axis, n in enumerate(image.shape[1:], start=1):
            index = torch.arange(-radius, n + radius, device=batch.device).clamp(0, n - 1)
            padded = image.index_select(axis, index)
            image = _sum_of_shifts(padded, taps, axis, n)
        batch[sample] = image


def _sum_of_shifts(padded: torch.Tensor, taps: Float, axis: int, length: int) -> torch.Tensor:
    """Correlation of `padded` with `taps` along one axis, keeping `length` positions."""
    out = padded.narrow(axis, 0, length) * float(taps[0])
    for shift, tap in enumerate(taps[1:], start=1):
        out.add_(padded.narrow(axis, shift, length), alpha=float(tap))
    return out


def _brightness_contrast(batch: torch.Tensor, draw: IntensityDraw) -> None:
    chosen = np.flatnonzero((draw.brightness != 0).any(axis=1) | (draw.contrast != 1).any(axis=1))
    if not len(chosen):
        return
    images = batch[torch.from_numpy(chosen).to(batch.device)]
    mean = images.mean(dim=_spatial(images), keepdim=True)
    shift = _column(draw.brightness[chosen], images) * _deviation(images)
    batch[torch.from_numpy(chosen).to(batch.device)] = (
        (images - mean) * _column(draw.contrast[chosen], images) + mean + shift
    )


def _resolution(batch: torch.Tensor, fractions: Float) -> None:
    """Average down to fewer voxels and interpolate back, as thicker slices or a coarser matrix do."""
    mode = "trilinear" if batch.ndim == 5 else "bilinear"
    for sample in np.flatnonzero(fractions < 1):
        image = batch[sample][None]
        shape = image.shape[2:]
        small = [max(1, round(n * float(fractions[sample]))) for n in shape]
        low = F.interpolate(image, size=small, mode="area")
        batch[sample] = F.interpolate(low, size=shape, mode=mode, align_corners=False)[0]


def _gamma(batch: torch.Tensor, exponents: Float) -> None:
    """Bend the intensities within the sample's own range, keeping its mean and deviation."""
    chosen = np.flatnonzero((exponents != 1).any(axis=1))
    if not len(chosen):
        return
    index = torch.from_numpy(chosen).to(batch.device)
    images = batch[index]
    axes = _spatial(images)
    mean, deviation = images.mean(dim=axes, keepdim=True), _deviation(images)
    low = images.amin(dim=axes, keepdim=True)
    extent = (images.amax(dim=axes, keepdim=True) - low).clamp(min=1e-7)
    bent = ((images - low) / extent) ** _column(exponents[chosen], images)
    spread = _deviation(bent).clamp(min=1e-7)
    batch[index] = (bent - bent.mean(dim=axes, keepdim=True)) * (deviation / spread) + mean


def _invert(batch: torch.Tensor, inverted: NDArray[np.bool_]) -> None:
    """Mirror the intensities about each channel's mean: a fluorescence picture becomes like a bright-field one."""
    for sample in np.flatnonzero(inverted):
        image = batch[sample]
        batch[sample] = 2 * image.mean(dim=list(range(1, image.ndim)), keepdim=True) - image


def _spatial(images: torch.Tensor) -> list[int]:
    return list(range(2, images.ndim))


def _deviation(images: torch.Tensor) -> torch.Tensor:
    """Standard deviation per sample and channel [B, C, 1, …]."""
    return images.std(dim=_spatial(images), keepdim=True, correction=0)


def _column(values: Float, images: torch.Tensor) -> torch.Tensor:
    """Figures [B, C] (or [C]) beside images [B, C, *spatial] (or [C, *spatial])."""
    column = torch.from_numpy(np.asarray(values)).to(images.device, images.dtype)
    return column.reshape(*values.shape, *[1] * (images.ndim - values.ndim))
