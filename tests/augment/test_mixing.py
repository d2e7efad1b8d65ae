"""CutMix, copy-paste and MixUp: labels and weights go wherever the image goes, and every draw replays."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medseg.augment import MixingDraw, apply_mixing, draw_mixing
from medseg.core.errors import PlanError
from medseg.core.labels import IGNORE
from medseg.core.plan import AugmentSpec

SIZE = 4


def samples(*spatial: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A batch in which image and weight of every voxel can be told from its sample, place and label."""
    generator = torch.Generator().manual_seed(0)
    targets = torch.randint(0, 3, (SIZE, *spatial), generator=generator)
    targets[:, -1] = IGNORE
    images = torch.stack([torch.arange(targets.numel()).view(targets.shape).float(), targets.float()], dim=1)
    return images, targets, images[:, 0] / 7


def neutral() -> MixingDraw:
    none = np.zeros(SIZE)
    return MixingDraw(1, none, np.full((SIZE, 3), 0.5), none.astype(bool), np.arange(SIZE), 1.0)


@pytest.fixture(params=[(9, 8), (9, 8, 7)], ids=["2d", "3d"])
def batch(request: pytest.FixtureRequest) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return samples(*request.param)


def test_nothing_is_drawn_where_nothing_is_mixed_or_there_is_no_partner() -> None:
    rng = np.random.default_rng(0)
    before = rng.bit_generator.state
    assert draw_mixing(AugmentSpec(), SIZE, rng) is None
    assert draw_mixing(AugmentSpec(cutmix_probability=1.0), 1, rng) is None
    assert rng.bit_generator.state == before


def test_without_a_draw_everything_stays_the_very_same(batch) -> None:
    found = apply_mixing(*batch, None)
    assert all(one is other for one, other in zip(found, batch, strict=False)) and found[3] is None
    images, targets, weights, second = apply_mixing(*batch, neutral())
    assert torch.equal(images, batch[0]) and torch.equal(targets, batch[1]) and torch.equal(weights, batch[2])
    assert second is None


@pytest.mark.parametrize("name", ["cutmix", "mixup", "copy_paste"])
def test_a_probability_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(PlanError, match=rf"augment\.{name}_probability must lie within 0\.\.1, not 1\.5"):
        draw_mixing(AugmentSpec(**{f"{name}_probability": 1.5}), SIZE, np.random.default_rng(0))


@settings(deadline=None)
@given(seed=st.integers(0, 2**32), spatial=st.sampled_from([(5, 6), (4, 5, 3)]))
def test_labels_and_weights_go_where_the_image_goes(seed: int, spatial: tuple[int, ...]) -> None:
    spec = AugmentSpec(cutmix_probability=0.7, copy_paste_probability=0.7)
    given_images, given_targets, given_weights = samples(*spatial)
    draw = draw_mixing(spec, SIZE, np.random.default_rng(seed))
    images, targets, weights, second = apply_mixing(given_images, given_targets, given_weights, draw)
    assert second is None and weights is not None
    origin = images[:, 0].long()  # the voxel of the given batch that each voxel is
    assert torch.equal(targets, given_targets.flatten()[origin])
    torch.testing.assert_close(weights, given_weights.flatten()[origin], rtol=0, atol=0)
    torch.testing.assert_close(images[:, 1], targets.float(), rtol=0, atol=0)
    voxels = given_targets[0].numel()
    place = torch.arange(voxels).view(1, *spatial).expand_as(origin)
    assert torch.equal(origin % voxels, place)  # nothing moves within the patch
    sample = torch.arange(SIZE).view(-1, *[1] * len(spatial)).expand_as(origin)
    partner = (sample + draw.shift) % SIZE
    assert bool(((origin // voxels == sample) | (origin // voxels == partner)).all())


def test_the_same_draw_gives_the_same_bits_and_leaves_the_batch_alone(batch) -> None:
    spec = AugmentSpec(cutmix_probability=0.5, mixup_probability=1.0, copy_paste_probability=0.5)
    kept = [values.clone() for values in batch]
    one, other = (apply_mixing(*batch, draw_mixing(spec, SIZE, np.random.default_rng(5))) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(one[:3], other[:3], strict=True))
    assert all(torch.equal(a, b) for a, b in zip(kept, batch, strict=True))


def test_cutmix_takes_about_the_fraction_drawn(batch) -> None:
    images = batch[0]
    for fraction in (0.1, 0.5, 1.0):
        draw = replace(neutral(), cut=np.array([fraction, 0, 0, 0]))
        changed = apply_mixing(*batch, draw)[0][:, 0] != images[:, 0]
        assert not changed[1:].any()
        assert abs(float(changed[0].float().mean()) - fraction) < 0.12


def test_copy_paste_takes_whole_pieces_and_nothing_else() -> None:
    targets = torch.zeros(SIZE, 12, 12, dtype=torch.long)
    targets[1, 1:4, 1:4], targets[1, 6:9, 6:9], targets[1, 7, 7] = 1, 1, 2
    targets[1, 11] = IGNORE
    images = torch.rand(SIZE, 1, 12, 12, generator=torch.Generator().manual_seed(0))
    pasted = np.array([True, False, True, False])
    seen = set()
    for seed in range(12):
        draw = replace(neutral(), pasted=pasted, seeds=np.full(SIZE, seed))
        out, found, weights, _ = apply_mixing(images, targets, None, draw)
        changed = out[0, 0] != images[0, 0]
        assert torch.equal(changed, found[0] > 0) and weights is None
        pieces = [bool(changed[1:4, 1:4].all()), bool(changed[6:9, 6:9].all())]
        assert changed.sum() == 9 * sum(pieces) and any(pieces)
        seen.add(tuple(pieces))
        assert torch.equal(out[1:], images[1:])  # the partner of sample 2 has nothing to give
    assert seen == {(True, False), (False, True), (True, True)}


def test_mixup_adds_up_images_and_keeps_both_answers(batch) -> None:
    given_images, given_targets, given_weights = batch
    draw = replace(neutral(), share=0.75, shift=3)
    images, targets, weights, second = apply_mixing(*batch, draw)
    torch.testing.assert_close(images, 0.75 * given_images + 0.25 * given_images.roll(1, 0))
    assert torch.equal(targets, given_targets) and torch.equal(weights, given_weights)
    assert second is not None and second.share == 0.25 and second.weights is not None
    assert torch.equal(second.targets, given_targets.roll(1, 0))
    assert torch.equal(second.weights, given_weights.roll(1, 0))


def test_chances_are_what_was_asked_for() -> None:
    spec = AugmentSpec(cutmix_probability=0.3, mixup_probability=0.6, copy_paste_probability=0.1)
    rng = np.random.default_rng(0)
    draws = [draw for draw in (draw_mixing(spec, SIZE, rng) for _ in range(1000)) if draw is not None]
    assert len(draws) == 1000
    assert np.mean([draw.cut > 0 for draw in draws]) == pytest.approx(0.3, abs=0.03)
    assert np.mean([draw.pasted for draw in draws]) == pytest.approx(0.1, abs=0.03)
    assert np.mean([draw.share < 1 for draw in draws]) == pytest.approx(0.6, abs=0.05)
    assert {draw.shift for draw in draws} == {1, 2, 3} and min(draw.share for draw in draws) >= 0.5
