"""Which learning rate suits a network: a short run in which it rises until the loss does too."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import torch

from medseg.core.errors import UsageError
from medseg.core.plan import Plan
from medseg.training.batches import Batches
from medseg.training.fit import MAX_GRADIENT_NORM, add_gradients, make_optimizer
from medseg.training.losses import make_loss

_BELOW, _ABOVE = 100.0, 30.0  # the sweep's ends, as factors of the plan's rate
_SMOOTHING = 0.85  # of the loss: the moving average's decay
_DIVERGED = 1.5  # times the lowest loss so far: what follows tells nothing any more
FEWEST = 16  # steps below which the curve is noise


@dataclass(frozen=True, slots=True)
class RangeTest:
    """What a sweep showed.

    rates and losses (smoothed): one each step; chosen: the rate to train with; reason: why that one;
    seconds: that the test took.
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    chosen: float
    reason: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Limit:
    """The test is over after so many steps or seconds, whichever comes first.

    Raises UsageError where neither is given.
    """

    steps: int | None
    seconds: float | None

    def __post_init__(self) -> None:
        if self.steps is None and self.seconds is None:
            raise UsageError("a range test needs a limit in steps or in seconds")


@dataclass(frozen=True, slots=True, eq=False)
class Trial:
    """What is tried: as the training will have it, but for the network, which is spoilt by it."""

    plan: Plan
    network: torch.nn.Module
    batches: Batches
    class_weights: torch.Tensor | None
    precision: torch.dtype


def range_test(trial: Trial, limit: Limit) -> RangeTest:
    """Raise the rate exponentially from 1/100 to 30 times the plan's; a tenth of where the loss is lowest is chosen.

    The choice stays between a tenth and three times
    the plan's rate, which is kept where the limit leaves fewer than 16 steps.
    Source: Smith 2017, Cyclical Learning Rates for Training Neural Networks, section 3.3.
    """
    started = time.monotonic()
    schedule, device = trial.plan.schedule, trial.batches.device
    base = schedule.learning_rate
    network = trial.network.to(device).train()
    optimizer = make_optimizer(network, schedule)
    loss_function = make_loss(schedule, trial.class_weights).to(device)
    rates: list[float] = []
    losses: list[float] = []
    average, lowest = 0.0, math.inf
    begun = time.monotonic()  # what was set up above, the training will need again
    while (progress := _progress(limit, len(rates), begun)) < 1.0:
        rate = base / _BELOW * (_BELOW * _ABOVE) ** progress
        for group in optimizer.param_groups:
            group["lr"] = rate
        network.zero_grad(set_to_none=True)
        loss = add_gradients(network, loss_function, trial.batches(len(rates)), trial.precision)
        torch.nn.utils.clip_grad_norm_(network.parameters(), MAX_GRADIENT_NORM)
        optimizer.step()
        average = _SMOOTHING * average + (1 - _SMOOTHING) * float(loss)
        smoothed = average / (1 - _SMOOTHING ** (len(rates) + 1))
        if not math.isfinite(smoothed):
            break
        rates.append(rate)
        losses.append(smoothed)
        lowest = min(lowest, smoothed)
        if len(rates) >= FEWEST and smoothed > _DIVERGED * lowest:
            break
    chosen, reason = choose_rate(rates, losses, base)
    return RangeTest(tuple(rates), tuple(losses), chosen, reason, time.monotonic() - started)


def choose_rate(rates: list[float], losses: list[float], base: float) -> tuple[float, str]:
    """A tenth of the rate at the lowest smoothed loss, not far from `base`; and the sentence that says so."""
    if len(rates) < FEWEST:
        return base, f"the plan's own: {len(rates)} steps are too few for a range test"
    # The average's first values are hardly smoothed, and low by chance as easily as by learning.
    best = min(range(FEWEST // 2, len(losses)), key=losses.__getitem__)
    wished = rates[best] / 10
    chosen = min(max(wished, base / 10), 3 * base)
    bound = "" if chosen == wished else ", held within a tenth and three times of the plan's"
    chosen = float(f"{chosen:.3g}")
    told = f"a tenth of {rates[best]:.2g}, where the loss of a range test of {len(rates)} steps is lowest"
    return chosen, told + bound


def _progress(limit: Limit, step: int, started: float) -> float:
    by_steps = step / limit.steps if limit.steps else float(limit.steps == 0)
    by_time = (time.monotonic() - started) / limit.seconds if limit.seconds else 0.0
    return max(by_steps, by_time)
