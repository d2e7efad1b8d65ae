"""Tilted and unevenly spaced slices: repaired onto a rectilinear grid, and masks brought back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import highdicom
import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray

from medseg.core.case import Severity
from medseg.core.labels import Label
from medseg.core.reading import Reading
from medseg.core.volume import LabelMap
from medseg.formats import discover, read
from medseg.formats.dicom import arranged
from medseg.formats.dicom_seg import write_segmentation

from .conftest import Series
from .test_dicom import shift

TILT = np.tan(np.radians(15))
RADIUS, FEATHER = 18.0, 1.0  # mm
# Where spheres are put between the first and the last slice of the real series, and how far off centre in its plane.
PLACES = [(0.2, (0, 0)), (0.37, (30, -20)), (0.5, (-25, 10)), (0.8, (10, 30))]


def lean(series: Series) -> None:
    """Tilt the gantry by 15 degrees: every slice lies further along +y (LPS) than the one below."""
    series.change(lambda d, k: shift(d, 1, k * 2.0 * TILT))


def test_a_tilted_series_is_sheared_into_a_rectilinear_grid(series: Series) -> None:
    lean(series)
    (source,) = discover(series.folder)
    scan = read(source)
    (tilt,) = scan.findings
    assert (tilt.code, tilt.severity) == ("gantry-tilt", Severity.WARNING)
    assert tilt.values["degrees"] == pytest.approx(15, abs=0.01)
    assert scan.volume.geometry.is_orthogonal
    assert scan.volume.geometry.spacing == pytest.approx((0.5, 0.75, 2.0))
    # The first slice needs no interpolation.
    np.testing.assert_array_equal(scan.volume.array[0, :, :4, 0], series.volume.array[0, :, :, 0])


def test_slices_taken_as_they_are_keep_their_sheared_grid(series: Series) -> None:
    lean(series)
    (source,) = discover(series.folder)
    scan = read(source, Reading(gantry_tilt="warn"))
    np.testing.assert_array_equal(scan.volume.array, series.volume.array)
    assert not scan.volume.geometry.is_orthogonal
    last = scan.volume.geometry.to_world([[0, 0, 5]])[0]
    position = [float(x) for x in pydicom.dcmread(source.files[-1]).ImagePositionPatient]
    np.testing.assert_allclose(last, np.array(position) * [-1, -1, 1], atol=1e-6)


def test_a_missing_slice_is_interpolated_where_the_task_allows_it(series: Series) -> None:
    series.files()[2].unlink()
    (source,) = discover(series.folder)
    assert source.findings[-1].severity is Severity.ERROR
    assert source.findings[-1].values["positions_mm"] == [-96.0]
    scan = read(source, Reading(missing_slices="repair"))
    assert scan.volume.geometry.same_grid(series.volume.geometry)
    expected = series.volume.array.copy()
    expected[..., 2] = (expected[..., 1] + expected[..., 3]) / 2
    np.testing.assert_allclose(scan.volume.array, expected, rtol=1e-5, atol=1e-2)


def test_a_gap_beyond_what_the_task_allows_is_refused_whatever_the_policy(series: Series) -> None:
    series.files()[2].unlink()
    (source,) = discover(series.folder)
    with pytest.raises(Exception, match=r"4 mm is more than the 3 mm that reading\.largest_gap allows"):
        read(source, Reading(missing_slices="repair", largest_gap=3.0))


def test_a_segmentation_of_a_tilted_series_lies_on_its_own_slices(series: Series, tmp_path: Path) -> None:
    lean(series)
    (source,) = discover(series.folder)
    geometry = read(source).volume.geometry
    painted = np.zeros(geometry.shape, dtype=np.uint8)
    painted[1:4, 2:6, 3] = 1
    write_segmentation(LabelMap(painted, geometry, (Label("box", 1),)), source, tmp_path / "x.dcm", {})
    segmentation = highdicom.seg.segread(tmp_path / "x.dcm")
    uid = pydicom.dcmread(source.files[3]).SOPInstanceUID
    frames = segmentation.get_pixels_by_source_instance([uid], combine_segments=True)
    drift = 3 * 2.0 * TILT / 0.75
    rows = [r for r in range(4) if 2 <= round(r + drift) < 6]
    expected = np.zeros((4, 5), dtype=np.uint8)
    expected[np.ix_(rows, [1, 2, 3])] = 1
    np.testing.assert_array_equal(frames[0], expected)
    assert segmentation.NumberOfFrames == 1


def test_labels_survive_the_way_onto_the_grid_and_back(series: Series) -> None:
    lean(series)
    for axis, mm in ((1, 0.6 * TILT), (2, 0.6)):
        series.change(lambda d, k, axis=axis, mm=mm: shift(d, axis, mm), slice(3, 4))  # type: ignore[misc]
    (source,) = discover(series.folder)
    ordered, _ = arranged(source, Reading())
    assert ordered.reslicing is not None
    labels = np.random.default_rng(0).integers(0, 3, (6, 4, 5)).astype(np.uint8)
    back = ordered.reslicing.labels_to_slices(ordered.reslicing.labels_to_grid(labels))
    np.testing.assert_array_equal(back, labels)


# ---- real tilted headers ------------------------------------------------------------------------


@pytest.mark.real_data
@pytest.mark.parametrize("name", ["GE_tilt_variable_spacing", "Philips_S21610_S2010_tilt_minus18.5_7of54"])
def test_spheres_rendered_into_real_tilted_headers_keep_their_centres(
    shared_data: Path, tmp_path: Path, name: str
) -> None:
    folder = shared_data / "dicom" / "ct_gantry_tilt" / name
    (source,) = [s for s in discover(folder) if s.modality == "CT"]
    ordered, _ = arranged(source, Reading())
    radius = min(RADIUS, 0.35 * float(ordered.reslicing.heights[-1])) if ordered.reslicing else RADIUS
    for share, aside in PLACES:
        center = _inside(ordered.frames, share, aside)
        rendered = _render(ordered.frames, center, radius, tmp_path / f"{share}")
        (again,) = discover(rendered)
        volume = read(again).volume
        weights = np.maximum(volume.array[0], 0.0)
        index = np.array([(weights.sum(axis=_others(axis)) @ np.arange(n)) for axis, n in enumerate(weights.shape)])
        found = volume.geometry.to_world([index / weights.sum()])[0]
        error = volume.geometry.to_index([found])[0] - volume.geometry.to_index([center])[0]
        assert np.abs(error).max() <= 0.5, (share, error)


@pytest.mark.real_data
def test_a_mask_painted_on_the_repaired_grid_returns_to_the_right_slices(shared_data: Path) -> None:
    folder = shared_data / "dicom" / "ct_gantry_tilt" / "GE_tilt_variable_spacing"
    (source,) = discover(folder)
    ordered, geometry = arranged(source, Reading())
    repair = ordered.reslicing
    assert repair is not None
    center = _inside(ordered.frames, 0.4, (10, 20))
    grid = np.stack(np.meshgrid(*map(np.arange, geometry.shape), indexing="ij"), axis=-1).reshape(-1, 3)
    ball = (np.linalg.norm(geometry.to_world(grid) - center, axis=1) < RADIUS).reshape(geometry.shape)
    slices = repair.labels_to_slices(ball.transpose(2, 1, 0).astype(np.uint8))
    for frame, mask in zip(ordered.frames, slices, strict=True):
        distance = np.linalg.norm(_world(frame) - center, axis=-1)
        # A voxel of the repaired grid is 4 mm tall and half a mm wide, so its border may move by half of that.
        assert mask[distance < RADIUS - 2.6].all()
        assert not mask[distance > RADIUS + 2.6].any()


def _others(axis: int) -> tuple[int, ...]:
    return tuple(a for a in range(3) if a != axis)


def _world(frame: Any) -> NDArray[np.float64]:
    """RAS+ mm [rows, columns, 3] of a frame's pixel centres, from its header alone."""
    row, column = np.array(frame.orientation).reshape(2, 3)
    rows, columns = (np.arange(n) for n in frame.size)
    lps = (
        np.array(frame.position)
        + columns[None, :, None] * frame.spacing[1] * row
        + rows[:, None, None] * frame.spacing[0] * column
    )
    world: NDArray[np.float64] = lps * [-1, -1, 1]
    return world


