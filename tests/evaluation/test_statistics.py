"""Intervals, tests and rankings: figures worked out by hand, laws, and seeded simulations of what they promise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medseg.core.errors import UsageError
from medseg.evaluation.statistics import bootstrap_mean, paired_tests, rank_stability, spread


def _alone(values: object) -> list[str]:
    return [str(n) for n in range(len(values))]  # type: ignore[arg-type]  # any sized values


def _column(values: np.ndarray) -> dict[str, float]:
    return {str(n): float(value) for n, value in enumerate(values)}


# ---- intervals ------------------------------------------------------------------------------


def test_below_20_patients_there_is_a_mean_and_no_interval() -> None:
    interval = bootstrap_mean([0.5, None, 0.7], ["a", "b", "c"])
    assert interval.mean == pytest.approx(0.6) and interval.n_groups == 2
    assert (interval.low, interval.high) == (None, None) and "2 patients" in interval.note


def test_patients_count_and_not_their_scans() -> None:
    values = np.random.default_rng(0).random(60)
    alone, twins = bootstrap_mean(values, _alone(values)), bootstrap_mean(values, [str(n // 2) for n in range(60)])
    assert (alone.n_groups, alone.note) == (60, "")
    assert twins.n_groups == 30 and "below 50" in twins.note
    assert bootstrap_mean(values, [str(n // 4) for n in range(60)]).low is None


def test_repeated_scans_of_a_patient_do_not_narrow_the_interval() -> None:
    values = np.random.default_rng(1).random(40)
    once = bootstrap_mean(values, _alone(values))
    thrice = bootstrap_mean(np.repeat(values, 3), [name for name in _alone(values) for _ in range(3)])
    assert thrice.low == pytest.approx(once.low) and thrice.high == pytest.approx(once.high)


def test_the_interval_is_that_of_scipy() -> None:
    from scipy.stats import bootstrap

    values = np.random.default_rng(2).beta(12, 2, 60)
    ours = bootstrap_mean(values, _alone(values))
    theirs = bootstrap((values,), np.mean, method="BCa", n_resamples=2000, rng=np.random.default_rng(20))
    width = ours.high - ours.low  # type: ignore[operator]  # 60 patients have an interval
    assert ours.low == pytest.approx(theirs.confidence_interval.low, abs=0.05 * width)
    assert ours.high == pytest.approx(theirs.confidence_interval.high, abs=0.05 * width)


def test_nothing_and_the_same_everywhere_have_no_interval() -> None:
    assert bootstrap_mean([], []).mean is None
    assert "no figure is defined" in bootstrap_mean([None] * 30, _alone(range(30))).note
    same = bootstrap_mean([0.8] * 30, _alone(range(30)))
    assert same.mean == pytest.approx(0.8) and same.low is None and "the same figure" in same.note
    with pytest.raises(UsageError, match="as many patients"):
        bootstrap_mean([0.1], [])


@settings(max_examples=15, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=20, max_size=40))
def test_an_interval_lies_within_the_values_and_around_the_mean(values: list[float]) -> None:
    interval = bootstrap_mean(values, _alone(values))
    if interval.low is None or interval.high is None:
        assert max(values) - min(values) < 1e-9
        return
    assert min(values) - 1e-9 <= interval.low <= interval.high <= max(values) + 1e-9
    assert interval.low <= interval.mean + 1e-9  # type: ignore[operator]  # defined wherever an interval is


def test_spread_leaves_out_what_is_undefined() -> None:
    assert spread([None, 0.2, 0.6]) == {"n": 2, "min": 0.2, "median": pytest.approx(0.4), "max": 0.6}
    assert spread([None])["median"] is None


@pytest.mark.slow
@pytest.mark.parametrize("patients", [50, 200])
@pytest.mark.parametrize("missed", [0.0, 0.08])
def test_95_percent_intervals_cover_the_truth_in_92_to_97_of_100_studies(patients: int, missed: float) -> None:
    rng = np.random.default_rng(7)
    truth = (1 - missed) * 12 / 14
    covered = []
    for _ in range(1000):
        dice = np.where(rng.random(patients) < missed, 0.0, rng.beta(12, 2, patients))
        interval = bootstrap_mean(dice, _alone(dice))
        assert interval.low is not None and interval.high is not None
        covered.append(interval.low <= truth <= interval.high)
    assert 0.92 <= np.mean(covered) <= 0.97


# ---- tests ----------------------------------------------------------------------------------


def test_signed_rank_by_hand() -> None:
    # All six differences positive: p = 2 / 2^6.
    first, second = _column(np.arange(6) / 10 + 0.1), _column(np.arange(6) / 20)
    (test,) = paired_tests({"a": first, "b": second})
    assert (test.first, test.second, test.n) == ("a", "b", 6)
    assert test.p == test.p_holm == pytest.approx(2 / 64)
    assert test.difference == pytest.approx(0.225) and test.note == ""


def test_fewer_than_six_patients_cannot_reach_five_percent_and_are_told_so() -> None:
    (test,) = paired_tests({"a": _column(np.arange(5) + 1.0), "b": _column(np.zeros(5))})
    assert test.p == pytest.approx(2 / 32)
    assert test.note == "5 patients are too few for p below .05: 0.0625 is the least possible"


def test_patients_without_a_difference_do_not_count_towards_six() -> None:
    values = np.array([1.0, 2, 3, 0, 0, 0, 0])
    (test,) = paired_tests({"a": _column(values), "b": _column(np.zeros(7))})
    assert test.n == 7 and "3 of them with a difference" in test.note


def test_six_patients_and_three_models_are_told_what_the_correction_costs() -> None:
    rng = np.random.default_rng(0)
    tests = paired_tests({name: _column(rng.random(6)) for name in "abc"})
    assert all("with 3 comparisons" in test.note for test in tests)


def test_holm_by_hand() -> None:
    rng = np.random.default_rng(5)
    base = rng.random(30)
    scores = {"a": _column(base), "b": _column(base + 0.05 * rng.random(30)), "c": _column(base + rng.normal(0, 1, 30))}
    tests = sorted(paired_tests(scores), key=lambda test: test.p or 0.0)
    p = [test.p for test in tests]
    expected = np.minimum(np.maximum.accumulate([3 * p[0], 2 * p[1], 1 * p[2]]), 1)
    assert [test.p_holm for test in tests] == pytest.approx(expected)


def test_only_cases_that_both_models_have_are_compared_and_scans_of_a_patient_are_averaged() -> None:
    first = {"1": 0.9, "2": 0.7, "3": 0.4, "4": None}
    second = {"1": 0.5, "2": 0.5, "3": 0.5, "4": 0.1, "5": 0.2}
    (test,) = paired_tests({"a": first, "b": second}, {"1": "x", "2": "x"})
    assert test.n == 2 and test.difference == pytest.approx((0.3 - 0.1) / 2)


def test_models_that_never_differ_or_never_meet() -> None:
    same = _column(np.arange(8.0))
    (test,) = paired_tests({"a": same, "b": same})
    assert test.p == test.p_holm == 1.0
    apart = paired_tests({"a": {"1": 0.5}, "b": {"2": 0.5}})[0]
    assert (apart.n, apart.difference, apart.p, apart.p_holm) == (0, None, None, None) and "no patient" in apart.note
    assert paired_tests({"a": same}) == []


def test_exchanging_two_models_changes_the_sign_only() -> None:
    rng = np.random.default_rng(8)
    scores = {name: _column(rng.random(15)) for name in "ab"}
    (one,), (other,) = paired_tests(scores), paired_tests(dict(reversed(scores.items())))
    assert one.p == pytest.approx(other.p) and one.difference == pytest.approx(-(other.difference or 0))


@pytest.mark.slow
@pytest.mark.parametrize(("patients", "models"), [(6, "ab"), (12, "ab"), (30, "abc"), (80, "abc")])
def test_equal_models_are_told_apart_in_at_most_55_of_1000_studies(patients: int, models: str) -> None:
    rng = np.random.default_rng(9)
    alarms = 0
    studies = 2000
    for _ in range(studies):
        common = rng.beta(12, 2, patients)
        scores = {name: _column(np.clip(common + rng.normal(0, 0.05, patients), 0, 1)) for name in models}
        alarms += any((test.p_holm or 1.0) < 0.05 for test in paired_tests(scores))
    assert alarms / studies <= 0.055


# ---- rankings -------------------------------------------------------------------------------


def test_a_model_that_is_always_better_is_first_in_every_draw() -> None:
    values = np.random.default_rng(3).random(25)
    ranking = rank_stability({"worst": _column(values - 0.5), "best": _column(values + 0.5), "mid": _column(values)})
    assert ranking.models == ("best", "mid", "worst") and ranking.mean_ranks == (1, 2, 3) and ranking.tau == 1.0
    assert ranking.shares[0] == (1.0, 0.0, 0.0) and ranking.note == ""
    turned = rank_stability({"a": {"1": 3.0}, "b": {"1": 1.0}}, higher_is_better=False)
    assert turned.models == ("b", "a") and "fewer than 20 patients (1)" in turned.note


def test_models_that_do_not_differ_change_places() -> None:
    rng = np.random.default_rng(4)
    ranking = rank_stability({name: _column(rng.random(40)) for name in "ab"}, resamples=500)
    assert ranking.tau is not None and ranking.tau < 0.95
    for shares in ranking.shares:
        assert sum(shares) == pytest.approx(1.0)


def test_a_ranking_needs_patients_that_every_model_has() -> None:
    ranking = rank_stability({"a": {"1": 0.5}, "b": {"2": 0.5}})
    assert ranking.models == () and ranking.tau is None and "no ranking" in ranking.note
    alone = rank_stability({"a": {"1": 0.5, "2": 0.25}})
    assert alone.tau is None and alone.shares == ((1.0,),) and alone.n_groups == 2
