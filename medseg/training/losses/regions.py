"""Regions: the soft Dice of unions of labels, such as an organ with its tumour."""

from __future__ import annotations

import torch

from medseg.core.plan import Schedule
from medseg.training.losses.dice import monai_dice
from medseg.training.losses.terms import Term
from medseg.training.losses.voxels import Voxels


def make(schedule: Schedule) -> Term:
    """1 - Dice of the unions in `schedule.regions`; a union's probability is the sum of its labels'."""
    dice = monai_dice(schedule.dice, background=True)

    def regions(voxels: Voxels) -> torch.Tensor:
        found, true = (
            torch.stack([masks[:, list(values)].sum(1) for values in schedule.regions], dim=1)
            for masks in (voxels.probabilities, voxels.truth)
        )
        loss: torch.Tensor = dice(found, true)
        return loss

    return regions
