"""DICOM: whatever a volume's place, values and files look like, the series comes back as the volume it was."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from medseg.core.case import Scan
from medseg.core.geometry import Geometry
from medseg.core.volume import Volume
from medseg.formats import discover, read
from medseg.formats.dicom_write import Style, write_series

ANGLES = st.one_of(st.floats(-180, 180), st.sampled_from([0.0, 90.0, 180.0, -0.5, 45.0]))
STYLES = st.builds(
    Style,
    signed=st.booleans(),
    per_slice=st.booleans(),
    numbered=st.booleans(),
    syntax=st.sampled_from(["explicit", "implicit", "big endian", "deflated"]),
    names=st.sampled_from(["numbered", "random", "random.dcm", "folders"]),
)
QUICK = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@st.composite
def volumes(draw: st.DrawFn) -> Volume:
    """Any orientation, both hands, non-square pixels, whole or broken values."""
    shape = tuple(draw(st.integers(1, 5)) for _ in range(2)), draw(st.integers(1, 6))
    turned = Rotation.from_euler("xyz", [draw(ANGLES) for _ in range(3)], degrees=True).as_matrix()
    affine = np.eye(4)
    affine[:3, :3] = turned * (1, 1, draw(st.sampled_from([-1, 1]))) * [draw(st.floats(0.2, 8)) for _ in range(3)]
    affine[:3, 3] = [draw(st.floats(-800, 800)) for _ in range(3)]
    geometry = Geometry(affine, (*shape[0], shape[1]))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    whole = random.integers(-1000, 3000, (1, *geometry.shape)).astype(np.float32)
    return Volume(whole if draw(st.booleans()) else whole * np.float32(0.0137), geometry)


def assert_same(scan: Scan, volume: Volume, style: Style) -> None:
    """Voxels to 1e-5 of the range that shares a slope (16 bits hold no more), corners to a thousandth of a mm."""
    # Slices come back along the normal of rows and columns, from whichever side they were counted.
    column, row, normal = volume.geometry.direction.T
    backwards = bool(np.dot(np.cross(column, row), normal) < 0)
    expected = volume.geometry.reordered((0, 1, 2), (False, False, backwards))
    array = volume.array[..., ::-1] if backwards else volume.array
    assert scan.volume.geometry.shape == expected.shape
    assert scan.volume.geometry.corner_distance(expected) <= 1e-3
    allowed = 1e-5 * np.ptp(array, axis=(0, 1, 2) if style.per_slice else None) + 1e-5
    difference = np.abs(scan.volume.array - array)
    assert (difference <= allowed + 1e-6 * np.abs(array)).all()


@QUICK
@given(volumes(), STYLES, st.sampled_from(["CT", "MR"]))
def test_a_series_comes_back_as_the_volume_it_was(volume: Volume, style: Style, modality: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        write_series(volume, Path(folder), modality=modality, style=style)
        Path(folder, "notes.txt").write_text("nothing to read here")
        (source,) = discover(Path(folder))
        scan = read(source)
    assert_same(scan, volume, style)
    assert scan.modality == modality
    assert {finding.code for finding in scan.findings} <= {"mixed-rescale"}


@settings(QUICK, max_examples=15)
@given(st.lists(st.tuples(volumes(), STYLES), min_size=2, max_size=3))
def test_series_that_lie_among_each_other_come_apart(series: list[tuple[Volume, Style]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for number, (volume, style) in enumerate(series):
            scattered = Style(style.signed, style.per_slice, style.numbered, style.syntax, "folders")
            write_series(volume, Path(folder), f"series {number}", description=str(number), style=scattered)
        scans = [read(source) for source in discover(Path(folder))]
    assert len(scans) == len(series)
    unmatched = list(series)
    for scan in scans:
        own = next(pair for pair in unmatched if _is_of(scan, *pair))
        unmatched = [pair for pair in unmatched if pair is not own]


def _is_of(scan: Scan, volume: Volume, style: Style) -> bool:
    try:
        assert_same(scan, volume, style)
    except AssertionError:
        return False
    return True
