"""RT structure sets: exactly the voxels whose centres the contours enclose, on the slices they were drawn on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.draw import polygon

from medseg.core.errors import FormatError
from medseg.core.geometry import Geometry
from medseg.core.reading import Reading
from medseg.core.volume import Volume
from medseg.formats import discover, read_labels, source_of
from medseg.formats.contours import fill
from medseg.formats.dicom_write import write_series
from medseg.formats.structures import Drawing, blank, read_drawing, structure_names, to_labelmap
from tests.drawings import ct, square, write_rtstruct

SARCOMA = [
    ("STS_002", "CT"), ("STS_002", "MR_T1"), ("STS_019", "PET"), ("STS_042", "CT"), ("STS_042", "MR_T1"),
    ("STS_042", "PET"),
]  # fmt: skip


def drawn(label: Path, image: Path) -> Drawing:
    return read_drawing(source_of(label), source_of(image), Reading())


def on_slices(drawing: Drawing, name: str) -> np.ndarray:
    """The mask [slices, rows, columns] of the structures of a name."""
    slices = blank(drawing)
    for structure in drawing.structures:
        for piece in structure.patches if structure.name == name else ():
            rows, columns = piece.mask.shape
            slices[piece.k, piece.row : piece.row + rows, piece.column : piece.column + columns] |= piece.mask
    return slices


def mask(drawing: Drawing, name: str) -> np.ndarray:
    """The same on the image's grid [columns, rows, slices]."""
    return to_labelmap(on_slices(drawing, name), drawing, ()).array


# ---- the real ones ----------------------------------------------------------------------------


@pytest.mark.real_data
@pytest.mark.parametrize(("patient", "modality"), SARCOMA)
def test_the_contours_of_the_sarcomas_are_the_voxels_of_their_masks(
    shared_data: Path, patient: str, modality: str
) -> None:
    folder = shared_data / "sarcoma_pet_ct_mr" / "dicom" / patient / modality
    twin = shared_data / "sarcoma_pet_ct_mr" / "nifti" / patient / f"{modality}_mask.nii.gz"
    drawing = drawn(folder / "mask" / "RS.dcm", folder / "image")
    (structure,) = drawing.structures
    given = read_labels(source_of(twin))
    found = to_labelmap(on_slices(drawing, structure.name), drawing, ())
    assert structure.name == f"GTV_Mass_{modality}"
    assert structure.color == (255, 0, 0)
    assert np.array_equal(found.array != 0, given.array != 0)
    assert given.array.any()
    assert found.geometry.same_grid(given.geometry, 1e-3)
    assert not drawing.findings


# voxels of each structure and how many of its contours lie on no slice
OTHERS = {
    "rt-utils/mock_data/rt.dcm": {"ROI-1": (1443, 0)},
    "rt-utils/mock_data/invalid_reference_rt.dcm": {
        "ROI-1": (4976, 1), "ROI-2": (3697, 1), "ROI-3": (4519, 1), "ROI-4": (6954, 1),
    },
    "rt-utils/mock_data/non_existent_reference_rt.dcm": {
        "ROI-1": (4976, 1), "ROI-2": (3697, 1), "ROI-3": (4519, 1), "ROI-4": (6954, 1),
    },
    "rt-utils/empty/dummy_rt.dcm": {
        "ROI-1": (4976, 1), "ROI-2": (3697, 1), "ROI-3": (4519, 1), "ROI-4": (6954, 1),
    },
    "dicompyler/rtss.dcm": {
        "BODY": (40396, 137), "Areola": (0, 0), "Borders": (0, 2), "Breast": (0, 48), "Heart": (0, 33),
        "Lt Lung": (0, 165), "Nodes": (0, 4), "Scar": (0, 6), "Tumor Bed": (0, 18), "Tumor Bed Block": (0, 24),
    },
}  # fmt: skip