def _inside(frames: Any, share: float, aside: tuple[float, float]) -> NDArray[np.float64]:
    """A point (RAS+) between the centres of the first and the last slice, `aside` mm from their line."""
    middle = [_world(frame)[frame.size[0] // 2, frame.size[1] // 2] for frame in (frames[0], frames[-1])]
    row, column = np.array(frames[0].orientation).reshape(2, 3) * [-1, -1, 1]
    point: NDArray[np.float64] = middle[0] + share * (middle[1] - middle[0]) + aside[0] * row + aside[1] * column
    return point


def _render(frames: Any, center: NDArray[np.float64], radius: float, folder: Path) -> Path:
    """The series with a soft-edged ball of 1000 in place of its pixels, its headers as they are."""
    folder.mkdir(parents=True)
    for number, frame in enumerate(frames):
        dataset = pydicom.dcmread(frame.path)
        distance = np.linalg.norm(_world(frame) - center, axis=-1)
        ball = 1000 * np.clip((radius - distance) / FEATHER + 0.5, 0, 1)
        dataset.RescaleSlope, dataset.RescaleIntercept = 1, 0
        dataset.PixelData = ball.round().astype("<i2").tobytes()
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 16, 15, 1
        dataset["PixelData"].VR = "OW"
        dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
        for keyword in ("PixelPaddingValue", "SmallestImagePixelValue", "LargestImagePixelValue"):
            dataset.pop(keyword, None)
        dataset.save_as(folder / f"{number}", enforce_file_format=True, little_endian=True, implicit_vr=False)
    return folder
