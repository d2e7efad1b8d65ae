"""FCN and DeepLab: their papers' sizes, torchvision's names, and arithmetic that an independent forward repeats."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from medseg.core.errors import PlanError
from medseg.core.plan import NetworkSpec
from medseg.nets import NETWORKS, build, check_patch, planned, smallest, stages
from medseg.nets.backbones import torchvision_names

# REFERENCE.md, section 1: 21 classes, RGB; transposed convolutions are not counted.
PARAMETERS = {
    "fcn32s": 134_346_581,
    "fcn16s": 134_357_354,
    "fcn8s": 134_362_751,
    "fcn_resnet50": 32_957_013,
    "fcn_resnet101": 51_949_141,
    "deeplabv1": 20_505_429,
    "deeplabv2": 44_048_532,
    "deeplabv3_resnet50": 39_638_869,
    "deeplabv3_resnet101": 58_630_997,
    "deeplabv3_mobilenetv3": 11_025_477,
    "deeplabv3plus_resnet50": 26_682_725,
    "deeplabv3plus_resnet101": 45_674_853,
    "lraspp_mobilenetv3": 3_221_538,
}
WITH_AUXILIARY = {"fcn_resnet50": 35_322_218, "fcn_resnet101": 54_314_346, "deeplabv3_resnet50": 42_004_074}
ON_VGG = ("fcn32s", "fcn16s", "fcn8s", "deeplabv1")
ZOO = [name for name in NETWORKS if name.startswith(("fcn", "deeplab", "lraspp"))]
# A network here for each of torchvision's files, and whose own last layers the file lacks.
HOSTS = {
    "resnet50": "fcn_resnet50",
    "vgg16": "fcn8s",
    "mobilenet_v3_large": "lraspp_mobilenetv3",
    "fcn_resnet50": "fcn_resnet50",
    "deeplabv3_resnet50": "deeplabv3_resnet50",
}


def reference(name: str, **changes: Any) -> NetworkSpec:
    """The published network: 21 classes, RGB."""
    norm = "none" if name in ON_VGG else "batch"
    return replace(NetworkSpec(name, 2, 3, 21, norm=norm), **changes)  # type: ignore[arg-type]  # a literal


def on_meta(spec: NetworkSpec) -> nn.Module:
    with torch.device("meta"):
        return build(spec)


def count(network: nn.Module) -> int:
    return sum(p.numel() for name, p in network.named_parameters() if not name.startswith("up."))


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_are_those_of_the_reference(name: str) -> None:
    assert count(on_meta(reference(name))) == PARAMETERS[name]


@pytest.mark.parametrize("name", WITH_AUXILIARY)
def test_the_auxiliary_head_adds_what_it_has_in_torchvision(name: str) -> None:
    assert count(on_meta(reference(name, auxiliary=True))) == WITH_AUXILIARY[name]


@pytest.mark.parametrize("name", HOSTS)
def test_torchvisions_files_have_our_names_and_shapes(name: str) -> None:
    text = (Path(__file__).parents[1] / "golden" / "torchvision_keys.json").read_text(encoding="utf-8")
    file: dict[str, list[int]] = json.loads(text)[name]
    segments = "_" in name and name != "mobilenet_v3_large"
    ours = on_meta(reference(HOSTS[name], auxiliary=segments)).state_dict()
    names = torchvision_names(file)
    loaded = {ours_name: tuple(file[theirs]) for theirs, ours_name in names.items()}
    wanted = {key: tuple(value.shape) for key, value in ours.items() if segments or key.startswith("backbone.")}
    assert loaded == wanted
    left_out = set(file) - set(names)
    assert all(key.startswith(("fc.", "classifier.")) for key in left_out)
    assert bool(left_out) != segments


@pytest.mark.parametrize("name", ZOO)
def test_in_3d_no_network_has_more_than_a_gpu_holds(name: str) -> None:
    assert count(on_meta(reference(name, ndim=3))) < 140e6


def drawn(network: nn.Module) -> dict[str, Tensor]:
    """The network's state with running statistics and scales as after a training."""
    generator = torch.Generator().manual_seed(3)
    state = network.state_dict()
    for name, value in state.items():
        if name.endswith(("running_var", "bn3.weight")):
            value.uniform_(0.5, 1.5, generator=generator)
        elif name.endswith(("running_mean", "bias")):
            value.normal_(0, 0.1, generator=generator)
    for name in state:
        if name.startswith("score"):
            state[name].normal_(0, 0.1, generator=generator)
    return state


def norm(x: Tensor, state: dict[str, Tensor], name: str) -> Tensor:
    mean, var, scale, shift = (state[f"{name}.{key}"] for key in ("running_mean", "running_var", "weight", "bias"))
    return (x - mean[:, None, None]) / (var[:, None, None] + 1e-5).sqrt() * scale[:, None, None] + shift[:, None, None]


