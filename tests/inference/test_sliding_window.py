"""The sliding window against the network's own forward, in all its variants."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from medseg.core.errors import UsageError
from medseg.core.plan import AugmentSpec, NetworkSpec, Normalization, Plan, WindowSpec
from medseg.inference import sliding_window
from medseg.nets import build

CPU = torch.device("cpu")


def network_spec(name: str = "unet", ndim: int = 3, labels: int = 3) -> NetworkSpec:
    return NetworkSpec(
        name=name,
        ndim=3 if ndim == 3 else 2,
        in_channels=1,
        out_channels=labels,
        features=(4, 8),
        strides=((1,) * ndim, (2,) * ndim),
        kernels=((3,) * ndim,) * 2,
        norm="instance" if name == "unet" else "none",
    )


def plan_of(spec: NetworkSpec, patch: tuple[int, int, int], **window: object) -> Plan:
    return Plan(
        task="t",
        ndim=spec.ndim,
        spacing=(1.0, 1.0, 1.0),
        normalization=(Normalization("zscore"),),
        patch=patch,
        batch=1,
        network=spec,
        augment=AugmentSpec(flips=(0, 1)),
        window=replace(WindowSpec(), **window),  # type: ignore[arg-type]  # fields of WindowSpec
    )


def noise(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(3))


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def test_one_window_over_the_whole_scan_is_the_direct_forward() -> None:
    spec = network_spec()
    network, image = build(spec).eval(), noise(1, 12, 16, 8)
    result = sliding_window(network, image, plan_of(spec, (12, 16, 8)), CPU)
    with torch.inference_mode():
        direct = torch.softmax(network(image[None]), dim=1)[0]
    assert (result - direct).abs().max() < 1e-5


def test_a_small_scan_is_padded_with_its_border_and_cropped() -> None:
    spec = network_spec()
    network, image = build(spec).eval(), noise(1, 5, 16, 7)
    result = sliding_window(network, image, plan_of(spec, (8, 16, 8)), CPU)
    padded = torch.nn.functional.pad(image[None], (0, 1, 0, 0, 1, 2), mode="replicate")
    with torch.inference_mode():
        direct = torch.softmax(network(padded), dim=1)[0, :, 1:6, :, :7]
    assert (result - direct).abs().max() < 1e-5


def test_a_2d_network_runs_slice_by_slice() -> None:
    spec = network_spec(ndim=2)
    network, image = build(spec).eval(), noise(1, 8, 12, 5)
    result = sliding_window(network, image, plan_of(spec, (8, 12, 1), batch=3), CPU)
    with torch.inference_mode():
        slices = [torch.softmax(network(image[None, ..., k]), dim=1)[0] for k in range(5)]
    assert (result - torch.stack(slices, dim=-1)).abs().max() < 1e-5


@pytest.mark.parametrize("ndim", [2, 3])
def test_a_network_that_loses_a_margin_sees_mirrored_borders(ndim: int) -> None:
    """Overlap-tile (Ronneberger 2015): every tile gives what one forward over the reflected scan gives."""
    spec = network_spec("unet2015", ndim)
    network = build(spec).eval()
    shape = (12, 24, 8) if ndim == 3 else (12, 24, 1)  # tiles start where pooling over the whole has its grid
    image = noise(1, *shape)
    patch = (20, 24, 20) if ndim == 3 else (20, 24, 1)  # of which 4, 8, 4 voxels are answered
    result = sliding_window(network, image, plan_of(spec, patch, overlap=0.0, batch=2), CPU)
    padded = np.pad(image.numpy(), [(0, 0), (8, 8), (8, 8), (8, 8) if ndim == 3 else (0, 0)], mode="reflect")
    whole = torch.from_numpy(padded)[None] if ndim == 3 else torch.from_numpy(padded)[None, ..., 0]
    with torch.inference_mode():
        direct = torch.softmax(network(whole), dim=1)[0].reshape(3, *shape)
    assert (result - direct).abs().max() < 1e-5


def test_a_scan_smaller_than_the_margin_is_mirrored_more_than_once() -> None:
    spec = network_spec("unet2015", 2)
    result = sliding_window(build(spec).eval(), noise(1, 3, 1, 1), plan_of(spec, (20, 20, 1)), CPU)
    assert result.shape == (3, 3, 1, 1)
    assert torch.isfinite(result).all()


def test_batches_change_nothing() -> None:
    spec = network_spec()
    network, image = build(spec).eval(), noise(1, 13, 9, 17)
    one, many = (sliding_window(network, image, plan_of(spec, (8, 8, 8), batch=n), CPU) for n in (1, 5))
    torch.testing.assert_close(one, many, rtol=1e-5, atol=1e-5)


def test_empty_windows_are_not_computed() -> None:
    image = torch.full((1, 8, 8, 32), -1.0)
    image[..., 28:] = 1.0
    asked: list[int] = []

    def network(x: Tensor) -> Tensor:
        asked.append(len(x))
        return torch.cat([-x, x, x], dim=1)

    result = sliding_window(network, image, plan_of(network_spec(), (8, 8, 8), overlap=0.0, skip_below=-1.0), CPU)
    assert asked == [1]
    torch.testing.assert_close(result[0, ..., :24], torch.ones(8, 8, 24))
    assert result[0, ..., 28:].max() < 0.5


def test_flips_exchange_labels_that_mirror_and_average() -> None:
    """A network that answers by side gives the same with flips once labels are exchanged, and only then."""

    def sides(x: Tensor) -> Tensor:
        half = x.shape[2] // 2
        logits = torch.zeros(x.shape[0], 3, *x.shape[2:])
        logits[:, 1, :half] = 4.0
        logits[:, 2, half:] = 4.0
        return logits

    image, plan = noise(1, 8, 8, 8), plan_of(network_spec(), (8, 8, 8), flips=True)
    plain = sliding_window(sides, image, replace(plan, window=WindowSpec()), CPU)
    exchanged = sliding_window(sides, image, plan, CPU, mirror=[0, 2, 1, *range(3, 256)])
    torch.testing.assert_close(exchanged, plain)
    assert not torch.allclose(sliding_window(sides, image, plan, CPU), plain, atol=0.1)


def test_flips_are_those_of_training() -> None:
    seen: list[Tensor] = []

    def network(x: Tensor) -> Tensor:
        seen.append(x)
        return x.expand(-1, 3, -1, -1, -1)

    image = noise(1, 8, 8, 8)
    sliding_window(network, image, plan_of(network_spec(), (8, 8, 8), flips=True), CPU)
    expected = [image, image.flip(1), image.flip(2), image.flip(1, 2)]
    assert len(seen) == 4
    assert all(torch.equal(x[0], e) for x, e in zip(seen, expected, strict=True))


def test_a_gpu_out_of_memory_halves_the_batch_and_goes_on() -> None:
    spec, asked = network_spec(), []
    network = build(spec).eval()

    def tight(x: Tensor) -> Tensor:
        asked.append(len(x))
        if len(x) > 2:
            raise torch.OutOfMemoryError("out of memory")
        answer: Tensor = network(x)
        return answer

    image = noise(1, 8, 8, 44)
    result = sliding_window(tight, image, plan_of(spec, (8, 8, 8), batch=8), CPU)
    assert asked == [8, 4, 2, 2, 2, 2, 2]
    torch.testing.assert_close(result, sliding_window(network, image, plan_of(spec, (8, 8, 8)), CPU))


def test_memory_that_holds_no_window_is_said_in_a_sentence() -> None:
    def full(_: Tensor) -> Tensor:
        raise torch.OutOfMemoryError("out of memory")

    with pytest.raises(UsageError, match="does not hold one window of 8×8×8 voxels"):
        sliding_window(full, noise(1, 8, 8, 8), plan_of(network_spec(), (8, 8, 8), batch=4), CPU)


def test_autocast_is_the_callers_unless_a_precision_is_given() -> None:
    seen: list[torch.dtype] = []

    def network(x: Tensor) -> Tensor:
        out = torch.nn.functional.conv3d(x, torch.ones(3, 1, 1, 1, 1))
        seen.append(out.dtype)
        return out

    image, plan = noise(1, 8, 8, 8), plan_of(network_spec(), (8, 8, 8))
    assert sliding_window(network, image, plan, CPU, precision=torch.bfloat16).dtype == torch.float32
    with torch.autocast("cpu", dtype=torch.bfloat16):
        sliding_window(network, image, plan, CPU)
        sliding_window(network, image, plan, CPU, precision=torch.float32)
    assert seen == [torch.bfloat16, torch.bfloat16, torch.float32]
