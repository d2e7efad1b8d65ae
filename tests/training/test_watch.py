"""The figure shown during training is the one that prediction would give."""

from __future__ import annotations

import numpy as np
import pytest
import torch

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
from medseg.training.watch import Watcher

SHAPE = (16, 12, 10)


def _watcher(flips: bool) -> Watcher:
    labels = {"left": {"value": 1, "mirror": "right"}, "right": {"value": 2, "mirror": "left"}}
    task = parse_task({"name": "t", "modality": "MR", "labels": labels}, "test")
    prints = Fingerprint(3, (SHAPE,) * 3, ((1.0, 1.0, 1.0),) * 3, (ChannelStats(0, 1, 2, 1, 1, 0, 2),), {}, {}, 0.1)
    changes = {
        "network.features": "[4, 4]",
        "network.strides": "[[1,1,1],[2,2,2]]",
        "network.kernels": "[[3,3,3],[3,3,3]]",
        "patch": "[16, 12, 10]",
        "window.flips": flips,
        "schedule.precision": "float32",
    }
    planned = plan(prints, task, machine("cpu", 3), changes)
    image = np.random.default_rng(0).normal(size=(1, *SHAPE)).astype(np.float32)
    label = np.zeros(SHAPE, dtype=np.uint8)
    label[:8], label[8:] = 1, 2
    trace = trace_of(Geometry.from_spacing((1, 1, 1), SHAPE), planned)
    case = PreparedCase("a", "a", image, label, trace, {}, "")
    batches = make_batches(planned, [case], mirrored_values(task.label_table()), torch.device("cpu"))
    return Watcher([case], batches, torch.float32)


def test_flipped_answers_exchange_left_and_right() -> None:
    """A network that says 'left' wherever x runs low knows its sides; flips must not make it forget them."""

    class Sides(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            place = torch.arange(x.shape[2], dtype=torch.float32).view(1, 1, -1, 1, 1).expand(len(x), 1, *x.shape[2:])
            left = (place < 8).float() * 9
            return torch.cat([torch.zeros_like(left), left, 9 - left], dim=1)

        def load_state_dict(self, *_: object, **__: object) -> None:  # type: ignore[override]  # it has no weights
            return

    for flips in (False, True):
        watcher = _watcher(flips)
        watcher.network = Sides()
        assert watcher({}) == pytest.approx(1.0)


def test_it_scores_given_weights_and_tells_what_a_case_costs() -> None:
    watcher = _watcher(True)
    torch.manual_seed(1)
    dice = watcher(build(watcher.plan.network).state_dict())
    assert dice is not None and 0 <= dice <= 1
    assert watcher.seconds > 0
