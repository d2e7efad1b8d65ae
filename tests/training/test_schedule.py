"""Progress drives everything: it never runs backwards, and a recorded run's progress can be played again."""

from __future__ import annotations

import pytest

from medseg.core.plan import Schedule
from medseg.training.schedule import Clock, learning_rate


def test_learning_rate_warms_up_and_decays_to_zero() -> None:
    schedule = Schedule(learning_rate=0.1, warmup=0.1, power=0.9)
    assert 0 < learning_rate(schedule, 0.0) < 0.1
    assert learning_rate(schedule, 0.05) == pytest.approx(0.05)
    assert learning_rate(schedule, 0.1) == pytest.approx(0.1)
    assert learning_rate(schedule, 0.55) == pytest.approx(0.1 * 0.5**0.9)
    assert learning_rate(schedule, 1.0) == 0


def test_steps_alone_decide_without_a_budget() -> None:
    clock = Clock(steps=10, seconds=None)
    assert [clock.progress(step) for step in (0, 5, 10)] == [0, 0.5, 1]


def test_the_larger_of_steps_and_time_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("medseg.training.schedule.time.monotonic", lambda: now)
    clock = Clock(steps=100, seconds=60.0, started=100.0)
    assert clock.progress(10) == pytest.approx(0.1)
    now = 130.0
    assert clock.progress(11) == pytest.approx(0.5)
    assert clock.seconds_left(0.5) == pytest.approx(30)
    now = 120.0
    assert clock.progress(12) == pytest.approx(0.5)  # never backwards
    now = 190.0
    assert clock.progress(13) == 1.0


def test_time_is_reserved_for_the_report_but_never_all_of_it() -> None:
    clock = Clock(steps=None, seconds=100.0)
    clock.reserve(30)
    assert clock.seconds == pytest.approx(70)
    clock.reserve(1000)
    assert clock.seconds == pytest.approx(7)


def test_a_recorded_run_is_played_again_whatever_the_clock_says() -> None:
    clock = Clock(steps=None, seconds=1e-9, recorded=[0.0, 0.25, 0.5])
    assert [clock.progress(step) for step in range(4)] == [0.0, 0.25, 0.5, 1.0]
