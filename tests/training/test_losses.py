"""The loss: right figures, exact about ignored voxels, deep supervision weighted as documented."""

from __future__ import annotations

from typing import Literal

import pytest
import torch
import torch.nn.functional as F

from medseg.core.labels import IGNORE
from medseg.training.losses import DiceCrossEntropy, class_weights, deep_supervised


@pytest.fixture(scope="module", params=["batch", "sample"])
def loss(request: pytest.FixtureRequest) -> DiceCrossEntropy:
    return DiceCrossEntropy(dice=request.param)


def _example(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, 3, 6, 5, 4, generator=generator)
    return logits, torch.randint(0, 3, (2, 6, 5, 4), generator=generator)


@pytest.mark.parametrize(("dice", "axes", "smooth"), [("batch", (0, 2, 3, 4), 1e-5), ("sample", (2, 3, 4), 1.0)])
def test_equals_the_formulas_written_out(
    dice: Literal["batch", "sample"], axes: tuple[int, ...], smooth: float
) -> None:
    logits, target = _example()
    probabilities, onehot = logits.softmax(1), F.one_hot(target, 3).movedim(-1, 1).float()
    overlap = (probabilities * onehot).sum(axes)[..., 1:]
    sizes = (probabilities + onehot).sum(axes)[..., 1:]
    expected = (1 - (2 * overlap + smooth) / (sizes + smooth)).mean()
    found = DiceCrossEntropy(dice=dice)(logits, target)
    torch.testing.assert_close(found, F.cross_entropy(logits, target) + expected)


def test_a_perfect_prediction_costs_nothing(loss: DiceCrossEntropy) -> None:
    _, target = _example()
    logits = 50.0 * F.one_hot(target, 3).movedim(-1, 1).float()
    assert float(loss(logits, target)) < 1e-4


def test_ignored_voxels_have_no_gradient_and_no_say(loss: DiceCrossEntropy) -> None:
    logits, target = _example()
    target[:, :3] = IGNORE
    logits.requires_grad_()
    value = loss(logits, target)
    (gradient,) = torch.autograd.grad(value, logits)
    assert gradient[:, :, :3].abs().max() == 0
    assert gradient[:, :, 3:].abs().min() > 0
    other = logits.detach().clone()
    other[:, :, :3] = 99.0
    torch.testing.assert_close(loss(other, target), value.detach())


def test_a_batch_of_ignored_voxels_only_is_harmless(loss: DiceCrossEntropy) -> None:
    logits, target = _example()
    logits.requires_grad_()
    value = loss(logits, torch.full_like(target, IGNORE))
    (gradient,) = torch.autograd.grad(value, logits)
    assert torch.isfinite(value) and gradient.abs().max() == 0


def test_class_weights_weigh_the_cross_entropy() -> None:
    logits, target = _example()
    weights = torch.tensor([0.5, 1.0, 4.0])
    difference = DiceCrossEntropy(weights)(logits, target) - DiceCrossEntropy()(logits, target)
    expected = F.cross_entropy(logits, target, weight=weights) - F.cross_entropy(logits, target)
    torch.testing.assert_close(difference, expected)


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


def test_deep_supervision_halves_the_weight_per_level(loss: DiceCrossEntropy) -> None:
    logits, target = _example()
    coarse = torch.randn(2, 3, 3, 2, 2)
    small = F.interpolate(target[:, None].float(), size=(3, 2, 2), mode="nearest-exact")[:, 0].long()
    expected = (2 * loss(logits, target) + loss(coarse, small)) / 3
    torch.testing.assert_close(deep_supervised(loss, [logits, coarse], target), expected)
