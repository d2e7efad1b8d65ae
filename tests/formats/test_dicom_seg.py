"""DICOM segmentations, read back by highdicom."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import highdicom
import numpy as np
import pydicom
import pytest

from medseg.core.errors import FormatError
from medseg.core.geometry import Geometry
from medseg.core.labels import Code, Label
from medseg.core.volume import LabelMap, Volume
from medseg.formats import read, source_of
from medseg.formats.dicom_seg import write_segmentation
from medseg.formats.dicom_write import write_series

from .conftest import Series
from .test_dicom import enhanced

LEFT = Code("7771000", "SCT", "Left")
LABELS = (
    Label("left lung", 1, color=(230, 159, 0), type=Code("39607008", "SCT", "Lung"), modifier=LEFT),
    Label("tumour", 2, category=Code("49755003", "SCT", "Morphologically Altered Structure")),
)
# Rotated by 30 and 20 degrees, and left-handed: the slices as written run against their normal.
TURNED = np.array([[0.8660254, -0.4698463, 0.1710101], [0.5, 0.8137977, -0.2961981], [0.0, 0.3420201, 0.9396926]])
GRIDS = {
    "axial": np.diag([-1.0, -1.0, 1.0]),
    "flipped": np.diag([1.0, -1.0, 1.0]),
    "sagittal": np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]]),
    "oblique": TURNED,
    "oblique and left-handed": TURNED @ np.diag([1.0, 1.0, -1.0]),
}


def foreground(labelmap: LabelMap, value: int) -> set[tuple[int, ...]]:
    """Where the voxels of a value lie, in hundredths of a millimetre (LPS+)."""
    world = labelmap.geometry.to_world(np.argwhere(labelmap.array == value)) * (-1, -1, 1)
    return {tuple(point) for point in np.rint(world * 100).astype(int)}


def in_segmentation(path: Path, number: int) -> set[tuple[int, ...]]:
    """The same, as highdicom understands the file."""
    volume = highdicom.seg.segread(path).get_volume(segment_numbers=[number])
    index = np.argwhere(volume.array[..., 0] > 0)
    world = index @ volume.affine[:3, :3].T + volume.affine[:3, 3]
    return {tuple(point) for point in np.rint(world * 100).astype(int)}


def some_labels(geometry: Geometry) -> LabelMap:
    array = np.zeros(geometry.shape, np.uint8)
    array[1:3, 0:2, 1:3] = 1  # off centre on every axis, so that no mirroring goes unnoticed
    array[4, 3, 4] = 2
    return LabelMap(array, geometry, LABELS)


@pytest.mark.parametrize("grid", GRIDS)
def test_segments_lie_where_the_labels_are(tmp_path: Path, grid: str) -> None:
    affine = np.eye(4)
    affine[:3, :3] = GRIDS[grid] * (0.5, 0.75, 2.0)
    affine[:3, 3] = (12.5, -40.25, 100.0)
    volume = Volume(np.zeros((1, 5, 4, 6), np.int16), Geometry(affine, (5, 4, 6)))
    write_series(volume, tmp_path / "ct")
    source = source_of(tmp_path / "ct")
    labelmap = some_labels(read(source).volume.geometry)
    write_segmentation(labelmap, source, tmp_path / "out.seg.dcm", {"bundle": "abc", "task": "lung_ct"})
    for value in (1, 2):
        assert in_segmentation(tmp_path / "out.seg.dcm", value) == foreground(labelmap, value)


def test_segments_are_described_as_the_task_says(series: Series, tmp_path: Path) -> None:
    source = source_of(series.folder)
    path = tmp_path / "out.seg.dcm"
    write_segmentation(some_labels(series.volume.geometry), source, path, {"bundle": "abc", "task": "lung_ct"})
    segmentation = highdicom.seg.segread(path)
    first, second = segmentation.SegmentSequence
    assert segmentation.SegmentationType == "BINARY"
    assert first.SegmentLabel == "left lung"
    assert first.segmented_property_type.meaning == "Lung"
    assert first.segmented_property_category.value == "91723000"
    modifier = first.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence[0]
    assert modifier.CodeValue == LEFT.value
    assert "RecommendedDisplayCIELabValue" in first
    assert second.segmented_property_category.value == "49755003"
    algorithm = first.SegmentationAlgorithmIdentificationSequence[0]
    assert (algorithm.AlgorithmName, algorithm.AlgorithmParameters) == ("medseg", "bundle=abc,task=lung_ct")
    header = pydicom.dcmread(series.files()[0])
    for keyword in ("StudyInstanceUID", "FrameOfReferenceUID", "PatientID"):
        assert segmentation[keyword].value == header[keyword].value
    assert segmentation.SeriesInstanceUID != header.SeriesInstanceUID
    assert segmentation.NumberOfFrames == 3  # empty frames are left out
    referenced = {
        item.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
        for item in segmentation.PerFrameFunctionalGroupsSequence
    }
    files = series.files()
    assert referenced == {pydicom.dcmread(files[k]).SOPInstanceUID for k in (1, 2, 4)}


def test_an_empty_result_is_an_explicit_negative(series: Series, tmp_path: Path) -> None:
    labelmap = LabelMap(np.zeros((5, 4, 6), np.uint8), series.volume.geometry, LABELS)
    write_segmentation(labelmap, source_of(series.folder), tmp_path / "out.seg.dcm", {})
    segmentation = highdicom.seg.segread(tmp_path / "out.seg.dcm")
    assert segmentation.number_of_segments == 2
    assert not segmentation.get_volume(combine_segments=True).array.any()


def test_labels_without_names_are_numbered(series: Series, tmp_path: Path) -> None:
    array = np.zeros((5, 4, 6), np.uint8)
    array[0, 0, 0], array[1, 1, 1] = 7, 40
    labelmap = LabelMap(array, series.volume.geometry)
    write_segmentation(labelmap, source_of(series.folder), tmp_path / "out.seg.dcm", {})
    segmentation = highdicom.seg.segread(tmp_path / "out.seg.dcm")
    assert [segment.SegmentLabel for segment in segmentation.SegmentSequence] == ["label 7", "label 40"]
    nothing = LabelMap(np.zeros((5, 4, 6), np.uint8), series.volume.geometry)
    with pytest.raises(FormatError, match="at least one named label"):
        write_segmentation(nothing, source_of(series.folder), tmp_path / "none.seg.dcm", {})


def test_enhanced_sources_are_referred_to_frame_by_frame(series: Series, tmp_path: Path) -> None:
    enhanced(series, [3, 0, 5, 1, 4, 2]).save_as(tmp_path / "enhanced.dcm", enforce_file_format=True)
    source = source_of(tmp_path / "enhanced.dcm")
    labelmap = some_labels(read(source).volume.geometry)
    write_segmentation(labelmap, source, tmp_path / "out.seg.dcm", {})
    for value in (1, 2):
        assert in_segmentation(tmp_path / "out.seg.dcm", value) == foreground(labelmap, value)


@pytest.mark.parametrize("keyword", ["SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID"])
def test_sources_without_uids_are_refused(series: Series, tmp_path: Path, keyword: str) -> None:
    series.change(lambda d, k: setattr(d, keyword, ""))
    with pytest.raises(FormatError) as error:
        write_segmentation(some_labels(series.volume.geometry), source_of(series.folder), tmp_path / "out.seg.dcm", {})
    assert error.value.code == "missing-uids"
    assert keyword in error.value.reason
    assert not (tmp_path / "out.seg.dcm").exists()


def test_sparse_headers_are_good_enough(series: Series, tmp_path: Path) -> None:
    """Anonymisers remove what must be copied; a class UID in the file's meta header alone is one too."""

    def strip(dataset: Any, k: int) -> None:
        for keyword in ("PatientName", "PatientBirthDate", "StudyID", "AccessionNumber", "StudyDate", "SOPClassUID"):
            delattr(dataset, keyword)
        dataset.NumberOfFrames = 1

    series.change(strip)
    labelmap = some_labels(series.volume.geometry)
    write_segmentation(labelmap, source_of(series.folder), tmp_path / "out.seg.dcm", {})
    assert in_segmentation(tmp_path / "out.seg.dcm", 1) == foreground(labelmap, 1)


