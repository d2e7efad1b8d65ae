"""Cross-entropy per voxel, with class weights, voxel weights and label smoothing."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from medseg.core.labels import IGNORE
from medseg.core.plan import Schedule
from medseg.training.losses.terms import Term
from medseg.training.losses.voxels import Voxels


def make(schedule: Schedule) -> Term:
    """Mean cross-entropy; `schedule.label_smoothing` of every target is spread over all classes (Szegedy 2016)."""
    return lambda voxels: voxels.mean(cross_entropy(voxels, schedule.label_smoothing))


def cross_entropy(voxels: Voxels, smoothing: float = 0.0) -> torch.Tensor:
    """Cross-entropy of every voxel [B, *spatial], 0 where the target is IGNORE."""
    return F.cross_entropy(
        voxels.logits, voxels.target, ignore_index=IGNORE, reduction="none", label_smoothing=smoothing
    )
