"""What every network must do. A new one inherits `NetworkContract` with a small spec of its own."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar, Literal

import pytest
import torch
from torch import Tensor

from medseg.core.errors import PlanError
from medseg.core.plan import NetworkSpec
from medseg.nets import NETWORKS, build, divisor, fit_patch, margin, smallest

Norm = Literal["instance", "batch", "group", "none"]


def small_spec(name: str, ndim: Literal[2, 3], features: tuple[int, ...], norm: Norm = "instance") -> NetworkSpec:
    stages = len(features)
    return NetworkSpec(
        name=name,
        ndim=ndim,
        in_channels=2,
        out_channels=3,
        features=features,
        strides=((1,) * ndim, *((2,) * ndim,) * (stages - 1)),
        kernels=((3,) * ndim,) * stages,
        norm=norm,
    )


class NetworkContract:
    """Inherited once per network; `spec` is small enough for a processor."""

    name: ClassVar[str]
    features: ClassVar[tuple[int, ...]] = (4, 6)
    norm: ClassVar[Norm] = "instance"
    step: ClassVar[float] = 1e-3  # how far to go downhill

    @pytest.fixture(params=[2, 3], ids=["2d", "3d"])
    def spec(self, request: pytest.FixtureRequest) -> NetworkSpec:
        torch.manual_seed(0)
        return small_spec(self.name, request.param, self.features, self.norm)

    def patch(self, spec: NetworkSpec, batch: int = 2) -> Tensor:
        shape = [n + step for n, step in zip(smallest(spec), divisor(spec), strict=True)]
        return torch.randn(batch, spec.in_channels, *shape, generator=torch.Generator().manual_seed(1))

    def test_output_covers_the_input_less_the_margin(self, spec: NetworkSpec) -> None:
        x = self.patch(spec, batch=3)
        out = build(spec).eval()(x)
        assert out.shape == (3, 3, *(n - 2 * m for n, m in zip(x.shape[2:], margin(spec), strict=True)))

    def test_smallest_patch_works(self, spec: NetworkSpec) -> None:
        # Without normalisation, for which one voxel at the lowest resolution may be too few.
        network = build(replace(spec, norm="none")).eval()
        assert network(torch.randn(1, spec.in_channels, *smallest(spec))).numel() > 0

    def test_gradient_reaches_every_parameter(self, spec: NetworkSpec) -> None:
        network = build(spec).train()
        with torch.no_grad():
            for p in network.parameters():  # scores that start at zero hand nothing back at first
                p.add_(0.01 * torch.randn_like(p))
        out = network(self.patch(spec))
        logits = out if isinstance(out, list) else [out]
        target = [torch.arange(o[:, 0].numel()).reshape(o[:, 0].shape) % 3 for o in logits]
        losses = [torch.nn.functional.cross_entropy(o, t) for o, t in zip(logits, target, strict=True)]
        torch.stack(losses).sum().backward()  # type: ignore[no-untyped-call]  # torch's own
        dead = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
        assert not dead

    def test_one_step_lowers_the_loss_of_a_single_sample(self, spec: NetworkSpec) -> None:
        network, x = build(spec).train(), self.patch(spec, batch=1)

        def loss() -> Tensor:
            out = network(x)
            logits = out[0] if isinstance(out, list) else out
            target = torch.arange(logits[:, 0].numel()).reshape(logits[:, 0].shape) % 5 // 2
            return torch.nn.functional.cross_entropy(logits, target)

        before = loss()
        before.backward()  # type: ignore[no-untyped-call]  # torch's own
        slopes = [(p, p.grad) for p in network.parameters() if p.grad is not None]
        length = torch.stack([slope.norm() for _, slope in slopes]).norm()
        with torch.no_grad():
            for p, slope in slopes:
                p.sub_(self.step * slope / length)
        assert loss() < before

    @pytest.mark.parametrize("channels", [1, 4])
    def test_anisotropic_patches_of_any_number_of_channels(self, spec: NetworkSpec, channels: int) -> None:
        spec = replace(spec, in_channels=channels)
        shape = [
            n + (2 - axis) * step for axis, (n, step) in enumerate(zip(smallest(spec), divisor(spec), strict=True))
        ]
        with torch.inference_mode():
            out = build(spec).eval()(torch.randn(1, channels, *shape))
        assert out.shape[2:] == tuple(n - 2 * m for n, m in zip(shape, margin(spec), strict=True))

    @pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")  # torch.export's own
    def test_exports(self, spec: NetworkSpec) -> None:
        network, x = build(spec).eval(), self.patch(spec, batch=1)
        with torch.no_grad():
            program = torch.export.export(network, (x,))
            torch.testing.assert_close(program.module()(x), network(x), rtol=1e-4, atol=1e-4)

    def test_evaluation_is_deterministic_and_gives_one_tensor(self, spec: NetworkSpec) -> None:
        network, x = build(replace(spec, dropout=0.3)).eval(), self.patch(spec)
        with torch.inference_mode():
            first, second = network(x), network(x)
        assert isinstance(first, Tensor)
        assert torch.equal(first, second)

    def test_odd_patch_is_refused_in_a_sentence(self, spec: NetworkSpec) -> None:
        shape = [n + 1 for n in self.patch(spec).shape[2:]]
        with pytest.raises(PlanError, match=r"patch: \d+ voxels on axis 0 do not fit"):
            build(spec)(torch.zeros(1, spec.in_channels, *shape))

    def test_wrong_channels_or_axes_are_refused_in_a_sentence(self, spec: NetworkSpec) -> None:
        x = self.patch(spec)
        for wrong in (x[:, :1], x[0]):
            with pytest.raises(PlanError, match="takes \\[batch, 2,"):
                build(spec)(wrong)

    def test_state_dict_round_trip(self, spec: NetworkSpec) -> None:
        torch.manual_seed(1)
        one, other, x = build(spec), build(spec), self.patch(spec)
        other.load_state_dict({name: value.clone().contiguous() for name, value in one.state_dict().items()})
        assert torch.equal(one.eval()(x), other.eval()(x))

    def test_same_seed_same_weights(self, spec: NetworkSpec) -> None:
        torch.manual_seed(5)
        one = build(spec).state_dict()
        torch.manual_seed(5)
        assert all(torch.equal(value, one[name]) for name, value in build(spec).state_dict().items())

    def test_bfloat16_autocast(self, spec: NetworkSpec) -> None:
        network, x = build(spec).eval(), self.patch(spec)
        with torch.inference_mode():
            exact = network(x)
            with torch.autocast("cpu", dtype=torch.bfloat16):
                fast = network(x)
        assert fast.dtype == torch.bfloat16
        assert (fast.float() - exact).abs().mean() < 0.05 * exact.abs().mean() + 0.02

    def test_layouts_agree(self, spec: NetworkSpec) -> None:
        network, x = build(spec).eval(), self.patch(spec)
        last = network(x)
        for p in network.parameters():
            p.data = p.data.contiguous()
        torch.testing.assert_close(last, network(x), rtol=1e-4, atol=1e-4)

    def test_fitted_patch_fits(self, spec: NetworkSpec) -> None:
        wanted = tuple(n + 3 for n in smallest(spec))
        patch = fit_patch(spec, wanted)
        assert all(p >= w and p - w < step for p, w, step in zip(patch, wanted, divisor(spec), strict=True))
        assert build(spec).eval()(torch.zeros(1, 2, *patch)).shape[0] == 1

    def test_one_stage_is_refused(self, spec: NetworkSpec) -> None:
        with pytest.raises(PlanError, match=r"network\.features"):
            build(replace(spec, features=(4,), strides=spec.strides[:1], kernels=spec.kernels[:1]))


class TestUNet(NetworkContract):
    name = "unet"
    features = (4, 6, 8)


class TestUNetResidual(NetworkContract):
    name = "unet"
    features = (4, 6, 8)

    @pytest.fixture(params=[2, 3], ids=["2d", "3d"])
    def spec(self, request: pytest.FixtureRequest) -> NetworkSpec:
        torch.manual_seed(0)
        spec = small_spec(self.name, request.param, self.features, "batch")
        return replace(spec, residual=True, deep_supervision=True)


class TestUNet2015(NetworkContract):
    name = "unet2015"
    norm = "none"


class TestUNet3D2016(NetworkContract):
    name = "unet3d_2016"
    norm = "batch"


class TestAttentionUNet(NetworkContract):
    name = "attention_unet"
    features = (4, 6, 8)


class TestVNet(NetworkContract):
    name = "vnet"
    features = (4, 6, 8)


class TestMonaiSegResNet(NetworkContract):
    name = "monai_segresnet"
    features = (8, 16)
    norm = "group"


class TestMonaiUNETR(NetworkContract):
    name = "monai_unetr"
    features = (4, 8, 16, 32, 24)


class TestMonaiSwinUNETR(NetworkContract):
    name = "monai_swinunetr"
    features = (12, 12, 24, 48, 96, 192)
    norm = "group"

    # A volume of its smallest size takes seconds.
    @pytest.fixture(params=[2, pytest.param(3, marks=pytest.mark.slow)], ids=["2d", "3d"])
    def spec(self, request: pytest.FixtureRequest) -> NetworkSpec:
        torch.manual_seed(0)
        return small_spec(self.name, request.param, self.features, self.norm)

    def patch(self, spec: NetworkSpec, batch: int = 2) -> Tensor:
        shape = (batch, spec.in_channels, *smallest(spec))
        return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


class TestMonaiUNetPlusPlus(NetworkContract):
    name = "monai_unetplusplus"
    features = (4, 4, 6, 6, 8)
    norm = "batch"


class ZooContract(NetworkContract):
    """FCN and DeepLab: an eighth of their width, as many atrous branches as they have; any size of patch."""

    branches: ClassVar[int] = 0
    auxiliary: ClassVar[bool] = False
    more: ClassVar[int] = 14  # voxels than the smallest patch

    @pytest.fixture(params=[2, 3], ids=["2d", "3d"])
    def spec(self, request: pytest.FixtureRequest) -> NetworkSpec:
        torch.manual_seed(0)
        return self.zoo_spec(request.param)

    def zoo_spec(self, ndim: Literal[2, 3]) -> NetworkSpec:
        rates = ((1,) * ndim,) * self.branches
        return NetworkSpec(self.name, ndim, 2, 3, norm=self.norm, width=0.125, rates=rates, auxiliary=self.auxiliary)

    def patch(self, spec: NetworkSpec, batch: int = 2) -> Tensor:
        """Three voxels an axis at the lowest resolution: with fewer, normalisation makes much of little."""
        shape = [n + self.more for n in smallest(spec)]
        return torch.randn(batch, spec.in_channels, *shape, generator=torch.Generator().manual_seed(1))

    def test_odd_patch_is_refused_in_a_sentence(self, spec: NetworkSpec) -> None:
        """None is odd: the answer lies on the patch's own grid."""
        shape = [n + 2 + 3 * axis for axis, n in enumerate(smallest(spec))]
        network = build(spec)
        with torch.inference_mode():
            out = network(torch.randn(2, 2, *shape))
            assert all(o.shape == (2, 3, *shape) for o in (out if isinstance(out, list) else [out]))
            assert network.eval()(torch.randn(2, 2, *shape)).shape == (2, 3, *shape)

    def test_patch_that_is_pooled_away_is_refused(self, spec: NetworkSpec) -> None:
        with pytest.raises(PlanError, match=r"patch: 2 voxels on axis 0 leave"):
            build(spec)(torch.zeros(1, 2, *(2,) * spec.ndim))

    def test_one_stage_is_refused(self, spec: NetworkSpec) -> None:
        with pytest.raises(PlanError, match="has its paper's stages"):
            build(replace(spec, features=(4,)))


