"""Several networks of one shape that answer as one: the mean of their probabilities."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn


class Ensemble(nn.Module):
    """[B, C, *spatial] -> logits [B, L, *spatial] whose softmax is the mean of the members' (for prediction only)."""

    def __init__(self, members: Iterable[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, x: Tensor) -> Tensor:
        total = torch.stack([member(x).float().softmax(1) for member in self.members]).mean(0)
        # Never quite zero, so that no logit is infinite; far below anything that decides.
        return total.clamp_min(1e-12).log()
