"""The loss of a network that answers at several resolutions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

if TYPE_CHECKING:
    from medseg.training.batches import Batch


def batch_loss(loss: torch.nn.Module, outputs: torch.Tensor | Sequence[torch.Tensor], batch: Batch) -> torch.Tensor:
    """The loss of a network's answer to a batch: at every resolution, and after MixUp for both of its targets.

    outputs: logits, or a list of them at several resolutions, full resolution first.
    """
    answers = [outputs] if isinstance(outputs, torch.Tensor) else outputs
    own = deep_supervised(loss, answers, batch.targets, batch.weights)
    if batch.second is None:
        return own
    second = deep_supervised(loss, answers, batch.second.targets, batch.second.weights)
    return torch.lerp(own, second, batch.second.share)


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
