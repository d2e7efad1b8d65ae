"""What a bundle learns from the held-out cases that are scored at the end of a training."""

from __future__ import annotations

import json
from pathlib import Path

from medseg.core.case import Case
from medseg.core.plan import to_plain
from medseg.core.quality import Calibration, Evidence, HeldOut
from medseg.evaluation.score import CaseScores, LabelScore
from medseg.metrics.confusion import Counts
from medseg.workflows.scoring import Scored, calibration_of


def scored(name: str, dice: float | None, evidence: Evidence | None) -> Scored:
    row = LabelScore("a", Counts(0, 0, 0), {"dice": dice, "iou": dice}, 0.0, 0.0)
    return Scored(Case(name, name, ()), CaseScores(name, (row,)), Path(f"{name}.nii.gz"), evidence)


def test_held_out_cases_are_kept_by_dice_and_without_their_names() -> None:
    sure, unsure = Evidence(0.9, {"a": 0.9}, {"a": 0.8}), Evidence(0.6, {"a": 0.5}, {"a": 0.4})
    cases = [
        scored("patient_1", 0.9123456789, sure),
        scored("patient_2", None, Evidence()),  # rightly empty
        scored("patient_3", 0.25, unsure),
        scored("patient_4", 0.0, None),  # refused by the gate: nothing was predicted
    ]
    calibration = calibration_of(cases)
    assert calibration == Calibration((HeldOut(0.25, unsure), HeldOut(0.912346, sure), HeldOut(None, Evidence())))
    assert "patient" not in json.dumps(to_plain(calibration))
