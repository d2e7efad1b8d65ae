"""The chest phantoms: what is drawn, and the soft shapes and fields they are drawn with."""

from __future__ import annotations

from collections import Counter

import numpy as np

from medseg.core.geometry import Geometry
from medseg.phantoms.fields import block_mean, profile, smooth_noise, soft
from medseg.phantoms.patient import ORIENTATIONS, VIEWS, Acquisition, draw_acquisition, draw_patient


def draw(seed: int) -> Acquisition:
    rng = np.random.default_rng(seed)
    return draw_acquisition(seed, draw_patient(seed, rng), rng)


def test_a_round_of_seeds_shows_every_view_and_orientation() -> None:
    assert len(VIEWS) == len(ORIENTATIONS) == 14
    assert Counter(VIEWS)["chest"] == 6
    for seed, name in enumerate(ORIENTATIONS):
        scan = draw(seed)
        source = scan.canonical.reordered(scan.axes, scan.flips)
        assert source.orientation == ("LAS" if name == "oblique" else name)


def test_grids_are_square_and_spaced_as_promised() -> None:
    for seed in range(28):
        grid = draw(seed).canonical
        assert grid.is_orthogonal
        assert 2.4 <= grid.spacing[0] <= 4.5
        assert 2.5 <= grid.spacing[2] <= 7.0
        assert np.prod(grid.shape) < 900_000


def test_noise_is_seeded_centred_and_smooth() -> None:
    grid = Geometry.from_spacing((2.0, 3.0, 4.0), (60, 40, 30))
    field = smooth_noise(np.random.default_rng(1), grid, 25.0)
    assert field.dtype == np.float32
    assert np.array_equal(field, smooth_noise(np.random.default_rng(1), grid, 25.0))
    assert abs(float(field.mean())) < 0.2
    assert 0.7 < float(field.std()) < 1.3
    assert float(np.abs(np.diff(field, axis=0)).max()) < 1.0


def test_profile_follows_its_knots() -> None:
    z = np.linspace(-100.0, 100.0, 50, dtype=np.float32).reshape(1, 1, 50)
    curve = profile(z, [-100.0, 100.0], [0.0, 200.0])
    assert np.allclose(curve, z + 100.0, atol=4.0)


def test_soft_edges_and_block_means_keep_volume() -> None:
    away = np.linspace(-10.0, 10.0, 41, dtype=np.float32)
    cover = soft(away, 2.0)
    assert (cover[away <= -1.0] == 0).all()
    assert (cover[away >= 1.0] == 1).all()
    assert cover[20] == 0.5
    cube = np.arange(4 * 6 * 9, dtype=np.float32).reshape(4, 6, 9)
    assert block_mean(cube, (2, 2, 3)).shape == (2, 3, 3)
    assert np.isclose(block_mean(cube, (2, 2, 3)).mean(), cube.mean())
