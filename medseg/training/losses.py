"""What a network is trained to make small: soft Dice plus cross-entropy, exact about ignored voxels."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F

from medseg.core.labels import IGNORE


class DiceCrossEntropy(torch.nn.Module):
    """Mean cross-entropy plus soft Dice (Milletari 2016, without background).

    class_weights: one factor a class [L] for the cross-entropy, or None. dice: over the whole batch, or
    the mean over its samples, in which one with little foreground counts as much as one with much.
    Voxels with the target IGNORE have no part in either term: their gradient is exactly zero.
    """

    class_weights: torch.Tensor | None

    def __init__(self, class_weights: torch.Tensor | None = None, dice: Literal["batch", "sample"] = "batch") -> None:
        super().__init__()
        self.dice = _monai_dice(dice)
        self.register_buffer("class_weights", class_weights)

    def forward(self, logits: torch.Tensor, target: torch.Tensor, weights: torch.Tensor | None = None) -> torch.Tensor:
        """logits [B, L, *spatial] of any float type, target [B, *spatial] long; a float32 scalar.

        weights [B, *spatial]: how much each voxel counts in the cross-entropy (None: all alike).
        """
        logits = logits.float()
        valid = target != IGNORE
        losses = F.cross_entropy(logits, target, ignore_index=IGNORE, reduction="none")
        share = valid.to(losses.dtype) if weights is None else weights * valid
        if self.class_weights is not None:
            share = share * self.class_weights[torch.where(valid, target, 0)]
        # Summed and divided here: a batch of nothing but ignored voxels is then 0, not 0/0.
        cross_entropy = (losses * share).sum() / share.sum().clamp_min(1e-6)
        probabilities = logits.softmax(1) * valid.unsqueeze(1)
        classes = torch.arange(logits.shape[1], device=logits.device).view(1, -1, *[1] * (target.ndim - 1))
        dice: torch.Tensor = self.dice(probabilities, (target.unsqueeze(1) == classes).to(logits.dtype))
        return cross_entropy + dice


def deep_supervised(
    loss: torch.nn.Module,
    outputs: Sequence[torch.Tensor],
    target: torch.Tensor,
    weights: torch.Tensor | None = None,
) -> torch.Tensor:
    """The loss at every resolution, each half as heavy as the one above (nnU-Net); shares sum to 1.

    outputs: logits, full resolution first; target and voxel weights (both [B, *spatial]) are thinned
    out (nearest) to each size. For networks of unpadded convolutions they are cropped to the middle
    that those answer for.
    """
    size = outputs[0].shape[2:]
    target, weights = _middle(target, size), None if weights is None else _middle(weights, size)
    shares = [2.0**-level for level in range(len(outputs))]
    total = torch.zeros((), device=target.device)
    for share, logits in zip(shares, outputs, strict=True):
        size = logits.shape[2:]
        fitted = _thinned(target, size).long()
        fitted_weights = None if weights is None else _thinned(weights, size)
        total = total + share / sum(shares) * loss(logits, fitted, fitted_weights)
    return total


def _thinned(values: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    if tuple(size) == tuple(values.shape[1:]):
        return values
    return F.interpolate(values.unsqueeze(1).float(), size=tuple(size), mode="nearest-exact").squeeze(1)


def _middle(values: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    for axis, wanted in enumerate(size, start=1):
        values = values.narrow(axis, (values.shape[axis] - wanted) // 2, wanted)
    return values


def class_weights(frequencies: Sequence[float], rule: str) -> torch.Tensor | None:
    """Factors per class from their share of voxels: 'none', 'inverse' (1/p) or 'log' (1/ln(1.02+p)).

    'log' is ENet's (Paszke 2016); both are scaled to a mean of one. Classes that never occur get
    the largest factor of those that do.
    """
    if rule == "none":
        return None
    share = torch.tensor(frequencies, dtype=torch.float64)
    share = share / share.sum()
    present = share > 0
    raw = torch.where(present, 1 / share.clamp_min(1e-12), 0.0) if rule == "inverse" else 1 / torch.log(1.02 + share)
    raw = torch.where(present, raw, raw[present].max())
    return (raw / raw.mean()).float()


def _monai_dice(over: Literal["batch", "sample"]) -> torch.nn.Module:
    # Importing MONAI costs seconds, so only those who train pay for it; what its optional
    # dependencies have to say about themselves is not the user's business.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from monai.losses.dice import DiceLoss

    # A sample without the structure would be all or nothing; one voxel's worth of smoothing makes it a slope.
    smooth = 1e-5 if over == "batch" else 1.0
    loss: torch.nn.Module = DiceLoss(
        include_background=False, batch=over == "batch", smooth_nr=smooth, smooth_dr=smooth
    )
    return loss