@pytest.mark.real_data
@pytest.mark.parametrize("name", OTHERS)
def test_structure_sets_of_other_makers_are_read_with_what_lies_beside_their_slices(
    shared_data: Path, name: str
) -> None:
    folder = shared_data / "dicom" / "seg_and_rtstruct"
    image = "dicompyler/ct.0.dcm" if name.startswith("dicompyler") else "rt-utils/mock_data"
    drawing = drawn(folder / name, folder / image)
    found = {s.name: (sum(int(p.mask.sum()) for p in s.patches), s.off_slices) for s in drawing.structures}
    assert found == OTHERS[name]
    told = {f.values["structure"]: f.values["count"] for f in drawing.findings if f.code == "off-slice"}
    assert told == {name: off for name, (_, off) in found.items() if off}


# ---- which pixels -----------------------------------------------------------------------------


def filled(contours: list[np.ndarray], size: tuple[int, int]) -> np.ndarray:
    full = np.zeros(size, bool)
    inside = fill(contours, size)
    if inside is not None:
        (row, column), box = inside
        full[row : row + box.shape[0], column : column + box.shape[1]] = box
    return full


def even_odd(contour: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """scikit-image's reading of the same, pixel by pixel, with outlines."""
    full = np.zeros(size, bool)
    full[polygon(contour[:, 0], contour[:, 1], size)] = True
    return full


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_filling_agrees_with_a_test_of_every_pixel(data: st.DataObject) -> None:
    seed = data.draw(st.integers(0, 10**9))
    rng = np.random.default_rng(seed)
    points = rng.uniform(-4, 20, (data.draw(st.integers(3, 9)), 2))
    size = (int(rng.integers(1, 18)), int(rng.integers(1, 18)))
    assert np.array_equal(filled([points], size), even_odd(points, size))


# Always the same draws: now and then an outline passes a pixel's centre by less than a millionth of a pixel, which
# then is on the outline, whatever the other contours say.
@given(st.data())
@settings(max_examples=50, deadline=None, derandomize=True)
def test_several_contours_are_combined_by_exclusive_or(data: st.DataObject) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 10**9)))
    contours = [rng.uniform(0, 15, (int(rng.integers(3, 7)), 2)) for _ in range(data.draw(st.integers(1, 4)))]
    expected = np.zeros((15, 15), bool)
    for contour in contours:
        expected ^= even_odd(contour, (15, 15))
    assert np.array_equal(filled(contours, (15, 15)), expected)


def test_an_outline_through_pixel_centres_counts_as_inside() -> None:
    outline = np.array([[2.0, 3.0], [2.0, 6.0], [5.0, 6.0], [5.0, 3.0]])
    expected = np.zeros((9, 9), bool)
    expected[2:6, 3:7] = True
    assert np.array_equal(filled([outline], (9, 9)), expected)
    # What decimals lose must not make the border ragged.
    assert np.array_equal(filled([outline + 3e-8], (9, 9)), expected)


def test_a_keyhole_leaves_its_hole_empty() -> None:
    keyhole = np.array([
        [0.5, 0.5], [0.5, 8.5], [8.5, 8.5], [8.5, 0.5], [4.2, 0.5],  # outer outline, then the channel
        [4.2, 2.5], [6.5, 2.5], [6.5, 6.5], [2.5, 6.5], [2.5, 2.5], [4.2, 2.5], [4.2, 0.5],
    ])  # fmt: skip
    expected = np.zeros((10, 10), bool)
    expected[1:9, 1:9] = True
    expected[3:7, 3:7] = False
    assert np.array_equal(filled([keyhole], (10, 10)), expected)


def test_a_contour_between_pixel_centres_holds_no_pixel() -> None:
    tiny = np.array([[2.2, 2.2], [2.2, 2.8], [2.8, 2.8], [2.8, 2.2]])
    assert fill([tiny], (9, 9)) is None
    assert fill([tiny + 100], (9, 9)) is None


# ---- which slice ------------------------------------------------------------------------------


def test_contours_are_matched_by_position_though_their_references_dangle(tmp_path: Path) -> None:
    geometry = ct(tmp_path / "ct")
    contours = [square(geometry, (1.5, 2.5), (4.5, 6.5), k) for k in (1, 4)]
    label = write_rtstruct(tmp_path / "rs.dcm", tmp_path / "ct", {"GTV": contours})
    expected = np.zeros(geometry.shape, bool)
    expected[2:5, 3:7, [1, 4]] = True
    assert np.array_equal(mask(drawn(label, tmp_path / "ct"), "GTV"), expected)
    assert structure_names(source_of(label)) == ("GTV",)


