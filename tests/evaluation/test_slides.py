"""Slices for the page's viewer: which are chosen, how they are stored, and how much of a page they may fill."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from medseg.core.geometry import Geometry
from medseg.core.labels import IGNORE, Label
from medseg.core.volume import LabelMap, Volume
from medseg.evaluation.agreement_plot import bland_altman
from medseg.evaluation.report_page import fitting
from medseg.evaluation.slides import CT_SCALE, Slides, make_slides, stride
from medseg.evaluation.ticks import between, round_ticks

LABELS = (Label("one", 7), Label("two", 3))


def _grid(shape: tuple[int, int, int], spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> Geometry:
    return Geometry(np.diag([*spacing, 1.0]) * (-1, -1, 1, 1), shape)


def _map(array: np.ndarray, geometry: Geometry) -> LabelMap:
    return LabelMap(array.astype(np.uint8), geometry, LABELS)


def _decoded(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)))


def _tile(strip: np.ndarray, place: int, slides: Slides, step: int) -> np.ndarray:
    return strip[place * step : place * step + slides.tile[0]]


def test_label_maps_come_back_exactly_as_places_in_the_table() -> None:
    rng = np.random.default_rng(1)
    geometry = _grid((9, 11, 5))
    true, found = (rng.choice([0, 3, 7, 9, IGNORE], geometry.shape) for _ in range(2))
    slides = make_slides("x", None, _map(true, geometry), [_map(found, geometry)], LABELS)
    assert (slides.tile, slides.places, slides.scan, slides.scale) == ((11, 9), (0, 1, 2, 3, 4), b"", "")
    expected = np.select([true == 7, true == 3, true == IGNORE], [1, 2, IGNORE], 0)
    for k in slides.places:  # i runs to the left and j to the front of this grid, as the page shows them
        assert (_tile(_decoded(slides.reference), k, slides, 11) == expected[:, :, k].T).all()


def test_a_scan_is_stored_on_a_scale_that_every_window_can_be_made_of() -> None:
    geometry = _grid((32, 32, 4))
    values = np.full(geometry.shape, -1000.0, np.float32)
    values[8:24, 8:24] = 60.0
    empty = _map(np.zeros(geometry.shape), geometry)
    slides = make_slides("x", Volume(values[None], geometry), empty, [empty], LABELS)
    tile = _tile(_decoded(slides.scan).max(axis=-1), 1, slides, stride(32))
    assert slides.scale == "ct" and (slides.low, slides.high) == (-160.0, 240.0)
    back = np.interp(tile[[16, 2], [16, 2]].astype(float), CT_SCALE[1], CT_SCALE[0])
    assert back[0] == pytest.approx(60, abs=20) and back[1] == pytest.approx(-1000, abs=60)


def test_long_scans_are_thinned_to_what_is_marked_and_keep_the_worst_slice() -> None:
    geometry = _grid((6, 6, 400))
    true = np.zeros(geometry.shape)
    true[2:4, 2:4, 100:300] = 3
    found = true.copy()
    found[:, :, 171] = 7
    slides = make_slides("x", None, _map(true, geometry), [_map(found, geometry)], LABELS)
    assert 32 <= len(slides.places) <= 34 and slides.count == 400
    assert slides.places[slides.start] == 171
    assert slides.places[0] == 81 and slides.places[-1] == 318


@pytest.mark.parametrize(
    ("shape", "spacing", "plane"),
    [
        ((9, 8, 7), (1, 1, 1), "axial"),
        ((9, 8, 7), (1, 1, 5), "axial"),
        ((5, 9, 8), (4, 1, 1), "sagittal"),
        ((9, 5, 8), (1, 3, 1), "coronal"),
        ((9, 1, 8), (1, 6, 1), "coronal"),
    ],
)
def test_slices_are_cut_where_they_are_sharp(
    shape: tuple[int, int, int], spacing: tuple[float, float, float], plane: str
) -> None:
    geometry = _grid(shape, spacing)
    empty = _map(np.zeros(shape), geometry)
    assert make_slides("x", None, empty, [empty], LABELS).plane == plane


def test_a_colour_picture_is_one_slice_in_colour() -> None:
    geometry = Geometry.from_spacing((1, 1, 1), (600, 300, 1))
    image = np.zeros((3, *geometry.shape), np.float32)
    image[0] = 200
    image[:, :10] = 250  # as bright as colours get
    empty = LabelMap(np.zeros(geometry.shape, np.uint8), geometry, LABELS)
    slides = make_slides("x", Volume(image, geometry), empty, [empty], LABELS)
    assert (slides.scale, slides.tile, slides.size, slides.plane) == ("color", (512, 256), (300.0, 600.0), "")
    red, green, _ = _decoded(slides.scan)[256, 128]
    assert red > 150 > green


def test_ignored_voxels_are_no_disagreement() -> None:
    geometry = _grid((4, 4, 3))
    true = np.zeros(geometry.shape)
    true[:, :, 2] = 9
    true[0, 0, 1] = 3
    found = np.full(geometry.shape, 0)
    found[:, :, 2] = 7
    slides = make_slides("x", None, _map(true, geometry), [_map(found, geometry)], LABELS, ignore=9)
    assert slides.start == 1


def test_slides_fill_the_page_up_to_its_budget_in_the_order_given() -> None:
    geometry = _grid((4, 4, 3))
    empty = _map(np.zeros(geometry.shape), geometry)
    slides = [make_slides(name, None, empty, [empty], LABELS) for name in "abc"]
    assert [one.case for one in fitting(slides, ["c", "x", "a", "b"], 2 * slides[0].page_bytes)] == ["c", "a"]
    assert abs(slides[0].page_bytes - len(str(slides[0].plain()))) < 500


def test_bland_altman_draws_bias_and_limits_where_theory_puts_them() -> None:
    rng = np.random.default_rng(2)
    pairs = [
        (float(true + noise), float(true), f"case {n}") for n, (true, noise) in enumerate(rng.normal(9, 1, (20, 2)))
    ]
    differences = np.array([found - true for found, true, _ in pairs])
    svg = bland_altman(pairs, "ml", "a<b")
    for value in (
        differences.mean(),
        *(differences.mean() + side * 1.96 * differences.std(ddof=1) for side in (1, -1)),
    ):
        assert f"{value:.3g}" in svg
    assert svg.count("<circle") == 20 and "a&lt;b" in svg
    assert 'class="limit"' not in bland_altman(pairs[:2], "ml", "x")


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (0.9123, 0.9131), (-3.0, 1200.0), (5.0, 5.0), (0.0, 0.0)])
def test_ticks_are_few_round_and_hold_everything(low: float, high: float) -> None:
    ticks = round_ticks(low, high)
    assert 2 <= len(ticks) <= 8 and ticks[0] <= low + 1e-9 and ticks[-1] >= high - 1e-9
    assert np.diff(ticks) == pytest.approx(ticks[1] - ticks[0])
    place = between(ticks, 10, 20)
    assert (place(ticks[0]), place(ticks[-1])) == (10, pytest.approx(20))
