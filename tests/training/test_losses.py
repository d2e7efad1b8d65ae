"""The losses: right figures, weights and smoothing as documented, deep supervision weighted as documented."""

from __future__ import annotations

from typing import Literal

import pytest
import torch
import torch.nn.functional as F

from medseg.core.labels import IGNORE
from medseg.core.plan import Schedule
from medseg.training.losses import class_weights, deep_supervised, make_loss
from medseg.training.losses.boundary import boundary
from medseg.training.losses.voxels import Voxels


def _example(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, 3, 6, 5, 4, generator=generator)
    return logits, torch.randint(0, 3, (2, 6, 5, 4), generator=generator)


def _onehot(target: torch.Tensor) -> torch.Tensor:
    return F.one_hot(target, 3).movedim(-1, 1).float()


@pytest.mark.parametrize(("dice", "axes", "smooth"), [("batch", (0, 2, 3, 4), 1e-5), ("sample", (2, 3, 4), 1.0)])
def test_dice_and_tversky_equal_the_formulas_written_out(
    dice: Literal["batch", "sample"], axes: tuple[int, ...], smooth: float
) -> None:
    logits, target = _example()
    probabilities, onehot = logits.softmax(1), _onehot(target)
    overlap, found, true = ((x.sum(axes))[..., 1:] for x in (probabilities * onehot, probabilities, onehot))
    expected = (1 - (2 * overlap + smooth) / (found + true + smooth)).mean()
    torch.testing.assert_close(make_loss(Schedule(loss="dice", dice=dice))(logits, target), expected)
    both = make_loss(Schedule(dice=dice))(logits, target)
    torch.testing.assert_close(both, F.cross_entropy(logits, target) + expected)
    errors = 0.3 * (found - overlap) + 0.7 * (true - overlap)
    expected = (1 - (overlap + smooth) / (overlap + errors + smooth)).mean()
    torch.testing.assert_close(make_loss(Schedule(loss="tversky", dice=dice))(logits, target), expected)


def test_generalised_dice_equals_the_formula_written_out() -> None:
    logits, target = _example()
    axes = (0, 2, 3, 4)
    probabilities, onehot = logits.softmax(1), _onehot(target)
    weight = 1 / onehot.sum(axes) ** 2
    share = (weight * (probabilities * onehot).sum(axes)).sum() / (weight * (probabilities + onehot).sum(axes)).sum()
    torch.testing.assert_close(
        make_loss(Schedule(loss="generalized_dice"))(logits, target), 1 - 2 * share, rtol=1e-3, atol=1e-3
    )


def test_focal_equals_the_formula_written_out() -> None:
    logits, target = _example()
    true = logits.softmax(1).gather(1, target.unsqueeze(1))
    torch.testing.assert_close(
        make_loss(Schedule(loss="focal"))(logits, target), (-((1 - true) ** 2) * true.log()).mean()
    )


def test_regions_add_the_dice_of_the_union() -> None:
    logits, target = _example()
    with_union = make_loss(Schedule(regions=((1, 2),)))(logits, target)
    union, true = 1 - logits.softmax(1)[:, 0], (target > 0).float()
    expected = 1 - 2 * (union * true).sum() / (union.sum() + true.sum())
    torch.testing.assert_close(with_union - make_loss(Schedule())(logits, target), expected)


def test_boundary_forgives_a_rim_two_voxels_off_and_no_more() -> None:
    target = torch.zeros(1, 24, 24, dtype=torch.long)
    target[:, 6:16, 6:16] = 1
    values = [float(boundary(Voxels(50.0 * _onehot(target).roll(shift, dims=2)[:, :2], target))) for shift in range(5)]
    assert max(values[:3]) < 1e-4
    assert 0.1 < values[3] <= values[4] < 1


