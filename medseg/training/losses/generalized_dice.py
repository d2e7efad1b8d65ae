"""Generalised Dice: one fraction for all classes, each weighed by 1 / its volume squared (Sudre 2017), by MONAI."""

from __future__ import annotations

import warnings

from medseg.core.plan import Schedule
from medseg.training.losses.terms import Term


def make(schedule: Schedule) -> Term:
    """1 - generalised Dice with background, over the batch or as the mean over its samples (`schedule.dice`)."""
    with warnings.catch_warnings():  # as in dice.py
        warnings.simplefilter("ignore")
        from monai.losses.dice import GeneralizedDiceLoss

    dice = GeneralizedDiceLoss(include_background=True, batch=schedule.dice == "batch")
    return lambda voxels: dice(voxels.probabilities, voxels.truth)
