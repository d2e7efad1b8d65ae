"""Objects told apart: seeds in the interiors that a network sees, flooded to where its objects end.

A watershed within a mask floods every connected piece of it by itself. So pieces with one seed are one
object and need no flooding, and the others are flooded one after the other in their own boxes: the result
is that of the whole picture at once, however large it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from numpy.typing import NDArray

from medseg.core.plan import InstanceSpec
from medseg.metrics.contingency import contingency
from medseg.metrics.instances import match_instances, pair_ious, per_image

# Probabilities are flooded in so many steps: where two are equal but for rounding, it must not matter which is higher.
_LEVELS = 256

Ids = NDArray[np.int32]
Mask = NDArray[np.bool_]
Float32 = NDArray[np.float32]


def separate(
    mask: Mask, interiors: Float32, spec: InstanceSpec, spacing: Sequence[float], foreground: Float32 | None = None
) -> Ids:
    """Objects 1, 2, 3 … [I, J, K] in the order of their first voxels; 0 outside of `mask`.

    mask: where objects are; interiors, foreground: probability of an object's interior and of any object
    [I, J, K]; spacing: mm. Pieces of the mask are voxels that share a face. A piece without a seed is one
    object, so that only what is smaller than `spec.smallest`, less than `spec.certain` or, where `foreground`
    is given, less than `spec.sure` on average is lost.
    """
    pieces, _ = _labelled(mask)
    seeds, count = _labelled(mask & (_smoothed(interiors, spec, spacing) > spec.seed))
    if count:
        _flood_crowded(pieces, seeds, interiors)
    sure = _peaks(pieces, interiors) >= spec.certain
    if foreground is not None and spec.sure > 0:
        sure &= _means(pieces, foreground) >= spec.sure
    return _kept(pieces, sure, spec.smallest / _voxel_size(mask.shape, spacing))


def _labelled(mask: Mask) -> tuple[Ids, int]:
    from scipy import ndimage

    numbers, count = ndimage.label(mask, output=np.int32)
    return numbers, int(count)


def _smoothed(interiors: Float32, spec: InstanceSpec, spacing: Sequence[float]) -> Float32:
    """A picture's only slice has no neighbours to be smoothed with."""
    from scipy import ndimage

    if spec.smoothing <= 0:
        return interiors
    sigma = [spec.smoothing / step if n > 1 else 0.0 for n, step in zip(interiors.shape, spacing, strict=True)]
    smoothed: Float32 = ndimage.gaussian_filter(interiors, sigma, mode="nearest")
    return smoothed


def _flood_crowded(pieces: Ids, seeds: Ids, interiors: Float32) -> None:
    """Divide every piece of more than one seed, in place; the parts get numbers of their own."""
    from scipy import ndimage
    from skimage.segmentation import watershed

    seeded = seeds > 0
    pairs = np.unique(np.stack([pieces[seeded], seeds[seeded]], axis=1), axis=0)
    crowded = np.flatnonzero(np.bincount(pairs[:, 0]) > 1)
    last = int(pieces.max())
    boxes = ndimage.find_objects(pieces)
    for number in crowded:
        box = boxes[number - 1]
        inside = pieces[box] == number
        depth = np.rint(_LEVELS * (1 - interiors[box]))
        parts = watershed(depth, np.where(inside, seeds[box], 0), mask=inside)
        pieces[box][inside] = last + parts[inside]
    # Numbers of seeds are unique in the picture, so those of parts are, too.


def _peaks(pieces: Ids, interiors: Float32) -> NDArray[np.float64]:
    """The highest probability in every piece [number of the last one + 1]."""
    from scipy import ndimage

    return np.asarray(ndimage.maximum(interiors, pieces, np.arange(int(pieces.max(initial=0)) + 1)), dtype=np.float64)


def _means(pieces: Ids, foreground: Float32) -> NDArray[np.float64]:
    """The mean probability in every piece [number of the last one + 1]."""
    flat = pieces.reshape(-1)
    sums = np.bincount(flat, weights=foreground.reshape(-1))
    means: NDArray[np.float64] = sums / np.maximum(np.bincount(flat), 1)
    return means


def _kept(pieces: Ids, sure: Mask, smallest: float) -> Ids:
    """The objects that are `sure` [numbers] and large enough, numbered anew in the order of their first voxels."""
    flat = pieces.reshape(-1)
    voxels = np.flatnonzero(flat)[::-1]
    numbers = flat[voxels]
    sizes = np.bincount(numbers, minlength=len(sure))
    first = np.zeros(len(sizes), dtype=np.int64)
    first[numbers] = voxels  # of several assignments the last one stays, which is the first voxel's
    real = np.flatnonzero(sure & (sizes > 0) & (sizes >= smallest))
    table = np.zeros(len(sizes), dtype=np.int32)
    table[real[np.argsort(first[real])]] = np.arange(1, len(real) + 1)
    kept: Ids = table[pieces]
    return kept