def resnet50(x: Tensor, state: dict[str, Tensor]) -> Tensor:
    """torchvision's, with replace_stride_with_dilation=[False, True, True]."""
    b = "backbone."
    x = F.relu(norm(F.conv2d(x, state[b + "conv1.weight"], stride=2, padding=3), state, b + "bn1"))
    x = F.max_pool2d(x, 3, 2, 1)
    dilation = 1
    for number, (blocks, stride, dilate) in enumerate(((3, 1, False), (4, 2, False), (6, 2, True), (3, 2, True)), 1):
        before = dilation
        if dilate:
            dilation, stride = dilation * stride, 1
        for place in range(blocks):
            q = f"{b}layer{number}.{place}."
            rate, step = (before, stride) if place == 0 else (dilation, 1)
            out = F.relu(norm(F.conv2d(x, state[q + "conv1.weight"]), state, q + "bn1"))
            out = F.conv2d(out, state[q + "conv2.weight"], stride=step, padding=rate, dilation=rate)
            out = norm(F.conv2d(F.relu(norm(out, state, q + "bn2")), state[q + "conv3.weight"]), state, q + "bn3")
            if place == 0:
                x = norm(F.conv2d(x, state[q + "downsample.0.weight"], stride=step), state, q + "downsample.1")
            x = F.relu(out + x)
    return x


def deeplabv3(x: Tensor, state: dict[str, Tensor], rates: tuple[int, ...]) -> Tensor:
    size, x = x.shape[2:], resnet50(x, state)
    c = "classifier.0."
    near = [F.relu(norm(F.conv2d(x, state[c + "convs.0.0.weight"]), state, c + "convs.0.1"))]
    for place, rate in enumerate(rates, 1):
        far = F.conv2d(x, state[f"{c}convs.{place}.0.weight"], padding=rate, dilation=rate)
        near.append(F.relu(norm(far, state, f"{c}convs.{place}.1")))
    pooled = F.conv2d(F.adaptive_avg_pool2d(x, 1), state[c + "convs.4.1.weight"])
    near.append(F.interpolate(F.relu(norm(pooled, state, c + "convs.4.2")), size=x.shape[2:], mode="bilinear"))
    x = F.relu(norm(F.conv2d(torch.cat(near, 1), state[c + "project.0.weight"]), state, c + "project.1"))
    x = F.relu(norm(F.conv2d(x, state["classifier.1.weight"], padding=1), state, "classifier.2"))
    x = F.conv2d(x, state["classifier.4.weight"], state["classifier.4.bias"])
    return F.interpolate(x, size=size, mode="bilinear")


def fcn8s(x: Tensor, state: dict[str, Tensor]) -> Tensor:
    size, pools, place = x.shape[2:], [], 0
    for convolutions in (2, 2, 3, 3, 3):
        for _ in range(convolutions):
            x = F.relu(F.conv2d(x, state[f"backbone.{place}.weight"], state[f"backbone.{place}.bias"], padding=1))
            place += 2
        x = F.max_pool2d(x, 2)
        place += 1
        pools.append(x)
    x = F.relu(F.conv2d(x, state["fc6.0.weight"], state["fc6.0.bias"], padding=3))
    x = F.relu(F.conv2d(x, state["fc7.0.weight"], state["fc7.0.bias"]))
    x = F.conv2d(x, state["score.weight"], state["score.bias"])
    for number, pool in enumerate((pools[3], pools[2])):
        x = F.conv_transpose2d(x, state[f"up.{number}.weight"], stride=2, padding=1)
        x = x + F.conv2d(pool, state[f"scores.{number}.weight"], state[f"scores.{number}.bias"])
    return F.interpolate(x, size=size, mode="bilinear")


@pytest.mark.parametrize("name", ["deeplabv3_resnet50", "fcn8s"])
def test_outputs_are_those_of_an_independent_forward(name: str) -> None:
    torch.manual_seed(0)
    rates = (2, 4, 6)
    spec = reference(name, width=0.25, out_channels=4)
    network = build(spec if name == "fcn8s" else replace(spec, rates=tuple((rate, rate) for rate in rates))).eval()
    state = drawn(network)
    x = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        expected = fcn8s(x, state) if name == "fcn8s" else deeplabv3(x, state, rates)
        scale = float(expected.abs().max())
        assert scale > 0
        torch.testing.assert_close(network(x) / scale, expected / scale, rtol=0, atol=1e-5)


def test_transposed_convolutions_start_as_linear_interpolation() -> None:
    network = build(reference("fcn16s", width=0.125, out_channels=2))
    x = torch.randn(1, 2, 6, 6)
    up: nn.Module = network.get_submodule("up.0")
    with torch.no_grad():
        expected = F.interpolate(x, scale_factor=2, mode="bilinear")
        torch.testing.assert_close(up(x)[..., 1:-1, 1:-1], expected[..., 1:-1, 1:-1])


