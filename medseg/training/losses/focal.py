"""Focal loss: cross-entropy in which voxels that are right already count little (Lin 2017)."""

from __future__ import annotations

import torch

from medseg.core.plan import Schedule
from medseg.training.losses.cross_entropy import cross_entropy
from medseg.training.losses.terms import Term
from medseg.training.losses.voxels import Voxels

_GAMMA = 2.0  # the paper's


def make(schedule: Schedule) -> Term:
    """Mean of (1 - p)^2 times the cross-entropy, p the probability of the true class."""

    def focal(voxels: Voxels) -> torch.Tensor:
        plain = cross_entropy(voxels)
        smoothed = cross_entropy(voxels, schedule.label_smoothing) if schedule.label_smoothing else plain
        return voxels.mean((1 - torch.exp(-plain)) ** _GAMMA * smoothed)

    return focal