@pytest.mark.parametrize(("off", "kept"), [(0.04, True), (0.5, True), (0.7, False), (1.0, False), (1.5, False)])
def test_a_contour_may_miss_its_slice_by_a_fifth_of_their_distance(tmp_path: Path, off: float, kept: bool) -> None:
    geometry = ct(tmp_path / "ct")  # 3 mm: the tolerance is 0.6 mm, and thirds and halves lie between slices
    contours = [square(geometry, (1.5, 1.5), (4.5, 4.5), 2), square(geometry, (1.5, 1.5), (4.5, 4.5), 3 + off / 3)]
    drawing = drawn(write_rtstruct(tmp_path / "rs.dcm", tmp_path / "ct", {"a": contours}), tmp_path / "ct")
    assert mask(drawing, "a").any(axis=(0, 1)).tolist() == [False, False, True, kept, False, False]
    assert [f.code for f in drawing.findings] == ([] if kept else ["off-slice"])


def test_contours_on_missing_slices_are_not_moved_onto_their_neighbours(tmp_path: Path) -> None:
    geometry = ct(tmp_path / "ct")
    (missing,) = (p for p in (tmp_path / "ct").iterdir() if pydicom.dcmread(p).ImagePositionPatient[2] == -44)
    missing.unlink()
    contours = [square(geometry, (1.5, 1.5), (4.5, 4.5), k) for k in (1, 2, 3)]
    label = write_rtstruct(tmp_path / "rs.dcm", tmp_path / "ct", {"a": contours})
    (image,) = discover(tmp_path / "ct")
    drawing = read_drawing(source_of(label), image, Reading(missing_slices="warn"))
    (structure,) = drawing.structures
    assert [piece.k for piece in structure.patches] == [1, 2]
    assert structure.off_slices == 1


def test_contours_follow_oblique_slices(tmp_path: Path) -> None:
    turn = np.array([[0.8660254, -0.4698463, 0.1710101], [0.5, 0.8137977, -0.2961981], [0, 0.3420201, 0.9396926]])
    affine = np.eye(4)
    affine[:3, :3] = turn * (0.5, 0.75, 2.0)
    geometry = Geometry(affine, (9, 8, 4))
    write_series(Volume(np.zeros((1, 9, 8, 4), np.int16), geometry), tmp_path / "ct")
    label = write_rtstruct(
        tmp_path / "rs.dcm", tmp_path / "ct", {"a": [square(geometry, (2.5, 1.5), (6.5, 5.5), k) for k in (0, 2)]}
    )
    drawing = drawn(label, tmp_path / "ct")
    found = to_labelmap(on_slices(drawing, "a"), drawing, ())
    expected = np.zeros((9, 8, 4), bool)
    expected[3:7, 2:6, [0, 2]] = True
    places = {tuple(p) for p in np.rint(100 * geometry.to_world(np.argwhere(expected))).astype(int)}
    assert {tuple(p) for p in np.rint(100 * found.geometry.to_world(np.argwhere(found.array))).astype(int)} == places


# ---- what makes no mask -----------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["POINT", "OPEN_PLANAR", "OPEN_NONPLANAR"])
def test_points_and_open_contours_are_named_and_left_out(tmp_path: Path, kind: str) -> None:
    geometry = ct(tmp_path / "ct")
    label = write_rtstruct(
        tmp_path / "rs.dcm", tmp_path / "ct", {"a": [square(geometry, (1, 1), (4, 4), 2)]}, kind=kind
    )
    drawing = drawn(label, tmp_path / "ct")
    assert not mask(drawing, "a").any()
    (finding,) = drawing.findings
    assert (finding.code, finding.values["type"], finding.values["count"]) == ("open-contour", kind, 1)


