"""Samples of a batch mixed with each other: CutMix, copy-paste and MixUp, of images, labels and weights alike.

A sample's partner is another sample of the batch. CutMix (Yun 2019) takes a box of its patch from the
partner; copy-paste (Ghiasi 2021) takes whole pieces of the partner's foreground, such as lesions or
cells; MixUp (Zhang 2018) adds up whole batches, which are then learnt with both targets.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from medseg.core.errors import PlanError
from medseg.core.labels import IGNORE
from medseg.core.plan import AugmentSpec

_MIXUP_BETA = 0.2  # the paper's: mostly a little of the partner
_PASTED = 0.5  # chance of each piece


@dataclass(frozen=True, slots=True, eq=False)
class MixingDraw:
    """What was drawn for a batch of B samples; without any further chance it says what is mixed.

    shift: sample b's partner is sample (b + shift) mod B; cut [B]: which fraction of the patch CutMix
    takes from the partner, 0 for none; centers [B, 3]: the box's middle as fractions of the patch;
    pasted [B]: whether pieces are pasted; seeds [B]: which ones; share: how much of the batch MixUp
    leaves to itself, 1 for all.
    """

    shift: int
    cut: NDArray[np.float64]
    centers: NDArray[np.float64]
    pasted: NDArray[np.bool_]
    seeds: NDArray[np.int64]
    share: float


@dataclass(frozen=True, slots=True, eq=False)
class Second:
    """The other half of a batch that MixUp made: what it shows as well.

    targets [B, *spatial] long; weights [B, *spatial] float32 or None; share: how much it counts in
    the loss, the rest being the batch's own targets'.
    """

    targets: torch.Tensor
    weights: torch.Tensor | None
    share: float


def draw_mixing(spec: AugmentSpec, size: int, rng: np.random.Generator) -> MixingDraw | None:
    """Draw for `size` samples, or None (and nothing) where nothing is mixed or there is no partner.

    CutMix and copy-paste befall each sample with their probability, MixUp the whole batch.
    Raises PlanError for a probability that is none.
    """
    chances = {name: getattr(spec, f"{name}_probability") for name in ("cutmix", "mixup", "copy_paste")}
    for name, chance in chances.items():
        if not 0 <= chance <= 1:
            raise PlanError(f"augment.{name}_probability must lie within 0..1, not {chance:g}")
    if size < 2 or not any(chances.values()):
        return None
    hit = rng.random((2, size)) < [[chances["cutmix"]], [chances["copy_paste"]]]
    mixed = rng.random() < chances["mixup"]
    share = rng.beta(_MIXUP_BETA, _MIXUP_BETA)
    return MixingDraw(
        shift=int(rng.integers(1, size)),
        cut=hit[0] * rng.random(size),
        centers=rng.random((size, 3)),
        pasted=hit[1],
        seeds=rng.integers(0, 2**62, size),
        share=float(max(share, 1 - share)) if mixed else 1.0,
    )


def apply_mixing(
    images: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor | None, draw: MixingDraw | None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None, Second | None]:
    """The mixed batch: images, targets, weights, and with MixUp what it shows as well.

    images [B, C, *spatial] float32, targets [B, *spatial] long, weights [B, *spatial] float32 or None;
    the given ones stay as they are. Pieces and boxes lie where they lay in the partner's patch.
    """
    if draw is None:
        return images, targets, weights, None
    given = [images, targets] if weights is None else [images, targets, weights]
    out = [values.clone() for values in given]
    for sample in range(len(images)):
        partner = (sample + draw.shift) % len(images)
        taken = _taken(targets[partner], sample, draw)
        for values, source in zip(out, given, strict=True):
            for mask in taken:
                values[sample] = torch.where(mask, source[partner], values[sample])
    images, targets = out[0], out[1]
    weights = None if weights is None else out[2]
    if draw.share == 1:
        return images, targets, weights, None
    partners = torch.arange(draw.shift, draw.shift + len(images), device=images.device) % len(images)
    second = Second(targets[partners], None if weights is None else weights[partners], 1 - draw.share)
    return torch.lerp(images[partners], images, draw.share), targets, weights, second


def _taken(target: torch.Tensor, sample: int, draw: MixingDraw) -> list[torch.Tensor]:
    """Masks [*spatial] of what a sample takes from its partner, whose target [*spatial] is given."""
    masks = []
    if draw.pasted[sample]:
        masks.append(_pieces(target, int(draw.seeds[sample])))
    if draw.cut[sample]:
        masks.append(_box(target, float(draw.cut[sample]), draw.centers[sample]))
    return masks


def _pieces(target: torch.Tensor, seed: int) -> torch.Tensor:
    """About half of the connected pieces of all labels together, at least one where there are any."""
    from scipy.ndimage import label

    pieces, count = label(((target > 0) & (target != IGNORE)).cpu().numpy())
    rng = np.random.default_rng(seed)
    chosen = np.append(False, rng.random(count) < _PASTED)
    if count and not chosen.any():
        chosen[1 + rng.integers(count)] = True
    return torch.from_numpy(chosen[pieces]).to(target.device)


def _box(target: torch.Tensor, fraction: float, center: NDArray[np.float64]) -> torch.Tensor:
    """A box of this fraction of the patch, in the patch's proportions; what sticks out is cut off."""
    mask = torch.zeros_like(target, dtype=torch.bool)
    edge = fraction ** (1 / target.ndim)
    inside = tuple(
        slice(max(0, round(n * (middle - edge / 2))), max(0, round(n * (middle + edge / 2))))
        for n, middle in zip(target.shape, center, strict=False)
    )
    mask[inside] = True
    return mask
