"""Measurements: against marching cubes, against numbers counted by hand, and where nothing can be said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import pdist
from skimage.measure import find_contours, marching_cubes

from medseg.core.case import Finding, Scan, Severity, Source
from medseg.core.geometry import Geometry
from medseg.core.labels import Code, Label
from medseg.core.measurement import HOUNSFIELD, NO_UNIT, SUV
from medseg.core.volume import LabelMap, Volume
from medseg.evaluation.measure import longest_axes, measure, unit_of

LABELS = (
    Label("lung", 1, modifier=Code("7771000", "SCT", "Left")),
    Label("kidney_right", 2),
    Label("spleen", 3),
)
OBLIQUE = np.array([[0.8660254, -0.4698463, 0.1710101], [0.5, 0.8137977, -0.2961981], [0.0, 0.3420201, 0.9396926]])


def scan(values: np.ndarray, geometry: Geometry, kind: str = "dicom", modality: str | None = "CT", *codes: str) -> Scan:
    path = Path("x")
    found = tuple(Finding(code, Severity.WARNING, code) for code in codes)
    return Scan(Source(path, (path,), kind, "x"), Volume(values, geometry), modality, False, found)


def geometry(shape: tuple[int, int, int], turned: bool = False) -> Geometry:
    affine = np.eye(4)
    affine[:3, :3] = (OBLIQUE if turned else np.eye(3)) * (0.8, 1.1, 2.5)
    return Geometry(affine, shape)


def test_volumes_sides_and_values_are_those_of_the_voxels() -> None:
    grid = geometry((6, 5, 4))
    array = np.zeros(grid.shape, np.uint8)
    array[1:4, 2, 1], array[0, 0, 3] = 1, 2
    values = np.arange(array.size, dtype=np.float32).reshape(1, *grid.shape)
    lung, kidney, spleen = measure(scan(values, grid), LabelMap(array, grid, LABELS))
    assert (lung.voxels, lung.side, kidney.side, spleen.side) == (3, "left", "right", "")
    assert lung.volume_ml == pytest.approx(3 * 0.8 * 1.1 * 2.5 / 1000)
    inside = values[0][array == 1].astype(float)
    (spread,) = lung.spreads
    assert spread.mean == pytest.approx(inside.mean())
    assert spread.sd == pytest.approx(inside.std())
    assert [spread.p5, spread.p50, spread.p95] == pytest.approx(np.percentile(inside, (5, 50, 95)).tolist())
    assert lung.longest_axial_mm == pytest.approx(3 * 0.8)
    assert lung.longest_mm == pytest.approx(np.hypot(2 * 0.8, 2.5))  # from below the first to above the last voxel
    assert lung.unit == HOUNSFIELD


def test_an_absent_label_is_measured_as_nothing() -> None:
    grid = geometry((3, 3, 3))
    rows = measure(
        scan(np.zeros((1, 3, 3, 3), np.float32), grid), LabelMap(np.zeros((3, 3, 3), np.uint8), grid, LABELS)
    )
    assert [row.plain()["volume_ml"] for row in rows] == [0.0, 0.0, 0.0]
    plain = rows[0].plain()
    assert {plain[key] for key in ("longest_mm", "longest_axial_mm", "mean", "sd", "p5", "p50", "p95")} == {None}


@given(st.integers(0, 2**32), st.booleans())
@settings(max_examples=40, deadline=None)
def test_the_longest_axis_is_that_of_the_mesh_of_marching_cubes(seed: int, turned: bool) -> None:
    rng = np.random.default_rng(seed)
    shape = tuple(int(n) for n in rng.integers(1, 9, 3))
    mask = rng.random(shape) < rng.uniform(0.05, 0.9)
    mask[tuple(rng.integers(0, shape))] = True
    grid = geometry(shape, turned)
    longest, axial = longest_axes(mask, grid)
    corners, *_ = marching_cubes(np.pad(mask, 1).astype(float), 0.5)
    assert longest == pytest.approx(float(pdist(corners @ grid.affine[:3, :3].T).max()))
    across = [find_contours(np.pad(mask[..., k], 1).astype(float), 0.5) for k in range(shape[2])]
    planar = [np.concatenate(lines) @ grid.affine[:3, :2].T for lines in across if lines]
    assert axial == pytest.approx(max(float(pdist(points).max()) for points in planar))


def test_the_axial_plane_is_found_in_sagittal_slices() -> None:
    affine = np.eye(4)
    affine[:3, :3] = np.array([[0, 0, 1], [-1, 0, 0], [0, -1, 0]]) * (1.0, 1.0, 4.0)
    mask = np.zeros((5, 7, 3), bool)
    mask[2, 0:7, 1] = True  # along j, from head to feet
    longest, axial = longest_axes(mask, Geometry(affine, mask.shape))
    assert longest == pytest.approx(np.hypot(6.0, 4.0))
    assert axial == pytest.approx(4.0)  # one voxel: as thick as the slice


@pytest.mark.parametrize(
    ("modality", "codes", "unit"),
    [
        ("CT", (), HOUNSFIELD),
        ("PT", (), SUV),
        ("MR", (), NO_UNIT),
        (None, (), NO_UNIT),
        ("CT", ("unknown-units",), NO_UNIT),
    ],
)
def test_units_are_named_where_they_are_known(modality: str | None, codes: tuple[str, ...], unit: object) -> None:
    grid = geometry((2, 2, 2))
    assert unit_of(scan(np.zeros((1, 2, 2, 2), np.float32), grid, "dicom", modality, *codes)) == unit


def test_pictures_have_no_millimetres_and_three_channels() -> None:
    grid = Geometry.from_spacing((1, 1, 1), (6, 5, 1))
    array = np.zeros(grid.shape, np.uint8)
    array[1:3, 1:3, 0] = 1
    values = np.stack([np.full(grid.shape, float(channel), np.float32) for channel in (10, 20, 30)])
    lung = measure(scan(values, grid, "image", None), LabelMap(array, grid, LABELS))[0]
    assert (lung.voxels, lung.volume_ml, lung.longest_mm) == (4, None, None)
    assert [lung.plain(3)[f"mean_{channel}"] for channel in (1, 2, 3)] == [10.0, 20.0, 30.0]
