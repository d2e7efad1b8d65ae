"""Label maps as RT structure sets: rasterised again they are the same label map, whatever its shape."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.draw import polygon

from medseg.core.errors import FormatError
from medseg.core.geometry import Geometry
from medseg.core.labels import Code, Label
from medseg.core.reading import Reading
from medseg.core.volume import LabelMap, Volume
from medseg.formats import discover, read, source_of
from medseg.formats.contours import fill
from medseg.formats.dicom_derived import derive, save
from medseg.formats.dicom_write import write_series
from medseg.formats.rtstruct_write import outlines, structure_set
from medseg.formats.structures import blank, read_drawing, to_labelmap

from .conftest import Series
from .test_dicom import enhanced
from .test_dicom_reslice import lean
from .test_dicom_seg import GRIDS

LABELS = (
    Label("left lung", 1, color=(230, 159, 0), type=Code("39607008", "SCT", "Lung")),
    Label("tumour", 2, color=(0, 114, 178)),
    Label("absent", 3),
)


def written(labelmap: LabelMap, folder: Path, path: Path, **options: Any) -> Path:
    (source,) = discover(folder)
    derived = derive(labelmap, source, {"model": "abc", "task": "toy"}, **options)
    save(structure_set(derived), path, derived)
    return path


def again(path: Path, folder: Path) -> tuple[dict[str, np.ndarray], list[str]]:
    """The masks [columns, rows, slices] of all structures, as our own reader has them, and its findings."""
    (source,) = discover(folder)
    drawing = read_drawing(source_of(path), source, Reading())
    masks = {}
    for structure in drawing.structures:
        slices = blank(drawing)
        for piece in structure.patches:
            rows, columns = piece.mask.shape
            slices[piece.k, piece.row : piece.row + rows, piece.column : piece.column + columns] |= piece.mask
        masks[structure.name] = to_labelmap(slices, drawing, ()).array != 0
    return masks, [finding.code for finding in drawing.findings]


def by_skimage(path: Path, geometry: Geometry) -> dict[str, np.ndarray]:
    """The masks as pydicom and scikit-image understand the file, without our reader: contours combined by xor."""
    dataset = pydicom.dcmread(path)
    names = {item.ROINumber: item.ROIName for item in dataset.StructureSetROISequence}
    masks = {}
    for item in dataset.ROIContourSequence:
        mask = np.zeros(geometry.shape, bool)
        for contour in item.get("ContourSequence", ()):
            index = geometry.to_index(np.array(contour.ContourData, float).reshape(-1, 3) * (-1, -1, 1))
            assert contour.NumberOfContourPoints == len(index)
            k = int(np.rint(index[0, 2]))
            np.testing.assert_allclose(index[:, 2], k, atol=1e-3)
            mask[(*polygon(index[:, 0], index[:, 1], geometry.shape[:2]), k)] ^= True
        masks[names[item.ReferencedROINumber]] = mask
    return masks


def rough(shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Specks, holes, islands in holes, and what touches every border."""
    rng = np.random.default_rng(seed)
    array = rng.choice(3, shape, p=[0.5, 0.4, 0.1]).astype(np.uint8)
    array[..., 0] = 0
    return array


# ---- outlines ---------------------------------------------------------------------------------


@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 2**32), st.floats(0, 1))
@settings(max_examples=100, deadline=None)
def test_filling_the_outlines_of_any_mask_gives_it_back(rows: int, columns: int, seed: int, share: float) -> None:
    mask = np.random.default_rng(seed).random((rows, columns)) < share
    drawn = outlines(mask)
    full = np.zeros_like(mask)
    inside = fill(drawn, mask.shape) if drawn else None
    if inside is not None:
        (row, column), box = inside
        full[row : row + box.shape[0], column : column + box.shape[1]] = box
    assert np.array_equal(full, mask)