def _voxel_size(shape: Sequence[int], spacing: Sequence[float]) -> float:
    """mm² of a picture's pixel, mm³ of a voxel."""
    return float(np.prod([step for n, step in zip(shape, spacing, strict=True) if n > 1]))


# ---- fitting ----------------------------------------------------------------------------------

_SEEDS = (0.5, 0.3, 0.4, 0.6, 0.7, 0.8, 0.9)
_SMOOTHINGS = (1.0, 0.0, 0.5, 2.0, 3.0)  # in voxels of the finest spacing
_SMALL, _WIDEST = 10, 0.35  # percentile of the true sizes; part of its radius beyond which neighbours blur
_CERTAIN = (0.4, 0.0, 0.2, 0.5, 0.6, 0.7, 0.8)
# An object is none where it is less sure than all but one in 200 of those learnt from, if there are so many that
# this says something; but never where it is as sure as _SUREST, as what was learnt from is surer than what is new.
_DOUBTFUL, _ENOUGH, _SUREST = 0.5, 100, 0.85
_SEARCHED = 8  # pictures that every setting is tried on
_SHARES = (0.05, 0.0, 0.02, 0.1, 0.15, 0.2, 0.3)  # of the median true object's size


@dataclass(frozen=True, slots=True, eq=False)
class Example:
    """What a network saw of a labelled picture, and its true objects: ids. All [I, J, K]; spacing: mm."""

    mask: Mask
    interiors: Float32
    foreground: Float32
    ids: Ids
    spacing: tuple[float, float, float]


def fitted(examples: Sequence[Example], start: InstanceSpec) -> InstanceSpec:
    """The settings that tell these objects apart best; `start` where they hold none.

    Best is the highest sum of F1 at an IoU of .5 and mean F1 over .5 to .95, both means over the pictures, so
    that one full of errors does not decide for all; of equally good ones the first. Seeds and smoothing are
    searched together, then certainty and sizes, on the first _SEARCHED pictures; how sure objects have to be
    follows from those that are right in all.
    """
    every, examples = examples, examples[:_SEARCHED]
    voxels = [size for example in examples for size in np.bincount(example.ids.reshape(-1))[1:] if size]
    if not voxels:
        return start
    shape, spacing = examples[0].ids.shape, examples[0].spacing
    sizes = np.array(voxels) * _voxel_size(shape, spacing)
    median = float(np.median(sizes))
    usual = InstanceSpec(certain=_CERTAIN[0], smallest=_SHARES[0] * median)
    finest = min(step for n, step in zip(shape, spacing, strict=True) if n > 1)
    widest = _WIDEST * _radius(float(np.percentile(sizes, _SMALL)), flat=shape[2] == 1)
    smoothings = [t * finest for t in _SMOOTHINGS if t * finest <= widest]
    best = _best(examples, [replace(usual, seed=s, smoothing=t) for t, s in product(smoothings, _SEEDS)])
    best = _best(examples, [replace(best, certain=certain) for certain in _CERTAIN])
    best = _best(examples, [replace(best, smallest=share * median) for share in _SHARES])
    right = np.concatenate([_sureness_of_right_ones(example, best) for example in every])
    sure = float(np.percentile(right, _DOUBTFUL)) if len(right) >= _ENOUGH else 0.0
    return replace(best, sure=min(sure, _SUREST))


def _sureness_of_right_ones(example: Example, spec: InstanceSpec) -> NDArray[np.float64]:
    """The mean probability in each object found that covers a true one with an IoU above .5 (which is one at most)."""
    found = separate(example.mask, example.interiors, spec, example.spacing)
    pairs, iou = pair_ious(contingency(found, example.ids))
    sureness: NDArray[np.float64] = _means(found, example.foreground)[pairs.predicted[iou > 0.5]]
    return sureness


def _radius(size: float, flat: bool) -> float:
    """Of the circle or ball of this size."""
    return float(np.sqrt(size / np.pi)) if flat else float(np.cbrt(3 * size / (4 * np.pi)))


def _best(examples: Sequence[Example], specs: Sequence[InstanceSpec]) -> InstanceSpec:
    return max(specs, key=lambda spec: _quality(examples, spec))


def _quality(examples: Sequence[Example], spec: InstanceSpec) -> float:
    counts = [
        match_instances(separate(one.mask, one.interiors, spec, one.spacing), one.ids) for one in examples
    ]  # fmt: skip
    figures = per_image(counts)
    return (figures["f1_50"] or 0.0) + (figures["mean_f1"] or 0.0)
