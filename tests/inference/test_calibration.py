"""The expected Dice: covered as promised in worlds whose truth is known, honest where there is little to learn from."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medseg.core.quality import Calibration, Evidence, HeldOut
from medseg.inference.calibration import Estimator, explain, jackknife_plus

SEEDS = 120
NEW = 30  # further cases a seed

# How much the evidence tells of the logit of the Dice (signal), and how often a case fails beyond what it tells.
WORLDS = {
    "telling": (1.0, 0.3, 0.0),
    "vague": (0.3, 0.6, 0.0),
    "mute": (0.0, 0.7, 0.0),
    "with failures": (1.0, 0.3, 0.1),
}


def evidence_of(score: float, noise: np.ndarray) -> Evidence:
    overlap, stability, confidence = (1 / (1 + np.exp(-(2.5 + score + noise)))).tolist()
    return Evidence(confidence, {"a": overlap}, {"a": stability}, {"a": 5.0}, {"a": 1})


def cases_of(world: str, count: int, rng: np.random.Generator) -> list[HeldOut]:
    """Cases of which quality drives both Dice and evidence, each with noise of its own."""
    signal, noise, failures = WORLDS[world]
    quality = rng.normal(0, 0.7, count)
    logits = 2.0 + signal * quality + noise * rng.standard_t(5, count) - 3.0 * (rng.random(count) < failures)
    shown = 0.6 * quality[:, None] + rng.normal(0, 0.2, (count, 3))
    return [HeldOut(float(1 / (1 + np.exp(-y))), evidence_of(0.0, row)) for y, row in zip(logits, shown, strict=True)]


def trial(world: str, count: int) -> tuple[float, float, float]:
    """Coverage of the interval, share reviewed and share of the worst tenth reviewed, over many models."""
    covered, reviewed, caught = [], [], []
    for seed in range(SEEDS):
        rng = np.random.default_rng([seed, count])
        estimator = Estimator(Calibration(tuple(cases_of(world, count, rng))))
        new = cases_of(world, NEW, rng)
        worst = np.quantile([case.dice for case in new], 0.1)
        for case in new:
            expected = estimator.expect(case.evidence)
            assert expected is not None and estimator.threshold is not None and case.dice is not None
            assert 0 <= expected.low <= expected.dice <= expected.high <= 1
            covered.append(expected.low <= case.dice <= expected.high)
            reviewed.append(expected.low <= estimator.threshold)
            if case.dice <= worst:
                caught.append(reviewed[-1])
    return float(np.mean(covered)), float(np.mean(reviewed)), float(np.mean(caught))


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("count", [12, 20, 40, 60])
def test_the_interval_covers_and_the_review_list_holds_the_worst_tenth(world: str, count: int) -> None:
    covered, _, caught = trial(world, count)
    assert 0.85 <= covered <= 0.95
    assert caught >= 0.8


def test_where_the_evidence_tells_much_the_review_list_is_short() -> None:
    for count, most in ((12, 0.5), (60, 0.35)):
        assert trial("telling", count)[1] <= most


def test_where_the_evidence_tells_nothing_reviews_are_no_better_than_chance() -> None:
    _, reviewed, caught = trial("mute", 60)
    assert caught == pytest.approx(reviewed, abs=0.1)  # and docs/review.md says so


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 10_000), count=st.integers(4, 60), steps=st.tuples(*[st.floats(0, 2)] * 3))
def test_better_evidence_never_lowers_the_estimate(seed: int, count: int, steps: tuple[float, float, float]) -> None:
    rng = np.random.default_rng(seed)
    estimator = Estimator(Calibration(tuple(cases_of("mute", count, rng))))
    one = estimator.expect(evidence_of(-1.0, np.zeros(3)))
    other = estimator.expect(evidence_of(-1.0, np.array(steps)))
    assert one is not None and other is not None
    assert other.dice >= one.dice - 1e-12


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 10_000), count=st.integers(10, 30))
def test_the_order_of_the_held_out_cases_does_not_matter(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    cases = cases_of("telling", count, rng)
    evidence = evidence_of(0.3, np.zeros(3))
    one, other = (Estimator(Calibration(tuple(part))) for part in (cases, cases[::-1]))
    a, b = one.expect(evidence), other.expect(evidence)
    assert a is not None and b is not None
    assert (a.dice, a.low, a.high) == pytest.approx((b.dice, b.low, b.high))
    assert one.threshold == pytest.approx(other.threshold)


def test_a_failure_among_the_held_out_cases_widens_every_interval() -> None:
    cases = cases_of("telling", 12, np.random.default_rng(1))
    evidence = evidence_of(0.0, np.zeros(3))
    before = Estimator(Calibration(tuple(cases))).expect(evidence)
    failed = HeldOut(0.02, cases[5].evidence)
    after = Estimator(Calibration((*cases[:5], failed, *cases[6:]))).expect(evidence)
    assert before is not None and after is not None
    assert after.low < 0.5 * before.low


@pytest.mark.parametrize(("count", "said"), [(3, "too few"), (9, "no interval"), (10, "90% interval")])
def test_few_held_out_cases_promise_little(count: int, said: str) -> None:
    estimator = Estimator(Calibration(tuple(cases_of("telling", count, np.random.default_rng(0)))))
    expected = estimator.expect(evidence_of(0.0, np.zeros(3)))
    assert said in explain(estimator)
    if count == 3:
        assert expected is None
    elif count == 9:
        assert expected is not None and (expected.low, expected.high) == (0.0, 1.0)
        assert estimator.threshold is None
    else:
        assert expected is not None and 0 < expected.low < expected.high < 1


def test_nothing_found_expects_nothing_and_teaches_nothing() -> None:
    cases = cases_of("telling", 12, np.random.default_rng(0))
    empty = HeldOut(0.0, Evidence())
    estimator = Estimator(Calibration((*cases, empty, HeldOut(None, Evidence()))))
    assert estimator.cases == 12
    assert estimator.expect(Evidence()) is None


def test_perfect_and_failed_cases_lie_inside_intervals_that_reach_them() -> None:
    rng = np.random.default_rng(3)
    cases = cases_of("telling", 12, rng)
    perfect = Estimator(Calibration(tuple(HeldOut(1.0, case.evidence) for case in cases)))
    failed = Estimator(Calibration(tuple(HeldOut(0.0, case.evidence) for case in cases)))
    best, worst = (one.expect(cases[0].evidence) for one in (perfect, failed))
    assert best is not None and best.high == 1.0 and best.low > 0.99
    assert worst is not None and worst.low == 0.0 and worst.high < 0.011


def test_the_interval_is_the_jackknife_plus() -> None:
    centers, errors = np.arange(19.0) / 10, np.full(19, 0.5)
    low, high = jackknife_plus(centers, errors)  # the 18th smallest of 19 from either end
    assert (low, high) == pytest.approx((1 / (1 + np.exp(-(0.1 - 0.5))), 1 / (1 + np.exp(-(1.7 + 0.5)))))
    assert jackknife_plus(centers[:8], errors[:8]) == (0.0, 1.0)
