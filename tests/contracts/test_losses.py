"""What every loss must do. A new one inherits `LossContract` under its name."""

from __future__ import annotations

from typing import ClassVar, Literal

import pytest
import torch
import torch.nn.functional as F

from medseg.core.errors import PlanError
from medseg.core.labels import IGNORE
from medseg.core.plan import Schedule
from medseg.training.losses import LOSSES, TERMS, Loss, make_loss

SHAPES = {"2d": (2, 12, 10), "3d": (2, 8, 7, 6)}


class LossContract:
    """Inherited once per loss; batches of two samples with three classes, in 2D and 3D."""

    name: ClassVar[str]

    @pytest.fixture(params=["batch", "sample"])
    def loss(self, request: pytest.FixtureRequest) -> Loss:
        return make_loss(self.schedule(request.param))

    @pytest.fixture(params=list(SHAPES))
    def target(self, request: pytest.FixtureRequest) -> torch.Tensor:
        """A box of label 1 with one of label 2 inside it, elsewhere in each sample."""
        target = torch.zeros(SHAPES[request.param], dtype=torch.long)
        for sample, at in enumerate((1, 2)):
            target[sample, at : at + 5, at : at + 4] = 1
            target[sample, at + 1 : at + 3, at + 1 : at + 3] = 2
        return target

    def schedule(self, dice: Literal["batch", "sample"]) -> Schedule:
        return Schedule(loss=self.name, dice=dice)

    def logits(self, target: torch.Tensor, seed: int = 0) -> torch.Tensor:
        shape = (len(target), 3, *target.shape[1:])
        return torch.randn(shape, generator=torch.Generator().manual_seed(seed), requires_grad=True)

    def test_ignored_voxels_have_no_gradient_and_no_say(self, loss: Loss, target: torch.Tensor) -> None:
        logits = self.logits(target)
        ignored = target.clone()
        ignored[:, 2:5] = IGNORE
        value = loss(logits, ignored)
        (gradient,) = torch.autograd.grad(value, logits)
        assert gradient[:, :, 2:5].abs().max() == 0
        assert gradient.abs().max() > 0
        other = logits.detach().clone()
        other[:, :, 2:5] = 99.0
        torch.testing.assert_close(loss(other, ignored), value.detach())

    def test_a_weight_of_zero_is_as_good_as_ignored(self, loss: Loss, target: torch.Tensor) -> None:
        logits = self.logits(target)
        weights = torch.ones(target.shape)
        weights[:, 2:5] = 0
        ignored = target.clone()
        ignored[:, 2:5] = IGNORE
        torch.testing.assert_close(loss(logits, target, weights), loss(logits, ignored))

    def test_weights_of_one_change_nothing(self, loss: Loss, target: torch.Tensor) -> None:
        logits = self.logits(target)
        assert torch.equal(loss(logits, target, torch.ones(target.shape)), loss(logits, target))

    def test_a_batch_of_ignored_voxels_only_is_harmless(self, loss: Loss, target: torch.Tensor) -> None:
        logits = self.logits(target)
        value = loss(logits, torch.full_like(target, IGNORE))
        (gradient,) = torch.autograd.grad(value, logits)
        assert torch.isfinite(value) and gradient.abs().max() == 0

    def test_a_batch_of_background_only_is_finite(self, loss: Loss, target: torch.Tensor) -> None:
        logits = self.logits(target)
        value = loss(logits, torch.zeros_like(target))
        (gradient,) = torch.autograd.grad(value, logits)
        assert torch.isfinite(value) and torch.isfinite(gradient).all()

    def test_a_perfect_prediction_is_the_minimum(self, loss: Loss, target: torch.Tensor) -> None:
        perfect = 50.0 * F.one_hot(target, 3).movedim(-1, 1).float()
        least = float(loss(perfect, target))
        assert 0 <= least < 1e-3
        for seed in range(5):
            assert float(loss(self.logits(target, seed).detach(), target)) > least + 0.01
        shifted = perfect.roll(1, dims=2)
        assert float(loss(shifted, target)) > least

    def test_steps_down_the_gradient_lower_it(self, loss: Loss, target: torch.Tensor) -> None:
        logits = self.logits(target)
        values = []
        for _ in range(10):
            value = loss(logits, target)
            (gradient,) = torch.autograd.grad(value, logits)
            logits = (logits - gradient / gradient.abs().max() * 0.1).detach().requires_grad_()
            values.append(float(value.detach()))
        assert values == sorted(values, reverse=True) and values[-1] < values[0] - 0.005

    def test_half_precision_logits_give_a_float32_loss(self, loss: Loss, target: torch.Tensor) -> None:
        logits = self.logits(target).detach()
        value = loss(logits.bfloat16(), target)
        assert value.dtype == torch.float32 and value.ndim == 0
        torch.testing.assert_close(value, loss(logits, target), rtol=0.02, atol=0.02)

    def test_the_order_of_the_samples_does_not_matter(self, loss: Loss, target: torch.Tensor) -> None:
        logits = self.logits(target)
        torch.testing.assert_close(loss(logits.flip(0), target.flip(0)), loss(logits, target))

    def test_one_tiny_answer_of_deep_supervision_is_no_problem(self, loss: Loss) -> None:
        for spatial in ((1, 1), (1, 2, 1)):
            logits = torch.randn(1, 3, *spatial, requires_grad=True)
            (gradient,) = torch.autograd.grad(loss(logits, torch.ones(1, *spatial, dtype=torch.long)), logits)
            assert torch.isfinite(gradient).all()


class TestDiceCrossEntropy(LossContract):
    name = "dice_ce"


class TestCrossEntropy(LossContract):
    name = "cross_entropy"


class TestDice(LossContract):
    name = "dice"


class TestFocal(LossContract):
    name = "focal"


class TestDiceFocal(LossContract):
    name = "dice_focal"


class TestTversky(LossContract):
    name = "tversky"


class TestGeneralizedDice(LossContract):
    name = "generalized_dice"


class TestBoundary(LossContract):
    name = "boundary"


class TestClDice(LossContract):
    name = "cldice"


class TestRegions(LossContract):
    name = "dice_ce"

    def schedule(self, dice: Literal["batch", "sample"]) -> Schedule:
        return Schedule(dice=dice, regions=((1, 2),))


def test_every_loss_and_every_term_is_held_to_the_contract() -> None:
    assert {suite.name for suite in LossContract.__subclasses__()} == set(LOSSES)
    assert {term for terms in LOSSES.values() for term in terms} | {"regions"} == set(TERMS)


def test_unknown_name_lists_those_there_are() -> None:
    with pytest.raises(PlanError, match=r"schedule\.loss: there is no loss 'lovasz'; there are dice_ce, cross_entropy"):
        make_loss(Schedule(loss="lovasz"))


def test_label_smoothing_out_of_range_is_refused() -> None:
    with pytest.raises(PlanError, match=r"schedule\.label_smoothing must be at least 0 and below 1, not 1"):
        make_loss(Schedule(label_smoothing=1.0))
