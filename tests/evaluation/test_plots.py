"""Plots of models: the Pareto front, and drawings that are well-formed whatever they are given."""

from __future__ import annotations

from xml.etree import ElementTree

from hypothesis import given, settings
from hypothesis import strategies as st

from medseg.evaluation.plots import Curve, Point, cost_plot, curve_plot, pareto

points = st.lists(st.builds(Point, st.text(max_size=8), st.floats(1e-3, 1e9), st.floats(0, 1)), min_size=1, max_size=8)


@settings(max_examples=50, deadline=None)
@given(points)
def test_nothing_on_the_front_is_beaten_and_everything_off_it_is(given_points: list[Point]) -> None:
    front = pareto(given_points)
    assert front
    for one in given_points:
        beaten = any(p.cost <= one.cost and p.value >= one.value for p in front)
        assert beaten
    for p in front:
        assert not any(o.cost <= p.cost and o.value >= p.value and (o.cost, o.value) != (p.cost, p.value)
                       for o in given_points)  # fmt: skip


@settings(max_examples=50, deadline=None)
@given(points.map(lambda many: [p for p in many if p.name.isprintable()]))
def test_a_cost_plot_is_well_formed(given_points: list[Point]) -> None:
    if given_points:
        ElementTree.fromstring(cost_plot(given_points, "ms & more", "Dice against cost"))


def test_a_cost_plot_shows_every_model_its_interval_and_the_front() -> None:
    drawn = cost_plot([Point("a<b", 10, 0.8, 0.7, 0.9), Point("c", 20, 0.7)], "ms", "plot")
    root = ElementTree.fromstring(drawn)
    classes = [element.get("class") for element in root]
    assert classes.count("whisker m0") == 1 and "front" in classes
    assert {text.text for text in root if text.get("class", "").startswith("label")} == {"a<b", "c"}


def test_a_curve_plot_shows_means_dots_and_the_law() -> None:
    curve = Curve("unet", [(2, 0.5, None, None), (8, 0.8, 0.7, 1.2)], [(2, 0.4), (2, 0.6)], [(2, 0.5), (12, 0.85)])
    root = ElementTree.fromstring(curve_plot([curve], "cases", "plot"))
    classes = [element.get("class") for element in root]
    assert classes.count("run m0") == 2 and classes.count("mark m0") == 2 and classes.count("fit m0") == 1
    assert classes.count("whisker m0") == 1
