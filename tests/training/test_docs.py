"""docs/training.md is true: it explains every loss, and the keys it names exist."""

from __future__ import annotations

import re
from pathlib import Path

from medseg.core.plan import NetworkSpec, Normalization, Plan, plan_keys, to_plain
from medseg.training.losses import LOSSES

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "training.md").read_text(encoding="utf-8")
NETWORK = NetworkSpec("unet", 3, 1, 3, (8, 16), ((1, 1, 1), (2, 2, 2)), ((3, 3, 3), (3, 3, 3)))
PLAN = Plan("t", 3, (1.0, 1.0, 2.5), (Normalization("ct"),), (32, 32, 16), 2, NETWORK)


def test_every_loss_has_its_row() -> None:
    assert re.findall(r"^\| `(\w+)` \|", PAGE, flags=re.MULTILINE)[: len(LOSSES)] == list(LOSSES)


def test_every_key_of_the_page_is_one_of_the_plan() -> None:
    named = set(re.findall(r"\b((?:schedule|augment)\.\w+)", PAGE))
    assert named <= set(plan_keys(to_plain(PLAN)))
    sampling_and_mixing = {"schedule.boundary", "schedule.balance", "augment.cutmix_probability"}
    assert named >= {"schedule.loss", "schedule.label_smoothing", "schedule.regions", *sampling_and_mixing}
