"""Series written from a seed come back, and are the same each time."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk  # noqa: N813 -- the name under which the field knows it
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from medseg.core.errors import FormatError
from medseg.core.geometry import Geometry
from medseg.core.volume import LabelMap, Volume
from medseg.formats import discover, read, source_of, write_labelmap
from medseg.formats.dicom_write import write_series

SPACINGS = st.floats(0.3, 8.0)
ANGLES = st.floats(-180.0, 180.0)


@st.composite
def geometries(draw: st.DrawFn) -> Geometry:
    shape = tuple(draw(st.integers(2, 5)) for _ in range(3))
    turned = Rotation.from_euler("xyz", [draw(ANGLES) for _ in range(3)], degrees=True).as_matrix()
    mirrored = turned * (1, 1, draw(st.sampled_from([-1, 1])))
    affine = np.eye(4)
    affine[:3, :3] = mirrored * [draw(SPACINGS) for _ in range(3)]
    affine[:3, 3] = [draw(st.floats(-500, 500)) for _ in range(3)]
    return Geometry(affine, shape)


@settings(max_examples=25, deadline=None)
@given(geometries(), st.sampled_from(["CT", "MR"]), st.integers(0, 2**32 - 1))
def test_any_orientation_and_spacing_comes_back(geometry: Geometry, modality: str, seed: int) -> None:
    values = np.random.default_rng(seed).integers(-1000, 3000, (1, *geometry.shape)).astype(np.float32)
    volume = Volume(values, geometry)
    with tempfile.TemporaryDirectory() as folder:
        write_series(volume, Path(folder), str(seed), modality=modality)
        (source,) = discover(Path(folder))
        scan = read(source)
    index = np.stack(np.meshgrid(*map(np.arange, geometry.shape), indexing="ij"), axis=-1).reshape(-1, 3)
    own = scan.volume.geometry.to_index(geometry.to_world(index))
    np.testing.assert_allclose(own, np.rint(own), atol=1e-5)
    i, j, k = np.rint(own).astype(int).T
    np.testing.assert_array_equal(scan.volume.array[0][i, j, k], values[0][tuple(index.T)])
    np.testing.assert_allclose(sorted(scan.volume.geometry.spacing), sorted(geometry.spacing), rtol=1e-7)
    assert scan.modality == modality
    assert scan.findings == ()


def test_simpleitk_sees_the_same_grid_in_series_and_label_map(tmp_path: Path) -> None:
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", [10, -20, 30], degrees=True).as_matrix() * (-0.7, -0.8, 2.5)
    affine[:3, 3] = (10.5, 20.25, -300.125)
    volume = Volume(np.random.default_rng(0).integers(-1000, 1000, (1, 5, 4, 6)), Geometry(affine, (5, 4, 6)))
    write_series(volume, tmp_path / "ct")
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(tmp_path / "ct")))
    series = reader.Execute()
    source = source_of(tmp_path / "ct")
    scan = read(source)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(series).T, scan.volume.array[0])
    labels = LabelMap(np.ones((5, 4, 6), np.uint8), scan.volume.geometry)
    written = sitk.ReadImage(str(write_labelmap(labels, source, tmp_path / "out")))
    assert written.GetSize() == series.GetSize()
    for quantity in ("GetSpacing", "GetOrigin", "GetDirection"):
        np.testing.assert_allclose(getattr(written, quantity)(), getattr(series, quantity)(), atol=1e-4)


def test_fractions_come_back_within_a_step(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(0, 300, (1, 5, 4, 3)).astype(np.float32)
    write_series(Volume(values, Geometry.from_spacing((1, 1, 1), (5, 4, 3))), tmp_path)
    scan = read(source_of(tmp_path))
    back = scan.volume.array[:, ::-1, ::-1] if scan.volume.geometry.orientation == "LPS" else scan.volume.array
    assert np.abs(back - values).max() < (values.max() - values.min()) / 60000


def test_one_seed_gives_one_series_and_another_another(tmp_path: Path) -> None:
    volume = Volume(np.zeros((1, 4, 3, 12), np.int16), Geometry.from_spacing((1, 1, 2), (4, 3, 12)))
    for name, seed in (("a", "x"), ("b", "x"), ("c", "y")):
        write_series(volume, tmp_path / name, seed)
    a, b, c = ({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in "abc")
    assert a == b
    assert set(a) == set(c)
    assert a != c
    headers = [pydicom.dcmread(path) for path in sorted((tmp_path / "a").iterdir())]
    z = [float(header.ImagePositionPatient[2]) for header in headers]
    assert z != sorted(z)
    assert len({header.SOPInstanceUID for header in headers}) == 12


def test_what_a_series_cannot_hold_is_refused(tmp_path: Path) -> None:
    geometry = Geometry.from_spacing((1, 1, 1), (2, 2, 2))
    skewed = geometry.affine.copy()
    skewed[0, 2] = 0.5
    for volume, modality in (
        (Volume(np.zeros((1, 2, 2, 2)), geometry), "US"),
        (Volume(np.zeros((2, 2, 2, 2)), geometry), "CT"),
        (Volume(np.zeros((1, 2, 2, 2)), Geometry(skewed, (2, 2, 2))), "CT"),
        (Volume(np.full((1, 2, 2, 2), np.nan), geometry), "CT"),
    ):
        with pytest.raises(FormatError):
            write_series(volume, tmp_path / "out", modality=modality)
    assert not (tmp_path / "out").exists()