def test_a_contour_that_is_there_twice_counts_once(tmp_path: Path) -> None:
    geometry = ct(tmp_path / "ct")
    label = write_rtstruct(
        tmp_path / "rs.dcm", tmp_path / "ct", {"a": [square(geometry, (1.5, 1.5), (4.5, 4.5), 2)] * 2}
    )
    drawing = drawn(label, tmp_path / "ct")
    assert mask(drawing, "a").sum() == 9
    assert [f.code for f in drawing.findings] == ["duplicate-contour"]


def test_what_reaches_beyond_the_image_is_cut_and_told(tmp_path: Path) -> None:
    geometry = ct(tmp_path / "ct")
    label = write_rtstruct(tmp_path / "rs.dcm", tmp_path / "ct", {"a": [square(geometry, (9.5, 7.5), (15.5, 15.5), 2)]})
    drawing = drawn(label, tmp_path / "ct")
    assert mask(drawing, "a").sum() == 2 * 2
    assert [f.code for f in drawing.findings] == ["outside-image"]


def test_a_contour_across_the_slices_lies_on_none_of_them(tmp_path: Path) -> None:
    geometry = ct(tmp_path / "ct")
    upright = (geometry.to_world([(2, 2, 0), (8, 2, 0), (8, 2, 5), (2, 2, 5)]) * (-1, -1, 1)).tolist()
    drawing = drawn(write_rtstruct(tmp_path / "rs.dcm", tmp_path / "ct", {"a": [upright]}), tmp_path / "ct")
    assert [(f.code, f.values["count"]) for f in drawing.findings] == [("off-slice", 1)]


def test_a_structure_set_of_another_space_is_refused(tmp_path: Path) -> None:
    geometry = ct(tmp_path / "ct")
    ct(tmp_path / "other", seed="other")
    label = write_rtstruct(tmp_path / "rs.dcm", tmp_path / "ct", {"a": [square(geometry, (1, 1), (4, 4), 2)]})
    with pytest.raises(FormatError, match="another frame of reference") as refused:
        drawn(label, tmp_path / "other")
    assert refused.value.code == "unpaired"


@pytest.mark.parametrize("values", [["1", "2"], ["1", "2", "nan"], ["one", "2", "3"]])
def test_points_that_are_none_are_refused(tmp_path: Path, values: list[str]) -> None:
    geometry = ct(tmp_path / "ct")
    label = write_rtstruct(tmp_path / "rs.dcm", tmp_path / "ct", {"a": [square(geometry, (1, 1), (4, 4), 2)]})
    dataset = pydicom.dcmread(label)
    contour = dataset.ROIContourSequence[0].ContourSequence[0]
    contour["ContourData"] = pydicom.DataElement(0x30060050, "LO", values)  # written as it stands
    raw = label.read_bytes()
    dataset.save_as(label, enforce_file_format=True)
    assert label.read_bytes() != raw
    with pytest.raises(FormatError):
        drawn(label, tmp_path / "ct")


def test_masks_of_a_tilted_series_are_resliced_with_its_pixels(tmp_path: Path) -> None:
    geometry = ct(tmp_path / "ct")
    for path in (tmp_path / "ct").iterdir():  # shift each slice along its rows, as a tilted gantry does
        dataset = pydicom.dcmread(path)
        x, y, z = (float(v) for v in dataset.ImagePositionPatient)
        dataset.ImagePositionPatient = [x + (z + 50) / 3, y, z]
        dataset.save_as(path)
    contours = [square(geometry, (6.5, 1.5), (9.5, 4.5), k) for k in range(6)]
    drawing = drawn(write_rtstruct(tmp_path / "rs.dcm", tmp_path / "ct", {"a": contours}), tmp_path / "ct")
    assert drawing.stack.reslicing is not None
    found = to_labelmap(on_slices(drawing, "a"), drawing, ())
    world = found.geometry.to_world(np.argwhere(found.array)) * (-1, -1, 1)
    low, high = np.min(contours, axis=(0, 1)), np.max(contours, axis=(0, 1))
    # A straight box in space, though it moves through the columns of the tilted slices.
    assert (world >= low).all()
    assert (world <= high).all()
    assert found.array.sum() == 3 * 3 * 6
