"""Tversky loss: Dice in which a missed voxel costs more than a superfluous one (Salehi 2017), by MONAI."""

from __future__ import annotations

import warnings

from medseg.core.plan import Schedule
from medseg.training.losses.dice import smoothing
from medseg.training.losses.terms import Term

# The paper's, for small lesions: what is predicted too much, and what is missed.
_FALSE_POSITIVES, _FALSE_NEGATIVES = 0.3, 0.7


def make(schedule: Schedule) -> Term:
    """1 - Tversky index of the labels, over the batch or as the mean over its samples (`schedule.dice`)."""
    with warnings.catch_warnings():  # as in dice.py
        warnings.simplefilter("ignore")
        from monai.losses.tversky import TverskyLoss

    smooth = smoothing(schedule.dice)
    tversky = TverskyLoss(
        include_background=False,
        alpha=_FALSE_POSITIVES,
        beta=_FALSE_NEGATIVES,
        batch=schedule.dice == "batch",
        smooth_nr=smooth,
        smooth_dr=smooth,
    )
    return lambda voxels: tversky(voxels.probabilities, voxels.truth)