class SlowZooContract(ZooContract):
    """A hundred layers take their time; what they are made of is tested with fifty."""

    @pytest.fixture(params=[pytest.param(ndim, marks=pytest.mark.slow) for ndim in (2, 3)], ids=["2d", "3d"])
    def spec(self, request: pytest.FixtureRequest) -> NetworkSpec:
        torch.manual_seed(0)
        return self.zoo_spec(request.param)


class TestFCN32s(ZooContract):
    name = "fcn32s"
    more = 4
    norm = "none"


class TestFCN16s(ZooContract):
    name = "fcn16s"
    more = 4
    norm = "group"


class TestFCN8s(ZooContract):
    name = "fcn8s"
    more = 4


class TestFCNResNet50(ZooContract):
    name = "fcn_resnet50"
    auxiliary = True


class TestFCNResNet101(SlowZooContract):
    name = "fcn_resnet101"


class TestDeepLabV1(ZooContract):
    name = "deeplabv1"
    branches = 1


class TestDeepLabV2(SlowZooContract):
    name = "deeplabv2"
    branches = 4


class TestDeepLabV3ResNet50(ZooContract):
    name = "deeplabv3_resnet50"
    branches = 3


class TestDeepLabV3ResNet101(SlowZooContract):
    name = "deeplabv3_resnet101"
    branches = 3


class TestDeepLabV3MobileNetV3(ZooContract):
    name = "deeplabv3_mobilenetv3"
    branches = 3
    auxiliary = True


class TestDeepLabV3PlusResNet50(ZooContract):
    name = "deeplabv3plus_resnet50"
    branches = 3


class TestDeepLabV3PlusResNet101(SlowZooContract):
    name = "deeplabv3plus_resnet101"
    branches = 3


class TestDeepLabV3PlusMobileNetV3(ZooContract):
    name = "deeplabv3plus_mobilenetv3"
    branches = 3


class TestLRASPPMobileNetV3(ZooContract):
    name = "lraspp_mobilenetv3"
    norm = "batch"


def test_every_network_is_held_to_the_contract() -> None:
    suites = [suite for suite in _below(NetworkContract) if not _below(suite)]
    assert {suite.name for suite in suites} == set(NETWORKS)


def _below(suite: type[NetworkContract]) -> list[type[NetworkContract]]:
    return [found for child in suite.__subclasses__() for found in (child, *_below(child))]


def test_unknown_name_lists_those_there_are() -> None:
    with pytest.raises(PlanError, match="unet, unet2015, unet3d_2016"):
        build(small_spec("resnet", 2, (4, 8)))
