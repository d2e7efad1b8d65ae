"""The planned U-Net: anisotropic stages, deep supervision, normalisations, refusals."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import pytest
import torch
from torch import Tensor, nn

from medseg.core.errors import PlanError
from medseg.core.plan import NetworkSpec
from medseg.nets import build, divisor
from medseg.nets._blocks import InstanceNorm

SPEC = NetworkSpec(
    name="unet",
    ndim=3,
    in_channels=1,
    out_channels=3,
    features=(4, 6, 8, 8),
    strides=((1, 1, 1), (2, 2, 1), (2, 2, 2), (2, 2, 2)),
    kernels=((3, 3, 1), (3, 3, 3), (3, 3, 3), (3, 3, 3)),
)


def test_anisotropic_strides_and_kernels() -> None:
    network = build(SPEC).eval()
    assert divisor(SPEC) == (8, 8, 4)
    assert network(torch.randn(1, 1, 16, 24, 8)).shape == (1, 3, 16, 24, 8)
    assert {m.kernel_size for m in network.modules() if isinstance(m, nn.ConvTranspose3d)} == {(2, 2, 2), (2, 2, 1)}


def test_deep_supervision_leaves_out_the_two_lowest_resolutions() -> None:
    network = build(replace(SPEC, deep_supervision=True)).train()
    logits = network(torch.randn(1, 1, 16, 16, 8))
    assert [tuple(level.shape[2:]) for level in logits] == [(16, 16, 8), (8, 8, 8)]
    assert isinstance(network.eval()(torch.randn(1, 1, 16, 16, 8)), Tensor)


def test_deep_supervision_on_two_stages_is_the_full_resolution_alone() -> None:
    spec = replace(SPEC, features=(4, 6), strides=SPEC.strides[:2], kernels=SPEC.kernels[:2], deep_supervision=True)
    assert len(build(spec).train()(torch.randn(1, 1, 8, 8, 4))) == 1


@pytest.mark.parametrize("norm", ["instance", "batch", "group", "none"])
def test_normalizations(norm: Literal["instance", "batch", "group", "none"]) -> None:
    network = build(replace(SPEC, norm=norm))
    kinds = {"instance": InstanceNorm, "batch": nn.BatchNorm3d, "group": nn.GroupNorm, "none": nn.Identity}
    assert any(isinstance(module, kinds[norm]) for module in network.modules())
    assert torch.isfinite(network(torch.randn(2, 1, 16, 16, 8))).all()


@pytest.mark.parametrize("ndim", [2, 3])
def test_instance_norm_is_torchs(ndim: int) -> None:
    norm = InstanceNorm(5)
    with torch.no_grad():
        norm.weight.uniform_(0.5, 2.0)
        norm.bias.normal_()
    theirs = (nn.InstanceNorm2d if ndim == 2 else nn.InstanceNorm3d)(5, affine=True)
    theirs.load_state_dict(norm.state_dict())
    x = torch.randn(3, 5, *(7, 6, 4)[:ndim])
    channels_last = x.to(memory_format=torch.channels_last if ndim == 2 else torch.channels_last_3d)
    torch.testing.assert_close(norm(x), theirs(x))
    torch.testing.assert_close(norm(channels_last), theirs(x))


def test_maps_stay_channels_last() -> None:
    seen: list[bool] = []
    network = build(SPEC).eval()
    for module in network.modules():
        if isinstance(module, InstanceNorm):
            module.register_forward_hook(
                lambda _module, _input, out: seen.append(out.is_contiguous(memory_format=torch.channels_last_3d))
            )
    network(torch.randn(2, 1, 16, 16, 8))
    assert seen
    assert all(seen)


def test_a_single_voxel_at_the_bottom_is_refused_where_its_normalisation_is_undefined() -> None:
    with pytest.raises(PlanError, match="one voxel at the lowest resolution"):
        build(SPEC)(torch.randn(1, 1, 8, 8, 4))
    assert build(replace(SPEC, norm="none"))(torch.randn(1, 1, 8, 8, 4)).shape == (1, 3, 8, 8, 4)


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"strides": ((2, 2, 2), *SPEC.strides[1:])}, "strides"),
        ({"kernels": ((2, 2, 2), *SPEC.kernels[1:])}, "kernels"),
        ({"strides": (*SPEC.strides[:3], (4, 4, 8))}, "strides"),
        ({"strides": (*SPEC.strides[:3], (2, 2))}, "strides"),
        ({"kernels": SPEC.kernels[:3]}, "kernels"),
        ({"features": (4, 6, 0, 8)}, "features"),
        ({"dropout": 1.0}, "dropout"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_impossible_specs_are_refused(change: dict[str, Any], key: str) -> None:
    with pytest.raises(PlanError, match=key):
        build(replace(SPEC, **change))


def test_size_is_that_of_monais_dynunet() -> None:
    """32..320 features: 31.19 million parameters, as MONAI's DynUNet of nnU-Net's baseline has (31,189,410)."""
    features = (32, 64, 128, 256, 320, 320)
    strides = ((1, 1, 1), *((2, 2, 2),) * 5)
    spec = NetworkSpec("unet", 3, 1, 2, features, strides, ((3, 3, 3),) * 6)
    with torch.device("meta"):
        network = build(spec)
    assert 31.1e6 < sum(p.numel() for p in network.parameters()) < 31.3e6
