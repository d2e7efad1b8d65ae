"""NIfTI's own traps: transforms, units, scaling, dimensions."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from medseg.core.errors import FormatError
from medseg.core.geometry import Geometry
from medseg.core.volume import LabelMap, Volume
from medseg.formats import read, read_labels, source_of, write_labelmap, write_volume

AFFINE = np.array([[-2.0, 0, 0, 10], [0, 3, 0, -20], [0, 0, 4, 30], [0, 0, 0, 1]])


def save(path: Path, array: Any, affine: Any = AFFINE, kind: Any = nibabel.Nifti1Image, **header: Any) -> Path:
    image = kind(array, affine)
    for key, value in header.items():
        image.header[key] = value
    nibabel.save(image, path)
    return path


def codes(path: Path) -> list[str]:
    return [finding.code for finding in read(source_of(path)).findings]


def refused(path: Path) -> str:
    with pytest.raises(FormatError) as error:
        read(source_of(path))
    return error.value.code


def test_the_stored_order_and_the_affine_are_kept(tmp_path: Path) -> None:
    array = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    scan = read(source_of(save(tmp_path / "a.nii.gz", array)))
    np.testing.assert_array_equal(scan.volume.array[0], array)
    np.testing.assert_array_equal(scan.volume.geometry.affine, AFFINE)
    assert scan.volume.geometry.orientation == "LAS"
    assert scan.modality is None
    assert scan.integral
    assert scan.findings == ()


@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
def test_scaling_is_applied_in_full_precision(tmp_path: Path, kind: Any) -> None:
    image = kind(np.array([[[0, 1], [1000, 30000]]], dtype=np.int16), AFFINE)
    image.header.set_slope_inter(0.25, -1024.5)
    path = tmp_path / "scaled.nii"
    # Written by hand, as nibabel would work out a scaling of its own.
    image.header.set_data_dtype(np.int16)
    header = image.header.copy()
    if kind is nibabel.Nifti1Image:
        header["magic"] = b"n+1"
        header["vox_offset"] = 352
    else:
        header["vox_offset"] = 544
    gap = b"\0" * 4
    path.write_bytes(header.binaryblock + gap + np.asarray(image.dataobj).tobytes(order="F"))
    scan = read(source_of(path))
    np.testing.assert_allclose(scan.volume.array[0], np.array([[[0, 1], [1000, 30000]]]) * 0.25 - 1024.5)
    assert not scan.integral


def test_trailing_axes_of_length_one_are_dropped_and_flat_images_get_a_third_axis(tmp_path: Path) -> None:
    four = save(tmp_path / "four.nii.gz", np.zeros((2, 3, 4, 1), np.uint8))
    assert read(source_of(four)).volume.geometry.shape == (2, 3, 4)
    flat = save(tmp_path / "flat.nii.gz", np.zeros((2, 3), np.uint8))
    assert read(source_of(flat)).volume.geometry.shape == (2, 3, 1)
    labels = LabelMap(np.ones((2, 3, 4), np.uint8), Geometry(AFFINE, (2, 3, 4)))
    written = write_labelmap(labels, source_of(four), tmp_path / "out")
    assert nibabel.load(written).shape == (2, 3, 4)


def test_four_dimensions_are_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "fmri.nii.gz", np.zeros((2, 3, 4, 5), np.uint8))
    assert refused(path) == "multi-volume"


def test_vectors_are_refused_as_such(tmp_path: Path) -> None:
    path = save(tmp_path / "field.nii.gz", np.zeros((2, 3, 4, 1, 3), np.float32), intent_code=1007)
    with pytest.raises(FormatError, match="3 values a voxel") as error:
        read(source_of(path))
    assert error.value.code == "multi-volume"


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_sizes_beyond_the_file_are_refused_without_taking_memory(tmp_path: Path, suffix: str) -> None:
    path = save(tmp_path / f"a{suffix}", np.zeros((2, 3, 4), np.uint8))
    whole = bytearray(path.read_bytes() if suffix == ".nii" else gzip.decompress(path.read_bytes()))
    whole[42:48] = np.array([30000] * 3, "<i2").tobytes()  # dim[1..3]: 27 TB
    path.write_bytes(whole if suffix == ".nii" else gzip.compress(whole))
    assert refused(path) == "partial-file"


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_more_voxels_than_the_header_describes_are_told(tmp_path: Path, suffix: str) -> None:
    """A wrong size shears the image: here rows of two are taken for rows of one."""
    path = save(tmp_path / f"a{suffix}", np.zeros((2, 3, 4), np.int16))
    assert codes(path) == []
    whole = bytearray(path.read_bytes() if suffix == ".nii" else gzip.decompress(path.read_bytes()))
    whole[42:44] = np.array([1], "<i2").tobytes()  # dim[1]
    path.write_bytes(whole if suffix == ".nii" else gzip.compress(whole))
    assert codes(path) == ["surplus-data"]
    assert read(source_of(path)).findings[0].values == {"bytes": 24}


def test_values_beyond_32_bits_are_refused(tmp_path: Path) -> None:
    assert refused(save(tmp_path / "a.nii.gz", np.full((2, 3, 4), 1e300))) == "not-finite"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused(tmp_path: Path, value: float) -> None:
    array = np.zeros((2, 3, 4), np.float32)
    array[1, 2, 3] = value
    assert refused(save(tmp_path / "a.nii.gz", array)) == "not-finite"


def test_colour_and_complex_values_are_refused(tmp_path: Path) -> None:
    rgb = np.zeros((2, 3, 4), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    assert refused(save(tmp_path / "rgb.nii.gz", rgb)) == "color"
    assert refused(save(tmp_path / "complex.nii.gz", np.zeros((2, 3, 4), np.complex64))) == "unsupported-syntax"


def test_qform_is_used_where_there_is_no_sform(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(np.zeros((2, 3, 4), np.uint8), None)
    image.set_qform(AFFINE, code=1)
    image.set_sform(None, code=0)
    nibabel.save(image, tmp_path / "q.nii.gz")
    scan = read(source_of(tmp_path / "q.nii.gz"))
    np.testing.assert_allclose(scan.volume.geometry.affine, AFFINE, atol=1e-5)
    assert scan.findings == ()


def test_disagreeing_transforms_are_told(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(np.zeros((2, 3, 4), np.uint8), AFFINE)
    image.set_sform(AFFINE, code=1)
    moved = AFFINE.copy()
    moved[0, 3] += 5
    image.set_qform(moved, code=1)
    nibabel.save(image, tmp_path / "both.nii.gz")
    scan = read(source_of(tmp_path / "both.nii.gz"))
    (finding,) = scan.findings
    assert finding.code == "sform-qform-disagreement"
    assert finding.values["mm"] == pytest.approx(5)
    assert finding.values["used"] == "sform" and "the sform is used" in finding.message
    np.testing.assert_allclose(scan.volume.geometry.affine, AFFINE)


def test_an_unusable_qform_is_told_beside_a_sound_sform(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(np.zeros((2, 3, 4), np.uint8), AFFINE)
    image.set_sform(AFFINE, code=1)
    image.set_qform(AFFINE, code=1)
    image.header["quatern_b"] = image.header["quatern_c"] = 3.0
    path = tmp_path / "both.nii"
    header = image.header.copy()
    header["magic"], header["vox_offset"] = b"n+1", 352
    path.write_bytes(header.binaryblock + b"\0" * 4 + b"\0" * 24)
    scan = read(source_of(path))
    (finding,) = scan.findings
    assert finding.code == "sform-qform-disagreement" and "qform is unusable" in finding.message
    np.testing.assert_allclose(scan.volume.geometry.affine, AFFINE)


def test_a_missing_transform_is_told(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(np.zeros((2, 3, 4), np.uint8), None)
    nibabel.save(image, tmp_path / "none.nii.gz")
    assert codes(tmp_path / "none.nii.gz") == ["missing-xform"]


def test_skewed_axes_are_told(tmp_path: Path) -> None:
    skewed = AFFINE.copy()
    skewed[0, 2] = 1.0
    assert "non-orthogonal-axes" in codes(save(tmp_path / "skewed.nii.gz", np.zeros((2, 3, 4), np.uint8), skewed))


def test_an_unusable_transform_is_refused(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(np.zeros((2, 3, 4), np.uint8), AFFINE)
    image.header["srow_x"] = 0
    image.header["sform_code"] = 1
    path = tmp_path / "flat.nii"
    header = image.header.copy()
    header["magic"], header["vox_offset"] = b"n+1", 352
    path.write_bytes(header.binaryblock + b"\0" * 4 + b"\0" * 24)
    assert refused(path) == "bad-geometry"


@pytest.mark.parametrize(("unit", "factor"), [("micron", 1e-3), ("meter", 1e3)])
def test_other_units_of_length_become_millimetres(tmp_path: Path, unit: str, factor: float) -> None:
    image = nibabel.Nifti1Image(np.zeros((2, 3, 4), np.uint8), AFFINE)
    image.header.set_xyzt_units(unit)
    nibabel.save(image, tmp_path / "unit.nii.gz")
    source = source_of(tmp_path / "unit.nii.gz")
    scan = read(source)
    assert scan.volume.geometry.spacing == pytest.approx(tuple(np.array([2, 3, 4]) * factor))
    assert [finding.code for finding in scan.findings] == ["converted-units"]
    written = write_labelmap(LabelMap(np.ones((2, 3, 4), np.uint8), scan.volume.geometry), source, tmp_path / "out")
    assert read_labels(source_of(written)).geometry.same_grid(scan.volume.geometry)


def test_label_maps_keep_the_header_of_their_source(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(np.zeros((2, 3, 4), np.float32), AFFINE)
    image.set_sform(AFFINE, code=4)
    image.set_qform(AFFINE, code=2)
    image.header.set_slope_inter(2.0, 3.0)
    nibabel.save(image, tmp_path / "in.nii.gz")
    labels = LabelMap(np.full((2, 3, 4), 3, np.int64), Geometry(AFFINE, (2, 3, 4)))
    path = write_labelmap(labels, source_of(tmp_path / "in.nii.gz"), tmp_path / "out" / "in")
    assert path == tmp_path / "out" / "in.nii.gz"
    written = nibabel.load(path)
    assert int(written.header["sform_code"]) == 4
    assert int(written.header["qform_code"]) == 2
    assert written.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(written.affine, nibabel.load(tmp_path / "in.nii.gz").affine)
    np.testing.assert_array_equal(np.asarray(written.dataobj), 3)


def test_large_label_values_take_16_bits_and_impossible_ones_are_refused(tmp_path: Path) -> None:
    source = source_of(save(tmp_path / "in.nii.gz", np.zeros((2, 3, 4), np.uint8)))
    geometry = read(source).volume.geometry
    path = write_labelmap(LabelMap(np.full((2, 3, 4), 300), geometry), source, tmp_path / "big")
    assert nibabel.load(path).get_data_dtype() == np.uint16
    for value in (-1, 70000):
        with pytest.raises(FormatError, match="cannot be written"):
            write_labelmap(LabelMap(np.full((2, 3, 4), value), geometry), source, tmp_path / "bad")
    assert not (tmp_path / "bad.nii.gz").exists()


def test_float_labels_are_accepted_where_whole(tmp_path: Path) -> None:
    whole = save(tmp_path / "whole.nii.gz", np.full((2, 3, 4), 2.0))
    np.testing.assert_array_equal(read_labels(source_of(whole)).array, 2)
    with pytest.raises(FormatError, match="fractions"):
        read_labels(source_of(save(tmp_path / "half.nii.gz", np.full((2, 3, 4), 0.5))))


def test_damaged_compressed_data_are_noticed_to_the_last_byte(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    path = save(tmp_path / "a.nii.gz", rng.integers(0, 255, (9, 9, 9)).astype(np.uint8))
    whole = path.read_bytes()
    path.write_bytes(whole[:-8] + b"\1\2\3\4" + whole[-4:])  # the checksum
    assert refused(path) == "unreadable"
    path.write_bytes(whole[: len(whole) // 2])
    assert refused(path) == "partial-file"
    path.write_bytes(whole[:300] + bytes(40) + whole[340:])
    assert refused(path) in ("unreadable", "partial-file")
    path.write_bytes(gzip.compress(gzip.decompress(whole)[:-100]))
    assert refused(path) == "partial-file"


def test_uncompressed_data_in_a_gz_name_are_read(tmp_path: Path) -> None:
    plain = save(tmp_path / "a.nii", np.ones((2, 3, 4), np.uint8))
    plain.rename(tmp_path / "a.nii.gz")
    assert read(source_of(tmp_path / "a.nii.gz")).volume.array.max() == 1


def test_analyze_files_are_refused(tmp_path: Path) -> None:
    header = nibabel.AnalyzeHeader()
    header.set_data_shape((2, 3, 4))
    (tmp_path / "a.nii").write_bytes(header.binaryblock + b"\0" * 400)
    assert refused(tmp_path / "a.nii") == "unreadable"


def test_volumes_of_several_channels_are_not_written(tmp_path: Path) -> None:
    volume = Volume(np.zeros((2, 2, 3, 4), np.float32), Geometry(AFFINE, (2, 3, 4)))
    with pytest.raises(FormatError, match="one channel"):
        write_volume(volume, tmp_path / "a.nii.gz")
    with pytest.raises(FormatError, match="written as"):
        write_volume(volume, tmp_path / "a.mha")
