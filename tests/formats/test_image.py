"""Pictures in all the ways in which the field saves them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from medseg.core.case import Severity
from medseg.core.errors import FormatError
from medseg.core.geometry import Geometry
from medseg.core.volume import LabelMap, Volume
from medseg.formats import read, read_labels, source_of, write_labelmap, write_volume

GREY = np.arange(24, dtype=np.uint8).reshape(4, 6) * 10
COLOUR = np.random.default_rng(0).integers(0, 255, (4, 6, 3)).astype(np.uint8)


def saved(path: Path, array: Any, mode: str | None = None) -> Path:
    picture = Image.fromarray(array)
    (picture.convert(mode) if mode else picture).save(path)
    return path


def values(path: Path) -> Any:
    scan = read(source_of(path))
    assert scan.modality == "image"
    assert scan.volume.geometry.spacing == (1, 1, 1)
    return scan.volume.array


def labels(path: Path) -> Any:
    return read_labels(source_of(path)).array[..., 0]


def refused(path: Path, labels_too: bool = False) -> str:
    with pytest.raises(FormatError) as error:
        (read_labels if labels_too else read)(source_of(path))
    assert "\n" not in str(error.value)
    return error.value.code


def test_rows_are_the_first_axis(tmp_path: Path) -> None:
    array = values(saved(tmp_path / "a.png", GREY))
    assert array.shape == (1, 4, 6, 1)
    np.testing.assert_array_equal(array[0, ..., 0], GREY)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp", ".ppm"])
def test_colours_become_three_channels(tmp_path: Path, suffix: str) -> None:
    array = values(saved(tmp_path / f"a{suffix}", COLOUR))
    np.testing.assert_array_equal(array[..., 0], COLOUR.transpose(2, 0, 1))


def test_alpha_is_dropped(tmp_path: Path) -> None:
    rgba = np.dstack([COLOUR, np.full((4, 6), 255, np.uint8)])
    for name in ("a.png", "a.tif"):
        np.testing.assert_array_equal(values(saved(tmp_path / name, rgba))[..., 0], COLOUR.transpose(2, 0, 1))
    grey = np.dstack([GREY, np.full((4, 6), 255, np.uint8)])
    np.testing.assert_array_equal(values(saved(tmp_path / "la.png", grey))[0, ..., 0], GREY)


def test_jpeg_is_read(tmp_path: Path) -> None:
    flat = np.full((16, 16), 100, np.uint8)
    assert abs(values(saved(tmp_path / "a.jpg", flat)) - 100).max() <= 2
    assert values(saved(tmp_path / "b.jpeg", np.dstack([flat] * 3))).shape == (3, 16, 16, 1)


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_sixteen_bits_stay_sixteen_bits(tmp_path: Path, name: str) -> None:
    deep = GREY.astype(np.uint16) * 280
    array = values(saved(tmp_path / name, deep))
    np.testing.assert_array_equal(array[0, ..., 0], deep)
    np.testing.assert_array_equal(labels(tmp_path / name), deep)


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_one_bit_pictures_are_zero_and_one(tmp_path: Path, name: str) -> None:
    mask = GREY > 100
    path = saved(tmp_path / name, mask)
    np.testing.assert_array_equal(labels(path), mask)
    np.testing.assert_array_equal(values(path)[0, ..., 0], mask)


def test_palette_pictures_are_colours_as_images_and_indices_as_labels(tmp_path: Path) -> None:
    indices = (GREY // 100).astype(np.uint8)
    picture = Image.fromarray(indices)
    picture.putpalette([0, 0, 0, 255, 0, 0, 0, 128, 0])
    picture.save(tmp_path / "a.png")
    tifffile.imwrite(tmp_path / "a.tif", indices, photometric="palette", colormap=_colormap())
    for name in ("a.png", "a.tif"):
        np.testing.assert_array_equal(labels(tmp_path / name), indices)
        array = values(tmp_path / name)
        assert array.shape == (3, 4, 6, 1)
        np.testing.assert_array_equal(array[:, 0, 0, 0], (0, 0, 0))
        np.testing.assert_array_equal(array[:, 3, 5, 0], (0, 128, 0))


def _colormap() -> Any:
    table = np.zeros((3, 256), np.uint16)
    table[:, 1], table[:, 2] = (255 << 8, 0, 0), (0, 128 << 8, 0)
    return table


def test_label_pictures_with_colours_are_refused_unless_they_are_grey(tmp_path: Path) -> None:
    assert refused(saved(tmp_path / "a.png", COLOUR), labels_too=True) == "not-a-label-map"
    grey = np.dstack([GREY] * 3 + [np.full((4, 6), 255, np.uint8)])
    np.testing.assert_array_equal(labels(saved(tmp_path / "b.png", grey)), GREY)


def test_black_and_white_masks_keep_their_values(tmp_path: Path) -> None:
    mask = np.where(GREY > 100, 255, 0).astype(np.uint8)
    np.testing.assert_array_equal(np.unique(labels(saved(tmp_path / "a.png", mask))), (0, 255))


@pytest.mark.parametrize("metadata", [None, {"axes": "ZYX"}, {"axes": "TYX"}])
def test_pages_become_slices(tmp_path: Path, metadata: Any) -> None:
    stack = np.random.default_rng(2).integers(0, 9, (5, 4, 6)).astype(np.uint8)
    imagej = metadata is not None
    tifffile.imwrite(tmp_path / "a.tif", stack, imagej=imagej, metadata=metadata, photometric="minisblack")
    np.testing.assert_array_equal(values(tmp_path / "a.tif")[0], stack.transpose(1, 2, 0))
    np.testing.assert_array_equal(read_labels(source_of(tmp_path / "a.tif")).array, stack.transpose(1, 2, 0))


STACK = np.random.default_rng(4).integers(0, 9, (3, 4, 6)).astype(np.uint8)


def spaced(path: Path) -> tuple[tuple[float, ...], list[tuple[str, Severity]]]:
    """(rows, columns, pages) spacing of an image file, which its labels must share, and its findings."""
    scan = read(source_of(path))
    assert read_labels(source_of(path)).geometry.same_grid(scan.volume.geometry, 0.0)
    return scan.volume.geometry.spacing, [(finding.code, finding.severity) for finding in scan.findings]


UNKNOWN = [("unknown-spacing", Severity.INFO)]


@pytest.mark.parametrize(
    ("unit", "mm"), [("um", 1e-3), ("\\u00B5m", 1e-3), ("micron", 1e-3), ("nm", 1e-6), ("mm", 1.0), ("inch", 25.4)]
)
def test_imagej_states_the_spacing_of_a_stack(tmp_path: Path, unit: str, mm: float) -> None:
    metadata = {"axes": "ZYX", "unit": unit, "spacing": 2.5}
    tifffile.imwrite(tmp_path / "a.tif", STACK, imagej=True, resolution=(4, 2), metadata=metadata)
    spacing, findings = spaced(tmp_path / "a.tif")
    assert spacing == pytest.approx((0.5 * mm, 0.25 * mm, 2.5 * mm))
    assert findings == []


def test_imagej_leaves_out_a_page_distance_of_one_and_may_count_backwards(tmp_path: Path) -> None:
    for name, spacing in (("one.tif", {}), ("back.tif", {"spacing": -1.0})):
        metadata = {"axes": "ZYX", "unit": "um", **spacing}
        tifffile.imwrite(tmp_path / name, STACK, imagej=True, resolution=(4, 2), metadata=metadata)
    assert spaced(tmp_path / "one.tif") == (pytest.approx((5e-4, 2.5e-4, 1e-3)), UNKNOWN)
    assert spaced(tmp_path / "back.tif") == (pytest.approx((5e-4, 2.5e-4, 1e-3)), [])


@pytest.mark.parametrize(
    ("written", "mm"), [({}, 1e-3), (dict.fromkeys("XYZ", "nm"), 1e-6), (dict.fromkeys("XYZ", "mm"), 1.0)]
)
def test_ome_states_the_spacing_of_a_stack_in_microns_unless_it_says_otherwise(
    tmp_path: Path, written: dict[str, str], mm: float
) -> None:
    sizes = {"X": 0.25, "Y": 0.5, "Z": 2}
    metadata = {f"PhysicalSize{axis}": size for axis, size in sizes.items()}
    metadata |= {f"PhysicalSize{axis}Unit": unit for axis, unit in written.items()}
    tifffile.imwrite(tmp_path / "a.ome.tif", STACK, photometric="minisblack", metadata={"axes": "ZYX", **metadata})
    spacing, findings = spaced(tmp_path / "a.ome.tif")
    assert spacing == pytest.approx((0.5 * mm, 0.25 * mm, 2 * mm))
    assert findings == []


def test_stacks_without_a_stated_spacing_are_measured_in_pixels(tmp_path: Path) -> None:
    print_only = {"resolution": (300, 300), "resolutionunit": "INCH"}
    written: dict[str, dict[str, Any]] = {
        "plain.tif": {"metadata": None},
        "dpi.tif": {"metadata": None, **print_only},
        "pixels.tif": {"imagej": True, "metadata": {"axes": "ZYX", "unit": "pixel", "spacing": 2}},
        "time.tif": {"imagej": True, "resolution": (4, 4), "metadata": {"axes": "TYX", "unit": "um"}},
        "flat.ome.tif": {"metadata": {"axes": "ZYX", "PhysicalSizeX": 1, "PhysicalSizeY": 1}},
        "no.ome.tif": {"metadata": {"axes": "ZYX"}},
        "zero.tif": {"imagej": True, "resolution": (4, 4), "metadata": {"axes": "ZYX", "unit": "um", "spacing": 0}},
    }
    for name, options in written.items():
        tifffile.imwrite(tmp_path / name, STACK, photometric="minisblack", **options)
        assert spaced(tmp_path / name) == ((1, 1, 1), UNKNOWN), name


def test_single_pictures_are_measured_in_pixels_whatever_they_state(tmp_path: Path) -> None:
    metadata = {"axes": "YX", "unit": "um"}
    tifffile.imwrite(tmp_path / "a.tif", GREY, imagej=True, resolution=(4, 2), metadata=metadata)
    assert spaced(tmp_path / "a.tif") == ((1, 1, 1), [])


@pytest.mark.parametrize("suffix", [".tif", ".ome.tif"])
def test_written_stacks_keep_their_spacing(tmp_path: Path, suffix: str) -> None:
    grid = Geometry.from_spacing((5.1e-4, 2.3e-4, 1.7e-3), (4, 6, 3))
    for name, array in (
        ("grey", STACK.transpose(1, 2, 0)[None]),
        ("float", STACK.transpose(1, 2, 0)[None] / 7),
        ("colour", np.stack([STACK.transpose(1, 2, 0)] * 3)),
    ):
        path = tmp_path / f"{name}{suffix}"
        write_volume(Volume(array, grid), path)
        scan = read(source_of(path))
        assert scan.volume.geometry.spacing == pytest.approx(grid.spacing, rel=1e-6)
        assert scan.findings == ()
        np.testing.assert_allclose(scan.volume.array, array, rtol=1e-6)
    source = source_of(tmp_path / f"grey{suffix}")
    geometry = read(source).volume.geometry
    path = write_labelmap(LabelMap(STACK.transpose(1, 2, 0), geometry), source, tmp_path / "out")
    again = read_labels(source_of(path))
    np.testing.assert_array_equal(again.array, STACK.transpose(1, 2, 0))
    assert again.geometry.spacing == pytest.approx(geometry.spacing, rel=1e-6)
    with pytest.raises(FormatError, match="colour stack"):
        write_volume(Volume(np.full((3, 4, 6, 3), 0.5), grid), tmp_path / "deep.tif")


def test_tiff_channels_stay_channels(tmp_path: Path) -> None:
    planes = np.random.default_rng(2).integers(0, 9, (2, 4, 6)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", planes, imagej=True, metadata={"axes": "CYX"})
    np.testing.assert_array_equal(values(tmp_path / "a.tif")[..., 0], planes)
    tifffile.imwrite(tmp_path / "b.ome.tif", planes, metadata={"axes": "CYX"}, photometric="minisblack")
    np.testing.assert_array_equal(values(tmp_path / "b.ome.tif")[..., 0], planes)


def test_more_than_a_stack_is_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "tz.tif", np.zeros((2, 3, 4, 6), np.uint8), imagej=True, metadata={"axes": "TZYX"})
    with tifffile.TiffWriter(tmp_path / "sizes.tif") as file:
        file.write(np.zeros((4, 6), np.uint8))
        file.write(np.zeros((8, 9), np.uint8))
    frames = [Image.fromarray(GREY), Image.fromarray(GREY.T.copy().reshape(4, 6))]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    for name in ("tz.tif", "sizes.tif", "moving.gif"):
        assert refused(tmp_path / name) == "multi-volume"


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "packbits"])
def test_compressed_tiff_is_read(tmp_path: Path, compression: str) -> None:
    pages = [Image.fromarray(GREY), Image.fromarray(GREY[::-1].copy())]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:], compression=compression)
    np.testing.assert_array_equal(values(tmp_path / "a.tif")[0], np.stack([GREY, GREY[::-1]], axis=-1))


def test_float_tiff_is_read_and_nan_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", GREY.astype(np.float32) / 7)
    np.testing.assert_allclose(values(tmp_path / "a.tif")[0, ..., 0], GREY / 7, rtol=1e-6)
    tifffile.imwrite(tmp_path / "b.tif", np.full((4, 6), np.nan, np.float32))
    assert refused(tmp_path / "b.tif") == "not-finite"


def test_white_is_zero_tiffs_are_turned_as_images_only(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", GREY, photometric="miniswhite")
    np.testing.assert_array_equal(values(tmp_path / "a.tif")[0, ..., 0], 255 - GREY)
    np.testing.assert_array_equal(labels(tmp_path / "a.tif"), GREY)


def test_a_turned_photograph_is_told(tmp_path: Path) -> None:
    picture = Image.fromarray(COLOUR)
    exif = picture.getexif()
    exif[274] = 6
    picture.save(tmp_path / "a.jpg", exif=exif)
    scan = read(source_of(tmp_path / "a.jpg"))
    assert scan.volume.geometry.shape == (4, 6, 1)
    assert [finding.code for finding in scan.findings] == ["exif-orientation"]


def test_cut_jpegs_are_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.jpg", np.random.default_rng(0).integers(0, 255, (64, 64, 3)).astype(np.uint8))
    path.write_bytes(path.read_bytes()[:1500])
    assert refused(path) == "partial-file"


def test_label_maps_follow_the_pages_of_their_source(tmp_path: Path) -> None:
    saved(tmp_path / "a.jpg", COLOUR)
    tifffile.imwrite(tmp_path / "b.tif", np.zeros((3, 4, 6), np.uint8), photometric="minisblack")
    for name, pages, suffix in (("a.jpg", 1, ".png"), ("b.tif", 3, ".tif")):
        source = source_of(tmp_path / name)
        array = np.random.default_rng(1).integers(0, 300, (4, 6, pages))
        labelmap = LabelMap(array, Geometry(np.eye(4), array.shape))
        path = write_labelmap(labelmap, source, tmp_path / "out" / "x.y")
        assert path == tmp_path / "out" / f"x.y{suffix}"
        np.testing.assert_array_equal(read_labels(source_of(path)).array, array)


def test_what_a_picture_cannot_hold_is_not_written(tmp_path: Path) -> None:
    def volume(array: Any) -> Volume:
        return Volume(array, Geometry(np.eye(4), array.shape[1:]))

    for array in (
        np.full((1, 2, 2, 1), -1),
        np.full((1, 2, 2, 1), 0.5),
        np.zeros((1, 2, 2, 2)),
        np.zeros((2, 2, 2, 1)),
    ):
        with pytest.raises(FormatError):
            write_volume(volume(array), tmp_path / "a.png")
    write_volume(volume(np.full((1, 2, 2, 2), 0.5)), tmp_path / "a.tif")
    assert values(tmp_path / "a.tif").max() == 0.5
    write_volume(volume(np.full((3, 2, 2, 1), 7)), tmp_path / "c.png")
    assert values(tmp_path / "c.png").shape == (3, 2, 2, 1)
