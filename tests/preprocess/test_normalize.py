"""Every normalisation against its formula, and on images that have no spread."""

from __future__ import annotations

import numpy as np
import pytest

from medseg.core.plan import Normalization
from medseg.preprocess import NORMALIZATIONS
from medseg.preprocess.normalize import normalize

GIVEN = {
    "ct": Normalization("ct", lower=-900, upper=300, mean=-100, std=200),
    "zscore": Normalization("zscore"),
    "unit8": Normalization("unit8"),
    "picture": Normalization("picture"),
}


def normalized(scheme: str, values: np.ndarray) -> np.ndarray:
    out = values.astype(np.float32)
    NORMALIZATIONS[scheme](out, GIVEN[scheme])
    assert out.dtype == np.float32
    return out


def test_ct_clips_then_uses_the_training_figures() -> None:
    out = normalized("ct", np.array([[[-1000.0, -100.0, 100.0, 3000.0]]]))
    np.testing.assert_allclose(out.ravel(), [-4.0, 0.0, 1.0, 2.0])


def test_zscore_is_the_images_own_and_not_moved_by_outliers() -> None:
    values = np.random.default_rng(0).normal(50, 7, (20, 20, 20))
    out = normalized("zscore", values)
    assert abs(out.mean()) < 0.02 and abs(out.std() - 1) < 0.05
    values[0, 0, :5] = 1e6
    np.testing.assert_allclose(normalized("zscore", values)[1:], out[1:], atol=0.02)


def test_zscore_of_nearly_all_background_uses_all_voxels() -> None:
    values = np.zeros((20, 20, 20))
    values[0, 0, :3] = 10
    out = normalized("zscore", values)
    assert abs(out.std() - 1) < 1e-3 and out.max() > 5


def test_unit8_is_centred() -> None:
    np.testing.assert_allclose(normalized("unit8", np.array([[[0.0, 255.0]]])).ravel(), [-0.5, 0.5])


def test_a_picture_reaches_from_minus_one_to_one_but_for_outliers() -> None:
    values = np.random.default_rng(0).uniform(3, 9, (20, 20, 10))
    out = normalized("picture", values)
    assert out.min() == pytest.approx(-1, abs=0.02) and out.max() == pytest.approx(1, abs=0.02)
    values[0, 0, 0] = 1000
    assert normalized("picture", values).ravel()[1:] == pytest.approx(out.ravel()[1:], abs=0.02)


def test_colours_of_a_picture_share_one_scale_and_other_channels_do_not() -> None:
    image = np.random.default_rng(0).uniform(0, 100, (3, 20, 20, 1)).astype(np.float32)
    image[2] += 100
    colours, apart = image.copy(), image.copy()
    normalize(colours, [Normalization("picture")] * 3)
    assert colours[0].mean() == pytest.approx(colours[1].mean(), abs=0.1)
    assert colours[2].mean() - colours[1].mean() == pytest.approx(1, abs=0.1)
    normalize(apart, [Normalization("picture"), Normalization("zscore"), Normalization("unit8")])
    assert abs(apart[1].mean()) < 0.05 and apart[2].mean() == pytest.approx(150 / 255 - 0.5, abs=0.05)


@pytest.mark.parametrize("scheme", sorted(NORMALIZATIONS))
@pytest.mark.parametrize("value", [0.0, 1.0, -1000.0, 37.123])
def test_constant_images_stay_constant_and_finite(scheme: str, value: float) -> None:
    noise = np.random.default_rng(0).normal(0, 1e-7, (5, 6, 7)) * abs(value)  # what resampling leaves behind
    out = normalized(scheme, value + noise)
    assert np.isfinite(out).all() and np.ptp(out) < 1e-3


def test_large_images_are_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).normal(50, 7, (30, 30, 30))
    exact = normalized("zscore", values)
    monkeypatch.setattr("medseg.preprocess.normalize._SAMPLE", 5000)
    np.testing.assert_allclose(normalized("zscore", values), exact, atol=0.15)
