"""Soft Dice of the labels (Milletari 2016, without background), by MONAI."""

from __future__ import annotations

import warnings
from typing import Literal

import torch

from medseg.core.plan import Schedule
from medseg.training.losses.terms import Term


def make(schedule: Schedule) -> Term:
    """1 - Dice, over the whole batch or as the mean over its samples (`schedule.dice`)."""
    dice = monai_dice(schedule.dice)
    return lambda voxels: dice(voxels.probabilities, voxels.truth)


def monai_dice(over: Literal["batch", "sample"], background: bool = False) -> torch.nn.Module:
    """MONAI's DiceLoss for probabilities and one-hot truths [B, L, *spatial].

    over: the whole batch, or the mean over its samples, in which one with little foreground counts
    as much as one with much; background: whether the first channel counts too.
    """
    # Importing MONAI costs seconds, so only those who train pay for it; what its optional
    # dependencies have to say about themselves is not the user's business.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from monai.losses.dice import DiceLoss

    smooth = smoothing(over)
    loss: torch.nn.Module = DiceLoss(
        include_background=background, batch=over == "batch", smooth_nr=smooth, smooth_dr=smooth
    )
    return loss


def smoothing(over: Literal["batch", "sample"]) -> float:
    """What is added above and below the fraction bar, in voxels.

    A sample without the structure would be all or nothing; one voxel's worth makes it a slope.
    """
    return 1e-5 if over == "batch" else 1.0