def test_words_of_anonymisers_are_not_copied(series: Series, tmp_path: Path) -> None:
    def scrub(dataset: Any, k: int) -> None:
        dataset.PatientSex, dataset.PatientBirthDate, dataset.StudyDate = "ANON", "REMOVED", "00000000"
        dataset.SpecificCharacterSet = ""

    with pydicom.config.disable_value_validation():
        series.change(scrub)
    path = tmp_path / "out.seg.dcm"
    write_segmentation(some_labels(series.volume.geometry), source_of(series.folder), path, {})
    segmentation = pydicom.dcmread(path)
    assert (segmentation.PatientSex, segmentation.PatientBirthDate, segmentation.StudyDate) == ("", "", "")


def test_names_in_other_alphabets_are_kept(series: Series, tmp_path: Path) -> None:
    def rename(dataset: Any, k: int) -> None:
        dataset.SpecificCharacterSet = "ISO_IR 144"
        dataset.PatientName = "Иванова^Анна"

    series.change(rename)
    write_segmentation(some_labels(series.volume.geometry), source_of(series.folder), tmp_path / "out.seg.dcm", {})
    assert str(pydicom.dcmread(tmp_path / "out.seg.dcm").PatientName) == "Иванова^Анна"


def test_a_label_map_of_another_grid_is_refused(series: Series, tmp_path: Path) -> None:
    other = series.volume.geometry.affine.copy()
    other[2, 3] += 2
    labelmap = LabelMap(np.zeros((5, 4, 6), np.uint8), Geometry(other, (5, 4, 6)), LABELS)
    with pytest.raises(FormatError) as error:
        write_segmentation(labelmap, source_of(series.folder), tmp_path / "out.seg.dcm", {})
    assert error.value.code == "grid-mismatch"


def test_a_segmentation_that_lost_a_voxel_is_never_written(
    series: Series, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = highdicom.seg.Segmentation

    def lossy(*, pixel_array: Any, **options: Any) -> Any:
        pixel_array = pixel_array.copy()
        pixel_array[4] = 0
        return whole(pixel_array=pixel_array, **options)

    monkeypatch.setattr("medseg.formats.dicom_seg.highdicom.seg.Segmentation", lossy)
    with pytest.raises(FormatError, match="with 8 of 9 voxels") as error:
        write_segmentation(some_labels(series.volume.geometry), source_of(series.folder), tmp_path / "x.dcm", {})
    assert error.value.code == "no-seg"


def test_pixels_are_filled_up_with_a_zero(series: Series, tmp_path: Path) -> None:
    write_segmentation(some_labels(series.volume.geometry), source_of(series.folder), tmp_path / "x.dcm", {})
    dataset = pydicom.dcmread(tmp_path / "x.dcm")
    bits = dataset.NumberOfFrames * dataset.Rows * dataset.Columns
    assert len(dataset.PixelData) == -(-bits // 16) * 2
    assert bits % 16 != 0 and dataset.PixelData[-(-bits // 8) :] in (b"", b"\0")
