"""A network in two parts: all that sees neighbours, and the last layer, which works voxel by voxel.

The first part's memory does not depend on the number of labels. The second one's does, but it may be
asked for as few voxels at a time as fit.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

# What networks in `medseg.nets` call their last layer at full resolution.
_NAMES = ("heads.0", "head")


class Head(nn.Module):
    """A convolution of kernel 1 on the features of one window, as a product of two matrices.

    Gives float32 logits [L, *spatial] of features [F, *spatial], label after label in memory, whichever way
    the features lie. The convolution itself takes several times as long for a part of a channels-last window.
    Products in bfloat16 would be no faster, and keep code of their own for every shape (0.2 GB with 20 labels).
    """

    def __init__(self, layer: nn.Conv2d | nn.Conv3d) -> None:
        super().__init__()
        self.weight = nn.Parameter(layer.weight.detach().flatten(1), requires_grad=False)
        bias = torch.zeros(layer.out_channels) if layer.bias is None else layer.bias.detach()
        self.bias = nn.Parameter(bias.to(self.weight)[:, None], requires_grad=False)

    def forward(self, features: Tensor) -> Tensor:
        voxels = features.movedim(0, -1).flatten(0, -2).t() if features.stride(0) == 1 else features.flatten(1)
        with torch.autocast(features.device.type, enabled=False):
            return torch.addmm(self.bias, self.weight, voxels.float()).view(-1, *features.shape[1:])


def split_head(network: nn.Module) -> tuple[nn.Module, Head | None]:
    """The network without its last layer, and that layer; (network, None) where there is none to split off.

    The network itself is changed: it gives features [B, F, *spatial] afterwards.
    """
    modules = dict(network.named_modules())
    for name in _NAMES:
        head = modules.get(name)
        if isinstance(head, nn.Conv2d | nn.Conv3d) and set(head.kernel_size) == set(head.stride) == {1}:
            owner, _, last = name.rpartition(".")
            setattr(modules[owner], last, nn.Identity())
            return network, Head(head)
    return network, None
