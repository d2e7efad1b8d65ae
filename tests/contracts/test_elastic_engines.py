"""What every elastic engine must do. A new one inherits `EngineContract`."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter, map_coordinates

from medseg.augment import ELASTIC_ENGINES, SpatialContext, SpatialDraw, draw_spatial, require_engine, sample_patch
from medseg.augment.warp import Warp
from medseg.core.errors import MissingDependencyError, PlanError
from medseg.core.labels import IGNORE
from medseg.core.plan import AugmentSpec

SPACING = (1.0, 1.3, 2.0)
CONTEXT = SpatialContext(SPACING)


def smooth(shape: tuple[int, ...], seed: int = 0) -> torch.Tensor:
    noise = gaussian_filter(np.random.default_rng(seed).normal(size=shape), 2.0)
    return torch.from_numpy(((noise - noise.min()) / np.ptp(noise)).astype(np.float32))


def strong(ndim: int, engine: str, cubic: bool = False, sigma: float = 2.0) -> SpatialDraw:
    spec = AugmentSpec(
        rotation=25, rotation_probability=1, scale_probability=1, elastic_sigma=sigma, elastic_probability=1
    )
    draw = draw_spatial(spec, ndim, SPACING, (16, 16, 16), np.random.default_rng(4))
    return replace(draw, engine=engine, cubic=cubic)


class EngineContract:
    """Inherited once per engine."""

    name: ClassVar[str]

    @pytest.fixture(autouse=True)
    def _installed(self) -> None:
        if self.name == "elasticdeform":
            pytest.importorskip("elasticdeform")

    @pytest.fixture(params=[2, 3], ids=["2d", "3d"])
    def ndim(self, request: pytest.FixtureRequest) -> int:
        return int(request.param)

    @pytest.mark.parametrize("cubic", [False, True], ids=["linear", "cubic"])
    def test_it_resamples_where_the_warp_says(self, ndim: int, cubic: bool) -> None:
        """Against SciPy's map_coordinates at the warp's own coordinates."""
        image = smooth((2, *(30, 26, 28)[:ndim]))
        label = (image[0] > 0.5).to(torch.uint8)
        warp = a_warp(ndim, cubic)
        pixels, values = ELASTIC_ENGINES[self.name](image, label, warp)
        at = warp.coordinates(torch.device("cpu")).numpy().astype(np.float64)
        for channel, got in zip(image.numpy(), pixels.numpy(), strict=True):
            wanted = map_coordinates(channel, at, order=3 if cubic else 1, mode="nearest")
            inner = tuple(slice(3, -3) for _ in range(ndim))
            np.testing.assert_allclose(got[inner], wanted[inner], atol=2e-3)
            assert np.abs(got - wanted).mean() < 2e-3
        nearest = map_coordinates(label.numpy(), at, order=0, mode="nearest")
        assert (values.numpy() == nearest).mean() > 0.999
        assert pixels.dtype == torch.float32 and values.dtype == torch.uint8

    def test_no_displacement_and_no_turn_is_a_crop(self, ndim: int) -> None:
        image = smooth((1, *(20, 22, 18)[:ndim]))
        label = (image[0] * 3).to(torch.uint8)
        nodes = np.zeros((ndim, *[3] * ndim))
        warp = Warp((8, 9, 7)[:ndim], np.eye(ndim), np.full(ndim, 4.0), nodes)
        pixels, values = ELASTIC_ENGINES[self.name](image, label, warp)
        inside = tuple(slice(4, 4 + p) for p in warp.shape)
        torch.testing.assert_close(pixels, image[(slice(None), *inside)], atol=1e-5, rtol=0)
        assert torch.equal(values, label[inside])

    def test_outside_the_scan_are_border_values_and_ignore(self, ndim: int) -> None:
        image = smooth((1, *[9] * ndim)) + 5
        label = torch.ones([9] * ndim, dtype=torch.uint8)
        nodes = np.zeros((ndim, *[3] * ndim))
        warp = Warp((15,) * ndim, np.eye(ndim), np.full(ndim, -3.0), nodes)
        pixels, values = ELASTIC_ENGINES[self.name](image, label, warp)
        inside = (slice(3, 12),) * ndim
        expected = torch.full_like(values, IGNORE)
        expected[inside] = 1
        assert torch.equal(values, expected)
        corner = (0, *[0] * ndim)
        assert pixels[corner] == pytest.approx(float(image[corner]), abs=1e-5)
        assert float(pixels.min()) >= 5 - 1e-4 and float(pixels.max()) <= 6 + 1e-4

    def test_the_field_passes_through_its_nodes(self, ndim: int) -> None:
        """On a ramp the image shows the displacement itself."""
        ramp = torch.arange(60, dtype=torch.float32).reshape(-1, *[1] * (ndim - 1)).expand(60, *[30] * (ndim - 1))
        nodes = np.random.default_rng(0).normal(0, 2, (ndim, *[4] * ndim))
        nodes[1:] = 0
        warp = Warp((13,) * ndim, np.eye(ndim), np.full(ndim, 10.0), nodes)
        pixels, _ = ELASTIC_ENGINES[self.name](ramp[None], torch.zeros(ramp.shape, dtype=torch.uint8), warp)
        seen = pixels[0].numpy() - (10 + np.arange(13)).reshape(-1, *[1] * (ndim - 1))
        at_nodes = seen[np.ix_(*[[0, 4, 8, 12]] * ndim)]
        np.testing.assert_allclose(at_nodes, nodes[0], atol=1e-4)

    def test_a_draw_replays(self, ndim: int) -> None:
        image = smooth((1, 24, 24, 24))
        label = (image[0] * 4).to(torch.uint8)
        patch = (16, 16, 16 if ndim == 3 else 1)
        one = sample_patch(image, label, (12, 11, 10), patch, strong(ndim, self.name), CONTEXT)
        two = sample_patch(image, label, (12, 11, 10), patch, strong(ndim, self.name), CONTEXT)
        assert torch.equal(one[0], two[0]) and torch.equal(one[1], two[1])

    @pytest.mark.parametrize("cubic", [False, True], ids=["linear", "cubic"])
    @pytest.mark.parametrize("center", [(16, 15, 14), (2, 30, 9)], ids=["inside", "at the border"])
    def test_it_agrees_with_the_default_engine(self, ndim: int, cubic: bool, center: tuple[int, int, int]) -> None:
        """Same displacement grid, same picture: less than 1 % of the range apart."""
        image = smooth((1, 32, 30, 28))
        label = (image[0] * 4).to(torch.uint8)
        patch = (16, 12, 14 if ndim == 3 else 1)
        mine = sample_patch(image, label, center, patch, strong(ndim, self.name, cubic), CONTEXT)
        reference = sample_patch(image, label, center, patch, strong(ndim, "torch", cubic), CONTEXT)
        assert mine[0].shape == reference[0].shape == (1, *patch)
        assert float((mine[0] - reference[0]).abs().mean()) < 1e-3
        assert float((mine[0] - reference[0]).abs().max()) < (0.02 if cubic else 1e-3)
        assert float((mine[1] != reference[1]).float().mean()) < 0.005


def a_warp(ndim: int, cubic: bool) -> Warp:
    rng = np.random.default_rng(1)
    matrix = np.eye(ndim) + rng.normal(0, 0.1, (ndim, ndim))
    return Warp((13, 12, 11)[:ndim], matrix, np.full(ndim, 7.3), rng.normal(0, 1.5, (ndim, *[4] * ndim)), cubic)


class TestTorch(EngineContract):
    name = "torch"


class TestElasticdeform(EngineContract):
    name = "elasticdeform"


def test_every_engine_is_held_to_the_contract() -> None:
    assert {kind.name for kind in EngineContract.__subclasses__()} == set(ELASTIC_ENGINES)


def test_a_missing_package_is_named_with_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "elasticdeform", None)
    sentence = "elasticdeform is not installed; install it with: pip install --no-binary elasticdeform elasticdeform"
    spec = AugmentSpec(elastic_engine="elasticdeform")
    with pytest.raises(MissingDependencyError) as caught:
        draw_spatial(spec, 3, SPACING, (8, 8, 8), np.random.default_rng(0))
    assert str(caught.value) == sentence


def test_an_unknown_engine_is_refused_with_those_there_are() -> None:
    with pytest.raises(PlanError, match="elasticdeform, torch"):
        require_engine("rubber")
