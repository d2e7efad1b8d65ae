"""DICOM segmentations of every kind and maker: read onto the image's slices, or refused with the reason."""

from __future__ import annotations

from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest
from pydicom.sr.codedict import codes

from medseg.core.errors import FormatError
from medseg.core.geometry import Geometry
from medseg.core.labels import Code, Label
from medseg.core.reading import Reading
from medseg.core.volume import LabelMap, Volume
from medseg.formats import read, read_labels, source_of
from medseg.formats.dicom_frames import frames_of, read_dataset
from medseg.formats.dicom_seg import write_segmentation
from medseg.formats.dicom_segments import draw
from medseg.formats.dicom_write import write_series
from medseg.formats.planes import Planes, planes_of
from medseg.formats.structures import Drawing, Structure, blank, read_drawing, structure_names, to_labelmap
from tests.drawings import change, ct

HERE = "dicom/seg_and_rtstruct"
LIVER = {"Liver": 107098}
BODY_PARTS = {"GREEN": 9602, "ORANGE": 11888, "PURPLE": 10743, "LIGHT_BLUE": 6693, "DARK_BLUE": 4713}
# file, image it belongs to -> voxels of each segment
READ = {
    ("dicom/multiframe/liver.dcm", "dcmqi/ct-3slice"): LIVER,
    ("dicom/multiframe/liver_j2k.dcm", "dcmqi/ct-3slice"): LIVER,
    ("dicom/multiframe/liver_nonbyte_aligned.dcm", "dcmqi/ct-3slice"): LIVER,
    (f"{HERE}/dcmqi/liver.dcm", "dcmqi/ct-3slice"): LIVER,
    (f"{HERE}/dcmqi/partial_overlaps.dcm", "dcmqi/ct-3slice"): BODY_PARTS,
    (f"{HERE}/dcmqi/sparse-labelmap-noppv.dcm", "dcmqi/24x38x3/image"): {"Liver": 630},
    (f"{HERE}/dcmqi/sparse-labelmap-ppv5.dcm", "dcmqi/24x38x3/image"): {"Liver": 630},
    (f"{HERE}/dcmqi/sparse-labelmap-ppv5.dcm", "dcmqi/24x38x3/multiframe"): {"Liver": 630},
    (f"{HERE}/highdicom/seg_image_ct_binary_single_frame.dcm", "highdicom/ct_image.dcm"): {"first segment": 1832},
}
# file -> the code and a word of the reason
REFUSED = {
    "dicom/multiframe/liver_rle.dcm": ("unsupported-syntax", "RLE"),
    "dicom/multiframe/liver_deflate.dcm": ("unsupported-syntax", "1.2.840.10008.1.2.8.1"),
    f"{HERE}/highdicom/seg_image_cr_binary.dcm": ("missing-geometry", "no position"),
    f"{HERE}/highdicom/seg_image_sm_control.dcm": ("missing-geometry", "no position"),
    f"{HERE}/highdicom/seg_image_sm_control_labelmap.dcm": ("missing-geometry", "no position"),
    f"{HERE}/highdicom/seg_image_sm_control_labelmap_palette_color.dcm": ("missing-geometry", "no position"),
    f"{HERE}/highdicom/seg_image_sm_dots.dcm": ("missing-geometry", "no position"),
    f"{HERE}/highdicom/seg_image_sm_dots_tiled_full.dcm": ("missing-geometry", "no position"),
    f"{HERE}/highdicom/seg_image_sm_numbers.dcm": ("missing-geometry", "no position"),
}
# Their images are not among the samples; their own frames stand for the slices: voxels of each segment.
ON_THEIR_OWN_FRAMES = {
    f"{HERE}/highdicom/seg_image_ct_binary.dcm": {"first segment": 638},
    f"{HERE}/highdicom/seg_image_ct_binary_fractional.dcm": {"first segment": 638},
    f"{HERE}/highdicom/seg_image_ct_binary_overlap.dcm": {"first segment": 64, "second segment": 16},
}
TWINS = {
    f"{HERE}/dcmqi/liver.dcm": [("Liver", "liver_seg.nrrd", 1)],
    "dicom/multiframe/liver_nonbyte_aligned.dcm": [("Liver", "liver_seg.nrrd", 1)],
    f"{HERE}/dcmqi/sparse-labelmap-noppv.dcm": [("Liver", "sparse_labelmap_noppv_seg.nrrd", 1)],
    f"{HERE}/dcmqi/sparse-labelmap-ppv5.dcm": [("Liver", "sparse_labelmap_ppv5_seg.nrrd", 1)],
    f"{HERE}/dcmqi/partial_overlaps.dcm": [
        ("GREEN", "partial_overlaps-1.nrrd", 1), ("ORANGE", "partial_overlaps-2.nrrd", 2),
        ("PURPLE", "partial_overlaps-3.nrrd", 3), ("LIGHT_BLUE", "partial_overlaps-1.nrrd", 4),
        ("DARK_BLUE", "partial_overlaps-1.nrrd", 5),
    ],
}  # fmt: skip


