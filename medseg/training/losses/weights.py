"""How much the voxels of each class count, from how many there are."""

from __future__ import annotations

from collections.abc import Sequence

import torch


def class_weights(frequencies: Sequence[float], rule: str) -> torch.Tensor | None:
    """Factors per class from their share of voxels: 'none', 'inverse' (1/p) or 'log' (1/ln(1.02+p)).

    'log' is ENet's (Paszke 2016); both are scaled to a mean of one. Classes that never occur get
    the largest factor of those that do.
    """
    if rule == "none":
        return None
    share = torch.tensor(frequencies, dtype=torch.float64)
    share = share / share.sum()
    present = share > 0
    raw = torch.where(present, 1 / share.clamp_min(1e-12), 0.0) if rule == "inverse" else 1 / torch.log(1.02 + share)
    raw = torch.where(present, raw, raw[present].max())
    return (raw / raw.mean()).float()
