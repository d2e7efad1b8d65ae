"""The published networks, at full width on the meta device: parameters and sizes to the digit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import pytest
import torch
from torch import nn

from medseg.core.errors import PlanError
from medseg.core.plan import NetworkSpec
from medseg.nets import build, fit_patch, margin

Size = tuple[int, ...]
Norm = Literal["none", "batch"]
PAPER = (64, 128, 256, 512, 1024)


def published(name: str, ndim: Literal[2, 3], features: Size, channels: tuple[int, int], norm: Norm) -> NetworkSpec:
    stages = len(features)
    strides = ((1,) * ndim, *((2,) * ndim,) * (stages - 1))
    return NetworkSpec(name, ndim, *channels, features, strides, ((3,) * ndim,) * stages, norm)


def on_meta(spec: NetworkSpec) -> nn.Module:
    with torch.device("meta"):
        return build(spec)


def parameters(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def test_unet2015_parameters() -> None:
    assert parameters(on_meta(published("unet2015", 2, PAPER, (1, 2), "none"))) == 31_030_658
    assert parameters(on_meta(published("unet2015", 2, PAPER, (3, 2), "batch"))) == 31_037_698


def test_unet2015_maps_572_to_388() -> None:
    spec = published("unet2015", 2, PAPER, (1, 2), "none")
    assert on_meta(spec)(torch.empty(1, 1, 572, 572, device="meta")).shape == (1, 2, 388, 388)
    assert margin(spec) == (92, 92)
    assert fit_patch(spec, (560, 573)) == (572, 588)


def test_unet3d_2016_parameters() -> None:
    network = on_meta(published("unet3d_2016", 3, PAPER[:4], (3, 3), "batch"))
    affine = sum(p.numel() for m in network.modules() if isinstance(m, nn.BatchNorm3d) for p in m.parameters())
    rising = sum(m.bias.numel() for m in network.modules() if isinstance(m, nn.ConvTranspose3d) and m.bias is not None)
    assert (affine, rising) == (4_672, 896)
    assert parameters(network) == 19_075_523 == 19_069_955 + affine + rising


def test_unet3d_2016_sizes_of_the_paper() -> None:
    spec = published("unet3d_2016", 3, PAPER[:4], (3, 3), "batch")
    assert on_meta(spec)(torch.empty(1, 3, 132, 132, 116, device="meta")).shape == (1, 3, 44, 44, 28)
    assert margin(spec) == (44, 44, 44)


@pytest.mark.parametrize(
    "change",
    [
        {"residual": True},
        {"deep_supervision": True},
        {"kernels": ((3, 3), (5, 5))},
        {"strides": ((1, 1), (2, 1))},
    ],
    ids=str,
)
@pytest.mark.parametrize("name", ["unet2015", "unet3d_2016"])
def test_what_the_papers_have_not_is_refused(name: str, change: dict[str, Any]) -> None:
    with pytest.raises(PlanError, match="network"):
        build(replace(published(name, 2, (4, 8), (1, 2), "none"), **change))


def test_cropped_skips_are_aligned_with_what_comes_up() -> None:
    """With identity-like weights the skip's centre meets the same place: a bright pixel keeps its position."""
    spec = published("unet2015", 2, (1, 1), (1, 1), "none")
    network = build(spec).eval()
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                module.weight.zero_()
                if isinstance(module, nn.Conv2d) and module.kernel_size == (3, 3):
                    module.weight[0, 0, 1, 1] = 1.0  # of two inputs, the skip comes first
                if module.kernel_size == (1, 1):
                    module.weight.fill_(1.0)
        x = torch.zeros(1, 1, 28, 28)
        x[0, 0, 13, 11] = 1.0
        out = network(x)
    lost = margin(spec)[0]
    assert out[0, 0, 13 - lost, 11 - lost] == 1.0
    assert out.sum() == 1.0
