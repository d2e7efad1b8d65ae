"""Scores and reports against figures worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medseg.core.errors import DataError
from medseg.core.geometry import Geometry
from medseg.core.labels import Label
from medseg.core.volume import LabelMap
from medseg.evaluation.report import build_report, case_table, representative_cases
from medseg.evaluation.score import CaseScores, label_score, score_case
from medseg.evaluation.statistics import bootstrap_interval
from medseg.metrics.case import LabelMeasurements
from medseg.metrics.confusion import Counts
from medseg.metrics.volume import Volumes


def _case(name: str, *dice_percent: int) -> CaseScores:
    """A case whose labels have these Dice values in percent; below 0 for absent in both."""
    counts = [Counts(p, 100 - p, 100 - p) if p >= 0 else Counts(0, 0, 0) for p in dice_percent]
    measured = [LabelMeasurements(c, Volumes(c.predicted / 1000, c.reference / 1000)) for c in counts]
    return CaseScores(name, tuple(label_score(str(n), one) for n, one in enumerate(measured)))


def test_one_case_by_hand(toy_scores: list[CaseScores]) -> None:
    one, two = toy_scores[0].labels
    assert one.counts == Counts(2, 2, 2, 26)
    assert (one.dice, one.iou) == (0.5, pytest.approx(1 / 3))
    assert (one.volume_ml, one.reference_volume_ml) == (pytest.approx(0.008), pytest.approx(0.008))
    assert (two.dice, two.iou, two.reason) == (None, None, "absent in both")
    assert toy_scores[0].mean_dice == 0.5


def test_summary_by_hand(toy_scores: list[CaseScores]) -> None:
    summary = build_report(toy_scores, "validation").summary
    assert summary["mean_dice"] == pytest.approx((1.5 / 3 + 0.8 / 2) / 2)
    assert summary["mean_iou"] == pytest.approx(((1 / 3 + 0 + 1) / 3 + (0 + 2 / 3) / 2) / 2)
    assert summary["dataset_mean_dice"] == pytest.approx((8 / 11 + 8 / 13) / 2)
    assert summary["dataset_miou"] == pytest.approx((4 / 7 + 4 / 9) / 2)
    counts = {key: summary[key] for key in ("n_cases", "n_defined", "n_both_empty", "n_empty_reference", "n_missed")}
    assert counts == {"n_cases": 3, "n_defined": 5, "n_both_empty": 1, "n_empty_reference": 1, "n_missed": 1}
    assert summary["per_label"]["one"]["spread"] == {"n": 3, "min": 0.0, "median": 0.5, "max": 1.0}
    assert summary["spread"] == {"n": 3, "min": 0.0, "median": 0.5, "max": pytest.approx(0.9)}


def test_reasons_and_outcomes_reach_the_cases(toy_scores: list[CaseScores]) -> None:
    cases = case_table(build_report(toy_scores, "validation"))
    assert [case["id"] for case in cases] == ["a", "b", "c"]
    assert cases[1]["labels"]["one"]["reason"] == "in the reference, but missed"
    assert cases[1]["labels"]["two"]["reason"] == "predicted, but not in the reference"
    assert [case.get("outcome") for case in cases] == [None, None, "review: odd"]


def test_a_report_of_nothing_is_a_report() -> None:
    report = build_report([], "given", problems={"x": "gone"})
    assert report.summary["mean_dice"] is None and report.summary["n_cases"] == 0
    assert representative_cases(report) == {}


def test_ignored_voxels_leave_both_masks() -> None:
    geometry = Geometry.from_spacing((1, 1, 1), (4, 1, 1))
    found = LabelMap(np.array([1, 1, 0, 0], np.uint8).reshape(4, 1, 1), geometry)
    true = LabelMap(np.array([1, 255, 255, 0], np.uint8).reshape(4, 1, 1), geometry)
    score = score_case("x", found, true, [Label("one", 1)])
    assert score.labels[0].counts == Counts(1, 0, 0, 1)
    assert score.labels[0].volume_ml == pytest.approx(0.001)


def test_different_grids_are_refused_with_both_named() -> None:
    array = np.zeros((2, 2, 2), np.uint8)
    near, far = (LabelMap(array, Geometry.from_spacing((1, 1, 1), (2, 2, 2), (x, 0, 0))) for x in (0, 5))
    with pytest.raises(DataError, match=r"x: .*\n.*prediction: .*\n.*reference: .*\n.*5 mm apart"):
        score_case("x", near, far, [Label("one", 1)])


def test_best_median_and_worst() -> None:
    scores = [_case(name, percent) for name, percent in [("a", 10), ("b", 90), ("c", 50), ("d", 70), ("e", -1)]]
    assert representative_cases(build_report(scores, "given")) == {"best": "b", "median": "d", "worst": "a"}
    assert representative_cases(build_report(scores[:2], "given")) == {"best": "b", "worst": "a"}
    assert representative_cases(build_report(scores[:1], "given")) == {"worst": "a"}


def test_no_interval_below_20_patients_and_a_warning_below_50() -> None:
    scores = [_case(str(n), 40 + n % 50) for n in range(60)]
    few = bootstrap_interval(scores[:19], {})
    assert few["low"] is None and "no interval" in few["note"]
    some, many = bootstrap_interval(scores[:20], {}), bootstrap_interval(scores, {})
    assert some["low"] < some["high"] and "below 50" in some["note"]
    assert many["note"] == ""
    two_scans_each = {str(n): f"patient {n // 2}" for n in range(60)}
    assert bootstrap_interval(scores, two_scans_each)["n_groups"] == 30


def test_interval_is_where_theory_puts_it() -> None:
    rng = np.random.default_rng(3)
    percents = rng.integers(40, 100, 80)
    interval = bootstrap_interval([_case(str(n), int(p)) for n, p in enumerate(percents)], {})
    mean, error = percents.mean() / 100, percents.std() / 100 / np.sqrt(80)
    assert interval["low"] == pytest.approx(mean - 1.96 * error, abs=0.25 * error)
    assert interval["high"] == pytest.approx(mean + 1.96 * error, abs=0.25 * error)


def test_interval_copes_with_a_label_that_is_nearly_always_absent() -> None:
    scores = [_case(str(n), 80, 60 if n == 0 else -1) for n in range(25)]
    interval = bootstrap_interval(scores, {})
    assert interval["low"] == pytest.approx(0.7) and interval["high"] == pytest.approx(0.8)


@settings(max_examples=40)
@given(st.lists(st.tuples(st.integers(-1, 100), st.integers(-1, 100)), min_size=1, max_size=8))
def test_summaries_stay_in_bounds_and_counts_add_up(percents: list[tuple[int, int]]) -> None:
    scores = [_case(str(n), *pair) for n, pair in enumerate(percents)]
    summary = build_report(scores, "given").summary
    assert summary["n_defined"] + summary["n_both_empty"] == 2 * len(percents)
    defined = [p / 100 for pair in percents for p in pair if p >= 0]
    if not defined:
        assert summary["mean_dice"] is None
        return
    for key in ("mean_dice", "mean_iou", "dataset_mean_dice", "dataset_miou"):
        assert 0 <= summary[key] <= 1
    assert min(defined) - 1e-9 <= summary["mean_dice"] <= max(defined) + 1e-9
