"""NRRD and MetaImage: directions, dimensions, detached data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 -- the name under which the field knows it

from medseg.core.errors import FormatError
from medseg.core.volume import LabelMap
from medseg.formats import discover, read, read_labels, source_of, write_labelmap

DIRECTION = [0.0, -1.0, 0.0, 0.6, 0.0, 0.8, -0.8, 0.0, 0.6]


def image(array: Any, direction: Any = None) -> Any:
    made = sitk.GetImageFromArray(array)
    made.SetSpacing((0.5, 0.75, 2.0)[: made.GetDimension()])
    made.SetOrigin((-100.25, 50.5, 7.125)[: made.GetDimension()])
    if direction:
        made.SetDirection(direction)
    return made


@pytest.mark.parametrize("suffix", [".nrrd", ".mha", ".mhd", ".nhdr"])
def test_what_itk_says_about_space_is_what_comes_out(tmp_path: Path, suffix: str) -> None:
    array = np.random.default_rng(1).integers(-1000, 1000, (4, 3, 2)).astype(np.int16)
    original = image(array, DIRECTION)
    sitk.WriteImage(original, str(tmp_path / f"scan{suffix}"))
    (source,) = discover(tmp_path)
    scan = read(source)
    np.testing.assert_array_equal(scan.volume.array[0], array.T)
    assert scan.integral
    lps = scan.volume.geometry.to_lps()
    for index in ((0, 0, 0), (1, 2, 3)):
        np.testing.assert_allclose(lps @ [*index, 1], [*original.TransformIndexToPhysicalPoint(index), 1], atol=1e-9)


def test_a_label_map_agrees_with_itk_about_the_grid(tmp_path: Path) -> None:
    original = image(np.zeros((4, 3, 2), np.int16), DIRECTION)
    sitk.WriteImage(original, str(tmp_path / "scan.mha"))
    source = source_of(tmp_path / "scan.mha")
    geometry = read(source).volume.geometry
    path = write_labelmap(LabelMap(np.ones((2, 3, 4), np.uint8), geometry), source, tmp_path / "out")
    written = sitk.ReadImage(str(path))
    assert written.GetSize() == original.GetSize()
    for quantity in ("GetSpacing", "GetOrigin", "GetDirection"):
        np.testing.assert_allclose(getattr(written, quantity)(), getattr(original, quantity)(), atol=1e-4)


def test_flat_images_get_a_third_axis(tmp_path: Path) -> None:
    sitk.WriteImage(image(np.ones((3, 2), np.uint8)), str(tmp_path / "flat.mha"))
    geometry = read(source_of(tmp_path / "flat.mha")).volume.geometry
    assert geometry.shape == (2, 3, 1)
    assert geometry.spacing == (0.5, 0.75, 1.0)


def test_vectors_and_four_dimensions_are_refused(tmp_path: Path) -> None:
    vector = sitk.GetImageFromArray(np.zeros((4, 3, 2, 3), np.uint8), isVector=True)
    sitk.WriteImage(vector, str(tmp_path / "vector.nrrd"))
    sitk.WriteImage(sitk.JoinSeries([sitk.Image(2, 3, 4, sitk.sitkUInt8)] * 2), str(tmp_path / "four.mha"))
    for source in discover(tmp_path):
        with pytest.raises(FormatError) as error:
            read(source)
        assert error.value.code == "multi-volume"


def test_not_finite_values_and_fractions_as_labels_are_refused(tmp_path: Path) -> None:
    values = np.full((4, 3, 2), 0.5, np.float32)
    sitk.WriteImage(image(values), str(tmp_path / "half.mha"))
    with pytest.raises(FormatError, match="fractions"):
        read_labels(source_of(tmp_path / "half.mha"))
    values[0, 0, 0] = np.nan
    sitk.WriteImage(image(values), str(tmp_path / "nan.mha"))
    with pytest.raises(FormatError) as error:
        read(source_of(tmp_path / "nan.mha"))
    assert error.value.code == "not-finite"


@pytest.mark.parametrize("header", [".mhd", ".nhdr"])
def test_a_header_without_its_data_is_refused(tmp_path: Path, header: str, capfd: pytest.CaptureFixture[str]) -> None:
    sitk.WriteImage(image(np.zeros((4, 3, 2), np.uint8)), str(tmp_path / f"scan{header}"))
    for path in tmp_path.iterdir():
        if path.suffix != header:
            path.unlink()
    with pytest.raises(FormatError) as error:
        read(source_of(tmp_path / f"scan{header}"))
    assert "\n" not in str(error.value)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("suffix", [".mha", ".mhd", ".nrrd", ".nhdr"])
def test_damaged_compressed_pixels_are_noticed(tmp_path: Path, suffix: str) -> None:
    """ITK itself would give wrong pixels without a word."""
    array = np.cumsum(np.random.default_rng(0).integers(-3, 4, (20, 30, 40)), axis=2).astype(np.int16)
    sitk.WriteImage(sitk.GetImageFromArray(array), str(tmp_path / f"scan{suffix}"), True)
    data = max(tmp_path.iterdir(), key=lambda path: path.stat().st_size)
    whole = data.read_bytes()
    (source,) = discover(tmp_path)
    np.testing.assert_array_equal(read(source).volume.array[0], array.T)
    for place in (-5, -len(whole) // 3, -len(whole) // 2):
        damaged = bytearray(whole)
        damaged[place] ^= 0x55
        data.write_bytes(damaged)
        with pytest.raises(FormatError):
            read(source)
    data.write_bytes(whole[:-100])
    with pytest.raises(FormatError) as error:
        read(source)
    assert error.value.code == "partial-file"


DIRECTIONS = "space directions: (0.5,0,0) (0,2,0) (0,0,3)\nspace origin: (1,2,3)\n"
LPS = "space: left-posterior-superior\n"


def by_hand(path: Path, fields: str, values: Any = range(24)) -> Path:
    """A raw NRRD or MetaImage of 2 x 3 x 4 shorts with these header lines."""
    if path.suffix == ".nrrd":
        first, last = "NRRD0004\ntype: short\ndimension: 3\nsizes: 2 3 4\nendian: little\nencoding: raw\n", "\n"
    else:
        first, last = "ObjectType = Image\nNDims = 3\nBinaryData = True\n", "ElementDataFile = LOCAL\n"
        fields += "DimSize = 2 3 4\nElementType = MET_SHORT\n"
    path.write_bytes(f"{first}{fields}{last}".encode() + np.array(values, "<i2").tobytes())
    return path


def told(path: Path) -> tuple[tuple[float, ...], list[str]]:
    scan = read(source_of(path))
    assert read_labels(source_of(path)).geometry.same_grid(scan.volume.geometry, 0.0)
    return scan.volume.geometry.spacing, [finding.code for finding in scan.findings]


@pytest.mark.parametrize(
    ("space", "codes"),
    [
        (LPS, []),
        ("space: right-anterior-superior\n", []),
        ("space: RAS\n", []),
        ("space: scanner-xyz\n", ["missing-xform"]),
        ("space dimension: 3\n", ["missing-xform"]),
    ],
)
def test_an_nrrd_that_names_no_anatomical_space_is_told(tmp_path: Path, space: str, codes: list[str]) -> None:
    path = by_hand(tmp_path / "a.nrrd", space + DIRECTIONS)
    assert told(path) == ((0.5, 2, 3), codes)
    first = read(source_of(path)).volume.geometry.origin
    assert first == ((1, 2, 3) if "right" in space or "RAS" in space else (-1, -2, 3))


def test_headers_without_a_spacing_are_told(tmp_path: Path) -> None:
    assert told(by_hand(tmp_path / "a.nrrd", "")) == ((1, 1, 1), ["missing-xform", "unknown-spacing"])
    assert told(by_hand(tmp_path / "b.nrrd", "spacings: nan nan nan\n"))[1] == ["missing-xform", "unknown-spacing"]
    assert told(by_hand(tmp_path / "a.mha", "")) == ((1, 1, 1), ["unknown-spacing"])
    assert told(by_hand(tmp_path / "b.mha", "ElementSize = 1 2 3\n")) == ((1, 2, 3), [])


def test_other_units_become_millimetres(tmp_path: Path) -> None:
    """ITK leaves them as they are, so that a micron would come out as a millimetre."""
    nrrd = by_hand(tmp_path / "a.nrrd", LPS + 'space units: "um" "um" "um"\n' + DIRECTIONS)
    assert told(nrrd) == (pytest.approx((5e-4, 2e-3, 3e-3)), ["converted-units"])
    assert read(source_of(nrrd)).volume.geometry.origin == pytest.approx((-1e-3, -2e-3, 3e-3))
    mha = by_hand(tmp_path / "a.mha", "DistanceUnits = cm\nElementSpacing = 1 2 3\n")
    assert told(mha) == (pytest.approx((10, 20, 30)), ["converted-units"])
    by_hand(tmp_path / "b.nrrd", LPS + 'space units: "um" "um" "mm"\n' + DIRECTIONS)
    with pytest.raises(FormatError, match="different units") as error:
        read(source_of(tmp_path / "b.nrrd"))
    assert error.value.code == "bad-geometry"


def test_sheared_axes_are_kept_and_told_and_coinciding_ones_refused(tmp_path: Path) -> None:
    sheared = LPS + "space directions: (1,0,0) (0.5,2,0) (0,0,3)\nspace origin: (0,0,0)\n"
    scan = read(source_of(by_hand(tmp_path / "a.nrrd", sheared)))
    np.testing.assert_allclose(scan.volume.geometry.to_lps()[:3, :3], [[1, 0.5, 0], [0, 2, 0], [0, 0, 3]], atol=1e-9)
    assert [finding.code for finding in scan.findings] == ["non-orthogonal-axes"]
    matrix = "ElementSpacing = 1 2 3\nTransformMatrix = 1 0 0 0.3 1 0 0 0 1\n"
    scan = read(source_of(by_hand(tmp_path / "a.mha", matrix)))
    np.testing.assert_allclose(scan.volume.geometry.to_lps()[:3, :3], [[1, 0.6, 0], [0, 2, 0], [0, 0, 3]], atol=1e-9)
    by_hand(tmp_path / "b.nrrd", LPS + "space directions: (1,0,0) (1,0,0) (0,0,3)\n")
    by_hand(tmp_path / "b.mha", "ElementSpacing = 1 2 3\nTransformMatrix = 1 0 0 1 0 0 0 0 1\n")
    for name in ("b.nrrd", "b.mha"):
        with pytest.raises(FormatError) as error:
            read(source_of(tmp_path / name))
        assert error.value.code == "bad-geometry"
