"""Which answers a person should look at, and why."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from medseg.core.case import Outcome, Prediction, Scan, Source, Status
from medseg.core.geometry import Geometry
from medseg.core.plan import Fingerprint
from medseg.core.quality import Calibration, Evidence, HeldOut
from medseg.core.volume import LabelMap, Volume
from medseg.inference.calibration import Estimator
from medseg.inference.gate import implausible, judge

PASSED = Outcome(Status.OK)
TRAINED = Fingerprint(8, (), (), (), {}, {"liver": (1000.0, 1500.0, 2000.0), "spleen": (0.0, 0.0, 0.0)}, 0.1)


def evidence_of(sure: float = 0.9, liver: float = 1500.0, pieces: int = 1) -> Evidence:
    return Evidence(sure, {"liver": sure}, {"liver": sure - 0.05}, {"liver": liver}, {"liver": pieces})


HELD_OUT = tuple(HeldOut(0.5 + 0.03 * n, evidence_of(0.7 + 0.02 * n, pieces=1 + n % 2)) for n in range(14))


def prediction_of(evidence: Evidence | None, outcome: Outcome = PASSED, kind: str = "nifti") -> Prediction:
    geometry = Geometry(np.eye(4), (2, 2, 2))
    scan = Scan(Source(Path("s"), (Path("s"),), kind, "s"), Volume(np.zeros((1, 2, 2, 2), np.float32), geometry))
    return Prediction(LabelMap(np.zeros((2, 2, 2), np.uint8), geometry), scan, outcome, 0.9, evidence=evidence)


def judged(evidence: Evidence | None, cases: tuple[HeldOut, ...] = HELD_OUT, **keys: Outcome | str) -> Prediction:
    return judge(prediction_of(evidence, **keys), TRAINED, Estimator(Calibration(cases)))  # type: ignore[arg-type]  # as given


def test_a_sure_and_plausible_answer_passes_with_its_expected_dice() -> None:
    found = judged(evidence_of(0.95))
    assert found.outcome == Outcome(Status.OK)
    assert found.expected is not None and 0.8 < found.expected.low < found.expected.dice < found.expected.high


def test_an_unsure_answer_is_reviewed_with_the_numbers() -> None:
    found = judged(evidence_of(0.7))
    assert found.outcome.status is Status.REVIEW
    assert found.expected is not None
    assert f"a Dice of {found.expected.dice:.2f} ({found.expected.low:.2f} to " in found.outcome.reason
    assert "as low as the worst held-out cases'" in found.outcome.reason


def test_earlier_reasons_stay_and_refusals_are_left_alone() -> None:
    doubt = Outcome(Status.REVIEW, "it is odd")
    assert judged(evidence_of(0.7), outcome=doubt).outcome.reason.startswith("it is odd; a Dice of 0.")
    assert judged(evidence_of(0.95), outcome=doubt).outcome == doubt
    refused = Outcome(Status.REFUSED, "no")
    assert judged(None, outcome=refused).outcome == refused
    assert judged(None, outcome=refused).expected is None


@pytest.mark.parametrize(("liver", "odd"), [(499.0, True), (501.0, False), (3999.0, False), (4001.0, True)])
def test_volumes_beyond_twice_the_training_range_are_reviewed_but_in_pictures(liver: float, odd: bool) -> None:
    found = judged(evidence_of(0.95, liver))
    assert (found.outcome.status is Status.REVIEW) is odd
    if odd:
        assert f"its liver of {liver:.4g} ml is far outside the training cases' (1000…2000 ml)" == found.outcome.reason
    assert judged(evidence_of(0.95, liver), kind="image").outcome.status is Status.OK


def test_more_than_twice_the_pieces_of_any_held_out_case_are_reviewed() -> None:
    assert judged(evidence_of(0.95, pieces=4)).outcome.status is Status.OK
    assert judged(evidence_of(0.95, pieces=5)).outcome.reason == (
        "its liver lies in 5 pieces, in the held-out cases in 2 at most"
    )
    assert judged(evidence_of(0.95, pieces=5), cases=HELD_OUT[:3]).outcome.status is Status.OK  # too few to know


def test_a_label_that_every_held_out_case_has_must_not_be_missing() -> None:
    found = judged(Evidence())
    assert found.expected is None
    assert found.outcome == Outcome(Status.REVIEW, "it lacks liver, found in each of the 14 held-out cases")
    mixed = (*HELD_OUT, HeldOut(None, Evidence()), HeldOut(0.9, replace(evidence_of(), volumes_ml={"spleen": 1.0})))
    assert judged(Evidence(), cases=mixed).outcome.status is Status.OK


def test_nothing_found_is_reviewed_where_that_was_wrong_before() -> None:
    right, wrong = HeldOut(None, Evidence()), HeldOut(0.0, Evidence())
    assert implausible(Evidence(), Calibration((*HELD_OUT, right, right)), TRAINED) == []
    assert implausible(Evidence(), Calibration((*HELD_OUT, right, wrong)), TRAINED) == [
        "nothing was found, which was wrong in 1 of 2 such held-out cases"
    ]


def test_without_a_calibration_only_volumes_are_judged() -> None:
    assert judged(evidence_of(0.6), cases=()).outcome == Outcome(Status.OK)
    assert judged(evidence_of(0.6), cases=()).expected is None
    assert judged(evidence_of(0.6, 10.0), cases=()).outcome.status is Status.REVIEW