def test_a_single_pixel_is_a_diamond_and_a_rectangle_has_cut_corners() -> None:
    pixel = np.zeros((5, 5), bool)
    pixel[2, 3] = True
    (diamond,) = outlines(pixel)
    assert {tuple(p) for p in diamond} == {(1.5, 3.0), (2.5, 3.0), (2.0, 2.5), (2.0, 3.5)}
    block = np.zeros((9, 9), bool)
    block[2:7, 1:6] = True
    (octagon,) = outlines(block)
    assert len(octagon) == 8
    assert outlines(np.zeros((4, 4), bool)) == []


def test_the_area_of_an_outline_falls_half_a_pixel_short() -> None:
    rows, columns = np.ogrid[:60, :60]
    disc = (rows - 30.2) ** 2 + (columns - 29.1) ** 2 < 24**2
    (outline,) = outlines(disc)
    y, x = outline.T
    area = 0.5 * abs(np.dot(y, np.roll(x, -1)) - np.dot(x, np.roll(y, -1)))
    assert area == pytest.approx(disc.sum() - 0.5)


# ---- objects ----------------------------------------------------------------------------------


@pytest.mark.parametrize("grid", GRIDS)
def test_structures_come_back_voxel_by_voxel_on_any_grid(tmp_path: Path, grid: str) -> None:
    affine = np.eye(4)
    affine[:3, :3] = GRIDS[grid] * (0.5, 0.75, 2.0)
    affine[:3, 3] = (12.5, -40.25, 100.0)
    write_series(Volume(np.zeros((1, 15, 14, 6), np.int16), Geometry(affine, (15, 14, 6))), tmp_path / "ct")
    geometry = read(source_of(tmp_path / "ct")).volume.geometry
    labelmap = LabelMap(rough(geometry.shape, 4), geometry, LABELS)
    path = written(labelmap, tmp_path / "ct", tmp_path / "x.rtstruct.dcm")
    masks, findings = again(path, tmp_path / "ct")
    expected = {label.name: labelmap.array == label.value for label in LABELS}
    for other in (masks, by_skimage(path, geometry)):
        assert other.keys() == expected.keys()
        for name, mask in expected.items():
            assert np.array_equal(other[name], mask), name
    assert not findings


def test_tilted_slices_are_drawn_on_as_they_lie(series: Series, tmp_path: Path) -> None:
    lean(series)
    (source,) = discover(series.folder)
    geometry = read(source).volume.geometry
    labelmap = LabelMap(rough(geometry.shape, 5), geometry, LABELS)
    derived = derive(labelmap, source, {})
    save(structure_set(derived), tmp_path / "x.dcm", derived)
    drawing = read_drawing(source_of(tmp_path / "x.dcm"), source, Reading())
    for number, structure in enumerate(drawing.structures, start=1):
        slices = np.zeros_like(derived.numbers, dtype=bool)
        for piece in structure.patches:
            rows, columns = piece.mask.shape
            slices[piece.k, piece.row : piece.row + rows, piece.column : piece.column + columns] = piece.mask
        assert np.array_equal(slices, derived.numbers == number)
    assert not drawing.findings


def test_frames_of_enhanced_images_are_referred_to(series: Series, tmp_path: Path) -> None:
    enhanced(series, [3, 0, 5, 1, 4, 2]).save_as(tmp_path / "enhanced.dcm", enforce_file_format=True)
    geometry = read(source_of(tmp_path / "enhanced.dcm")).volume.geometry
    array = np.zeros(geometry.shape, np.uint8)
    array[1:3, 1:3, 4] = 1
    labelmap = LabelMap(array, geometry, LABELS)
    path = written(labelmap, tmp_path / "enhanced.dcm", tmp_path / "x.dcm")
    (contour,) = pydicom.dcmread(path).ROIContourSequence[0].ContourSequence
    image = pydicom.dcmread(tmp_path / "enhanced.dcm")
    referenced = contour.ContourImageSequence[0]
    assert referenced.ReferencedSOPInstanceUID == image.SOPInstanceUID
    frame = image.PerFrameFunctionalGroupsSequence[referenced.ReferencedFrameNumber - 1]
    assert frame.PlanePositionSequence[0].ImagePositionPatient[2] == pytest.approx(contour.ContourData[2])


