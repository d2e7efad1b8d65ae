"""What networks are said to be and to cost."""

from __future__ import annotations

from dataclasses import replace

import pytest

from medseg.core.errors import PlanError
from medseg.core.plan import NetworkSpec
from medseg.nets import NETWORKS, fit_patch
from medseg.nets.catalog import catalog, entry
from medseg.nets.cost import cost

# Of the papers and reference implementations: 21 classes and RGB, U-Net of 2015 with 1 -> 2 channels.
PUBLISHED = {
    "unet2015": 31_030_658,
    "unet3d_2016": 19_075_523,
    "fcn32s": 134_346_581,
    "fcn16s": 134_357_354,
    "fcn8s": 134_362_751,
    "fcn_resnet50": 32_957_013,
    "deeplabv1": 20_505_429,
    "deeplabv3_resnet50": 39_638_869,
    "deeplabv3_mobilenetv3": 11_025_477,
    "deeplabv3plus_resnet50": 26_682_725,
    "lraspp_mobilenetv3": 3_221_538,
}
TINY = NetworkSpec("unet", 2, 1, 2, (4, 8), ((1, 1), (2, 2)), ((3, 3), (3, 3)), norm="none")


def test_the_catalog_knows_every_network() -> None:
    assert set(catalog()) == set(NETWORKS)
    assert all(known.reference.name == name and known.paper for name, known in catalog().items())
    with pytest.raises(PlanError, match="there is no network 'nonet'; there are unet,"):
        entry("nonet")


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_are_the_published_ones(name: str) -> None:
    spec = entry(name).reference
    assert cost(spec, fit_patch(spec, (64,) * spec.ndim)).published == PUBLISHED[name]


def test_multiply_adds_and_memory_are_those_one_counts_by_hand() -> None:
    found = cost(TINY, (16, 16))
    full, half = 16 * 16, 8 * 8
    by_hand = 9 * (1 * 4 + 4 * 4) * full + 9 * (4 * 8 + 8 * 8) * half  # down
    by_hand += 8 * 4 * 4 * half + 9 * (8 * 4 + 4 * 4) * full + 4 * 2 * full  # up, and the head
    assert found.multiply_adds == by_hand == sum(layer.multiply_adds for layer in found.layers)
    assert found.parameters == sum(layer.parameters for layer in found.layers)
    # Two maps of 4 channels, two of 8 at half size; the one that comes up, their concatenation, two more, two logits.
    maps = (2 * 4 + 4 + 8 + 2 * 4 + 2) * full + 2 * 8 * half
    assert found.training_bytes == 4 * (4 * found.parameters + maps + full)  # and the image itself


def test_costs_grow_with_the_patch_and_not_with_normalisation() -> None:
    small, large = cost(TINY, (16, 16)), cost(TINY, (32, 32))
    assert large.multiply_adds == 4 * small.multiply_adds
    assert cost(replace(TINY, norm="batch"), (16, 16)).multiply_adds == small.multiply_adds


def test_layers_come_with_their_place_and_shape() -> None:
    layers = cost(TINY, (16, 16)).layers
    assert [(layer.name, layer.kind, layer.shape) for layer in layers if layer.parameters][:2] == [
        ("encoder.0.0", "Conv2d", (4, 16, 16)),
        ("encoder.0.3", "Conv2d", (4, 16, 16)),
    ]
    assert layers[-1].name == "heads.0" and layers[-1].shape == (2, 16, 16)
