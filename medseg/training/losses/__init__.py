"""What a network is trained to make small, by name: sums of terms, all exact about ignored voxels.

To add a loss: a file here with `make(schedule)` for its new term (if it has one), a line in `TERMS`
(terms.py), a line in `LOSSES`, a class in tests/contracts/test_losses.py, a sentence in docs/training.md.
"""

from __future__ import annotations

import torch

from medseg.core.errors import PlanError
from medseg.core.plan import Schedule
from medseg.training.losses.deep import batch_loss, deep_supervised
from medseg.training.losses.terms import TERMS, Term, make_term
from medseg.training.losses.voxels import Voxels
from medseg.training.losses.weights import class_weights

__all__ = ["LOSSES", "TERMS", "Loss", "batch_loss", "class_weights", "deep_supervised", "loss_terms", "make_loss"]

LOSSES: dict[str, tuple[str, ...]] = {
    "dice_ce": ("cross_entropy", "dice"),
    "cross_entropy": ("cross_entropy",),
    "dice": ("dice",),
    "focal": ("focal",),
    "dice_focal": ("focal", "dice"),
    "tversky": ("tversky",),
    "generalized_dice": ("generalized_dice",),
    "boundary": ("cross_entropy", "dice", "boundary"),
    "cldice": ("cross_entropy", "dice", "cldice"),
}


class Loss(torch.nn.Module):
    """The sum of some terms.

    class_weights: one factor a class [L] for terms that are means over voxels, or None.
    Voxels with the target IGNORE have no part in any term: their gradient is exactly zero.
    """

    class_weights: torch.Tensor | None

    def __init__(self, terms: tuple[Term, ...], class_weights: torch.Tensor | None = None) -> None:
        super().__init__()
        self.terms = terms
        self.register_buffer("class_weights", class_weights)

    def forward(self, logits: torch.Tensor, target: torch.Tensor, weights: torch.Tensor | None = None) -> torch.Tensor:
        """logits [B, L, *spatial] of any float type, target [B, *spatial] long; a float32 scalar.

        weights [B, *spatial]: how much each voxel counts in means over voxels (None: all alike); the
        overlap terms count all voxels alike whose weight is not 0.
        """
        voxels = Voxels(logits.float(), target, weights, self.class_weights)
        return torch.stack([term(voxels) for term in self.terms]).sum()


def make_loss(schedule: Schedule, class_weights: torch.Tensor | None = None) -> Loss:
    """The loss that the schedule asks for. Raises PlanError as `loss_terms` does."""
    return Loss(tuple(make_term(name, schedule) for name in loss_terms(schedule)), class_weights)


def loss_terms(schedule: Schedule) -> tuple[str, ...]:
    """The names of the terms that the schedule's loss is the sum of; with `schedule.regions`, theirs too.

    Raises PlanError for a loss that is not in LOSSES, or label smoothing out of range.
    """
    if schedule.loss not in LOSSES:
        raise PlanError(f"schedule.loss: there is no loss {schedule.loss!r}; there are {', '.join(LOSSES)}")
    if not 0 <= schedule.label_smoothing < 1:
        raise PlanError(f"schedule.label_smoothing must be at least 0 and below 1, not {schedule.label_smoothing:g}")
    return (*LOSSES[schedule.loss], *(("regions",) if schedule.regions else ()))
