"""Atrous spatial pyramid pooling (Chen et al., arXiv:1706.05587): what surrounds a voxel, near, far and overall."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from medseg.core.plan import NetworkSpec
from medseg.nets._blocks import GlobalMean, normalization, pooled_normalization
from medseg.nets._ndim import CONV
from medseg.nets.backbones import Size


class ASPP(nn.Module):
    """[B, C, *spatial] -> [B, width, *spatial]: a 1x1 branch, one of each rate, the mean of the whole map, projected.

    separable: the atrous convolutions work channel by channel and are mixed by 1x1 (DeepLab v3+).
    """

    def __init__(self, spec: NetworkSpec, channels: tuple[int, int], rates: Sequence[Size], separable: bool) -> None:
        super().__init__()
        before, width = channels
        make, bias = CONV[spec.ndim], spec.norm == "none"
        branches = [nn.Sequential(make(before, width, 1, bias=bias), normalization(spec, width), nn.ReLU(inplace=True))]
        branches += [atrous(spec, channels, rate, separable) for rate in rates]
        branches.append(
            nn.Sequential(
                GlobalMean(),
                make(before, width, 1, bias=bias),
                pooled_normalization(spec, width),
                nn.ReLU(inplace=True),
            )
        )
        self.convs = nn.ModuleList(branches)
        self.project = nn.Sequential(
            make(len(branches) * width, width, 1, bias=bias),
            normalization(spec, width),
            nn.ReLU(inplace=True),
            nn.Dropout(spec.dropout),
        )

    def forward(self, x: Tensor) -> Tensor:
        answers = [branch(x) for branch in self.convs]
        answers[-1] = answers[-1].expand(-1, -1, *x.shape[2:])
        projected: Tensor = self.project(torch.cat(answers, dim=1))
        return projected


def atrous(spec: NetworkSpec, channels: tuple[int, int], rate: Size, separable: bool) -> nn.Sequential:
    """A convolution of 3 voxels `rate` apart, normalisation, ReLU."""
    before, width = channels
    make, bias = CONV[spec.ndim], spec.norm == "none"
    convolution = (
        nn.Sequential(
            make(before, before, 3, padding=rate, dilation=rate, groups=before, bias=False),
            make(before, width, 1, bias=bias),
        )
        if separable
        else make(before, width, 3, padding=rate, dilation=rate, bias=bias)
    )
    return nn.Sequential(convolution, normalization(spec, width), nn.ReLU(inplace=True))
