"""Boundary F1: does the rim of the prediction lie near the true rim, both ways (Bokhovkin & Burnaev 2019).

A soft form of the normalised surface Dice at a tolerance of a few voxels, made of max-pooling alone:
unlike a loss on distance maps (Kervadec 2019) it needs no distance transform of every patch on the CPU.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from medseg.core.plan import Schedule
from medseg.training.losses.terms import Term
from medseg.training.losses.voxels import Voxels

_TOLERANCE = 2  # voxels by which rims may lie apart
_SMOOTH = 1.0  # a voxel's worth, as a patch may hold next to no rim of a label


def make(schedule: Schedule) -> Term:
    """1 - F1 of the labels' rims, which are summed over the batch."""
    return boundary


def boundary(voxels: Voxels) -> torch.Tensor:
    """Precision and recall of the soft rims of every label but the background, as one mean F1."""
    # Beside an ignored voxel nobody knows whether there is a rim.
    known = 1 - _pooled((~voxels.valid).to(voxels.logits.dtype).unsqueeze(1), 1)
    found, true = (_rim(masks[:, 1:]) * known for masks in (voxels.probabilities, voxels.truth))
    precision = _inside(found, _pooled(true, _TOLERANCE))
    recall = _inside(true, _pooled(found, _TOLERANCE))
    return (1 - 2 * precision * recall / (precision + recall)).mean()


def _rim(masks: torch.Tensor) -> torch.Tensor:
    """The voxels of soft masks [B, L, *spatial] that have a neighbour outside."""
    outside = 1 - masks
    return _pooled(outside, 1) - outside


def _inside(rim: torch.Tensor, zone: torch.Tensor) -> torch.Tensor:
    """Which share of each label's rim lies inside a zone [L]; never 0."""
    axes = [0, *range(2, rim.ndim)]
    return ((rim * zone).sum(axes) + _SMOOTH) / (rim.sum(axes) + _SMOOTH)


def _pooled(masks: torch.Tensor, reach: int) -> torch.Tensor:
    """The largest value within `reach` voxels along every axis, as of cubes."""
    pool = F.max_pool2d if masks.ndim == 4 else F.max_pool3d
    return pool(masks, 2 * reach + 1, stride=1, padding=reach)