def test_boundary_knows_no_rim_beside_ignored_voxels() -> None:
    target = torch.ones(1, 16, 16, dtype=torch.long)
    target[:, 8:] = IGNORE
    nothing = 50.0 * _onehot(torch.zeros_like(target))[:, :2]
    assert float(boundary(Voxels(nothing, target))) == pytest.approx(0, abs=1e-5)
    target[:, :, :8] = 0  # now there is one, between the halves that are known
    assert float(boundary(Voxels(nothing, target))) > 0.3


def test_cldice_asks_more_of_a_broken_vessel_than_dice_does() -> None:
    target = torch.zeros(1, 20, 20, dtype=torch.long)
    target[:, 9:12, 2:18] = 1
    broken, thinner = target.clone(), target.clone()
    broken[:, 9:12, 8:12] = 0
    thinner[:, 9, 2:14] = 0  # as many voxels, from the side
    loss, dice = make_loss(Schedule(loss="cldice")), make_loss(Schedule(loss="dice_ce"))
    costs = [
        float(loss(logits, target) - dice(logits, target))
        for logits in (50.0 * _onehot(answer)[:, :2] for answer in (target, thinner, broken))
    ]
    assert costs[0] < 1e-3 and costs[2] > costs[1] + 0.05


def test_class_weights_weigh_the_cross_entropy() -> None:
    logits, target = _example()
    weights = torch.tensor([0.5, 1.0, 4.0])
    loss, plain = (make_loss(Schedule(loss="cross_entropy"), given) for given in (weights, None))
    torch.testing.assert_close(loss(logits, target), F.cross_entropy(logits, target, weight=weights))
    torch.testing.assert_close(plain(logits, target), F.cross_entropy(logits, target))


def test_voxel_weights_weigh_the_cross_entropy() -> None:
    logits, target = _example()
    weights = torch.rand(target.shape) + 0.1
    expected = (F.cross_entropy(logits, target, reduction="none") * weights).sum() / weights.sum()
    torch.testing.assert_close(make_loss(Schedule(loss="cross_entropy"))(logits, target, weights), expected)


@pytest.mark.parametrize("name", ["cross_entropy", "dice_ce", "focal"])
def test_label_smoothing_prefers_doubt_to_certainty_and_leaves_ignored_voxels_alone(name: str) -> None:
    _, target = _example()
    schedule = Schedule(loss=name, label_smoothing=0.1)
    loss = make_loss(schedule)
    sure, calm = (scale * _onehot(target) for scale in (50.0, 3.0))
    assert make_loss(Schedule(loss=name))(sure, target) < make_loss(Schedule(loss=name))(calm, target)
    if name != "focal":  # which cares little for voxels that are right
        assert loss(sure, target) > loss(calm, target)
    target[:, :3] = IGNORE
    calm.requires_grad_()
    (gradient,) = torch.autograd.grad(loss(calm, target), calm)
    assert gradient[:, :, :3].abs().max() == 0


def test_label_smoothing_equals_torchs() -> None:
    logits, target = _example()
    found = make_loss(Schedule(loss="cross_entropy", label_smoothing=0.1))(logits, target)
    torch.testing.assert_close(found, F.cross_entropy(logits, target, label_smoothing=0.1))


def test_class_weight_rules() -> None:
    assert class_weights([9, 1], "none") is None
    inverse = class_weights([90, 10, 0], "inverse")
    assert inverse is not None
    assert float(inverse[1] / inverse[0]) == pytest.approx(9)
    assert inverse[2] == inverse[1]  # a class that never occurs is weighed like the rarest that does
    log = class_weights([90, 10], "log")
    assert log is not None
    assert float(log.mean()) == pytest.approx(1)
    assert 1 < float(log[1] / log[0]) < 9


def test_deep_supervision_halves_the_weight_per_level() -> None:
    loss = make_loss(Schedule())
    logits, target = _example()
    coarse = torch.randn(2, 3, 3, 2, 2)
    small = F.interpolate(target[:, None].float(), size=(3, 2, 2), mode="nearest-exact")[:, 0].long()
    expected = (2 * loss(logits, target) + loss(coarse, small)) / 3
    torch.testing.assert_close(deep_supervised(loss, [logits, coarse], target), expected)