def test_a_rate_that_the_map_cannot_hold_is_refused_with_the_largest_that_fits() -> None:
    spec = NetworkSpec("deeplabv3_resnet50", 3, 1, 3, width=0.125, rates=((1, 1, 1), (2, 2, 2), (6, 6, 6)))
    with pytest.raises(PlanError, match=r"rate 6 on axis 0 .* feature map of 5 voxels .* largest that fits is 4"):
        check_patch(spec, (40, 56, 56))
    with pytest.raises(PlanError, match="largest that fits is 4"):
        build(spec)(torch.zeros(1, 1, 40, 56, 56))
    assert smallest(spec) == (49, 49, 49)
    check_patch(spec, (49, 49, 49))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"features": (8, 16)}, "has its paper's stages"),
        ({"width": 0.0}, r"network\.width"),
        ({"output_stride": 7}, r"network\.output_stride"),
        ({"rates": ((1, 1),)}, "3 atrous branches"),
        ({"strides": ((2, 2),)}, "needs 5 entries"),
        ({"strides": ((3, 3),) * 5}, "each 1 or 2"),
        ({"scales": (2.0,)}, r"network\.scales"),
    ],
)
def test_what_a_network_cannot_be_is_refused_in_a_sentence(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(PlanError, match=sentence):
        build(reference("deeplabv3_resnet50", **changes))


def test_networks_without_auxiliary_head_say_so() -> None:
    with pytest.raises(PlanError, match="has no auxiliary head"):
        build(reference("lraspp_mobilenetv3", auxiliary=True))


def test_the_auxiliary_head_answers_in_training_only() -> None:
    network = build(reference("fcn_resnet50", width=0.125, auxiliary=True))
    x = torch.randn(2, 3, 32, 40)
    answers = network(x)
    assert [tuple(answer.shape) for answer in answers] == [(2, 21, 32, 40)] * 2
    assert tuple(network.eval()(x).shape) == (2, 21, 32, 40)


def test_several_scales_of_the_input_are_fused_by_their_largest_answer() -> None:
    torch.manual_seed(0)
    spec = reference("deeplabv2", width=0.125, out_channels=2, rates=((1, 1),) * 4, norm="instance")
    one, several = build(spec).eval(), build(replace(spec, scales=(1.0, 0.5))).eval()
    several.load_state_dict(one.state_dict())
    x = torch.randn(1, 3, 48, 48)
    with torch.no_grad():
        half = F.interpolate(one(F.interpolate(x, size=(24, 24), mode="bilinear")), size=(48, 48), mode="bilinear")
        fused = several(x)
        assert torch.all(fused >= one(x) - 1e-6)
        assert (fused - torch.maximum(one(x), half)).abs().mean() < 0.1 * fused.abs().mean()


def test_image_pooling_takes_a_batch_of_one() -> None:
    for kind in ("batch", "instance", "group"):
        spec = reference("deeplabv3_mobilenetv3", width=0.125, norm=kind, rates=((1, 1),) * 3)
        assert torch.isfinite(build(spec).train()(torch.randn(1, 3, 24, 24))).all()


@settings(deadline=None, max_examples=60)
@given(
    name=st.sampled_from(ZOO),
    patch=st.tuples(*[st.integers(8, 160)] * 3),
    coarse=st.sampled_from([1.0, 1.7, 3.0, 6.0]),
    batch=st.sampled_from([1, 8]),
    ndim=st.sampled_from([2, 3]),
)
def test_whatever_the_patch_its_plan_fits(
    name: str, patch: tuple[int, ...], coarse: float, batch: int, ndim: Any
) -> None:
    spacing = (1.0, 1.0, coarse)[-ndim:]
    spec = planned(NetworkSpec(name, ndim, 1, 2), patch[:ndim], spacing, batch)
    check_patch(spec, patch[:ndim])
    assert spec.norm == ("batch" if batch == 8 else "instance")
    lowest = stages(spec)[-2][1]
    # The coarse axis is never divided by more than the finer ones, where they are as long.
    if patch[ndim - 1] <= min(patch[:ndim]):
        assert lowest[-1] <= min(lowest)


def test_rates_reach_equally_far_in_mm() -> None:
    spec = planned(NetworkSpec("deeplabv3_resnet50", 3, 1, 2), (128, 128, 64), (1, 1, 4), 1)
    steps = stages(spec)[-2][1]
    assert steps == (8, 8, 2)
    assert spec.rates == ((2, 2, 2), (4, 4, 4), (6, 6, 6))
    spec = planned(NetworkSpec("deeplabv3_resnet50", 3, 1, 2), (128, 128, 12), (1, 1, 2), 1)
    assert all(rate[2] < 12 / stages(spec)[-2][1][2] for rate in spec.rates)


def test_a_short_volume_is_not_pooled_away() -> None:
    for name in ZOO:
        spec = planned(NetworkSpec(name, 3, 1, 3), (40, 56, 40), (1, 1, 1), 2)
        lowest = stages(spec)[-2][1]
        least = 3 if name in ("fcn32s", "fcn16s", "fcn8s") else 6
        assert all(-(-n // step) >= least for n, step in zip((40, 56, 40), lowest, strict=True))
