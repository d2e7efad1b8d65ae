"""Series that come out right, or are refused by name with the numbers."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.config import disable_value_validation
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from medseg.core.case import Scan, Severity
from medseg.core.errors import FormatError
from medseg.core.reading import Reading
from medseg.formats import discover, read, source_of

from .conftest import Series, store, stored


def read_one(folder: Path) -> Scan:
    (source,) = discover(folder)
    return read(source)


def refused(folder: Path) -> FormatError:
    (source,) = discover(folder)
    assert any(finding.severity is Severity.ERROR for finding in source.findings)
    with pytest.raises(FormatError) as error:
        read(source)
    assert "\n" not in str(error.value)
    return error.value


def codes(scan: Scan) -> list[str]:
    return [finding.code for finding in scan.findings]


def assert_unchanged(scan: Scan, series: Series) -> None:
    np.testing.assert_array_equal(scan.volume.array, series.volume.array)
    np.testing.assert_allclose(scan.volume.geometry.affine, series.volume.geometry.affine, atol=1e-9)


def test_a_plain_series_comes_back(series: Series) -> None:
    scan = read_one(series.folder)
    assert_unchanged(scan, series)
    assert scan.modality == "CT"
    assert scan.integral
    assert scan.findings == ()
    assert scan.volume.geometry.spacing == pytest.approx((0.5, 0.75, 2.0))
    assert scan.source.files == tuple(series.files())


def test_order_comes_from_positions_alone(series: Series) -> None:
    def mislead(dataset: Any, k: int) -> None:
        dataset.InstanceNumber = 7
        del dataset.AcquisitionNumber

    series.change(mislead)
    series.change(lambda d, k: d.__delattr__("InstanceNumber"), slice(0, 2))
    for number, path in enumerate(series.files()):
        path.rename(path.with_name(f"{9 - number}.anything"))
    assert_unchanged(read_one(series.folder), series)


@pytest.mark.parametrize("gone", [[2], [2, 3]])
def test_missing_slices_are_refused_with_their_place(series: Series, gone: list[int]) -> None:
    for path in [series.files()[k] for k in gone]:
        path.unlink()
    error = refused(series.folder)
    assert error.code == "missing-slices"
    assert error.reason.startswith(f"{len(gone)} slice")
    assert "-98.0..-9" in error.reason
    (source,) = discover(series.folder)
    assert source.findings[-1].values["missing"] == len(gone)


def test_a_gap_hidden_by_an_even_mean_is_found(series: Series) -> None:
    """Two slices moved towards each other: first to last divided by n - 1 is unchanged."""
    series.change(lambda d, k: shift(d, 2, 0.7), slice(2, 3))
    series.change(lambda d, k: shift(d, 2, -0.7), slice(3, 4))
    (source,) = discover(series.folder)
    with pytest.raises(FormatError) as error:
        read(source, Reading(uneven_spacing="refuse"))
    assert error.value.code == "uneven-spacing"


def shift(dataset: Any, axis: int, mm: float) -> None:
    position = list(dataset.ImagePositionPatient)
    position[axis] = float(position[axis]) + mm
    dataset.ImagePositionPatient = [pydicom.valuerep.format_number_as_ds(float(x)) for x in position]


def test_rounded_positions_are_accepted_and_told(series: Series) -> None:
    series.change(lambda d, k: shift(d, 2, 0.04 if k % 2 else 0.0))
    scan = read_one(series.folder)
    assert codes(scan) == ["uneven-spacing"]
    assert scan.findings[0].severity is Severity.INFO


def test_gantry_tilt_is_refused_with_its_angle_where_the_policy_says_so(series: Series) -> None:
    series.change(lambda d, k: shift(d, 1, k * 2.0 * np.tan(np.radians(15))))
    (source,) = discover(series.folder)
    with pytest.raises(FormatError) as error:
        read(source, Reading(gantry_tilt="refuse"))
    assert error.value.code == "gantry-tilt"
    assert "15.0 degrees" in error.value.reason


def test_slices_shifted_in_their_plane_are_refused(series: Series) -> None:
    series.change(lambda d, k: shift(d, 0, 3.0), slice(3, None))
    assert refused(series.folder).code == "shifted-slices"


def test_a_scout_of_another_orientation_is_split_off(series: Series) -> None:
    series.change(lambda d, k: setattr(d, "ImageOrientationPatient", [0, 1, 0, 0, 0, -1]), slice(0, 1))
    volume, scout = discover(series.folder)
    assert (volume.name[-2:], scout.name[-2:]) == ("-1", "-2")
    scan = read(volume)
    np.testing.assert_array_equal(scan.volume.array, series.volume.array[..., 1:])
    assert codes(scan) == ["mixed-orientation"]
    with pytest.raises(FormatError, match="a scout and no volume"):
        read(scout)


def test_mixed_pixel_spacing_is_refused(series: Series) -> None:
    series.change(lambda d, k: setattr(d, "PixelSpacing", [0.9, 0.9]), slice(0, 1))
    assert refused(series.folder).code == "mixed-pixel-spacing"


def test_different_sizes_are_refused(series: Series) -> None:
    def enlarge(dataset: Any, k: int) -> None:
        array = stored(dataset)
        store(dataset, np.vstack([array, array]))
        dataset.Rows = 2 * array.shape[0]

    series.change(enlarge, slice(0, 1))
    assert refused(series.folder).code == "mixed-size"


@pytest.mark.parametrize("keyword", ["ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"])
def test_missing_geometry_is_refused(series: Series, keyword: str) -> None:
    series.change(lambda d, k: d.__delattr__(keyword), slice(1, 2))
    error = refused(series.folder)
    assert error.code == "missing-geometry"
    assert keyword in error.reason


def test_values_that_cannot_be_are_refused(series: Series) -> None:
    series.change(lambda d, k: setattr(d, "ImageOrientationPatient", [1, 0, 0, 1, 0, 0]))
    assert refused(series.folder).code == "bad-geometry"
    series.change(lambda d, k: setattr(d, "ImageOrientationPatient", [1, 0, 0, 0, 1, 0]))
    series.change(lambda d, k: setattr(d, "PixelSpacing", [0, 1]))
    assert refused(series.folder).code == "bad-geometry"


def test_two_echoes_are_two_volumes(series: Series) -> None:
    for path in series.files():
        shutil.copy(path, path.with_name(path.name + "b"))
    for number, path in enumerate(sorted(series.folder.glob("*b"))):
        dataset = pydicom.dcmread(path)
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"2.25.{number + 1}"
        dataset.EchoTime = "20"
        store(dataset, stored(dataset) + 1)
        dataset.save_as(path)
    first, second = discover(series.folder)
    assert (first.name, second.name) == (first.name[:-1] + "1", first.name[:-1] + "2")
    # Without an echo time sorts after the number.
    np.testing.assert_array_equal(read(first).volume.array, series.volume.array + 1)
    np.testing.assert_array_equal(read(second).volume.array, series.volume.array)
    assert codes(read(first)) == ["multi-volume"]
    assert "echo time 20" in read(first).findings[0].message
    with pytest.raises(FormatError, match="holds 2 scans"):
        source_of(series.folder)


def test_copies_are_left_out_and_told(series: Series) -> None:
    for path in series.files()[:2]:
        shutil.copy(path, path.with_name(path.name + " copy"))
    scan = read_one(series.folder)
    assert_unchanged(scan, series)
    assert codes(scan) == ["duplicate-file"]
    assert scan.findings[0].values == {"files": 2}


def test_the_same_slice_under_another_uid_is_left_out_where_its_pixels_agree(series: Series) -> None:
    path = series.files()[1]
    dataset = pydicom.dcmread(path)
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = "2.25.99"
    dataset.save_as(series.folder / "again")
    scan = read_one(series.folder)
    assert_unchanged(scan, series)
    assert codes(scan) == ["duplicate-position"]
    store(dataset, stored(dataset) + 1)
    dataset.save_as(series.folder / "again")
    assert refused(series.folder).code == "duplicate-position"


def test_localizers_are_split_off(series: Series) -> None:
    scout = pydicom.dcmread(series.files()[0])
    scout.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    scout.SOPInstanceUID = scout.file_meta.MediaStorageSOPInstanceUID = "2.25.98"
    scout.ImageOrientationPatient = [0, 1, 0, 0, 0, -1]
    scout.save_as(series.folder / "scout")
    volume, localizer = discover(series.folder)
    assert_unchanged(read(volume), series)
    assert localizer.name == f"{volume.name}-localizer"
    with pytest.raises(FormatError) as error:
        read(localizer)
    assert error.value.code == "localizer"
    assert source_of(series.folder).name == volume.name


@pytest.mark.parametrize(
    ("modality", "code"), [("SEG", "not-an-image"), ("RTSTRUCT", "not-an-image"), ("RTDOSE", "not-an-image")]
)
def test_objects_that_are_no_images_are_refused(series: Series, modality: str, code: str) -> None:
    series.change(lambda d, k: setattr(d, "Modality", modality))
    assert refused(series.folder).code == code


def test_look_up_tables_are_refused(series: Series) -> None:
    series.change(lambda d, k: setattr(d, "ModalityLUTSequence", Sequence([Dataset()])))
    assert refused(series.folder).code == "unsupported-syntax"


def test_images_at_one_position_are_no_volume(series: Series) -> None:
    place = pydicom.dcmread(series.files()[0]).ImagePositionPatient
    series.change(lambda d, k: setattr(d, "ImagePositionPatient", place))
    series.change(lambda d, k: setattr(d, "AcquisitionNumber", k))
    assert refused(series.folder).code == "multi-volume"


def test_a_colour_capture_without_a_position_is_a_picture(series: Series) -> None:
    colours = np.random.default_rng(0).integers(0, 256, (4, 5, 3)).astype(np.uint8)
    for path in series.files()[1:]:
        path.unlink()

    def capture(dataset: Any, k: int) -> None:
        dataset.Modality, dataset.SamplesPerPixel, dataset.PhotometricInterpretation = "OT", 3, "RGB"
        dataset.PlanarConfiguration, dataset.PixelRepresentation = 0, 0
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 8, 8, 7
        del dataset.ImagePositionPatient, dataset.ImageOrientationPatient
        dataset.PixelData = colours.tobytes()

    series.change(capture)
    scan = read_one(series.folder)
    np.testing.assert_array_equal(scan.volume.array[..., 0], colours.transpose(2, 0, 1))
    assert scan.volume.geometry.spacing == (0.75, 0.5, 1.0)
    assert codes(scan) == ["missing-geometry", "color"]


def test_a_series_spread_over_folders_is_put_together(series: Series) -> None:
    files = series.files()
    for number, path in enumerate(files):
        target = series.folder / f"disk{number // 3}" / path.name
        target.parent.mkdir(exist_ok=True)
        path.rename(target)
    scan = read_one(series.folder)
    assert_unchanged(scan, series)
    assert scan.source.path == series.folder
    assert "/" not in scan.source.name


def test_copies_of_a_series_in_several_folders_stay_apart(series: Series) -> None:
    shutil.copytree(series.folder, series.folder.parent / "copy")
    sources = discover(series.folder.parent)
    assert len(sources) == 2
    for source in sources:
        assert_unchanged(read(source), series)


def test_series_of_one_folder_are_told_apart_by_their_uid(series: Series) -> None:
    for path in series.files():
        dataset = pydicom.dcmread(path)
        dataset.SeriesInstanceUID = "2.25.5"
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID + "1"
        dataset.save_as(path.with_name(f"other-{path.name}"))
    sources = discover(series.folder)
    assert len({source.name for source in sources}) == 2
    for source in sources:
        assert_unchanged(read(source), series)
    with pytest.raises(FormatError, match="holds 2 scans"):
        source_of(series.folder)


def test_headers_without_uids_are_read(series: Series) -> None:
    """No SOPClassUID in the data set, an empty SeriesInstanceUID: seen in the wild."""

    def bare(dataset: Any, k: int) -> None:
        del dataset.SOPClassUID
        dataset.SeriesInstanceUID = ""

    series.change(bare)
    scan = read_one(series.folder)
    assert_unchanged(scan, series)
    assert scan.source.uid is None
    assert scan.source.name.startswith("series-")


def test_files_without_preamble_are_read(series: Series) -> None:
    for path in series.files():
        dataset = pydicom.dcmread(path)
        del dataset.file_meta
        dataset.preamble = None
        pydicom.dcmwrite(path, dataset, implicit_vr=True, little_endian=True, enforce_file_format=False)
        assert path.read_bytes()[:2] == b"\x08\x00"
    assert_unchanged(read_one(series.folder), series)


def test_a_single_slice_takes_its_thickness(series: Series) -> None:
    path = series.files()[2]
    scan = read(source_of(path))
    assert scan.volume.geometry.shape == (5, 4, 1)
    assert scan.volume.geometry.spacing[2] == 2.0
    dataset = pydicom.dcmread(path)
    del dataset.SliceThickness
    dataset.save_as(path)
    scan = read(source_of(path))
    assert scan.volume.geometry.spacing[2] == 1.0
    assert codes(scan) == ["unknown-spacing"]


def test_a_slice_that_is_cut_off_spoils_its_series_by_name(series: Series) -> None:
    path = series.files()[3]
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(FormatError) as error:
        read_one(series.folder)
    assert error.value.code == "partial-file"
    assert path.name in str(error.value)


def test_enhanced_multi_frame_objects_are_read_like_single_frames(series: Series, tmp_path: Path) -> None:
    order = [3, 0, 5, 1, 4, 2]
    enhanced(series, order).save_as(tmp_path / "enhanced.dcm", enforce_file_format=True)
    scan = read(source_of(tmp_path / "enhanced.dcm"))
    assert_unchanged(scan, series)
    assert codes(scan) == ["mixed-rescale"]


def test_multi_frame_objects_that_do_not_fit_are_refused(series: Series, tmp_path: Path) -> None:
    dataset = enhanced(series, [0, 1, 2, 3, 4, 5])
    dataset.PerFrameFunctionalGroupsSequence = dataset.PerFrameFunctionalGroupsSequence[:4]
    (tmp_path / "in").mkdir()
    dataset.save_as(tmp_path / "in" / "short.dcm", enforce_file_format=True)
    assert refused(tmp_path / "in").code == "unreadable"
    del dataset.PerFrameFunctionalGroupsSequence
    dataset.save_as(tmp_path / "in" / "short.dcm", enforce_file_format=True)
    assert refused(tmp_path / "in").code == "missing-geometry"


def test_an_enhanced_object_of_two_b_values_is_two_volumes(series: Series, tmp_path: Path) -> None:
    dataset = enhanced(series, [0, 3, 1, 4, 2, 5])
    groups = dataset.PerFrameFunctionalGroupsSequence
    for number, group in enumerate(groups):
        diffusion = Dataset()
        diffusion.DiffusionBValue = 1000.0 * (number % 2)
        group.MRDiffusionSequence = [diffusion]
        group.PlanePositionSequence = groups[number - number % 2].PlanePositionSequence
    dataset.save_as(tmp_path / "enhanced.dcm", enforce_file_format=True)
    low, high = discover(tmp_path / "enhanced.dcm")
    np.testing.assert_array_equal(read(low).volume.array, series.volume.array[..., :3])
    np.testing.assert_array_equal(read(high).volume.array, series.volume.array[..., 3:])
    assert low.frames == ((0, 0), (0, 2), (0, 4))
    assert high.findings[0].values == {"volume": 2, "of": 2, "b-value": "1000.0"}


def enhanced(series: Series, order: list[int]) -> Any:
    """The series as one enhanced CT whose frames lie in `order`, each with an intercept of its own."""
    files = series.files()
    dataset = pydicom.dcmread(files[0])
    frames, groups = [], []
    for number, k in enumerate(order):
        single = pydicom.dcmread(files[k])
        group, position, values = Dataset(), Dataset(), Dataset()
        position.ImagePositionPatient = single.ImagePositionPatient
        values.RescaleSlope, values.RescaleIntercept, values.RescaleType = 1, -1024 - number, "HU"
        group.PlanePositionSequence = [position]
        group.PixelValueTransformationSequence = [values]
        groups.append(group)
        frames.append(stored(single) + number)
    shared, plane, measures = Dataset(), Dataset(), Dataset()
    plane.ImageOrientationPatient = dataset.ImageOrientationPatient
    measures.PixelSpacing, measures.SliceThickness = dataset.PixelSpacing, dataset.SliceThickness
    shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = [plane], [measures]
    dataset.SharedFunctionalGroupsSequence, dataset.PerFrameFunctionalGroupsSequence = [shared], groups
    for keyword in (
        "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness", "RescaleSlope",
        "RescaleIntercept",
    ):  # fmt: skip
        delattr(dataset, keyword)
    dataset.NumberOfFrames = len(order)
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = pydicom.uid.EnhancedCTImageStorage
    store(dataset, np.stack(frames))
    return dataset


@pytest.mark.parametrize(
    ("keyword", "values", "code"),
    [
        ("ImagePositionPatient", ["0", "0", "1e38"], "bad-geometry"),
        ("ImagePositionPatient", ["0", "0", "90000"], "missing-slices"),
        ("ImagePositionPatient", ["nan", "0", "0"], "unreadable"),
        ("PixelSpacing", ["1e30", "1e30"], "bad-geometry"),
        ("NumberOfFrames", "99999999", "partial-file"),
        ("NumberOfFrames", "-1", "partial-file"),
    ],
)
def test_one_damaged_number_is_refused_at_once(series: Series, keyword: str, values: Any, code: str) -> None:
    """It must not make a grid that fills the memory, a list that never ends, or a slice that is silently gone."""
    only = slice(None) if keyword == "PixelSpacing" else slice(-1, None)
    with disable_value_validation():
        series.change(lambda dataset, _: setattr(dataset, keyword, values), only)
    assert refused(series.folder).code == code


def test_two_slices_that_drift_further_than_they_reach_are_refused(series: Series) -> None:
    for path in series.files()[2:]:
        path.unlink()
    series.change(lambda dataset, _: setattr(dataset, "ImagePositionPatient", ["50000", "0", "10"]), slice(1, None))
    assert refused(series.folder).code == "gantry-tilt"
