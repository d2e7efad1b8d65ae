"""sample_patch on cases whose answer is known."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from medseg.augment import SpatialContext, SpatialDraw, draw_spatial, sample_patch
from medseg.augment.spatial import rotation
from medseg.core.errors import PlanError
from medseg.core.labels import IGNORE, Label, mirrored_values
from medseg.core.plan import AugmentSpec

ISOTROPIC = SpatialContext((1.0, 1.0, 1.0))
SIDES = (Label("left", 1, mirror="right"), Label("right", 2, mirror="left"), Label("middle", 3))
MIRRORED = SpatialContext((1.0, 1.0, 1.0), torch.tensor(mirrored_values(SIDES), dtype=torch.uint8))
STILL = SpatialDraw(np.eye(3))


def case(shape: tuple[int, int, int] = (12, 14, 10), channels: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    image = torch.randn((channels, *shape), generator=generator)
    label = torch.randint(0, 4, shape, generator=generator).to(torch.uint8)
    return image, label


def reference_crop(
    image: torch.Tensor, label: torch.Tensor, start: list[int], patch: tuple[int, int, int]
) -> tuple[torch.Tensor, torch.Tensor]:
    wanted = [np.arange(a, a + p) for a, p in zip(start, patch, strict=True)]
    inside = [np.clip(w, 0, n - 1) for w, n in zip(wanted, label.shape, strict=True)]
    pixels = image.numpy()[(slice(None), *np.ix_(*inside))]
    values = label.numpy()[np.ix_(*inside)].astype(np.int64)
    for axis, (w, i) in enumerate(zip(wanted, inside, strict=True)):
        values[(*[slice(None)] * axis, w != i)] = IGNORE
    return torch.from_numpy(pixels), torch.from_numpy(values)


@pytest.mark.parametrize(
    ("center", "patch"),
    [
        ((6, 7, 5), (4, 6, 4)),
        ((6, 7, 5), (5, 7, 3)),
        ((0, 0, 0), (6, 6, 6)),
        ((11, 13, 9), (6, 5, 6)),
        ((5.5, 6.5, 4.5), (30, 32, 28)),
        ((40, 7, 5), (4, 4, 4)),
        ((6, -30, 5), (4, 4, 4)),
        ((6, 7, 5), (12, 14, 1)),
    ],
)
def test_no_draw_is_an_exact_crop(center: tuple[float, float, float], patch: tuple[int, int, int]) -> None:
    image, label = case()
    start = [int(np.floor(c - (p - 1) / 2)) for c, p in zip(center, patch, strict=True)]
    expected = reference_crop(image, label, start, patch)
    for draw in (None, STILL):
        pixels, values = sample_patch(image, label, center, patch, draw, ISOTROPIC)
        assert torch.equal(pixels, expected[0]) and torch.equal(values, expected[1])
        assert values.dtype == torch.int64 and pixels.is_contiguous()
    pixels.zero_()
    assert image.any()  # the case itself is never handed out


def test_a_warp_that_moves_nothing_equals_the_crop() -> None:
    image, label = case()
    nothing = replace(STILL, displacement=np.zeros((3, 3, 3, 3)))
    for center in ((6, 7, 5), (1, 13, 5)):
        expected = sample_patch(image, label, center, (6, 7, 5), None, ISOTROPIC)
        pixels, values = sample_patch(image, label, center, (6, 7, 5), nothing, ISOTROPIC)
        torch.testing.assert_close(pixels, expected[0], atol=1e-4, rtol=0)
        assert torch.equal(values, expected[1])


@pytest.mark.parametrize("axes", [(0,), (1,), (2,), (0, 2), (0, 1, 2)])
@pytest.mark.parametrize("center", [(6, 7, 5), (1, 7, 9)])
def test_flips_are_exact_both_ways(axes: tuple[int, ...], center: tuple[int, int, int]) -> None:
    image, label = case()
    crop, truth = sample_patch(image, label, center, (6, 8, 4), None, ISOTROPIC)
    draw = replace(STILL, flips=tuple(axis in axes for axis in range(3)))
    pixels, values = sample_patch(image, label, center, (6, 8, 4), draw, ISOTROPIC)
    assert torch.equal(pixels, crop.flip([a + 1 for a in axes])) and torch.equal(values, truth.flip(axes))
    warped = replace(draw, displacement=np.zeros((3, 3, 3, 3)))
    pixels, values = sample_patch(image, label, center, (6, 8, 4), warped, ISOTROPIC)
    torch.testing.assert_close(pixels, crop.flip([a + 1 for a in axes]), atol=1e-4, rtol=0)
    assert torch.equal(values, truth.flip(axes))


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("size", [6, 7])
def test_a_quarter_turn_is_exact_on_an_isotropic_grid(axis: int, size: int) -> None:
    image, label = case()
    angles = np.zeros(3)
    angles[axis] = np.pi / 2
    plane = [(axis + 1) % 3, (axis + 2) % 3]
    crop, truth = sample_patch(image, label, (6, 7, 5), (size,) * 3, None, ISOTROPIC)
    pixels, values = sample_patch(image, label, (6, 7, 5), (size,) * 3, SpatialDraw(rotation(angles)), ISOTROPIC)
    torch.testing.assert_close(pixels, crop.rot90(-1, [p + 1 for p in plane]), atol=1e-3, rtol=0)
    assert torch.equal(values, truth.rot90(-1, plane))


def test_a_turn_on_an_anisotropic_grid_keeps_a_ball_a_ball() -> None:
    spacing = np.array([1.0, 1.0, 3.0])
    grid = np.indices((40, 40, 14)).reshape(3, -1).T * spacing
    middle = np.array([20, 20, 7]) * spacing
    inwards = 12 - np.linalg.norm(grid - middle, axis=1).reshape(40, 40, 14)
    image = torch.from_numpy(inwards.astype(np.float32))[None]
    label = (image[0] > 0).to(torch.uint8)
    draw = SpatialDraw(rotation(np.radians([40.0, 30.0, 20.0])))
    context = SpatialContext(tuple(spacing))
    patch = (33, 33, 11)
    still, _ = sample_patch(image, label, (20, 20, 7), patch, None, context)
    turned, values = sample_patch(image, label, (20, 20, 7), patch, draw, context)
    assert dice(turned > 0, still > 0) > 0.97
    assert dice(values[None] == 1, still > 0) > 0.93  # nearest, with slices 3 mm apart
    wrong, _ = sample_patch(image, label, (20, 20, 7), patch, draw, ISOTROPIC)
    assert dice(wrong > 0, still > 0) < 0.85  # what forgetting the spacing would give


def dice(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))


def test_a_scale_in_mm_makes_things_smaller_by_that_factor() -> None:
    grid = np.indices((40, 40, 40)).reshape(3, -1).T
    label = torch.from_numpy((np.linalg.norm(grid - 20, axis=1) < 12).reshape(40, 40, 40).astype(np.uint8))
    _, values = sample_patch(
        label[None].float(), label, (20, 20, 20), (33,) * 3, SpatialDraw(np.eye(3) * 1.5), ISOTROPIC
    )
    assert int((values == 1).sum()) == pytest.approx(int((label == 1).sum()) / 1.5**3, rel=0.03)


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("seed", range(4))
def test_image_and_label_move_together(ndim: int, seed: int) -> None:
    grid = np.indices((44, 40, 36)).reshape(3, -1).T * (1.0, 1.2, 1.5)
    distance = np.linalg.norm((grid - (22, 24, 27)) / (1.0, 0.8, 1.2), axis=1).reshape(44, 40, 36)
    image = torch.from_numpy((14 - distance).astype(np.float32))[None]
    label = torch.from_numpy((distance < 14).astype(np.uint8))
    spec = AugmentSpec(
        rotation=30,
        rotation_probability=1,
        scale_probability=1,
        elastic_sigma=3,
        elastic_probability=1,
        flips=(0, 1, 2),
    )
    context = SpatialContext((1.0, 1.2, 1.5))
    patch = (36, 32, 24 if ndim == 3 else 1)
    draw = draw_spatial(spec, ndim, context.spacing, patch, np.random.default_rng(seed))
    for cubic in (False, True):
        pixels, values = sample_patch(image, label, (22, 20, 18), patch, replace(draw, cubic=cubic), context)
        assert pixels.shape == (1, *patch) and values.shape == patch
        inside = values != IGNORE
        assert dice((pixels[0] > 0) & inside, values == 1) > 0.95


def test_ignore_is_kept() -> None:
    image, label = case((20, 20, 20), 1)
    label[8:12] = IGNORE
    draw = SpatialDraw(rotation(np.radians([0.0, 0.0, 90.0])))
    _, values = sample_patch(image, label, (10, 10, 10), (9, 9, 9), draw, MIRRORED)
    assert int((values == IGNORE).sum()) == 9 * 9 * 4
    assert set(values.unique().tolist()) <= {0, 1, 2, 3, IGNORE}


def test_only_a_lateral_flip_exchanges_left_and_right() -> None:
    image, label = case()
    label[0, 0, 0] = IGNORE
    exchange = {0: 0, 1: 2, 2: 1, 3: 3, IGNORE: IGNORE}
    for flips in ((True, False, False), (True, True, False), (False, True, True), (False, False, False)):
        for draw in (replace(STILL, flips=flips), replace(STILL, flips=flips, displacement=np.zeros((3, 3, 3, 3)))):
            _, plain = sample_patch(image, label, (5, 6, 4), (10, 12, 8), draw, ISOTROPIC)
            _, values = sample_patch(image, label, (5, 6, 4), (10, 12, 8), draw, MIRRORED)
            wanted = plain.clone().apply_(exchange.__getitem__) if flips[0] else plain
            assert torch.equal(values, wanted)


def test_a_two_dimensional_draw_moves_one_slice() -> None:
    image, label = case()
    turn = SpatialDraw(rotation(np.array([np.pi / 2])))
    pixels, values = sample_patch(image, label, (6, 7, 3), (6, 6, 1), turn, SpatialContext((1.0, 1.0, 9.0)))
    crop, truth = sample_patch(image, label, (6, 7, 3), (6, 6, 1), None, ISOTROPIC)
    torch.testing.assert_close(pixels, crop.rot90(-1, [1, 2]), atol=1e-3, rtol=0)
    assert torch.equal(values, truth.rot90(-1, [0, 1]))
    _, beyond = sample_patch(image, label, (6, 7, 30), (6, 6, 1), turn, ISOTROPIC)
    assert (beyond == IGNORE).all()
    with pytest.raises(PlanError, match="one slice thick"):
        sample_patch(image, label, (6, 7, 3), (6, 6, 2), turn, ISOTROPIC)


def test_autocast_does_not_reach_the_coordinates() -> None:
    image, label = case((24, 24, 24), 1)
    spec = AugmentSpec(rotation_probability=1, elastic_probability=1)
    draw = draw_spatial(spec, 3, (1, 1, 1), (16, 16, 16), np.random.default_rng(0))
    for cubic in (False, True):
        plain, _ = sample_patch(image, label, (12, 12, 12), (16,) * 3, replace(draw, cubic=cubic), ISOTROPIC)
        with torch.autocast("cpu", torch.bfloat16):
            inside, _ = sample_patch(image, label, (12, 12, 12), (16,) * 3, replace(draw, cubic=cubic), ISOTROPIC)
        assert torch.equal(plain, inside)


def test_draws_follow_the_plan_and_the_seed() -> None:
    spec = AugmentSpec(rotation_probability=0.5, scale_probability=0.5, elastic_probability=0.5, flips=(0, 2))
    rng = np.random.default_rng(0)
    draws = [draw_spatial(spec, 3, (1, 1, 2), (8, 8, 8), rng) for _ in range(400)]
    assert 0.4 < np.mean([d.displacement is not None for d in draws]) < 0.6
    assert 0.4 < np.mean([d.flips[0] for d in draws]) < 0.6 and not any(d.flips[1] for d in draws)
    sizes = [np.cbrt(np.linalg.det(d.matrix)) for d in draws]
    assert 0.8 <= min(sizes) < 0.85 and 1.15 < max(sizes) <= 1.2
    displacements = np.concatenate([d.displacement.ravel() for d in draws if d.displacement is not None])
    assert displacements.std() == pytest.approx(spec.elastic_sigma, rel=0.05)
    again = draw_spatial(spec, 3, (1, 1, 2), (8, 8, 8), np.random.default_rng(0))
    np.testing.assert_array_equal(again.matrix, draws[0].matrix)
    off = AugmentSpec(rotation=0, scale=0, elastic_sigma=0)
    assert draw_spatial(off, 2, (1, 1, 1), (8, 8, 1), rng).only_flips
    assert draw_spatial(replace(spec, flips=(2,)), 2, (1, 1, 1), (8, 8, 1), rng).flips == (False, False, False)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"scale": 1.0}, "augment.scale"),
        ({"flips": (3,)}, "augment.flips"),
        ({"elastic_points": 1}, "augment.elastic_points"),
    ],
)
def test_impossible_settings_are_refused(change: dict[str, object], sentence: str) -> None:
    with pytest.raises(PlanError, match=sentence):
        draw_spatial(replace(AugmentSpec(), **change), 3, (1, 1, 1), (8, 8, 8), np.random.default_rng(0))


def test_a_small_patch_of_a_large_case_touches_only_its_surroundings() -> None:
    """A memory-mapped case must not be read whole: here reading it whole would take gigabytes."""
    image = torch.zeros((1, 1, 1, 1)).expand(1, 2000, 2000, 2000)
    label = torch.zeros((1, 1, 1), dtype=torch.uint8).expand(2000, 2000, 2000)
    spec = AugmentSpec(rotation_probability=1, elastic_probability=1)
    draw = draw_spatial(spec, 3, (1, 1, 1), (16, 16, 16), np.random.default_rng(0))
    start = time.perf_counter()
    for one in (None, draw, replace(draw, cubic=True)):
        sample_patch(image, label, (900, 900, 900), (16, 16, 16), one, ISOTROPIC)
    assert time.perf_counter() - start < 5
