"""clDice: do the centrelines of the one tube lie inside the other, both ways (Shit 2021), by MONAI."""

from __future__ import annotations

import warnings

from medseg.core.plan import Schedule
from medseg.training.losses.terms import Term

# Erosions of the soft skeleton: as many as the thickest vessel's radius has voxels.
_EROSIONS = 5


def make(schedule: Schedule) -> Term:
    """1 - soft clDice of the labels, the mean over the samples."""
    with warnings.catch_warnings():  # as in dice.py
        warnings.simplefilter("ignore")
        from monai.losses.cldice import SoftclDiceLoss

    cldice = SoftclDiceLoss(iter_=_EROSIONS)
    return lambda voxels: cldice(voxels.probabilities[:, 1:], voxels.truth[:, 1:])
