"""Where torch's bfloat16 convolutions on processors must not be trained with.

oneDNN, as torch 2.13 brings it, writes beside its memory when it computes the weights' gradient of a 3D
convolution in bfloat16 whose kernel is longer than the map along the first axis (5 voxels on 4, 3 on 2):
gradients become huge or nan, and sometimes the process dies.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from medseg.core.plan import NetworkSpec
from medseg.nets import build


def trains_soundly(spec: NetworkSpec, patch: Sequence[int]) -> bool:
    """Whether no 3D convolution of the network sees a map shorter than its kernel, at a patch of `ndim` voxels."""
    if spec.ndim == 2:
        return True
    with torch.device("meta"):
        network = build(spec).train()
    short: list[nn.Module] = []

    def look(module: nn.Module, given: Any) -> None:
        if module.kernel_size[0] > given[0].shape[2]:  # type: ignore[index]  # a Conv3d's own
            short.append(module)

    for module in network.modules():
        if isinstance(module, nn.Conv3d):
            module.register_forward_pre_hook(look)
    with torch.no_grad():
        network(torch.empty(2, spec.in_channels, *patch, device="meta"))
    return not short
