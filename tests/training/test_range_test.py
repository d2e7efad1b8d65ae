"""The range test: how it sweeps, what it chooses, and when it says nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from medseg.core.errors import UsageError
from medseg.core.geometry import Geometry
from medseg.core.labels import mirrored_values
from medseg.core.machine import machine
from medseg.core.plan import ChannelStats, Fingerprint
from medseg.core.task import parse_task
from medseg.data.cache import PreparedCase
from medseg.nets import build
from medseg.planning import plan
from medseg.preprocess import trace_of
from medseg.training.batches import make_batches
from medseg.training.range_test import Limit, Trial, choose_rate, range_test

SHAPE = (16, 16, 1)


@pytest.fixture
def trial() -> Trial:
    """A tiny network that learns a bright square."""
    task = parse_task({"name": "t", "modality": "microscopy", "dimensions": 2, "labels": {"square": 1}}, "test")
    prints = Fingerprint(1, (SHAPE,), ((1.0, 1.0, 1.0),), (ChannelStats(0, 1, 2, 1, 1, 0, 2),), {}, {}, 0.1)
    changes = {"network.features": "[4, 4]", "network.strides": "[[1,1],[2,2]]", "network.kernels": "[[3,3],[3,3]]",
               "patch": "[16, 16, 1]", "batch": "2"}  # fmt: skip
    planned = plan(prints, task, machine("cpu", 2), changes)
    label = np.zeros(SHAPE, dtype=np.uint8)
    label[4:12, 4:12] = 1
    image = (label + np.random.default_rng(0).normal(0, 0.1, SHAPE))[None].astype(np.float32)
    trace = trace_of(Geometry.from_spacing((1, 1, 1), SHAPE), planned)
    centers = {1: np.argwhere(label == 1).astype(np.int32)}
    case = PreparedCase("a", "a", image, label, trace, centers, "")
    batches = make_batches(planned, [case], mirrored_values(task.label_table()), torch.device("cpu"))
    torch.manual_seed(0)
    return Trial(planned, build(planned.network), batches, None, torch.float32)


def test_the_rate_rises_from_a_hundredth_to_thirty_times_the_plans(trial: Trial) -> None:
    base = trial.plan.schedule.learning_rate
    found = range_test(trial, Limit(20, None))
    assert 16 <= len(found.rates) <= 20 and list(found.rates) == sorted(found.rates)
    assert found.rates[0] == pytest.approx(base / 100) and found.rates[-1] <= 30 * base
    assert base / 10 <= found.chosen <= 3 * base and "range test of" in found.reason


def test_few_steps_keep_the_plans_rate_and_say_so(trial: Trial) -> None:
    found = range_test(trial, Limit(5, None))
    assert len(found.rates) == 5 and found.chosen == trial.plan.schedule.learning_rate and "too few" in found.reason


def test_no_step_at_all_is_no_error(trial: Trial) -> None:
    assert range_test(trial, Limit(0, None)).rates == ()


def test_time_ends_the_test(trial: Trial) -> None:
    found = range_test(trial, Limit(None, 0.5))
    assert found.rates and found.seconds < 30


def test_a_limit_is_needed() -> None:
    with pytest.raises(UsageError, match="needs a limit"):
        Limit(None, None)


def test_a_tenth_of_the_rate_at_the_lowest_loss_is_chosen() -> None:
    rates = [1e-5 * 10 ** (step / 8) for step in range(30)]
    losses = [2 - 0.04 * step if step < 24 else 3.0 for step in range(30)]
    chosen, reason = choose_rate(rates, losses, 1e-3)
    assert chosen == pytest.approx(rates[23] / 10, rel=1e-2) and "held" not in reason


@pytest.mark.parametrize(("base", "expected"), [(1e-5, 3e-5), (1.0, 0.1)])
def test_the_choice_stays_near_the_plans_rate(base: float, expected: float) -> None:
    rates = [1e-5 * 10 ** (step / 8) for step in range(30)]
    chosen, reason = choose_rate(rates, [2 - 0.04 * step for step in range(30)], base)
    assert chosen == pytest.approx(expected) and "held within" in reason
