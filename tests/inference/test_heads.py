"""Every network comes apart into features and a last layer that works voxel by voxel."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from medseg.core.plan import NetworkSpec
from medseg.inference.heads import split_head
from medseg.nets import NETWORKS, build, smallest
from medseg.nets._ndim import CHANNELS_LAST

# Networks that interpolate after their last layer, or do not call it what ours do.
WHOLE = tuple(name for name in NETWORKS if name.startswith(("fcn", "deeplab", "lraspp", "monai_")))


@pytest.mark.parametrize("name", [name for name in NETWORKS if name not in WHOLE])
@pytest.mark.parametrize("ndim", [2, 3])
def test_features_and_head_are_the_network(name: str, ndim: int) -> None:
    ones, twos = (1,) * ndim, (2,) * ndim
    planned = name == "unet"
    stages = 3 if name == "attention_unet" else 2
    strides = (ones, *(twos,) * (stages - 1))
    spec = NetworkSpec(name, 3 if ndim == 3 else 2, 1, 5, (4, 8, 8)[:stages], strides, ((3,) * ndim,) * stages, "batch")
    spec = replace(spec, deep_supervision=planned)
    network = build(spec).eval()
    x = torch.randn(1, 1, *(2 * n if planned else n for n in smallest(spec)))
    with torch.inference_mode():
        expected = network(x)
        body, head = split_head(network)
        assert head is not None
        features = body(x)
        assert features.shape[1] != 5
        torch.testing.assert_close(head(features[0]), expected[0], rtol=1e-5, atol=1e-5)
        part = features[0, :, 1:2, :1]
        torch.testing.assert_close(head(part), expected[0, :, 1:2, :1], rtol=1e-5, atol=1e-5)
        last = features.to(memory_format=CHANNELS_LAST[ndim])[0]
        torch.testing.assert_close(head(last[:, :, 1:2]), expected[0, :, :, 1:2], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["fcn8s", "deeplabv3_mobilenetv3", "deeplabv3plus_mobilenetv3", "lraspp_mobilenetv3"])
def test_a_network_that_interpolates_after_its_scores_stays_whole(name: str) -> None:
    rates = ((1, 1),) * 3 if name.startswith("deeplab") else ()
    network = build(NetworkSpec(name, 2, 1, 5, width=0.125, rates=rates)).eval()
    x = torch.randn(1, 1, 40, 40)
    with torch.inference_mode():
        expected = network(x)
        body, head = split_head(network)
        assert head is None
        torch.testing.assert_close(body(x), expected)


def test_a_network_without_such_a_layer_stays_whole() -> None:
    network = nn.Sequential(nn.Conv3d(1, 2, 3))
    assert split_head(network) == (network, None)
