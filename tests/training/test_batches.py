"""Batches are a pure function of seed and step; what is not asked for draws nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from medseg.core.geometry import Geometry
from medseg.core.labels import IGNORE, mirrored_values
from medseg.core.machine import machine
from medseg.core.plan import ChannelStats, Fingerprint, Plan, Schedule, override
from medseg.core.task import parse_task
from medseg.data.cache import PreparedCase
from medseg.planning import plan
from medseg.preprocess import trace_of
from medseg.training.batches import Batch, Batches, home_of, make_batches
from medseg.training.losses import batch_loss, deep_supervised, make_loss

SHAPE = (16, 12, 10)
TASK = parse_task({"name": "t", "modality": "MR", "labels": {"common": 1, "rare": 2}}, "test")


@pytest.fixture(scope="module")
def planned() -> Plan:
    prints = Fingerprint(3, (SHAPE,) * 3, ((1.0, 1.0, 1.0),) * 3, (ChannelStats(0, 1, 2, 1, 1, 0, 2),), {}, {}, 0.1)
    changes = {
        "network.features": "[4, 4]",
        "network.strides": "[[1,1,1],[2,2,2]]",
        "network.kernels": "[[3,3,3],[3,3,3]]",
        "patch": "[8, 8, 6]",
        "batch": "3",
    }
    return plan(prints, TASK, machine("cpu", 3), changes)


def batches(planned: Plan, **changes: object) -> Batches:
    """Batches of ten cases, of which only the last holds the rare label."""
    planned = override(planned, {key.replace("__", "."): value for key, value in changes.items()})
    cases = []
    for number in range(10):
        image = np.random.default_rng(number).normal(size=(1, *SHAPE)).astype(np.float32)
        label = np.zeros(SHAPE, dtype=np.uint8)
        label[4:9, 3:8, 2:6] = 1
        if number == 9:
            label[12, 9, 8] = 2
        centers = {value: np.argwhere(label == value).astype(np.int32) for value in (1, 2)}
        trace = trace_of(Geometry.from_spacing((1, 1, 1), SHAPE), planned)
        cases.append(PreparedCase(str(number), str(number), image, label, trace, centers, ""))
    return make_batches(planned, cases, mirrored_values(TASK.label_table()), torch.device("cpu"))


def alike(one: Batch, other: Batch) -> bool:
    return torch.equal(one.images, other.images) and torch.equal(one.targets, other.targets)


def test_a_batch_is_a_pure_function_of_seed_and_step(planned: Plan) -> None:
    everything = {
        "augment__cutmix_probability": 0.5,
        "augment__mixup_probability": 1.0,
        "augment__copy_paste_probability": 0.5,
        "schedule__balance": 0.5,
        "schedule__boundary": 0.5,
    }
    one, other = batches(planned, **everything), batches(planned, **everything)
    one(3)  # whatever was drawn before
    first, second = one(7), other(7)
    assert alike(first, second)
    assert first.second is not None and second.second is not None
    assert torch.equal(first.second.targets, second.second.targets) and first.second.share == second.second.share
    assert not alike(first, batches(planned, **everything, schedule__seed=1)(7))


def test_mixing_leaves_all_other_draws_as_they_are(planned: Plan) -> None:
    plain, mixed = batches(planned)(2), batches(planned, augment__mixup_probability=1.0)(2)
    assert plain.second is None and mixed.second is not None
    assert torch.equal(plain.targets, mixed.targets)  # MixUp keeps a sample's own answer
    assert sorted(map(float, mixed.second.targets.sum((1, 2, 3)))) == sorted(map(float, plain.targets.sum((1, 2, 3))))
    assert not torch.equal(plain.images, mixed.images)


def test_balance_draws_the_case_with_the_rare_label_more_often(planned: Plan) -> None:
    shares = []
    for balance in (0.0, 0.5, 1.0):
        made = batches(planned, schedule__balance=balance)
        drawn = [made._case_at(place) for place in range(600)]
        shares.append(np.mean([case == 9 for case in drawn]))
    # Half of all draws name the rare label, and the common one finds this case among the ten as well.
    assert shares[0] == pytest.approx(0.1) and shares[2] == pytest.approx(0.55, abs=0.06)
    assert shares[1] == pytest.approx((shares[0] + shares[2]) / 2, abs=0.06)


def test_the_loss_of_a_mixed_up_batch_is_that_of_both_answers(planned: Plan) -> None:
    batch = batches(planned, augment__mixup_probability=1.0)(0)
    assert batch.second is not None
    logits = torch.randn(3, 3, 8, 8, 6, generator=torch.Generator().manual_seed(0))
    loss, share = make_loss(Schedule(loss="cross_entropy")), batch.second.share
    own, other = (deep_supervised(loss, [logits], targets) for targets in (batch.targets, batch.second.targets))
    torch.testing.assert_close(batch_loss(loss, logits, batch), (1 - share) * own + share * other)
    assert batch_loss(loss, [logits], Batch(batch.images, batch.targets)) == own


def test_mixing_of_patches_beyond_the_scan_keeps_ignored_voxels_ignored(planned: Plan) -> None:
    still = {f"augment__{name}_probability": 0.0 for name in ("rotation", "scale", "elastic")}
    asked = {"patch": "[24, 16, 12]", "augment__cutmix_probability": 1.0, **still}
    batch = batches(planned, **asked)(0)
    assert batch.images.shape[2:] == (24, 16, 12)
    assert (batch.targets[:, 0] == IGNORE).all() and set(batch.targets.unique().tolist()) <= {0, 1, 2, IGNORE}


@pytest.mark.parametrize(("free", "home"), [(10**9, "cuda"), (10**4, "cpu")])
def test_cases_stay_on_the_host_where_a_gpu_has_no_room_for_them(
    planned: Plan, monkeypatch: pytest.MonkeyPatch, free: int, home: str
) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 10**10))
    cases = batches(planned).cases
    assert home_of(cases, torch.device("cuda")).type == home
    assert home_of(cases, torch.device("cpu")).type == "cpu"
