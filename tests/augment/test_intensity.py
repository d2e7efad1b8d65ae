"""Every intensity change against its formula; nothing moves that was not drawn."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from medseg.augment import IntensityDraw, apply_intensity, draw_intensity
from medseg.core.errors import PlanError
from medseg.core.plan import AugmentSpec


def batch(*spatial: int) -> torch.Tensor:
    return torch.randn((3, 2, *spatial), generator=torch.Generator().manual_seed(0)) * 4 + 10


def neutral(size: int = 3, channels: int = 2) -> IntensityDraw:
    zeros, ones = np.zeros((size, channels)), np.ones((size, channels))
    seeds = np.arange(size)
    return IntensityDraw(zeros, ones, ones, zeros, np.zeros(size), np.ones(size), seeds, np.zeros(size, bool))


def only(sample: int, channel: int, value: float, otherwise: float) -> np.ndarray:
    out = np.full((3, 2), otherwise)
    out[sample, channel] = value
    return out


@pytest.fixture(params=[(9, 8), (9, 8, 7)], ids=["2d", "3d"])
def images(request: pytest.FixtureRequest) -> torch.Tensor:
    return batch(*request.param)


def test_a_neutral_draw_changes_nothing(images: torch.Tensor) -> None:
    out = apply_intensity(images, neutral())
    assert torch.equal(out, images) and out.data_ptr() != images.data_ptr()


def test_strength_zero_and_probability_zero_change_nothing(images: torch.Tensor) -> None:
    still = AugmentSpec(brightness=0, contrast=0, gamma=0, noise=0, blur=0, low_resolution=0, intensity_probability=1.0)
    for spec in (still, AugmentSpec(intensity_probability=0.0)):
        assert torch.equal(apply_intensity(images, draw_intensity(spec, 3, 2, np.random.default_rng(0))), images)


def test_brightness_and_contrast(images: torch.Tensor) -> None:
    draw = replace(neutral(), brightness=only(1, 0, 0.5, 0.0), contrast=only(1, 0, 2.0, 1.0))
    out = apply_intensity(images, draw)
    x = images[1, 0]
    expected = (x - x.mean()) * 2 + x.mean() + 0.5 * x.std(correction=0)
    torch.testing.assert_close(out[1, 0], expected)
    torch.testing.assert_close(out[1, 1], images[1, 1])
    assert torch.equal(out[[0, 2]], images[[0, 2]])


def test_gamma_bends_within_the_range_and_keeps_mean_and_deviation(images: torch.Tensor) -> None:
    out = apply_intensity(images, replace(neutral(), gamma=only(2, 1, 1.3, 1.0)))
    x, y = images[2, 1], out[2, 1]
    torch.testing.assert_close(y.mean(), x.mean())
    torch.testing.assert_close(y.std(correction=0), x.std(correction=0))
    assert torch.equal(y.flatten().argsort(), x.flatten().argsort()) and not torch.allclose(x, y)
    torch.testing.assert_close(out[2, 0], images[2, 0], atol=1e-4, rtol=1e-5)


def test_noise_has_its_deviation_and_its_seed() -> None:
    images = batch(20, 20, 20)
    draw = replace(neutral(), noise=only(0, 0, 0.2, 0.0))
    out = apply_intensity(images, draw)
    difference = out - images
    assert float(difference[0, 0].std()) == pytest.approx(0.2 * float(images[0, 0].std()), rel=0.05)
    assert not difference[0, 1].any() and not difference[1:].any()
    assert torch.equal(out, apply_intensity(images, draw))
    assert not torch.equal(out, apply_intensity(images, replace(draw, seeds=draw.seeds + 1)))


def test_blur_is_gaussian(images: torch.Tensor) -> None:
    out = apply_intensity(images, replace(neutral(), blur=np.array([0.0, 0.8, 0.0])))
    expected = [gaussian_filter(c.numpy(), 0.8, mode="nearest", radius=3) for c in images[1]]
    np.testing.assert_allclose(out[1].numpy(), np.stack(expected), atol=1e-4)
    assert torch.equal(out[[0, 2]], images[[0, 2]])


def test_low_resolution_loses_detail_but_not_the_mean(images: torch.Tensor) -> None:
    out = apply_intensity(images, replace(neutral(), resolution=np.array([1.0, 1.0, 0.5])))
    assert out.shape == images.shape
    assert float(out[2].std()) < 0.7 * float(images[2].std())
    assert float(out[2].mean()) == pytest.approx(float(images[2].mean()), abs=0.5)
    assert torch.equal(out[:2], images[:2])


def test_inversion_mirrors_the_intensities_about_each_channels_mean(images: torch.Tensor) -> None:
    out = apply_intensity(images, replace(neutral(), inverted=np.array([False, True, False])))
    assert torch.equal(out[[0, 2]], images[[0, 2]])
    mean = images[1].flatten(1).mean(dim=1)[:, None]
    torch.testing.assert_close(out[1].flatten(1) - mean, mean - images[1].flatten(1))


def test_everything_at_once_replays_and_stays_finite(images: torch.Tensor) -> None:
    spec = AugmentSpec(intensity_probability=1.0, invert_probability=0.5)
    draws = [draw_intensity(spec, 3, 2, np.random.default_rng(5)) for _ in range(2)]
    one, two = (apply_intensity(images, draw) for draw in draws)
    assert torch.equal(one, two) and torch.isfinite(one).all()
    flat = torch.full_like(images, 7.0)
    torch.testing.assert_close(apply_intensity(flat, draws[0]), flat, atol=1e-4, rtol=0)


def test_draws_befall_samples_with_their_probability() -> None:
    spec = AugmentSpec(intensity_probability=0.25, invert_probability=0.25)
    draw = draw_intensity(spec, 4000, 2, np.random.default_rng(0))
    hits = (draw.brightness[:, 0] != 0, draw.contrast[:, 1] != 1, draw.blur > 0, draw.resolution < 1, draw.inverted)
    for hit in hits:
        assert 0.22 < hit.mean() < 0.28
    assert draw.resolution.min() >= 0.5 and draw.blur.max() <= spec.blur
    assert draw.contrast.min() >= 0.85 - 1e-9 and draw.contrast.max() <= 1.15 + 1e-9


@pytest.mark.parametrize("change", [{"contrast": 1.0}, {"low_resolution": 1.0}, {"noise": -1.0}, {"blur": -0.1}])
def test_impossible_strengths_are_refused(change: dict[str, float]) -> None:
    with pytest.raises(PlanError, match=rf"augment\.{next(iter(change))}"):
        draw_intensity(replace(AugmentSpec(), **change), 1, 1, np.random.default_rng(0))
