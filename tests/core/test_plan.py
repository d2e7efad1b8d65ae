"""Plans as plain data: there and back, overrides checked by key and value."""

from __future__ import annotations

import json

import pytest

from medseg.core.errors import PlanError
from medseg.core.plan import (
    ChannelStats,
    Fingerprint,
    NetworkSpec,
    Normalization,
    Plan,
    fingerprint_from_plain,
    override,
    plan_from_plain,
    plan_keys,
    to_plain,
)

NETWORK = NetworkSpec("unet", 3, 1, 3, (8, 16), ((1, 1, 1), (2, 2, 2)), ((3, 3, 3), (3, 3, 3)))
PLAN = Plan("t", 3, (1.0, 1.0, 2.5), (Normalization("ct", -1000, 400, 0, 300),), (32, 32, 16), 2, NETWORK)
PRINT = Fingerprint(
    2, ((4, 5, 6),) * 2, ((1.0, 1.0, 2.0),) * 2, (ChannelStats(0, 1, 2, 1, 0.5, -1, 3),), {"a": 9.0},
    {"a": (0.1, 0.2, 0.3)}, 0.1, ("CT",),
)  # fmt: skip


def test_plain_data_and_back():
    assert plan_from_plain(json.loads(json.dumps(to_plain(PLAN)))) == PLAN
    assert fingerprint_from_plain(json.loads(json.dumps(to_plain(PRINT)))) == PRINT


def test_overrides_take_text_and_say_who_set_them():
    changed = override(
        PLAN, {"schedule.learning_rate": "0.01", "patch": "[16, 16, 8]", "network.norm": "batch", "batch": 4}
    )
    assert changed.schedule.learning_rate == 0.01 and changed.patch == (16, 16, 8)
    assert changed.network.norm == "batch" and changed.batch == 4
    assert changed.reasons["patch"] == "set by the user" and "batch" not in PLAN.reasons
    assert override(PLAN, {"window.skip_below": "null"}).window.skip_below is None


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("schedule.rate", "1", "there is no such key in a plan; there are task, ndim"),
        ("schedule", "1", "is a group; set one of schedule.steps"),
        ("reasons.patch", "x", "no such key"),
        ("spacing.x.y", "1", "no such key"),
        ("schedule.steps", "many", "schedule.steps"),
        ("network.norm", "layer", "network.norm"),
        ("patch", "[1, 2]", "patch"),
    ],
)
def test_wrong_overrides_are_refused(key, value, sentence):
    with pytest.raises(PlanError, match=sentence):
        override(PLAN, {key: value})


def test_every_key_but_the_reasons_can_be_set():
    keys = plan_keys(to_plain(PLAN))
    assert "network.features" in keys and "augment.elastic_sigma" in keys and not any("reasons" in key for key in keys)


def test_foreign_and_damaged_plans_are_refused():
    raw = to_plain(PLAN)
    with pytest.raises(PlanError, match=r"plan\.json: unknown key 'network\.depth'"):
        plan_from_plain({**raw, "network": {**raw["network"], "depth": 3}}, "plan.json")
    with pytest.raises(PlanError, match="plan: patch"):
        plan_from_plain({**raw, "patch": ["a", 1, 1]})
    with pytest.raises(PlanError, match="plan"):
        plan_from_plain([1, 2])
