"""Learning curves: intervals over draws of the training cases, the fitted law, and what more cases promise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medseg.evaluation.learning_curve import Law, Witness, curve, expect, fit_law

NUMBERS = (2, 4, 8, 16)


def draws(law: Law, count: int, rng: np.random.Generator, noise: float = 0.03) -> list[Witness]:
    """Noisy curves whose numbers of cases share their draw's luck, as nested subsets do."""
    found = []
    for _ in range(count):
        luck = rng.normal(0, noise)
        values = {n: law(n) + luck * (4 / n) ** 0.5 + rng.normal(0, noise * (2 / n) ** 0.5) for n in NUMBERS}
        found.append({n: min(1.0, value) for n, value in values.items()})
    return found


def test_a_curve_of_three_draws_has_students_interval() -> None:
    point = curve([{4: 0.7}, {4: 0.8}, {4: 0.9}])[0]
    assert (point.cases, point.witnesses) == (4, 3)
    assert point.mean == pytest.approx(0.8)
    assert point.low is not None and point.mean - point.low == pytest.approx(4.3027 * 0.1 / 3**0.5, rel=1e-4)
    assert point.high == 1.0  # there is no Dice beyond it


def test_a_curve_of_two_draws_has_no_interval() -> None:
    assert all(point.low is None and point.high is None for point in curve([{2: 0.5, 4: 0.6}, {2: 0.4, 4: 0.7}]))


def test_a_draw_that_lacks_a_number_of_cases_does_not_count_there() -> None:
    assert [point.witnesses for point in curve([{2: 0.5, 4: 0.6}, {2: 0.4}])] == [2, 1]


def test_the_law_that_made_the_points_is_found() -> None:
    law = Law(0.9, 0.5, 0.7)
    found = fit_law([(float(n), law(n)) for n in (*NUMBERS, 32, 64)])
    assert found.top == pytest.approx(0.9, abs=2e-3) and found.exponent == pytest.approx(0.7, abs=0.02)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=4, max_size=4))
def test_no_law_falls_or_exceeds_one(values: list[float]) -> None:
    law = fit_law(list(zip(map(float, NUMBERS), values, strict=True)))
    places = [law(n) for n in (2, 5, 20, 100, 1000)]
    assert places == sorted(places) and places[-1] <= 1 + 1e-6


def test_two_numbers_of_cases_promise_nothing() -> None:
    assert expect([{2: 0.5, 4: 0.6}] * 3, 5) is None


def test_a_promise_of_two_draws_says_why_it_has_no_interval() -> None:
    promise = expect(draws(Law(0.9, 0.5, 0.7), 2, np.random.default_rng(0)), 5)
    assert promise is not None and promise.plus_minus is None and "fewer than 3" in promise.note


def test_a_curve_that_falls_promises_next_to_nothing() -> None:
    promise = expect([{2: 0.9, 4: 0.8, 8: 0.7}, {2: 0.9, 4: 0.7, 8: 0.7}, {2: 0.8, 4: 0.8, 8: 0.6}], 5)
    assert promise is not None and 0 <= promise.gain < 0.005
    assert promise.plus_minus is not None and promise.plus_minus > 0.04  # the law misses what was measured


@pytest.mark.slow
@pytest.mark.parametrize("count", [3, 5])
@pytest.mark.parametrize("law", [Law(0.9, 0.5, 0.7), Law(0.85, 0.6, 1.2), Law(1.0, 0.4, 0.3)])
def test_the_promised_gain_holds_in_nineteen_of_twenty_studies(law: Law, count: int) -> None:
    rng = np.random.default_rng(1)
    true, hits = law(21) - law(16), 0
    for _ in range(100):
        promise = expect(draws(law, count, rng), 5)
        assert promise is not None and promise.plus_minus is not None
        hits += abs(promise.gain - true) <= promise.plus_minus
    assert hits >= 92
