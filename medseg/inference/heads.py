"""A network in two parts: all that sees neighbours, and the last layer, which works voxel by voxel.

The first part's memory does not depend on the number of labels. The second one's does, but it may be
asked for as few voxels at a time as fit.
"""

from __future__ import annotations

from torch import nn

# What networks in `medseg.nets` call their last layer at full resolution.
_NAMES = ("heads.0", "head")


def split_head(network: nn.Module) -> tuple[nn.Module, nn.Module | None]:
    """The network without its last layer, and that layer; (network, None) where there is none to split off.

    The network itself is changed: it gives features [B, F, *spatial] afterwards.
    """
    modules = dict(network.named_modules())
    for name in _NAMES:
        head = modules.get(name)
        if isinstance(head, nn.Conv2d | nn.Conv3d) and set(head.kernel_size) == set(head.stride) == {1}:
            owner, _, last = name.rpartition(".")
            setattr(modules[owner], last, nn.Identity())
            return network, head
    return network, None