def drawn(label: Path, image: Path) -> Drawing:
    return read_drawing(source_of(label), source_of(image), Reading())


def sizes(structures: tuple[Structure, ...] | list[Structure]) -> dict[str, int]:
    return {s.name: sum(int(piece.mask.sum()) for piece in s.patches) for s in structures}


def painted(drawing: Drawing, values: dict[str, int]) -> LabelMap:
    slices = blank(drawing)
    for structure in drawing.structures:
        for piece in structure.patches:
            rows, columns = piece.mask.shape
            box = slices[piece.k, piece.row : piece.row + rows, piece.column : piece.column + columns]
            box[piece.mask] = values[structure.name]
    return to_labelmap(slices, drawing, ())


def own_planes(path: Path) -> Planes:
    frames = {frame.position: frame for frame in frames_of(read_dataset(path, every_tag=True), path)}
    return planes_of([frames[position] for position in sorted(frames, key=lambda p: p[2])], path)


# ---- the real ones ----------------------------------------------------------------------------


@pytest.mark.real_data
@pytest.mark.parametrize(("name", "image"), READ)
def test_segmentations_are_read_onto_their_image(shared_data: Path, name: str, image: str) -> None:
    drawing = drawn(shared_data / name, shared_data / HERE / image)
    assert sizes(drawing.structures) == READ[name, image]
    assert structure_names(source_of(shared_data / name)) == tuple(READ[name, image])
    assert not drawing.findings


@pytest.mark.real_data
@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_read_is_refused_with_the_reason(shared_data: Path, name: str) -> None:
    path = shared_data / name
    planes = own_planes(shared_data / "dicom/multiframe/liver.dcm")
    with pytest.raises(FormatError) as refused:
        draw(read_dataset(path, pixels=True), path, planes, lambda _: True)
    code, word = REFUSED[name]
    assert refused.value.code == code
    assert word in refused.value.reason


@pytest.mark.real_data
@pytest.mark.parametrize("name", ON_THEIR_OWN_FRAMES)
def test_segmentations_without_their_images_are_read_by_the_place_of_their_frames(shared_data: Path, name: str) -> None:
    path = shared_data / name
    structures, findings = draw(read_dataset(path, pixels=True), path, own_planes(path), lambda _: True)
    assert sizes(structures) == ON_THEIR_OWN_FRAMES[name]
    assert not findings


@pytest.mark.real_data
def test_fractions_count_from_one_half(shared_data: Path) -> None:
    path = shared_data / HERE / "highdicom" / "seg_image_ct_true_fractional.dcm"
    dataset = read_dataset(path, pixels=True)
    ((structure,), _) = draw(dataset, path, own_planes(path), lambda _: True)
    stored = dataset.pixel_array  # 0, 64 and 128 of 255
    assert set(np.unique(stored)) == {0, 64, 128}
    assert sizes([structure]) == {"first segment": int((stored == 128).sum())}


@pytest.mark.real_data
@pytest.mark.parametrize("name", TWINS)
def test_segments_are_the_voxels_of_their_nrrd_twins(shared_data: Path, name: str) -> None:
    image = "dcmqi/24x38x3/image" if "sparse" in name else "dcmqi/ct-3slice"
    drawing = drawn(shared_data / name, shared_data / HERE / image)
    for segment, twin, value in TWINS[name]:
        given = read_labels(source_of(shared_data / HERE / "dcmqi" / twin))
        alone = painted(
            Drawing(tuple(s for s in drawing.structures if s.name == segment), drawing.stack, ()), {segment: 1}
        )
        at = np.rint(given.geometry.to_index(alone.geometry.to_world(np.argwhere(alone.array)))).astype(int)
        assert len(at) == (given.array == value).sum() > 0
        assert (given.array[tuple(at.T)] == value).all()


