"""Intensities as the network wants them, in place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.core.errors import PlanError
from medseg.core.plan import Normalization

Float32 = NDArray[np.float32]

# Percentiles of more voxels than this are taken from every n-th one.
_SAMPLE = 4_000_000


def normalize_ct(channel: Float32, given: Normalization) -> None:
    """Clip to the training foreground's range, then z-score with its figures (Isensee et al. 2021).

    Raises PlanError where the plan gives no range to clip to.
    """
    if given.upper <= given.lower:
        raise PlanError(f"normalization: lower ({given.lower:g}) must lie below upper ({given.upper:g})")
    np.clip(channel, given.lower, given.upper, out=channel)
    channel -= np.float32(given.mean)
    channel /= np.float32(given.std if given.std > 0 else 1.0)


def normalize_zscore(channel: Float32, given: Normalization) -> None:
    """Z-score by the image's own mean and deviation over voxels inside its 0.5..99.5 percentiles."""
    sample = _sample(channel)
    low, high = np.percentile(sample, (0.5, 99.5))
    inside = sample[(sample >= low) & (sample <= high)]
    # An image that is nearly all background has no spread inside its percentiles; then all voxels count.
    chosen = inside if not _is_flat(inside) else sample
    if _is_flat(chosen):
        channel[...] = 0.0
        return
    # Both figures before either is used: the sample may be a view of the channel.
    mean, deviation = chosen.mean(dtype=np.float64), chosen.std(dtype=np.float64)
    channel -= np.float32(mean)
    channel /= np.float32(deviation)


def normalize_unit8(channel: Float32, given: Normalization) -> None:
    """8-bit intensities 0..255 -> -0.5..0.5."""
    channel /= np.float32(255.0)
    channel -= np.float32(0.5)


def normalize_picture(channels: Float32, given: Normalization) -> None:
    """The picture's own 0.2..99.8 percentiles -> -1..1, one scale for all its colours; a constant picture becomes 0.

    As StarDist and Cellpose scale microscopy (Weigert et al. 2020; Stringer et al. 2021): how bright a picture
    is, and how much of it is empty, differs; where its darkest and brightest structures lie does not. What
    lies beyond the percentiles is not clipped.
    """
    low, high = np.percentile(_sample(channels), (0.2, 99.8))
    if high - low <= _resolution(low, high):
        channels[...] = 0.0
        return
    channels -= np.float32(low)
    channels *= np.float32(2.0 / (high - low))
    channels -= np.float32(1.0)


NORMALIZATIONS: dict[str, Callable[[Float32, Normalization], None]] = {
    "ct": normalize_ct,
    "zscore": normalize_zscore,
    "unit8": normalize_unit8,
    "picture": normalize_picture,
}


def normalize(image: Float32, given: Sequence[Normalization]) -> None:
    """Normalise an image [C, I, J, K] in place, each channel as the plan says; a picture's colours together."""
    if all(one.scheme == "picture" for one in given):
        normalize_picture(image, given[0])
        return
    for channel, one in zip(image, given, strict=True):
        NORMALIZATIONS[one.scheme](channel, one)


def _sample(channel: Float32) -> Float32:
    flat = channel.reshape(-1)
    return flat[:: -(-flat.size // _SAMPLE)]


def _is_flat(values: NDArray[Any]) -> bool:
    """Whether the values differ by no more than float32's rounding, so that dividing would raise noise."""
    return float(values.max() - values.min()) <= _resolution(float(values.min()), float(values.max()))


def _resolution(low: float, high: float) -> float:
    return 1e-5 * max(abs(low), abs(high))