def test_the_object_says_what_it_was_drawn_on_and_by_what(series: Series, tmp_path: Path) -> None:
    array = np.zeros((5, 4, 6), np.uint8)
    array[1:3, 1:3, 4] = 1
    path = written(LabelMap(array, series.volume.geometry, LABELS), series.folder, tmp_path / "x.dcm")
    dataset, image = pydicom.dcmread(path), pydicom.dcmread(series.files()[4])
    for keyword in ("StudyInstanceUID", "FrameOfReferenceUID", "PatientID", "PatientName"):
        assert dataset[keyword].value == image[keyword].value
    assert dataset.SeriesInstanceUID != image.SeriesInstanceUID
    (contour,) = dataset.ROIContourSequence[0].ContourSequence
    assert contour.ContourImageSequence[0].ReferencedSOPInstanceUID == image.SOPInstanceUID
    listed = dataset.ReferencedFrameOfReferenceSequence[0].RTReferencedStudySequence[0].RTReferencedSeriesSequence[0]
    assert len(listed.ContourImageSequence) == 6
    region, observed = dataset.StructureSetROISequence[0], dataset.RTROIObservationsSequence[0]
    assert (region.ROIName, region.ROIGenerationAlgorithm) == ("left lung", "AUTOMATIC")
    algorithm = region.ROIDerivationAlgorithmIdentificationSequence[0]
    assert (algorithm.AlgorithmName, algorithm.AlgorithmParameters) == ("medseg", "model=abc,task=toy")
    assert observed.RTROIIdentificationCodeSequence[0].CodeMeaning == "Lung"
    assert dataset.ROIContourSequence[0].ROIDisplayColor == [230, 159, 0]


def test_an_empty_structure_is_a_region_without_contours(series: Series, tmp_path: Path) -> None:
    labelmap = LabelMap(np.zeros((5, 4, 6), np.uint8), series.volume.geometry, LABELS)
    dataset = pydicom.dcmread(written(labelmap, series.folder, tmp_path / "x.dcm"))
    assert [item.ROIName for item in dataset.StructureSetROISequence] == [label.name for label in LABELS]
    assert not any("ContourSequence" in item for item in dataset.ROIContourSequence)


def test_sources_without_uids_are_refused(series: Series, tmp_path: Path) -> None:
    series.change(lambda d, k: setattr(d, "FrameOfReferenceUID", ""))
    labelmap = LabelMap(np.zeros((5, 4, 6), np.uint8), series.volume.geometry, LABELS)
    with pytest.raises(FormatError, match="FrameOfReferenceUID"):
        written(labelmap, series.folder, tmp_path / "x.dcm")


# ---- the real ones ----------------------------------------------------------------------------


@pytest.mark.real_data
@pytest.mark.parametrize("series", ["STS_019/PET", "STS_002/MR_T1"])
def test_drawn_tumours_survive_the_way_through_our_own_objects(shared_data: Path, tmp_path: Path, series: str) -> None:
    folder = shared_data / "sarcoma_pet_ct_mr" / "dicom" / series
    (given,) = again(folder / "mask" / "RS.dcm", folder / "image")[0].values()
    geometry = read(source_of(folder / "image")).volume.geometry
    labelmap = LabelMap(given.astype(np.uint8), geometry, LABELS)
    masks, findings = again(written(labelmap, folder / "image", tmp_path / "x.dcm"), folder / "image")
    assert given.any() and np.array_equal(masks["left lung"], given)
    assert not findings


def test_outlines_that_lose_a_pixel_are_never_written(
    series: Series, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    array = np.zeros((5, 4, 6), np.uint8)
    array[1, 1, 4] = array[3, 1, 4] = 1
    labelmap = LabelMap(array, series.volume.geometry, LABELS)
    monkeypatch.setattr("medseg.formats.rtstruct_write.outlines", lambda mask: outlines(mask)[:1])
    with pytest.raises(FormatError, match="enclose 1 other pixels") as error:
        written(labelmap, series.folder, tmp_path / "x.dcm")
    assert error.value.code == "no-rtstruct"
