"""What every term of a loss looks at: one batch of logits beside its targets, with ignored voxels taken out."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch

from medseg.core.labels import IGNORE


@dataclass(frozen=True, eq=False)
class Voxels:
    """A batch as the terms of a loss see it; what several of them need is worked out once.

    logits [B, L, *spatial] float32; target [B, *spatial] long, IGNORE where nothing is known;
    weights [B, *spatial] float32 or None: how much each voxel counts, 0 as little as IGNORE;
    class_weights [L] or None: how much the voxels of each class count.
    """

    logits: torch.Tensor
    target: torch.Tensor
    weights: torch.Tensor | None = None
    class_weights: torch.Tensor | None = None

    @cached_property
    def valid(self) -> torch.Tensor:
        """Which voxels count at all [B, *spatial] bool."""
        known = self.target != IGNORE
        return known if self.weights is None else known & (self.weights > 0)

    @cached_property
    def share(self) -> torch.Tensor:
        """How much each voxel counts in a mean over voxels [B, *spatial] float32."""
        counted = self.valid.to(self.logits.dtype)
        share = counted if self.weights is None else self.weights * counted
        if self.class_weights is not None:
            share = share * self.class_weights[torch.where(self.valid, self.target, 0)]
        return share

    @cached_property
    def probabilities(self) -> torch.Tensor:
        """Softmax [B, L, *spatial], 0 (and without gradient) where a voxel does not count."""
        return self.logits.softmax(1) * self.valid.unsqueeze(1)

    @cached_property
    def truth(self) -> torch.Tensor:
        """The targets one-hot [B, L, *spatial] float32, 0 where a voxel does not count."""
        shape = (1, -1, *[1] * (self.target.ndim - 1))
        classes = torch.arange(self.logits.shape[1], device=self.logits.device).view(shape)
        target = self.target if self.weights is None else torch.where(self.valid, self.target, IGNORE)
        return (target.unsqueeze(1) == classes).to(self.logits.dtype)

    def mean(self, values: torch.Tensor) -> torch.Tensor:
        """The mean of a figure per voxel [B, *spatial] by `share`; 0 where no voxel counts."""
        # Summed and divided here: a batch of nothing but ignored voxels is then 0, not 0/0.
        return (values * self.share).sum() / self.share.sum().clamp_min(1e-6)