@pytest.mark.real_data
def test_segments_carry_their_codes_and_colours(shared_data: Path) -> None:
    (liver,) = drawn(shared_data / HERE / "dcmqi/liver.dcm", shared_data / HERE / "dcmqi/ct-3slice").structures
    assert liver.type == Code("T-62000", "SRT", "Liver") or liver.type == Code("10200004", "SCT", "Liver")
    assert liver.color is not None
    assert np.abs(np.subtract(liver.color, (221, 130, 101))).max() <= 1


# ---- our own and highdicom's ------------------------------------------------------------------

LABELS = (Label("left lung", 1, color=(230, 159, 0)), Label("tumour", 2))
TURNED = np.array([[0.8660254, -0.4698463, 0.1710101], [0.5, 0.8137977, -0.2961981], [0.0, 0.3420201, 0.9396926]])


@pytest.mark.parametrize("turn", [np.diag([-1.0, -1.0, 1.0]), TURNED, TURNED @ np.diag([1.0, 1.0, -1.0])])
def test_what_medseg_writes_comes_back_equal(tmp_path: Path, turn: np.ndarray) -> None:
    affine = np.eye(4)
    affine[:3, :3] = turn * (0.5, 0.75, 2.0)
    write_series(Volume(np.zeros((1, 7, 9, 6), np.int16), Geometry(affine, (7, 9, 6))), tmp_path / "ct")
    source = source_of(tmp_path / "ct")
    array = np.random.default_rng(1).choice([0, 0, 0, 1, 2], (7, 9, 6)).astype(np.uint8)
    geometry = read(source).volume.geometry
    write_segmentation(LabelMap(array, geometry, LABELS), source, tmp_path / "out.seg.dcm", {})
    drawing = drawn(tmp_path / "out.seg.dcm", tmp_path / "ct")
    back = painted(drawing, {"left lung": 1, "tumour": 2})
    assert np.array_equal(back.array, array)
    assert back.geometry.same_grid(geometry, 1e-6)
    assert drawing.structures[0].color is not None
    assert np.abs(np.subtract(drawing.structures[0].color, (230, 159, 0))).max() <= 1


def test_an_empty_segmentation_is_read_as_empty(tmp_path: Path) -> None:
    geometry = ct(tmp_path / "ct")
    source = source_of(tmp_path / "ct")
    empty = LabelMap(np.zeros(geometry.shape, np.uint8), geometry, LABELS)
    write_segmentation(empty, source, tmp_path / "out.seg.dcm", {})
    assert sizes(drawn(tmp_path / "out.seg.dcm", tmp_path / "ct").structures) == {"left lung": 0, "tumour": 0}


def series(folder: Path) -> None:
    ct(folder)
    change(folder, PatientName="Test^Phantom")  # highdicom warns of names in one piece


def segmentation(folder: Path, masks: np.ndarray, kind: str = "BINARY") -> Path:
    """A segmentation by highdicom: masks [slices, rows, columns, segments] on the series in `folder`."""
    images = sorted((pydicom.dcmread(p) for p in folder.iterdir()), key=lambda d: float(d.ImagePositionPatient[2]))
    segments = [
        highdicom.seg.SegmentDescription(
            segment_number=number,
            segment_label=f"s{number}",
            segmented_property_category=codes.SCT.Tissue,
            segmented_property_type=codes.SCT.Organ,
            algorithm_type=highdicom.seg.SegmentAlgorithmTypeValues.MANUAL,
        )
        for number in range(1, masks.shape[3] + 1)
    ]
    made = highdicom.seg.Segmentation(
        source_images=images,
        pixel_array=masks,
        segmentation_type=kind,
        segment_descriptions=segments,
        series_instance_uid=highdicom.UID(),
        series_number=1,
        sop_instance_uid=highdicom.UID(),
        instance_number=1,
        manufacturer="test",
        manufacturer_model_name="test",
        software_versions="1",
        device_serial_number="1",
        max_fractional_value=200,
    )
    path = folder.parent / "seg.dcm"
    made.save_as(path)
    return path


def test_overlapping_segments_keep_all_their_voxels(tmp_path: Path) -> None:
    series(tmp_path / "ct")
    masks = np.zeros((6, 10, 12, 2), np.uint8)
    masks[1:4, 2:6, 3:8, 0] = 1
    masks[2:5, 4:9, 5:11, 1] = 1
    assert sizes(drawn(segmentation(tmp_path / "ct", masks), tmp_path / "ct").structures) == {"s1": 60, "s2": 90}


def test_the_largest_fraction_is_the_objects_own(tmp_path: Path) -> None:
    series(tmp_path / "ct")
    masks = np.zeros((6, 10, 12, 1))
    masks[2, 3, 4:8, 0] = (0.2, 0.49, 0.5, 1.0)
    path = segmentation(tmp_path / "ct", masks, "FRACTIONAL")
    assert sizes(drawn(path, tmp_path / "ct").structures) == {"s1": 2}


def moved(path: Path, tag: str, value: list[float]) -> None:
    """Change one geometry tag of a segmentation in all of its functional groups."""
    dataset = pydicom.dcmread(path)
    for item in (dataset.SharedFunctionalGroupsSequence[0], *dataset.PerFrameFunctionalGroupsSequence):
        for keyword in ("PlanePositionSequence", "PlaneOrientationSequence", "PixelMeasuresSequence"):
            if keyword in item and tag in item[keyword].value[0]:
                setattr(item[keyword].value[0], tag, value)
    dataset.save_as(path)


def one_voxel(tmp_path: Path) -> Path:
    series(tmp_path / "ct")
    masks = np.zeros((6, 10, 12, 1), np.uint8)
    masks[2, 3, 4, 0] = 1
    return segmentation(tmp_path / "ct", masks)


def test_frames_may_run_in_other_directions_than_the_image(tmp_path: Path) -> None:
    path = one_voxel(tmp_path)  # at row 3, column 4 of 10 x 12
    moved(path, "ImageOrientationPatient", [0, 1, 0, -1, 0, 0])  # along a row: to the back; down: to the right
    position = drawn_position(path)
    dataset = pydicom.dcmread(path)
    assert (dataset.Rows, dataset.Columns) == (10, 12)
    moved(path, "ImagePositionPatient", [position[0] + 11, position[1], position[2]])
    ((piece,),) = [s.patches for s in drawn(path, tmp_path / "ct").structures]
    assert (piece.k, piece.row, piece.column) == (2, 4, 11 - 3)


def drawn_position(path: Path) -> list[float]:
    groups = pydicom.dcmread(path).PerFrameFunctionalGroupsSequence
    return [float(v) for v in groups[0].PlanePositionSequence[0].ImagePositionPatient]


@pytest.mark.parametrize(
    ("tag", "value", "word"),
    [
        ("PixelSpacing", [1.2, 1.2], "1.2x1.2"),
        ("ImageOrientationPatient", [1, 0, 0, 0, 0, 1], "other planes"),
        ("ImageOrientationPatient", [0.8, 0.6, 0, -0.6, 0.8, 0], "do not lie on"),
    ],
)
def test_pixels_that_are_not_the_images_are_refused(tmp_path: Path, tag: str, value: list[float], word: str) -> None:
    path = one_voxel(tmp_path)
    moved(path, tag, value)
    with pytest.raises(FormatError, match=word) as refused:
        drawn(path, tmp_path / "ct")
    assert refused.value.code == "grid-mismatch"


def test_frames_on_no_slice_and_pixels_beyond_the_image_are_told(tmp_path: Path) -> None:
    path = one_voxel(tmp_path)
    x, y, z = drawn_position(path)
    moved(path, "ImagePositionPatient", [x - 6, y, z])
    drawing = drawn(path, tmp_path / "ct")
    assert (sizes(drawing.structures), [f.code for f in drawing.findings]) == ({"s1": 0}, ["outside-image"])
    moved(path, "ImagePositionPatient", [x, y, z + 1.5])
    drawing = drawn(path, tmp_path / "ct")
    assert (sizes(drawing.structures), [f.code for f in drawing.findings]) == ({"s1": 0}, ["off-slice"])


def test_pixels_that_end_too_early_are_a_partial_file(tmp_path: Path) -> None:
    path = one_voxel(tmp_path)
    dataset = pydicom.dcmread(path)
    dataset.PixelData = dataset.PixelData[:4]
    dataset.save_as(path)
    with pytest.raises(FormatError) as refused:
        drawn(path, tmp_path / "ct")
    assert refused.value.code == "partial-file"


def test_segments_that_are_not_wanted_are_not_even_decoded(tmp_path: Path) -> None:
    path = one_voxel(tmp_path)
    drawing = read_drawing(source_of(path), source_of(tmp_path / "ct"), Reading(), lambda name: name == "other")
    assert drawing.structures == ()
